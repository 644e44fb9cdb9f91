"""How long each component of the model worked for a measured quantity of a run.

With the schedule held, the mean time per output token is a sum over components of (factor x
seconds), and so is the time to first token: linear in what an engine fit looks for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.ops import Comm, Op, collectives, layer
from planner.ops.head import head_ops
from planner.roofline import achieved, op_time
from planner.specs.overheads import EngineOverheads
from planner.step import StepModel
from planner.step.graphs import computed, padded_to
from planner.validation.replay import Replay
from planner.validation.trace import Trace

Floats = NDArray[np.float64]

COMPONENTS = (
    "gemm",
    "moe",
    "attention",
    "floor",
    "comm",
    "fixed",
    "steps",
    "prefill_steps",
    "rows",
)
"""Seconds of dense products and vector work, experts, attention, kernel floors, communication,
the calibration's own time a step; then counts: steps, steps with prefill, rows of the head."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """Of one pool to one quantity: component -> seconds (or counts), decode and prefill apart."""

    decode: Floats
    """A value a component."""
    prefill: Floats

    def __add__(self, other: "Exposure") -> "Exposure":
        return Exposure(self.decode + other.decode, self.prefill + other.prefill)


def neutral(step: StepModel, kernels: object) -> StepModel:
    """Return the same physics without an engine's overheads."""
    return replace(step, calibration=kernels, overheads=EngineOverheads())  # type: ignore[arg-type]


def components(step: StepModel, trace: Trace) -> tuple[Floats, Floats]:
    """Components of the first step of every stretch of a trace, at its mean context.

    Parameters
    ----------
    step : physics without overheads.

    Returns
    -------
    decode, prefill : ``[stretches, components]``, without and because of prompts.
    """
    seqs, steps = trace.sequences, trace.steps
    grown = seqs * (steps - 1) / 2
    context, capped = trace.context + grown, trace.capped + grown
    new, prompts, group = trace.prefill, trace.prompts, trace.group_sequences
    has, busy = new > 0, seqs > 0
    size = _sizes(step, trace)
    decode = _own(step, size.tokens, size.rows) * busy[:, None]
    cores = step.decode_attention_ops(seqs, context, capped)
    decode += _sum(step, cores, (), len(seqs)) * step.shard.pp * busy[:, None]
    # with prompts in it, a step's expert work is that of a prompt's step as a whole
    decode += _experts(step, size.group_tokens, False) * ((group > 0) & ~has)[:, None]
    together, sent = _with_prompts(step, trace)
    both = _own(step, together, seqs + prompts) - _own(step, seqs, seqs) * busy[:, None]
    both += _prompt_cores(step, trace)
    prompts_m = _micro(step, new)
    both += step.shard.pp * _sum(step, layer.prompt_ops(step.shard, prompts_m), (), len(new))
    both += _experts(step, sent, True)
    prefill = both * has[:, None]
    decode[:, COMPONENTS.index("fixed")] = float(step.calibration.step_overhead_s)
    decode[:, COMPONENTS.index("steps")] = 1.0
    # a step without a graph is launched kernel by kernel, as one with prompts
    decode[:, COMPONENTS.index("prefill_steps")] = has | size.launched
    decode[:, COMPONENTS.index("rows")] = seqs
    prefill[:, COMPONENTS.index("rows")] = prompts * has
    return decode, prefill


class _Sizes(NamedTuple):
    """What the decode steps of a trace compute, padded where a graph holds them."""

    tokens: Floats
    rows: Floats
    group_tokens: Floats
    launched: NDArray[np.bool_]
    """Without a graph although the engine has some: kernels launched one by one."""


def _sizes(step: StepModel, trace: Trace) -> _Sizes:
    """Sizes of steps; with prompts as they are (:func:`_with_prompts`)."""
    seqs, group, graphs = trace.sequences, trace.group_sequences, step.graphs
    if graphs is None:
        return _Sizes(seqs, seqs, group, np.zeros(len(seqs), bool))
    alone = (trace.prefill == 0) & (seqs > 0)
    held = alone & graphs.holds(trace.most_sequences / step.shard.pp)
    found = computed(step, trace.most_sequences)
    dp, pp = step.shard.attention_dp, step.shard.pp
    sent = pp * graphs.sent(group / pp, np.asarray(found.sequences) * dp / pp)
    return _Sizes(
        np.where(held, found.tokens, seqs),
        np.where(held & graphs.holds_head, found.rows, seqs),
        np.where(held, sent, group),
        alone & ~held,
    )


def padding(step: StepModel, trace: Trace) -> float:
    """Sequences computed over sequences there, of the busiest rank, mean over decode steps."""
    alone = (trace.prefill == 0) & (trace.most_sequences > 0)
    if step.graphs is None or not alone.any():
        return 1.0
    weight, there = trace.steps[alone], trace.most_sequences[alone]
    return float(np.dot(weight, computed(step, there).sequences) / np.dot(weight, there))


def _with_prompts(step: StepModel, trace: Trace) -> tuple[Floats, Floats]:
    """Tokens of the slowest rank and of all in steps with prompts, padded where a graph is."""
    own, sent = trace.sequences + trace.prefill, trace.group_sequences + trace.group_prefill
    graphs, pp = step.graphs, step.shard.pp
    if graphs is None or not graphs.mixed_tokens:
        return own, sent
    held = trace.most_tokens / pp <= graphs.mixed_tokens[-1]
    padded = pp * np.asarray(padded_to(graphs.mixed_tokens, trace.most_tokens / pp))
    together = np.where(held, padded, own)
    if graphs.to_experts != "tokens":
        return together, sent
    return together, np.where(held, step.shard.attention_dp * padded, sent)


def _micro(step: StepModel, tokens: Floats) -> Floats:
    pp = step.shard.pp
    return tokens if pp == 1 else np.maximum(tokens / pp, 1.0)


def _own(step: StepModel, tokens: Floats, rows: Floats) -> Floats:
    pp, domain = step.shard.pp, step.system.scale_up.devices
    m = _micro(step, tokens)
    each = _sum(step, layer.token_ops(step.shard, m),
                collectives.token_comms(step.shard, m, domain), len(tokens))  # fmt: skip
    head = _sum(step, head_ops(step.shard, rows),
                collectives.head_comms(step.shard, rows, domain), len(tokens))  # fmt: skip
    return pp * each + head


def _experts(step: StepModel, tokens: Floats, prefill: bool) -> Floats:
    pp, domain = step.shard.pp, step.system.scale_up.devices
    m = _micro(step, tokens)
    comms = collectives.expert_comms(step.shard, m, domain, prefill, step.hot)
    return pp * _sum(step, layer.expert_ops(step.shard, m, step.hot), comms, len(tokens))


def _prompt_cores(step: StepModel, trace: Trace) -> Floats:
    pp = step.shard.pp
    loads = trace.prefill / pp, trace.pairs / pp, trace.capped_pairs / pp
    forms = [
        pp
        * _sum(
            step,
            layer.prefill_attention(step.shard, *loads, sparse, trace.longest),
            (),
            len(loads[0]),
        )
        for sparse in (True, False)
    ]
    faster = forms[0].sum(axis=1) <= forms[1].sum(axis=1)
    return np.where(faster[:, None], forms[0], forms[1])


_OF_FAMILY = {
    "gemm": "gemm", "elementwise": "gemm", "grouped_gemm": "moe",
    "attention_decode": "attention", "attention_prefill": "attention",
}  # fmt: skip


def _sum(step: StepModel, ops: Iterable[Op], comms: Iterable[Comm], count: int) -> Floats:
    table = np.zeros((count, len(COMPONENTS)))
    floor, comm_at = COMPONENTS.index("floor"), COMPONENTS.index("comm")
    for op in ops:
        time_s = op_time(op, step.part, step.calibration).time_s
        fixed_s = op.count * float(achieved(op, step.calibration).floor_s)
        table[:, COMPONENTS.index(_OF_FAMILY[op.family])] += time_s - fixed_s
        table[:, floor] += fixed_s
    for comm in comms:
        table[:, comm_at] += step.comm_s(comm)
    return table


def exposures(replay: Replay) -> tuple[tuple[Exposure, ...], tuple[Exposure, ...]]:
    """Exposure of a run's mean TPOT and mean TTFT to the components of each pool.

    Kernels are those of the pool without its overheads.
    """
    count = len(replay.arrival_s)
    gaps = 1.0 / np.maximum(replay.output_tokens - 1, 1) / count
    ones = np.full(count, 1.0 / count)
    last = len(replay.traces) - 1
    tpot, ttft = [], []
    for number, (trace, replica) in enumerate(zip(replay.traces, replay.replicas, strict=True)):
        decode, prefill = components(neutral(replica.step, replica.hardware.calibration), trace)
        zero = Exposure(np.zeros(len(COMPONENTS)), np.zeros(len(COMPONENTS)))
        if number == last:
            weight = trace.presence(
                replay.decode_replica, replay.first_token_s, replay.finish_s, gaps
            )
            tpot.append(_weighed(trace, weight, decode, prefill))
        else:
            tpot.append(zero)
        where = replay.replica if number == 0 else replay.decode_replica
        since = replay.arrival_s if number == 0 else replay.sent_s
        until = replay.prefilled_s if number == 0 else replay.first_token_s
        weight = trace.presence(where, since, until, ones)
        ttft.append(_weighed(trace, weight, decode, prefill))
    return tuple(tpot), tuple(ttft)


def _weighed(trace: Trace, weight: Floats, decode: Floats, prefill: Floats) -> Exposure:
    share = weight * trace.steps
    return Exposure(share @ decode, share @ prefill)
