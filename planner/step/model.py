"""Time of one forward step, and where it goes.

A step is described by totals: tokens of the busiest rank, tokens of all ranks that share the
experts, contexts.  Every method takes scalars or arrays.  With pipelining a *round* is meant, in
which every sequence advances once: ``pp`` micro-batches of ``1 / pp`` of the load each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.comm import comm_time_s, ideal_links
from planner.ops import AttentionDecode, Comm, Elementwise, Op, Real, collectives, layer
from planner.roofline import op_time
from planner.routing import HotRank
from planner.shard import Shard
from planner.sourced import Sourced
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec, SystemSpec
from planner.specs.overlap import OverlapPolicy
from planner.step.draft import Draft, verifying
from planner.step.parts import Duration, Part, Step
from planner.step.schedule import (
    COMMUNICATION_SM_SHARE,
    PLAIN,
    Schedule,
    expert_layers_s,
    schedule,
)
from planner.step.stages import EVERY_LAYER, Stage, by_stage


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
    overlap: OverlapPolicy = "share"
    fused_norm: bool = False
    """Tensor-parallel sums and the norm after them run as one kernel."""
    draft: Draft | None = None
    """Speculative decoding; None: one token a sequence a step."""

    # -- speculation ---------------------------------------------------------------------------

    @property
    def query_tokens(self) -> int:
        """Tokens of one decoding sequence that a step computes."""
        return self.draft.query_tokens if self.draft else 1

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens a decoding sequence gains in a step."""
        return self.draft.tokens_per_step if self.draft else 1.0

    def drafting(self, sequences: Real) -> Duration:
        """Draft passes of a decode step: what depends on one rank's sequences, without cores."""
        total = Duration(0.0)
        for queries, passes in self.draft.passes if self.draft else ():
            one = self.draft_tokens(sequences * queries) + self.head(sequences)
            total = total + one.scaled(passes)
        return total

    def drafting_experts(self, group_sequences: Real) -> Duration:
        """Experts and their traffic in the draft passes of a decode step."""
        total = Duration(0.0)
        for queries, passes in self.draft.passes if self.draft else ():
            one = self.draft_experts(group_sequences * queries, prefill=False)
            total = total + one.scaled(passes)
        return total

    def draft_tokens(self, rank_tokens: Real) -> Duration:
        """One pass of the draft module over one rank's tokens, without attention core."""
        if self.draft is None:
            return Duration(0.0)
        inner = self._inner(self.draft)
        return inner.tokens(rank_tokens) + inner._sum(self.draft.joining(rank_tokens), ())

    def draft_experts(self, group_tokens: Real, prefill: bool) -> Duration:
        """The draft module's experts for the tokens of all ranks, their traffic in sequence."""
        if self.draft is None:
            return Duration(0.0)
        work, traffic_s = self._inner(self.draft).experts(group_tokens, prefill)
        return work + Duration(traffic_s)

    def draft_attention(self, sequences: Real, context: Real, capped: Real) -> list[Duration]:
        """Attention cores of all draft passes, linear in the loads."""
        if self.draft is None:
            return []
        inner = self._inner(self.draft)
        cores = list[Duration]()
        for queries, passes in self.draft.passes:
            ops = layer.decode_attention(self.draft.shard, sequences, context, capped)
            timed = [inner._sum((verifying(op, queries),), ()) for op in ops]
            cores += [core.scaled(passes) for core in timed]
        return cores

    def draft_prompts(
        self, tokens: Real, pairs: Real, capped: Real, sparse: bool = True
    ) -> list[Duration]:
        """Attention cores of the draft module's pass over prompts."""
        if self.draft is None:
            return []
        return self._inner(self.draft).prefill_attention(tokens, pairs, capped, sparse)

    def _inner(self, draft: Draft) -> "StepModel":
        """The physics of the draft module: plain, in sequence."""
        return StepModel(draft.shard, self.system, self.part, self.calibration, hot=self.hot)

    # -- what depends on tokens alone ------------------------------------------------------------

    def tokens(self, rank_tokens: Real) -> Duration:
        """Projections, dense MLP, norms and their collectives for one rank's tokens."""
        m = self._micro(rank_tokens)
        return self._round(self._sum(self._token_ops(m), self._token_comms(m)))

    def head(self, rows: Real) -> Duration:
        """Output projection and sampling of ``rows`` tokens."""
        ops = layer.head_ops(self.shard, rows)
        return self._sum(ops, collectives.head_comms(self.shard, rows, self._domain))

    def experts(self, group_tokens: Real, prefill: bool) -> tuple[Duration, Real]:
        """Routed experts for the tokens of all ranks, and the traffic other work can cover.

        Returns
        -------
        work : experts and the collectives that nothing covers.
        hideable_s : all-to-all time, of which ``overlap_share`` runs behind computation. [s]
        """
        m = self._micro(group_tokens)
        comms = self._expert_comms(m, prefill)
        work = self._sum(
            layer.expert_ops(self.shard, m, self.hot), [c for c in comms if not c.hideable]
        )
        hideable = self._sum((), [c for c in comms if c.hideable])
        return self._round(work), self._round(hideable).time_s

    def stages(self, rank_tokens: Real, group_tokens: Real, prefill: bool) -> dict[Stage, Real]:
        """Time of every stage but the attention core, all layers of one micro-batch. [s]

        Parameters
        ----------
        rank_tokens : tokens of the busiest rank in this micro-batch. [tokens]
        group_tokens : tokens of all ranks that share the experts. [tokens]
        """
        ops: list[Op] = [
            *self._token_ops(rank_tokens),
            *layer.expert_ops(self.shard, group_tokens, self.hot),
        ]
        comms = [*self._token_comms(rank_tokens), *self._expert_comms(group_tokens, prefill)]
        return by_stage(
            [(op, self._op_time_s(op)) for op in ops] + [(c, self._comm_s(c)) for c in comms]
        )

    # -- attention cores -------------------------------------------------------------------------

    def decode_attention(self, sequences: Real, context: Real, capped: Real) -> list[Duration]:
        """Attention cores of decoding sequences, one a group of layers."""
        pp = self.shard.pp
        ops = self._decode_cores(sequences / pp, context / pp, capped / pp)
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

    # -- whole steps -----------------------------------------------------------------------------

    @property
    def overhead_s(self) -> float:
        """Host time of a step that nothing hides. [s]"""
        return float(self.calibration.step_overhead_s)

    @property
    def scheduled(self) -> bool:
        """Whether a policy lays the expert layers out in slots."""
        if self.overlap == "share" or not self.shard.uses_all_to_all:
            return False
        return self.overlap != "none"

    def beside_traffic(self, prefill: bool) -> "StepModel":
        """The physics of a micro-batch: normal all-to-all kernels hold multiprocessors apart.

        References
        ----------
        .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2.
        """
        if not prefill or self.plan(prefill).micro_batches == 1:
            return self
        return replace(self, part=without_multiprocessors(self.part, float(COMMUNICATION_SM_SHARE)))

    def plan(self, prefill: bool) -> Schedule:
        """The slots of a step's expert layers."""
        return schedule(self.overlap, prefill) if self.scheduled else PLAIN

    def decode_step_s(self, rank_sequences: Real, context_tokens: Real, cap: int | None) -> Real:
        """Time of a decode step, every rank alike; ``context_tokens`` a sequence. [s]

        With speculation this is the time of a whole step, which yields ``tokens_per_step``.
        """
        seen = context_tokens if cap is None else np.minimum(context_tokens, cap)
        loads = rank_sequences, rank_sequences * context_tokens, rank_sequences * seen
        dp = self.shard.attention_dp
        drafts = self._drafts(loads).time_s
        tokens = rank_sequences * self.query_tokens
        after_s = self.head(tokens).time_s + drafts + self.overhead_s
        work, hideable_s = self.experts(tokens * dp, prefill=False)
        busy_s = self.tokens(tokens).time_s + work.time_s + _total_s(self.decode_attention(*loads))
        plain_s = busy_s + self.exposed_s(hideable_s, busy_s + after_s - self.overhead_s) + after_s
        if not self.scheduled:
            return plain_s
        n = self.plan(prefill=False).micro_batches
        part = [load / n for load in loads]
        cut_s = self.layers_s(
            (tokens, tokens * dp),
            _total_s(self.decode_attention(*loads)),
            _total_s(self.decode_attention(*part)),
            prefill=False,
        )
        return np.where(np.asarray(rank_sequences) >= n, cut_s + after_s, plain_s)

    def layers_s(
        self, tokens: tuple[Real, Real], core_s: Real, part_core_s: Real, prefill: bool
    ) -> Real:
        """Time of all layers under the slots of the policy. [s]

        Parameters
        ----------
        tokens : of the busiest rank and of all ranks together.
        core_s : attention cores of the whole batch (dense layers run it uncut). [s]
        part_core_s : attention cores of one micro-batch. [s]
        """
        plan, pp = self.plan(prefill), self.shard.pp
        rank, group = (self._micro(n) for n in tokens)
        whole = self.stages(rank, group, prefill)
        whole["attention_core"] = core_s / pp
        n = plan.micro_batches
        part = dict(whole)
        if n > 1:
            part = self.beside_traffic(prefill).stages(rank / n, group / n, prefill)
        part["attention_core"] = part_core_s / pp
        return pp * (self.dense_layers_s(whole) + self.cut_layers_s(plan, part))

    def dense_layers_s(self, whole: Mapping[Stage, Real]) -> Real:
        """Layers without experts, which no policy cuts: attention and dense MLP. [s]"""
        own = self.shard.dense_layers / self.shard.layers
        return whole["dense"] + own * sum((whole[name] for name in EVERY_LAYER), 0.0)

    def cut_layers_s(self, plan: Schedule, part: Mapping[Stage, Real]) -> Real:
        """Expert layers, from stage times of one micro-batch over all layers. [s]"""
        moe = self.shard.moe
        layers = moe.layers if moe else 0.0
        one = {
            name: time_s / (self.shard.layers if name in EVERY_LAYER else layers)
            for name, time_s in part.items()
        }
        return expert_layers_s(plan, layers, one)

    def exposed_s(self, hideable_s: Real, busy_s: Real) -> Real:
        """Part of the expert traffic that nothing hides: at most ``busy_s`` can cover it. [s]"""
        return hideable_s - np.minimum(self.overlap_share * hideable_s, busy_s)

    def decode_step(self, sequences: float, context: float, cap: int | None) -> Step:
        """Lay out a decode step of ``sequences`` a rank with ``context`` tokens each."""
        pp, dp = self.shard.pp, self.shard.attention_dp
        seen = context if cap is None else min(context, cap)
        tokens = sequences * self.query_tokens
        m, group = self._micro(tokens), self._micro(tokens * dp)
        loads = sequences, sequences * context, sequences * seen
        ops: list[Op] = [
            *self._token_ops(m),
            *self._decode_cores(*(load / pp for load in loads)),
            *layer.expert_ops(self.shard, group, self.hot),
        ]
        comms = [*self._token_comms(m), *self._expert_comms(group, prefill=False)]
        step = self._layout(ops, comms, tokens, self._drafts(loads))
        if not self.scheduled or sequences < self.plan(prefill=False).micro_batches:
            return step
        return self._at(step, float(self.decode_step_s(sequences, context, cap)))

    def prefill_step(self, tokens: float, prompts: float, context: float, cap: int | None) -> Step:
        """Lay out a prefill step: ``tokens`` a rank out of ``prompts`` prompts of ``context``."""
        pp, dp = self.shard.pp, self.shard.attention_dp
        pairs = tokens * context / 2
        capped = pairs if cap is None or context <= cap else tokens * cap * (1 - cap / context / 2)
        m = tokens / pp
        cores = self._prefill_cores(m, pairs / pp, capped / pp)
        ops: list[Op] = [
            *self._token_ops(m), *cores, *layer.expert_ops(self.shard, m * dp, self.hot)
        ]  # fmt: skip
        comms = [*self._token_comms(m), *self._expert_comms(m * dp, prefill=True)]
        drafts = self.draft_tokens(tokens) + self.draft_experts(tokens * dp, prefill=True)
        prompt = [self.draft_prompts(tokens, pairs, capped, sparse) for sparse in (True, False)]
        cheaper = [min(both, key=lambda d: float(d.time_s)) for both in zip(*prompt, strict=True)]
        drafts = sum(cheaper, drafts)
        step = replace(self._layout(ops, comms, prompts, drafts), tokens=1.0)
        n = self.plan(prefill=True).micro_batches
        if not self.scheduled or tokens < n:
            return step
        beside = self.beside_traffic(prefill=True)
        part = beside._prefill_cores(m / n, pairs / pp / n, capped / pp / n)
        core_s, part_s = pp * sum(map(self._op_s, cores)), pp * sum(map(beside._op_s, part))
        layers_s = float(self.layers_s((tokens, tokens * dp), core_s, part_s, prefill=True))
        after_s = float(self.head(prompts).time_s + drafts.time_s) + self.overhead_s
        return self._at(step, layers_s + after_s)

    # -- helpers -----------------------------------------------------------------------------------

    def _drafts(self, loads: tuple[Real, Real, Real]) -> Duration:
        """All of drafting, every rank alike; loads as for :meth:`decode_attention`."""
        sequences = loads[0]
        drafts = self.drafting(sequences)
        drafts = drafts + self.drafting_experts(sequences * self.shard.attention_dp)
        return sum(self.draft_attention(*loads), drafts)

    @property
    def _domain(self) -> int:
        return self.system.scale_up.devices

    def _token_ops(self, tokens: Real) -> list[Op]:
        ops = layer.token_ops(self.shard, tokens)
        if self.fused_norm and self.shard.attention_tp > 1:
            return [
                replace(op, count=0.0)
                if isinstance(op, Elementwise) and op.name == "norms/residual_norm"
                else op
                for op in ops
            ]
        return ops

    def _token_comms(self, tokens: Real) -> list[Comm]:
        return collectives.token_comms(self.shard, tokens, self._domain)

    def _expert_comms(self, group_tokens: Real, prefill: bool) -> list[Comm]:
        return collectives.expert_comms(self.shard, group_tokens, self._domain, prefill, self.hot)

    def _decode_cores(self, sequences: Real, context: Real, capped: Real) -> list[AttentionDecode]:
        ops = layer.decode_attention(self.shard, sequences, context, capped)
        return [verifying(op, self.query_tokens) for op in ops]

    def _prefill_cores(self, tokens: Real, pairs: Real, capped: Real) -> list[Op]:
        forms = [
            layer.prefill_attention(self.shard, tokens, pairs, capped, sparse)
            for sparse in (True, False)
        ]
        return [min(both, key=self._op_s) for both in zip(*forms, strict=True)]

    def _at(self, step: Step, time_s: float) -> Step:
        """The same parts, taking ``time_s`` together."""
        apart_s = sum(p.time_s for p in step.parts) + step.overhead_s
        return replace(step, time_s=time_s, hidden_s=apart_s - time_s)

    def _layout(self, ops: list[Op], comms: list[Comm], rows: float, drafts: Duration) -> Step:
        pp = self.shard.pp
        parts = [self._part(op, pp) for op in ops]
        parts += [self._part(op, 1) for op in layer.head_ops(self.shard, rows)]
        head_comms = collectives.head_comms(self.shard, rows, self._domain)
        parts += [self._comm_part(c, pp) for c in comms]
        parts += [self._comm_part(c, 1) for c in head_comms]
        if self.draft is not None:
            parts.append(_draft_part(drafts))
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
        return Step(
            tuple(parts), hidden, self.overhead_s, time_s, light[bound_by], bound_by,
            self.tokens_per_step,
        )  # fmt: skip

    def _op_s(self, op: Op) -> float:
        return float(self._op_time_s(op))

    def _op_time_s(self, op: Op) -> Real:
        return op_time(op, self.part, self.calibration).time_s

    def _comm_s(self, comm: Comm) -> Real:
        return comm_time_s(comm, self.system, self.calibration)

    def _part(self, op: Op, rounds: int) -> Part:
        t = op_time(op, self.part, self.calibration)
        time_s, compute_s, memory_s = (
            float(rounds * x) for x in (t.time_s, t.compute_s, t.memory_s)
        )
        return Part(op.name, time_s, compute_s, memory_s, _bound(time_s, compute_s, memory_s))

    def _comm_part(self, comm: Comm, rounds: int) -> Part:
        return Part(comm.name, float(rounds * self._comm_s(comm)), 0.0, 0.0, "network")

    def _ideal_network_s(self, comms: Iterable[Comm], rounds: int) -> float:
        """Time of the collectives at stated bandwidth and without latency. [s]"""
        system, calibration = ideal(self.system, self.calibration)
        return float(sum(rounds * comm_time_s(c, system, calibration) for c in comms))

    def _micro(self, tokens: Real) -> Real:
        """Tokens of one micro-batch; a round has at least one token in each that runs."""
        return tokens if self.shard.pp == 1 else np.maximum(tokens / self.shard.pp, 1.0)

    def _round(self, duration: Duration) -> Duration:
        pp = self.shard.pp
        return duration if pp == 1 else duration.scaled(pp)

    def _sum(self, ops: Iterable[Op], comms: Iterable[Comm]) -> Duration:
        total = Duration(0.0)
        for op in ops:
            t = op_time(op, self.part, self.calibration)
            total = total + Duration(t.time_s, t.compute_s, t.memory_s)
        for comm in comms:
            total = total + Duration(self._comm_s(comm))
        return total


def without_multiprocessors(part: AcceleratorSpec, share: float) -> AcceleratorSpec:
    """The part with a share of its multiprocessors gone: slower products, the same memory."""
    peaks = part.dense_flop_per_s
    left = {
        name: Sourced(float(peak) * (1 - share), source=peak.source, note=peak.note)
        for name, peak in peaks
        if peak is not None
    }
    return part.model_copy(update={"dense_flop_per_s": peaks.model_copy(update=left)})


def _total_s(durations: Iterable[Duration]) -> Real:
    return sum((d.time_s for d in durations), 0.0)


def _bound(time_s: float, compute_s: float, memory_s: float) -> str:
    if max(compute_s, memory_s) < 0.5 * time_s:
        return "latency"
    return "compute" if compute_s > memory_s else "memory"


def _draft_part(drafts: Duration) -> Part:
    times = float(drafts.time_s), float(drafts.compute_s), float(drafts.memory_s)
    return Part("draft/module", *times, _bound(*times))


def ideal(system: SystemSpec, calibration: CalibrationSpec) -> tuple[SystemSpec, CalibrationSpec]:
    """The same network at its stated bandwidth and without latency."""
    up = system.scale_up.model_copy(update={"latency_s": 0.0})
    out = system.scale_out and system.scale_out.model_copy(update={"latency_s": 0.0})
    links = ideal_links(calibration.links)
    return (
        system.model_copy(update={"scale_up": up, "scale_out": out}),
        calibration.model_copy(update={"links": links}),
    )
