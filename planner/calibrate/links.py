"""Fit the links of a part's usual system to what was measured on it."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from planner import files
from planner.calibrate import links_tables as installed_tables
from planner.calibrate.links_fit import LinkFit
from planner.calibrate.links_jobs import HELD_DEGREES, Done, Job, errors, row_count, run, screened
from planner.calibrate.links_laws import Laws, phase_law
from planner.calibrate.links_rows import RINGS, Rows, carried, ring_rows, stated
from planner.sourced import Sourced
from planner.specs.calibration import LinkShares
from planner.specs.links import DirectLaw, ExchangeLaw, PhaseLaw, RingLaw
from planner.specs.provenance import CheckFamily, HeldOut, Provenance, RowCount

SYSTEMS = {
    "h100-sxm": "hgx-h100", "h200-sxm": "hgx-h200", "h800-sxm": "hgx-h800",
    "b200-sxm": "hgx-b200", "b300-sxm": "hgx-b300", "gb200-nvl72": "gb200-nvl72",
    "gb300-nvl72": "gb300-nvl72", "a100-80g-sxm": "hgx-a100", "l40s": "l40s-8gpu",
    "rtx-pro-6000": "rtx-pro-6000-8gpu",
}  # fmt: skip
"""Part with measured links -> the system they were measured in."""
PHASES = ("dispatch", "combine")
LOW_LATENCY, NORMAL, ONE_SIDED = "deepep-low-latency", "deepep-normal", "one-sided"
FEBRUARY = "-2025-02"
"""First release of DeepEP: low-latency kernels without NVLink."""
REMOTE = ("remote_s", "per_node_s", "per_doubling_s", "scale_out_share", "forward_share")
"""What only rows of several nodes tell; taken from H100 where a part has none.  Not what its
normal kernels lost beyond four nodes: H800's, tuned by their authors, lost nothing."""
WIDE_NODES = 4
"""Nodes from which on normal kernels lost scale-out bandwidth in the measured cluster."""
USUAL_SMS = 20
"""SMs that DeepEP's normal kernels were measured with, and engines give them."""
AS_H100 = "as measured on H100"
NVLINK_SHARE = Sourced(0.8, "deepep-legacy", "about 160 of 200 GB/s can be had")
UNUSED_SHARE = Sourced(1.0, "deepep-2025-02", "its low-latency kernels use no NVLink")
NO_FLOOR_S = Sourced(0.0, "aiconfigurator-tables", "in the base", "derived")
IN_NODE_LL = ("floor_s", "base_s", "per_expert_s", "message_bytes_per_s", "scale_up_share")
IN_NODE_NORMAL = (
    "base_s",
    "message_bytes_per_s",
    "scale_up_share",
    "sm_bytes_per_s",
    "sm_message_s",
)


@dataclass(slots=True)
class PartLinks:
    """Everything found about the links of one part."""

    part: str
    done: dict[str, Done] = field(default_factory=dict)
    rows: list[RowCount] = field(default_factory=list)
    fixed: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def fits(self) -> dict[str, LinkFit]:
        """Fits by name."""
        return {name: done.fit for name, done in self.done.items()}

    def add(self, laws: Laws, job: Job) -> LinkFit | None:
        """Fit a job, if it has rows."""
        if not job.rows:
            return None
        up = float(laws.system.scale_up.bytes_per_s)
        out = float(laws.system.scale_out.bytes_per_s) if laws.system.scale_out else up
        job = screened(job, lambda rows: stated(rows, up, out))
        done = run(job) if job.rows else None
        if job.rows:
            self.rows.append(row_count(job, done is not None))
        if done:
            self.done[job.name] = done
        return done.fit if done else None


def fit_links(part: str, reference: LinkShares | None = None, one_node: bool = False) -> PartLinks:
    """Fit every collective and exchange that was measured on ``part``.

    Carried rows come first; NCCL, the engines' all-reduce and DeepEP inside one node on other
    parts than H100 need the optional tables.

    Parameters
    ----------
    reference : H100's links, for what the rows of other parts do not tell; None: as shipped.
    one_node : H100's exchanges by the tables that other parts have too, to compare like with
        like, not by its rows of one to eight nodes, which are of an older library.

    Raises
    ------
    KeyError
        ``part`` is not one of ``SYSTEMS``.
    """
    reference = reference or files.load_calibration("h100-sxm").links
    hardware = files.load_hardware(SYSTEMS[part])
    laws = Laws(hardware.system, hardware.calibration)
    found = PartLinks(part)
    every = ring_rows(part)
    for kind in RINGS:
        rows = tuple(r for r in every if r.comm.kind == kind)
        family: CheckFamily = "all_to_all" if kind == "all_to_all" else "collective"
        found.add(laws, Job(f"rings/{kind}", family, rows, laws.ring, laws.ring_s))
    rows = tuple(installed_tables.direct_rows(part))
    found.add(laws, Job("direct", "collective", rows, laws.direct, laws.direct_s))
    for library, phase, shown, free, fixed, never in _exchanges(part, reference, one_node):
        name = f"exchanges/{library}/{phase}"
        job = Job(
            name,
            "all_to_all",
            tuple(shown),
            partial(_solve, laws, free, fixed),
            laws.phase_s,
            never,
        )
        if found.add(laws, job):
            found.fixed[name] = fixed
    return found


def _solve(
    laws: Laws, free: Sequence[str], fixed: Mapping[str, Any], rows: Sequence[Rows]
) -> LinkFit:
    return laws.phase(rows, free, fixed)


Exchange = tuple[str, str, list[Rows], tuple[str, ...], dict[str, Any], tuple[int, ...]]


def _exchanges(part: str, reference: LinkShares, one_node: bool) -> list[Exchange]:
    """Library, phase, rows, free and fixed numbers, and ranks never fitted."""
    found: list[Exchange] = []
    for phase in PHASES:
        if part == "h100-sxm" and not one_node:
            found += _h100(phase)
        elif part == "h800-sxm":
            found += _h800(phase, reference)
        else:
            found += _one_node(part, phase)
        rows = _of(carried(part, ONE_SIDED), phase)
        free = ("floor_s", "base_s", "scale_up_share", "ranks_loss_share")
        found.append((ONE_SIDED, phase, rows, free, {}, HELD_DEGREES))
    return [entry for entry in found if entry[2]]


def _of(rows: list[Rows], phase: str) -> list[Rows]:
    return [r for r in rows if r.comm.phase == phase]


def _h100(phase: str) -> list[Exchange]:
    """DeepEP on one to eight nodes."""
    low = _of(carried("h100-sxm", LOW_LATENCY), phase)
    normal = _of(carried("h100-sxm", NORMAL), phase)
    free = ("floor_s", "base_s", "remote_s", "per_doubling_s", "per_expert_s", "scale_up_share",
            "scale_out_share")  # fmt: skip
    wide = ("base_s", "per_doubling_s", "per_node_s", "scale_up_share", "scale_out_share",
            "wide_loss_share", "sm_bytes_per_s", "forward_share")  # fmt: skip
    fixed = {"floor_s": NO_FLOOR_S, "wide_nodes": WIDE_NODES, "sms": USUAL_SMS}
    return [
        (LOW_LATENCY, phase, low, free, {}, HELD_DEGREES),
        (NORMAL, phase, normal, wide, fixed, ()),
    ]


def _h800(phase: str, reference: LinkShares) -> list[Exchange]:
    """DeepEP's own tables, of one batch each: what does not grow with bytes is H100's."""
    shares = ("scale_up_share", "scale_out_share")
    fixed_times = ("floor_s", "base_s", "remote_s", "per_doubling_s", "per_expert_s")
    known = {n: _given(reference, n, LOW_LATENCY, phase) for n in fixed_times}
    times = {
        n: _given(reference, n, NORMAL, phase) for n in ("base_s", "per_doubling_s", "per_node_s")
    }
    normal = {**times, "floor_s": NO_FLOOR_S, "sms": USUAL_SMS, "scale_up_share": NVLINK_SHARE}
    free = ("sm_bytes_per_s", "forward_share", "scale_out_share")
    found: list[Exchange] = []
    for version, suffix in (("2025-06", ""), ("2025-02", FEBRUARY)):
        low = _of(carried("h800-sxm", LOW_LATENCY, version), phase)
        more = {"in_node": "scale_out"} if suffix else {}
        found.append((LOW_LATENCY + suffix, phase, low,
                      shares[1:] if suffix else shares,
                      {**known, **more, **({"scale_up_share": UNUSED_SHARE} if suffix else {})},
                      HELD_DEGREES))  # fmt: skip
        rows = _of(carried("h800-sxm", NORMAL, version), phase)
        found.append((NORMAL + suffix, phase, rows, free, normal, HELD_DEGREES))
    return found


def _given(links: LinkShares, name: str, library: str, phase: str) -> Sourced:
    """One number of H100's exchange."""
    law = links.exchanges[library]
    value: Sourced = getattr(law.combine if phase == "combine" else law.dispatch, name)
    return Sourced(float(value), value.source, AS_H100, "assumed")


def _one_node(part: str, phase: str) -> list[Exchange]:
    low = _of(installed_tables.deepep(part, LOW_LATENCY), phase)
    normal = _of(installed_tables.deepep(part, NORMAL), phase)
    fixed = {"floor_s": NO_FLOOR_S, "sms": USUAL_SMS}
    return [
        (LOW_LATENCY, phase, low, IN_NODE_LL, {}, ()),
        (NORMAL, phase, normal, IN_NODE_NORMAL, fixed, ()),
    ]


def link_shares(
    found: PartLinks, base: LinkShares, reference: LinkShares | None = None
) -> LinkShares:
    """``base`` with the fitted laws; what several nodes alone tell is H100's where it must be."""
    rings: dict[str, RingLaw] = {}
    update: dict[str, Any] = {}
    for name, done in found.done.items():
        source = _source(done)
        values = {n: done.fit.sourced(n, source) for n in done.fit.names}
        kind, _, rest = name.partition("/")
        if kind == "rings":
            rings[rest] = RingLaw(**values)
        elif kind == "direct":
            update["direct"] = DirectLaw(**values)
    exchanges = _exchange_laws(found, reference)
    if ONE_SIDED in exchanges:
        update |= {"low_latency": ONE_SIDED, "normal": ONE_SIDED}
    else:
        update["low_latency"] = LOW_LATENCY if LOW_LATENCY in exchanges else ""
        update["normal"] = NORMAL if NORMAL in exchanges else ""
    provenance = Provenance(
        fitted=datetime.datetime.now(datetime.UTC).date().isoformat(),
        rows=tuple(found.rows),
        held_out=tuple(h for done in found.done.values() for h in done.held_out),
        residual_sigma={name: round(done.fit.sigma, 4) for name, done in found.done.items()},
    )
    update |= {"rings": rings, "exchanges": exchanges, "provenance": provenance}
    return LinkShares.model_validate({**dict(base), **update})


def _source(done: Done) -> str:
    return done.job.rows[0].origin.source


def _exchange_laws(found: PartLinks, reference: LinkShares | None) -> dict[str, ExchangeLaw]:
    names = {n.split("/")[1] for n in found.done if n.startswith("exchanges/")}
    laws: dict[str, ExchangeLaw] = {}
    for library in sorted(names):
        halves = [found.done.get(f"exchanges/{library}/{phase}") for phase in PHASES]
        if None in halves:
            continue
        dispatch, combine = (
            _phase(done, library, phase, reference)
            for done, phase in zip(halves, PHASES, strict=True)
            if done
        )
        laws[library] = ExchangeLaw(
            dispatch=dispatch,
            combine=combine,
            one_copy_a_rank=library == ONE_SIDED,
            in_node="scale_out" if library == LOW_LATENCY + FEBRUARY else "scale_up",
            sms=USUAL_SMS if NORMAL in library else None,
        )
    return laws


def _phase(done: Done, library: str, phase: str, reference: LinkShares | None) -> PhaseLaw:
    law = phase_law(done.fit, _source(done))
    several = any(r.comm.ranks > r.comm.ranks_in_domain for r in done.job.rows)
    if several or library not in (LOW_LATENCY, NORMAL):
        return law
    reference = reference or files.load_calibration("h100-sxm").links
    measured = reference.exchanges.get(library)
    if measured is None:
        return law
    other = measured.combine if phase == "combine" else measured.dispatch
    update = {}
    for name in REMOTE:
        value = getattr(other, name)
        if isinstance(value, Sourced):
            value = Sourced(float(value), value.source, AS_H100, "assumed")
        update[name] = value
    return law.model_copy(update=update)


def transferred_errors(found: PartLinks, sibling: PartLinks) -> list[HeldOut]:
    """Error on the rows of one part of laws fitted to another."""
    records = []
    for name, done in found.done.items():
        other = sibling.done.get(name)
        if other is None or done.job.rows[0].origin.source == "deepep-legacy":
            continue
        values = {**other.fit.values}
        record = errors(done.job, values, done.job.rows, "part")
        if record:
            source = f"{record.source}, links of {sibling.part}"
            records.append(record.model_copy(update={"source": source}))
    return records
