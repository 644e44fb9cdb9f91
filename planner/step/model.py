"""Time of one forward step, and where it goes.

A step is described by totals: tokens of the busiest rank, tokens of all ranks that share the
experts, contexts.  Every method takes scalars or arrays.  With pipelining a *round* is meant, in
which every sequence advances once: ``pp`` micro-batches of ``1 / pp`` of the load each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from planner.comm import comm_time_s
from planner.ops import (
    AttentionDecode,
    AttentionPrefill,
    Comm,
    Elementwise,
    Op,
    Real,
    collectives,
    layer,
)
from planner.ops.head import head_ops
from planner.roofline import op_time
from planner.routing import HotRank
from planner.shard import Shard
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, SystemSpec
from planner.specs.overheads import EngineOverheads
from planner.specs.overlap import OverlapPolicy
from planner.step import multiprocessors
from planner.step.draft import Draft, verifying
from planner.step.graphs import CapturedGraphs, Computed, computed, rows_s
from planner.step.layout import laid_out, prefill_laid_out, with_host
from planner.step.parts import Duration, Step, total_s
from planner.step.schedule import PLAIN, Schedule, schedule
from planner.step.slots import in_slots, layers_s
from planner.step.stages import StageTimes, by_stage


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
    verifies: int = 1
    """Tokens of a sequence computed in one pass where nothing is drafted."""
    gate_apart: bool = False
    """In prompts, an expert's gate and the conversion of its result are two kernels."""
    prompt_tokens: float = 1.0
    """New tokens of one prompt in a step: they choose experts alike where routing says so."""
    overheads: EngineOverheads = field(default_factory=EngineOverheads)
    """Host times and the factor of communication; those of kernels changed ``calibration``."""
    graphs: CapturedGraphs | None = None
    """What decode steps are padded to; None: nothing."""

    @property
    def query_tokens(self) -> int:
        """Tokens of one decoding sequence that a step computes."""
        return self.draft.query_tokens if self.draft else self.verifies

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens a decoding sequence gains in a step."""
        return self.draft.tokens_per_step if self.draft else 1.0

    def draft_passes(self) -> "tuple[tuple[StepModel, int], ...]":
        """Physics of the draft module (plain, in sequence), and how often it runs in a step."""
        if self.draft is None:
            return ()
        shard = self.draft.shard
        return tuple(
            (
                replace(
                    self, shard=shard, draft=None, overlap="none", overlap_share=0.0, verifies=n
                ),
                times,
            )
            for n, times in self.draft.passes
        )

    def drafting(self, sequences: Real) -> Duration:
        """Draft passes of a decode step: what depends on one rank's sequences, without cores."""
        passes = (
            (self.draft_tokens(sequences * inner.verifies) + self.head(sequences)).scaled(times)
            for inner, times in self.draft_passes()
        )
        between = self.draft.bookkeeping(sequences) if self.draft else ()
        return sum(passes, self.total(between, ()))

    def drafting_experts(self, group_sequences: Real) -> Duration:
        """Experts and their traffic in the draft passes of a decode step."""
        passes = (
            self.draft_experts(group_sequences * inner.verifies, prefill=False).scaled(times)
            for inner, times in self.draft_passes()
        )
        return sum(passes, Duration(0.0))

    def draft_tokens(self, rank_tokens: Real) -> Duration:
        """One pass of the draft module over one rank's tokens, without attention core."""
        if self.draft is None:
            return Duration(0.0)
        inner = self.draft_passes()[0][0]
        return inner.tokens(rank_tokens) + inner.total(self.draft.joining(rank_tokens), ())

    def draft_experts(self, group_tokens: Real, prefill: bool) -> Duration:
        """The draft module's experts for the tokens of all ranks, their traffic in sequence."""
        if self.draft is None:
            return Duration(0.0)
        work, traffic_s = self.draft_passes()[0][0].experts(group_tokens, prefill)
        return work + Duration(traffic_s)

    def draft_attention(self, sequences: Real, context: Real, capped: Real) -> list[Duration]:
        """Attention cores of all draft passes of a decode step."""
        return [
            core.scaled(times)
            for inner, times in self.draft_passes()
            for core in inner.decode_attention(sequences, context, capped)
        ]

    def draft_prompts(
        self, tokens: Real, pairs: Real, capped: Real, sparse: bool = True
    ) -> list[Duration]:
        """Attention cores of the draft module's pass over prompts."""
        for inner, _ in self.draft_passes()[:1]:
            return inner.prefill_attention(tokens, pairs, capped, sparse)
        return []

    def tokens(self, rank_tokens: Real) -> Duration:
        """Projections, dense MLP, norms and their collectives for one rank's tokens."""
        m = self.micro(rank_tokens)
        return self._round(self.total(self.token_ops(m), self.token_comms(m)))

    def prompts(self, prompt_tokens: Real) -> Duration:
        """What prompt tokens need beside :meth:`tokens` and attention."""
        return self._round(self.total(layer.prompt_ops(self.shard, self.micro(prompt_tokens)), ()))

    def head(self, rows: Real) -> Duration:
        """Output projection and sampling of ``rows`` tokens."""
        comms = collectives.head_comms(self.shard, rows, self.domain)
        return self.total(head_ops(self.shard, rows), comms)

    def experts(self, group_tokens: Real, prefill: bool) -> tuple[Duration, Real]:
        """Routed experts for the tokens of all ranks, and the traffic other work can cover.

        Returns
        -------
        work : experts and the collectives that nothing covers.
        hideable_s : all-to-all time, of which ``overlap_share`` runs behind computation. [s]
        """
        m = self.micro(group_tokens)
        comms = self.expert_comms(m, prefill)
        work = self.total(self.expert_ops(m, prefill), [c for c in comms if not c.hideable])
        hideable = self.total((), [c for c in comms if c.hideable])
        return self._round(work), self._round(hideable).time_s

    def stages(self, rank_tokens: Real, group_tokens: Real | None, prefill: bool) -> StageTimes:
        """Time of every stage but the attention core, all layers of one micro-batch. [s]

        Parameters
        ----------
        rank_tokens : tokens of the busiest rank in this micro-batch. [tokens]
        group_tokens : of all ranks; None: without experts and their traffic. [tokens]
        """
        ops, comms = self.token_ops(rank_tokens), self.token_comms(rank_tokens)
        if prefill:
            ops += layer.prompt_ops(self.shard, rank_tokens)
        if group_tokens is not None:
            ops += self.expert_ops(group_tokens, prefill)
            comms += self.expert_comms(group_tokens, prefill)
        found = by_stage((op.name, self._op_time_s(op)) for op in ops)
        for name, time_s in by_stage((c.name, self.comm_s(c)) for c in comms).items():
            found[name] = found[name] + time_s
        if self.shard.moe and self.scheduled and not prefill:
            found.update(multiprocessors.held_s(self.shard.moe, rank_tokens))
        return found

    def decode_attention(self, sequences: Real, context: Real, capped: Real) -> list[Duration]:
        """Attention cores of decoding sequences, one a group of layers."""
        ops = self.decode_attention_ops(sequences, context, capped)
        return [self._round(self.total((op,), ())) for op in ops]

    def decode_attention_ops(
        self, sequences: Real, context: Real, capped: Real
    ) -> list[AttentionDecode]:
        """One micro-batch's attention cores of decoding sequences, one a group of layers."""
        pp = self.shard.pp
        ops = layer.decode_attention(self.shard, sequences / pp, context / pp, capped / pp)
        return [verifying(op, self.query_tokens, self.part) for op in ops]

    def prefill_attention(
        self, tokens: Real, pairs: Real, capped: Real, sparse: bool = True,
        longest: Real | None = None,
    ) -> list[Duration]:  # fmt: skip
        """Attention cores of prompt chunks, one a group of layers.

        Where layers pick their keys, ``sparse`` and masked are two ways to do the same, of which
        the faster one runs.
        """
        ops = self.prefill_attention_ops(tokens, pairs, capped, sparse, longest)
        return [self._round(self.total((op,), ())) for op in ops]

    def prefill_attention_ops(
        self, tokens: Real, pairs: Real, capped: Real, sparse: bool = True,
        longest: Real | None = None,
    ) -> list[AttentionPrefill]:  # fmt: skip
        """One micro-batch's attention cores of prompt chunks, one a group of layers."""
        x, y, z = (each / self.shard.pp for each in (tokens, pairs, capped))
        return layer.prefill_attention(self.shard, x, y, z, sparse, longest)

    @property
    def overhead_s(self) -> float:
        """Host time of a step, and gaps between its kernels, that nothing hides. [s]"""
        own = self.overheads.step_host_s + self.overheads.layer_gap_s * self.shard.layers
        return float(self.calibration.step_overhead_s + own)

    def host_s(self, prefill: bool) -> float:
        """:attr:`overhead_s`, and the engine's own for prompts. [s]"""
        return self.overhead_s + (float(self.overheads.prefill_step_host_s) if prefill else 0.0)

    def own_factor(self, prefill: bool) -> float:
        """An engine's factor on all work of a step that computes prompts."""
        return float(self.overheads.prefill_factor) if prefill else 1.0

    @property
    def scheduled(self) -> bool:
        """Whether a policy lays the expert layers out in slots."""
        return self.overlap not in ("share", "none") and self.shard.uses_all_to_all

    def beside_traffic(self, prefill: bool) -> "StepModel":
        """The physics of a micro-batch: normal all-to-all kernels hold multiprocessors apart.

        References
        ----------
        .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2.
        """
        if not prefill or self.plan(prefill).micro_batches == 1:
            return self
        return replace(self, part=multiprocessors.beside_normal_kernels(self.part))

    def held_up(self, prefill: bool) -> float:
        """Share of an expert transfer's speed that computation beside it takes: none in decode.

        References
        ----------
        .. [1] SGLang Team, "Deploying DeepSeek with PD Disaggregation and Large-Scale Expert
           Parallelism on 96 H100 GPUs", lmsys.org, 2025 (prefill's communication is slower beside
           computation than alone, decode's does not contend).
        """
        cut = prefill and self.plan(prefill).micro_batches > 1
        return float(multiprocessors.NORMAL_TRANSFER_HELD_UP) if cut else 0.0

    def plan(self, prefill: bool) -> Schedule:
        """The slots of a step's expert layers."""
        return schedule(self.overlap, prefill) if self.scheduled else PLAIN

    def decode_step_s(self, rank_sequences: Real, context_tokens: Real, cap: int | None) -> Real:
        """Time of a decode step, every rank alike; ``context_tokens`` a sequence. [s]

        With speculation this is the time of a whole step, which yields ``tokens_per_step``.
        """
        seen = context_tokens if cap is None else np.minimum(context_tokens, cap)
        loads = rank_sequences, rank_sequences * context_tokens, rank_sequences * seen
        size = computed(self, rank_sequences)
        tokens = size.tokens, size.group_tokens
        work_s = self.head(size.rows).time_s + self._drafts(size, loads).time_s
        work_s += rows_s(self, rank_sequences)
        after_s = work_s + self.overhead_s + size.launch_s
        core_s = total_s(self.decode_attention(*loads))
        n = self.plan(prefill=False).micro_batches if self.scheduled else 0
        cut = np.asarray(rank_sequences) >= n
        if not self.scheduled or not cut.all():
            work, hideable_s = self.experts(tokens[1], prefill=False)
            busy_s = self.tokens(tokens[0]).time_s + work.time_s + core_s
            plain_s = busy_s + self.exposed_s(hideable_s, busy_s + work_s) + after_s
            if not self.scheduled:
                return plain_s
        part_s = total_s(self.decode_attention(*(load / n for load in loads)))
        cut_s = layers_s(self, tokens, core_s, part_s, prefill=False) + after_s
        return cut_s if cut.all() else np.where(cut, cut_s, plain_s)

    def exposed_s(self, hideable_s: Real, busy_s: Real) -> Real:
        """Part of the expert traffic that nothing hides: at most ``busy_s`` can cover it. [s]"""
        return hideable_s - np.minimum(self.overlap_share * hideable_s, busy_s)

    def decode_step(self, sequences: float, context: float, cap: int | None) -> Step:
        """Lay out a decode step of ``sequences`` a rank with ``context`` tokens each."""
        seen = context if cap is None else min(context, cap)
        size = computed(self, sequences)
        m, group = self.micro(size.tokens), self.micro(size.group_tokens)
        loads = sequences, sequences * context, sequences * seen
        ops: list[Op] = [
            *self.token_ops(m),
            *self.decode_attention_ops(*loads),
            *self.expert_ops(group, prefill=False),
        ]
        comms = [*self.token_comms(m), *self.expert_comms(group, prefill=False)]
        step = laid_out(self, ops, comms, float(size.rows), self._drafts(size, loads))
        step = with_host(step, float(rows_s(self, sequences) + size.launch_s))
        n = self.plan(prefill=False).micro_batches
        if not self.scheduled or sequences < n:
            return step
        part_s = float(total_s(self.decode_attention(*(load / n for load in loads))))
        tokens = float(size.tokens), float(size.group_tokens)
        return in_slots(self, step, tokens, part_s, prefill=False)

    def prefill_step(self, tokens: float, prompts: float, context: float, cap: int | None) -> Step:
        """Lay out a prefill step: ``tokens`` a rank out of ``prompts`` prompts of ``context``."""
        pairs = tokens * context / 2
        capped = pairs if cap is None or context <= cap else tokens * cap * (1 - cap / context / 2)
        own = self
        if self.hot is not None and self.hot.correlation:
            own = replace(self, prompt_tokens=tokens / prompts)
        return prefill_laid_out(own, tokens, prompts, (pairs, capped))

    def _drafts(self, size: Computed, loads: tuple[Real, Real, Real]) -> Duration:
        """All of drafting, every rank alike; loads as for :meth:`decode_attention`."""
        drafts = self.drafting(size.sequences) + self.drafting_experts(size.group_sequences)
        return sum(self.draft_attention(*loads), drafts)

    @property
    def domain(self) -> int:
        """Devices of one scale-up domain."""
        return self.system.scale_up.devices

    def token_ops(self, tokens: Real) -> list[Op]:
        """Work on one rank's tokens; norms that run with a sum are not counted again."""
        ops = layer.token_ops(self.shard, tokens)
        if self.fused_norm and self.shard.attention_tp > 1:
            return [
                replace(op, count=0.0)
                if isinstance(op, Elementwise) and op.name == "norms/residual_norm"
                else op
                for op in ops
            ]
        return ops

    def token_comms(self, tokens: Real) -> list[Comm]:
        """Collectives of :meth:`token_ops`."""
        return collectives.token_comms(self.shard, tokens, self.domain)

    def expert_ops(self, group_tokens: Real, prefill: bool) -> list[Op]:
        """Work of the routed experts on the hottest rank."""
        alike, apart = (self.prompt_tokens, self.gate_apart) if prefill else (1.0, False)
        return layer.expert_ops(self.shard, group_tokens, self.hot, alike, apart)

    def expert_comms(self, group_tokens: Real, prefill: bool) -> list[Comm]:
        """Traffic to and from the experts."""
        alike = self.prompt_tokens if prefill else 1.0
        return collectives.expert_comms(
            self.shard, group_tokens, self.domain, prefill, self.hot, alike
        )

    def prefill_cores(self, tokens: Real, pairs: Real, capped: Real) -> list[AttentionPrefill]:
        """Attention cores of prompts, sparse or masked, whichever is faster."""
        forms = [
            self.prefill_attention_ops(tokens, pairs, capped, sparse) for sparse in (True, False)
        ]
        return [a if a == b else min(a, b, key=self.op_s) for a, b in zip(*forms, strict=True)]

    def op_s(self, op: Op) -> float:
        """Time of all calls of an op. [s]"""
        return float(self._op_time_s(op))

    def _op_time_s(self, op: Op) -> Real:
        return op_time(op, self.part, self.calibration).time_s

    def comm_s(self, comm: Comm) -> Real:
        """Time of all calls of a collective. [s]"""
        return self.overheads.comm_factor * comm_time_s(comm, self.system, self.calibration)

    def micro(self, tokens: Real) -> Real:
        """Tokens of one micro-batch; a round has at least one token in each that runs."""
        return tokens if self.shard.pp == 1 else np.maximum(tokens / self.shard.pp, 1.0)

    def _round(self, duration: Duration) -> Duration:
        pp = self.shard.pp
        return duration if pp == 1 else duration.scaled(pp)

    def total(self, ops: Iterable[Op], comms: Iterable[Comm]) -> Duration:
        """Ops and collectives one after another."""
        total = Duration(0.0)
        for op in ops:
            t = op_time(op, self.part, self.calibration)
            total = total + Duration(t.time_s, t.compute_s, t.memory_s)
        for comm in comms:
            total = total + Duration(self.comm_s(comm))
        return total
