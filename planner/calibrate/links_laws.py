"""The link laws as parameters to fit, and back as what a calibration holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.calibrate.links_fit import LinkFit, Parameter, Values, fit
from planner.calibrate.links_rows import Rows
from planner.calibrate.rows import FloatArray
from planner.comm.collectives import direct_load, ring_load
from planner.comm.exchange import phase_load
from planner.comm.network import Network
from planner.sourced import Sourced
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import SystemSpec
from planner.specs.links import DirectLaw, PhaseLaw, RingLaw

US = 1e-6
RING = (
    Parameter("floor_s", 5 * US, 0.5 * US, 50 * US),
    Parameter("step_s", 1 * US, 0.02 * US, 20 * US),
    Parameter("bandwidth_share", 0.7, 0.02, 1.0),
    Parameter("few_ranks_loss_share", 0.3, -2.5, 1.5, plain=True),
    Parameter("ramp_s", 20 * US, 0.1 * US, 500 * US),
    Parameter("ramp_bytes", 8e6, 4e3, 1e8, other=4e4),
)
DIRECT = (
    Parameter("floor_s", 3 * US, 0.5 * US, 30 * US),
    Parameter("second_shot_s", 4 * US, 0.1 * US, 60 * US),
    Parameter("step_s", 0.2 * US, 0.01 * US, 5 * US),
    Parameter("one_shot_share", 0.6, 0.02, 1.0),
    Parameter("two_shot_share", 0.7, 0.02, 1.0),
)
PHASE = {
    p.name: p
    for p in (
        Parameter("floor_s", 14 * US, 2 * US, 200 * US),
        Parameter("base_s", 12 * US, 0.5 * US, 200 * US),
        Parameter("remote_s", 8 * US, 0.1 * US, 100 * US),
        Parameter("per_node_s", 10 * US, 0.1 * US, 100 * US),
        Parameter("per_doubling_s", 3 * US, 0.1 * US, 50 * US),
        Parameter("per_expert_s", 0.015 * US, 1e-4 * US, 0.1 * US, sigma=1.0),
        Parameter("message_bytes_per_s", 6e8, 5e7, 1e11, sigma=2.0),
        Parameter("scale_up_share", 0.6, 0.05, 1.0, other=0.95),
        Parameter("scale_out_share", 0.94, 0.3, 1.0, sigma=0.1),
        Parameter("ranks_loss_share", 0.05, -0.2, 0.5, plain=True),
        Parameter("wide_loss_share", 0.5, 0.0, 1.9, plain=True),
        Parameter("sm_bytes_per_s", 15e9, 1e9, 1e11),
        Parameter("sm_message_s", 0.2 * US, 0.01 * US, 5 * US, sigma=2.0),
        Parameter("forward_share", 3.0, 0.0, 6.0, plain=True, sigma=2.0),
    )
}
"""Network cards give 0.94 to 0.98 of their stated rate to plain RDMA (rccl-sendrecv-check): the
prior of ``scale_out_share``, where something else binds in the rows."""


FIXED = ("remote_s", "per_node_s", "per_doubling_s", "per_expert_s")
"""Times that rows of one node cannot tell."""


class Laws:
    """Fits laws for the ranks of one system."""

    def __init__(self, system: SystemSpec, calibration: CalibrationSpec) -> None:
        self.system, self.calibration = system, calibration

    def network(self, rows: Rows) -> Network:
        """Rates between the ranks of ``rows``."""
        return Network.of(rows.comm, self.system, self.calibration)

    def ring(self, rows: Sequence[Rows]) -> LinkFit:
        """Fit one library collective."""
        return fit(RING, rows, self.ring_s)

    def ring_s(self, values: Values, rows: Rows) -> FloatArray:
        """Predicted time of one library collective. [s]"""
        c, size = rows.comm, np.asarray(rows.comm.bytes_per_rank)
        wire = {"all_reduce": 2 * (c.ranks - 1) / c.ranks, "all_to_all": 1.0}.get(
            c.kind, c.ranks - 1
        )
        law = RingLaw.model_construct(**values)  # type: ignore[arg-type]
        rate = self.network(rows).up_bytes_per_s
        return np.asarray(ring_load(law, c.ranks, wire * size, rate).time_s)

    def direct(self, rows: Sequence[Rows]) -> LinkFit:
        """Fit the all-reduce of an engine."""
        return fit(DIRECT, rows, self.direct_s)

    def direct_s(self, values: Values, rows: Rows) -> FloatArray:
        """Predicted time of an engine's all-reduce. [s]"""
        law = DirectLaw.model_construct(**values)  # type: ignore[arg-type]
        c, rate = rows.comm, self.network(rows).up_bytes_per_s
        return np.asarray(direct_load(law, c.ranks, np.asarray(c.bytes_per_rank), rate).time_s)

    def phase(self, rows: Sequence[Rows], free: Sequence[str], fixed: Mapping[str, Any]) -> LinkFit:
        """Fit dispatch or combine: the numbers named ``free``, the others as ``fixed``."""
        return fit([PHASE[name] for name in free], rows, self.phase_s, fixed)

    def phase_s(self, values: Values, rows: Rows) -> FloatArray:
        """Predicted time of a dispatch or combine. [s]"""
        known: dict[str, Any] = {**dict.fromkeys(FIXED, 0.0), **values}
        sms = known.pop("sms", None)
        known.pop("in_node", None)
        law = PhaseLaw.model_construct(**known)
        c = rows.comm
        inner, outer = np.asarray(c.bytes_per_rank), np.asarray(c.scale_out_bytes_per_rank)
        if values.get("in_node"):
            inner, outer = inner * 0.0, outer + inner
        held = rows.sms if rows.sms is not None else sms
        return np.asarray(phase_load(law, self.network(rows), c, inner, outer, held).time_s)


def phase_law(found: LinkFit, source: str) -> PhaseLaw:
    """Fitted numbers, and those given with a source of their own, as a calibration holds them."""
    given: dict[str, Any] = {
        name: value if isinstance(value, Sourced) else found.sourced(name, source)
        for name, value in found.values.items()
        if name not in ("sms", "in_node", "wide_nodes")
    }
    for name in FIXED:
        given.setdefault(name, Sourced(0.0, source, "rows do not tell", "derived"))
    wide = found.values.get("wide_nodes")
    return PhaseLaw(**given, wide_nodes=int(wide) if wide else None)
