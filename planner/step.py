"""Time of one forward step, and where it goes.

A step is described by totals: tokens of the busiest rank, tokens of all ranks that share the
experts, contexts.  Every method takes scalars or arrays.  With pipelining a *round* is meant, in
which every sequence advances once: ``pp`` micro-batches of ``1 / pp`` of the load each.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from planner.comm import comm_time_s
from planner.ops import Comm, Op, Real, collectives, layer
from planner.roofline import op_time
from planner.routing import HotRank
from planner.shard import Shard
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec, SystemSpec
from planner.specs.overheads import EngineOverheads

NO_OVERHEADS = EngineOverheads()


@dataclass(frozen=True, slots=True)
class Duration:
    """Time of a piece of work, and what it would take at the stated peaks. [s]"""

    time_s: Real
    compute_s: Real = 0.0
    memory_s: Real = 0.0

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(
            self.time_s + other.time_s,
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One op or collective of a step."""

    name: str
    time_s: float
    compute_s: float
    memory_s: float
    bound: str
    """``compute``, ``memory``, ``network`` or ``latency`` (kernel floors): what sets its time."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, laid out in sequence. [s]"""

    parts: tuple[Part, ...]
    hidden_s: float
    """Communication that runs behind computation, not in ``time_s``."""
    overhead_s: float
    time_s: float
    bound_s: float
    """Speed of light: the same work at stated peaks, no latency, everything overlapped."""
    bound_by: str

    def by_component(self) -> dict[str, float]:
        """Time by component (first part of the name), ``host`` for the step's overhead. [s]"""
        totals: dict[str, float] = {}
        for part in self.parts:
            component = part.name.split("/")[0]
            totals[component] = totals.get(component, 0.0) + part.time_s
        if self.hidden_s:
            totals["hidden"] = -self.hidden_s
        totals["host"] = self.overhead_s
        return totals

    def by_bound(self) -> dict[str, float]:
        """Time by what sets it. [s]"""
        totals: dict[str, float] = {}
        for part in self.parts:
            totals[part.bound] = totals.get(part.bound, 0.0) + part.time_s
        totals["host"] = self.overhead_s
        return totals


@dataclass(frozen=True, slots=True)
class StepModel:
    """Physics of one replica's step on one kind of system."""

    shard: Shard
    system: SystemSpec
    part: AcceleratorSpec
    calibration: CalibrationSpec
    overlap_share: float = 0.0
    hot: HotRank | None = None
    """Expert load of the hottest rank; None: experts are equally popular."""
    overheads: EngineOverheads = NO_OVERHEADS
    """Of the engine: host times and the factor of communication are applied here, the factors of
    kernels have changed ``calibration`` already."""

    def tokens(self, rank_tokens: Real) -> Duration:
        """Projections, dense MLP, norms and their collectives for one rank's tokens."""
        m = self._micro(rank_tokens)
        ops = layer.token_ops(self.shard, m)
        comms = collectives.token_comms(self.shard, m, self.system.scale_up.devices)
        return self._round(self._sum(ops, comms))

    def head(self, rows: Real) -> Duration:
        """Output projection and sampling of ``rows`` tokens."""
        ops = layer.head_ops(self.shard, rows)
        work = self._sum(
            ops, collectives.head_comms(self.shard, rows, self.system.scale_up.devices)
        )
        return work + Duration(self.overheads.per_sequence_step_host_s * rows)

    def experts(self, group_tokens: Real, prefill: bool) -> tuple[Duration, Real]:
        """Routed experts for the tokens of all ranks, and the traffic other work can cover.

        Returns
        -------
        work : experts and the collectives that nothing covers.
        hideable_s : all-to-all time, of which ``overlap_share`` runs behind computation. [s]
        """
        m = self._micro(group_tokens)
        comms = collectives.expert_comms(
            self.shard, m, self.system.scale_up.devices, prefill, self.hot
        )
        work = self._sum(
            layer.expert_ops(self.shard, m, self.hot), [c for c in comms if not c.hideable]
        )
        hideable = self._sum((), [c for c in comms if c.hideable])
        return self._round(work), self._round(hideable).time_s

    def decode_attention(self, sequences: Real, context: Real, capped: Real) -> list[Duration]:
        """Attention cores of decoding sequences, one a group of layers."""
        pp = self.shard.pp
        ops = layer.decode_attention(self.shard, sequences / pp, context / pp, capped / pp)
        return [self._round(self._sum((op,), ())) for op in ops]

    def prefill_attention(
        self, tokens: Real, pairs: Real, capped: Real, sparse: bool = True
    ) -> list[Duration]:
        """Attention cores of prompt chunks, one a group of layers.

        Where layers pick their keys, ``sparse`` and masked are two ways to do the same, of which
        the faster one runs.
        """
        pp = self.shard.pp
        ops = layer.prefill_attention(self.shard, tokens / pp, pairs / pp, capped / pp, sparse)
        return [self._round(self._sum((op,), ())) for op in ops]

    @property
    def overhead_s(self) -> float:
        """Host time of a step, and gaps between its kernels, that nothing hides. [s]"""
        own = self.overheads
        gaps_s = own.layer_gap_s * self.shard.layers
        return float(self.calibration.step_overhead_s + own.step_host_s + gaps_s)

    def decode_step_s(self, rank_sequences: Real, context_tokens: Real, cap: int | None) -> Real:
        """Time of a decode step, every rank alike; ``context_tokens`` a sequence. [s]"""
        seen = context_tokens if cap is None else np.minimum(context_tokens, cap)
        cores = self.decode_attention(
            rank_sequences, rank_sequences * context_tokens, rank_sequences * seen
        )
        work, hideable_s = self.experts(rank_sequences * self.shard.attention_dp, prefill=False)
        busy_s = (
            self.tokens(rank_sequences).time_s
            + self.head(rank_sequences).time_s
            + work.time_s
            + sum(core.time_s for core in cores)
        )
        return busy_s + self.exposed_s(hideable_s, busy_s) + self.overhead_s

    def exposed_s(self, hideable_s: Real, busy_s: Real) -> Real:
        """Part of the expert traffic that nothing hides: at most ``busy_s`` can cover it. [s]"""
        return hideable_s - np.minimum(self.overlap_share * hideable_s, busy_s)

    def decode_step(self, sequences: float, context: float, cap: int | None) -> Step:
        """Lay out a decode step of ``sequences`` a rank with ``context`` tokens each."""
        pp = self.shard.pp
        seen = context if cap is None else min(context, cap)
        m, group = self._micro(sequences), self._micro(sequences * self.shard.attention_dp)
        domain = self.system.scale_up.devices
        ops: list[Op] = [
            *layer.token_ops(self.shard, m),
            *layer.decode_attention(
                self.shard, sequences / pp, sequences * context / pp, sequences * seen / pp
            ),
            *layer.expert_ops(self.shard, group, self.hot),
        ]
        comms = [
            *collectives.token_comms(self.shard, m, domain),
            *collectives.expert_comms(self.shard, group, domain, dedup=False, hot=self.hot),
        ]
        return self._layout(ops, comms, sequences)

    def prefill_step(self, tokens: float, prompts: float, context: float, cap: int | None) -> Step:
        """Lay out a prefill step: ``tokens`` a rank out of ``prompts`` prompts of ``context``."""
        pp, dp = self.shard.pp, self.shard.attention_dp
        pairs = tokens * context / 2
        capped = pairs if cap is None or context <= cap else tokens * cap * (1 - cap / context / 2)
        m = tokens / pp
        domain = self.system.scale_up.devices
        forms = [
            layer.prefill_attention(self.shard, m, pairs / pp, capped / pp, sparse)
            for sparse in (True, False)
        ]
        ops: list[Op] = [
            *layer.token_ops(self.shard, m),
            *(min(both, key=self._op_s) for both in zip(*forms, strict=True)),
            *layer.expert_ops(self.shard, m * dp, self.hot),
        ]
        comms = [
            *collectives.token_comms(self.shard, m, domain),
            *collectives.expert_comms(self.shard, m * dp, domain, dedup=True, hot=self.hot),
        ]
        return self._layout(ops, comms, prompts)

    def _layout(self, ops: list[Op], comms: list[Comm], rows: float) -> Step:
        pp = self.shard.pp
        parts = [self._part(op, pp) for op in ops]
        parts += [self._part(op, 1) for op in layer.head_ops(self.shard, rows)]
        head_comms = collectives.head_comms(self.shard, rows, self.system.scale_up.devices)
        parts += [self._comm_part(c, pp) for c in comms]
        parts += [self._comm_part(c, 1) for c in head_comms]
        hideable_s = float(sum(self._comm_part(c, pp).time_s for c in comms if c.hideable))
        work_s = sum(p.time_s for p in parts) - hideable_s
        exposed_s = float(self.exposed_s(hideable_s, work_s))
        hidden = hideable_s - exposed_s
        time_s = work_s + exposed_s + self.overhead_s
        light = {
            "compute": sum(p.compute_s for p in parts),
            "memory": sum(p.memory_s for p in parts),
            "network": max(
                self._ideal_network_s([c for c in comms if c.hideable is which], pp)
                for which in (True, False)
            ),
        }
        bound_by = max(light, key=lambda name: light[name])
        return Step(tuple(parts), hidden, self.overhead_s, time_s, light[bound_by], bound_by)

    def _op_s(self, op: Op) -> float:
        return float(op_time(op, self.part, self.calibration).time_s)

    def _part(self, op: Op, rounds: int) -> Part:
        t = op_time(op, self.part, self.calibration)
        time_s, compute_s, memory_s = (
            float(rounds * x) for x in (t.time_s, t.compute_s, t.memory_s)
        )
        bound = "compute" if compute_s > memory_s else "memory"
        if max(compute_s, memory_s) < 0.5 * time_s:
            bound = "latency"
        return Part(op.name, time_s, compute_s, memory_s, bound)

    def _comm_part(self, comm: Comm, rounds: int) -> Part:
        time_s = rounds * self._comm_s(comm)
        return Part(comm.name, float(time_s), 0.0, 0.0, "network")

    def _ideal_network_s(self, comms: Iterable[Comm], rounds: int) -> float:
        """Time of the collectives at stated bandwidth and without latency. [s]"""
        system, calibration = ideal(self.system, self.calibration)
        return float(sum(rounds * comm_time_s(c, system, calibration) for c in comms))

    def _micro(self, tokens: Real) -> Real:
        """Tokens of one micro-batch; a round has at least one token in each that runs."""
        return tokens if self.shard.pp == 1 else np.maximum(tokens / self.shard.pp, 1.0)

    def _round(self, duration: Duration) -> Duration:
        pp = self.shard.pp
        if pp == 1:
            return duration
        return Duration(pp * duration.time_s, pp * duration.compute_s, pp * duration.memory_s)

    def _sum(self, ops: Iterable[Op], comms: Iterable[Comm]) -> Duration:
        total = Duration(0.0)
        for op in ops:
            t = op_time(op, self.part, self.calibration)
            total = total + Duration(t.time_s, t.compute_s, t.memory_s)
        for comm in comms:
            total = total + Duration(self._comm_s(comm))
        return total

    def _comm_s(self, comm: Comm) -> Real:
        return self.overheads.comm_factor * comm_time_s(comm, self.system, self.calibration)


def ideal(system: SystemSpec, calibration: CalibrationSpec) -> tuple[SystemSpec, CalibrationSpec]:
    """The same network at its stated bandwidth and without latency."""
    up = system.scale_up.model_copy(update={"latency_s": 0.0})
    out = system.scale_out and system.scale_out.model_copy(update={"latency_s": 0.0})
    links = calibration.links.model_copy(
        update={
            name: 1.0 if name.endswith("_share") else 0.0
            for name in type(calibration.links).model_fields
        }
    )
    return (
        system.model_copy(update={"scale_up": up, "scale_out": out}),
        calibration.model_copy(update={"links": links}),
    )
