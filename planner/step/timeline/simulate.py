"""The clock of one step: in-order streams on every rank, collectives that wait for the slowest.

A slot (see :mod:`planner.step.schedule`) begins on a rank when its computation and the transfer
of the slot before have ended there.  A transfer begins when every rank has reached its slot, and
ends on each rank when that rank's bytes are moved, which takes longer beside computation with
normal kernels.  Streams run in order, so events need no queue: every instant follows from those of
the slot before, for all ranks at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.step import StepModel
from planner.step.schedule import Laid, Work, program
from planner.step.stages import EVERY_LAYER
from planner.step.timeline.durations import MicroBatch, micro_batches, own_stages_s
from planner.step.timeline.loads import StepWork

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of work on one stream of one rank, for a Gantt chart. [s]"""

    rank: int
    stream: str
    """``compute``, ``network`` or ``host``."""
    name: str
    layer: int
    """Expert layer from 0; -1: outside of them."""
    micro_batch: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One simulated step."""

    time_s: float
    busy: dict[str, float]
    """Share of the step each resource works, mean over ranks: ``compute``, ``scale_up``,
    ``scale_out``, ``host``."""
    critical: dict[str, float]
    """Time by stage along the longest path; adds up to ``time_s``. [s]"""
    bars: tuple[Bar, ...]
    ranks: int
    slowest_rank: int
    """The rank that the longest path spends most time on."""
    waiting_share: float
    """Mean share of the step that a rank's compute stream stands still."""

    @property
    def bound_by(self) -> str:
        """The stage that most of the longest path is in."""
        return max(self.critical, key=lambda name: self.critical[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "step_s": self.time_s,
            "busy_share": self.busy,
            "critical_path_s": self.critical,
            "bound_by": self.bound_by,
            "ranks": self.ranks,
            "slowest_rank": self.slowest_rank,
            "waiting_share": self.waiting_share,
        }


@dataclass(slots=True, eq=False)
class _Clock:
    """Instants of every slot, ``[slots, devices]``. [s]"""

    laid: tuple[Laid, ...]
    parts: tuple[MicroBatch, ...]
    start: Floats
    computed: Floats
    moved: Floats
    """When a rank's transfer ends; its start where there is none."""
    begun: Floats
    """When the transfer begins on all ranks, ``[slots]``."""

    def spent(self, work: Work) -> Floats:
        """Time of one computation on every rank. [s]"""
        stage, micro, layer = work
        time_s: Floats = self.parts[micro].compute[stage][layer]
        return time_s


def simulate_step(
    model: StepModel, work: StepWork, ranks: Iterable[int] = (), layers: Iterable[int] = ()
) -> Timeline:
    """Simulate one step of ``model`` under the loads of ``work``.

    Parameters
    ----------
    ranks, layers : what bars are kept of; none: the slowest and the fastest rank, and no layer.

    Returns
    -------
    Timeline.  With pipelining, of one round: as many equal stages one after another.

    References
    ----------
    .. [1] F. Baccelli et al., "Synchronization and Linearity", 1992, chapter 2 (instants of an
       event graph are longest paths).
    """
    parts = micro_batches(model, work)
    devices = len(work.whole.tokens)
    laid = program(work.plan, len(work.whole.pairs)) if model.shard.moe else ()
    factor = model.own_factor(work.prefill)
    dense_s, after_s = factor * _dense_s(model, work), factor * _after_s(model, work)
    clock = _run(laid, parts, dense_s, model.held_up(work.prefill))
    last = np.maximum(clock.computed[-1], clock.moved[-1]) if laid else dense_s
    pp = model.shard.pp
    overhead_s = model.host_s(work.prefill) + work.host_s
    end = pp * last + after_s
    ending = int(end.argmax())
    time_s = float(end[ending]) + overhead_s
    path, slowest = _critical(clock, dense_s, ending)
    critical = {name: pp * value for name, value in path.items()}
    critical["head and drafts"] = float(after_s[ending])
    critical["host"] = overhead_s
    compute_s, up_s, out_s = _busy(clock, dense_s, after_s, pp)
    busy = {
        "compute": compute_s / time_s,
        "scale_up": up_s / time_s,
        "scale_out": out_s / time_s,
        "host": overhead_s / time_s,
    }
    fastest = int((clock.computed - clock.start).sum(axis=0).argmin())
    kept = tuple(ranks) or tuple(dict.fromkeys((slowest, fastest)))
    return Timeline(
        time_s,
        busy,
        {name: value for name, value in critical.items() if value > 0},
        tuple(_bars(clock, kept, set(layers))),
        devices,
        slowest,
        1 - busy["compute"],
    )


def _dense_s(model: StepModel, work: StepWork) -> Floats:
    """Layers without experts, uncut, ``[devices]``. [s]"""
    whole = own_stages_s(model, work.whole, work.prefill)
    own = model.shard.dense_layers / model.shard.layers
    total = whole["dense"] + own * sum(whole[name] for name in EVERY_LAYER)
    return np.asarray(total)


def _after_s(model: StepModel, work: StepWork) -> Floats:
    """Output head and drafts of each device, ``[devices]``. [s]"""
    zero = np.zeros_like(work.rows)
    total = zero + model.head(work.rows).time_s
    if model.draft is None:
        return np.asarray(total)
    pp = model.shard.pp
    x, y, z = (pp * each for each in work.whole.attention)
    if work.prefill:
        own = model.draft_tokens(x) + model.draft_experts(pp * work.whole.group_tokens, True)
        forms = [model.draft_prompts(x, y, z, sparse) for sparse in (True, False)]
        cores = [np.minimum(a.time_s, b.time_s) for a, b in zip(*forms, strict=True)]
        return np.asarray(sum(cores, total + own.time_s))
    group = pp * work.whole.group_tokens / model.query_tokens
    drafting = pp * work.whole.tokens / model.query_tokens
    own = model.drafting(drafting) + model.drafting_experts(group)
    return np.asarray(sum((c.time_s for c in model.draft_attention(x, y, z)), total + own.time_s))


def _run(
    laid: tuple[Laid, ...], parts: tuple[MicroBatch, ...], dense_s: Floats, held_up: float
) -> _Clock:
    start, computed, moved = np.zeros((3, len(laid), len(dense_s)))
    clock = _Clock(laid, parts, start, computed, moved, np.zeros(len(laid)))
    ready = dense_s
    for i, (computes, transfer) in enumerate(laid):
        clock.start[i] = ready
        done = ready
        for stage, micro, layer in computes:
            done = done + parts[micro].compute[stage][layer]
        clock.computed[i] = done
        clock.moved[i] = ready
        if transfer is not None:
            stage, micro, layer = transfer
            begun = clock.begun[i] = ready.max()
            alone_s = parts[micro].transfers[stage].time_s[layer]
            clock.moved[i] = begun + beside_s(alone_s, np.maximum(done - begun, 0.0), held_up)
        ready = np.maximum(done, clock.moved[i])
    return clock


def beside_s(alone_s: Floats, computing_s: Floats, held_up: float) -> Floats:
    """Time of a transfer that shares its first ``computing_s`` with computation. [s]

    References
    ----------
    .. [1] As :func:`planner.step.schedule.slot_s`.
    """
    return np.minimum(alone_s / (1.0 - held_up), alone_s + held_up * computing_s)


def _critical(clock: _Clock, dense_s: Floats, rank: int) -> tuple[dict[str, float], int]:
    """Walk the longest path back from the rank that ends last: time by stage, busiest rank. [s]"""
    totals: dict[str, float] = {}
    on = np.zeros(len(dense_s))

    def add(name: str, time_s: float) -> None:
        totals[name] = totals.get(name, 0.0) + time_s
        on[rank] += time_s

    for i in range(len(clock.laid) - 1, -1, -1):
        computes, transfer = clock.laid[i]
        if transfer is not None and clock.moved[i, rank] >= clock.computed[i, rank]:
            add(transfer[0], float(clock.moved[i, rank] - clock.begun[i]))
            rank = int(clock.start[i].argmax())  # the last to arrive
            continue
        for work in computes:
            add(work[0], float(clock.spent(work)[rank]))
    add("dense layers", float(dense_s[rank]))
    return dict(reversed(totals.items())), int(on.argmax())


def _busy(clock: _Clock, dense_s: Floats, after_s: Floats, pp: int) -> tuple[float, float, float]:
    """Busy time of compute, scale-up and scale-out, mean over ranks. [s]"""
    compute_s = float(
        (pp * (dense_s + (clock.computed - clock.start).sum(axis=0)) + after_s).mean()
    )
    up_s = out_s = 0.0
    for _, transfer in clock.laid:
        if transfer is not None:
            moved = clock.parts[transfer[1]].transfers[transfer[0]]
            up_s += pp * float(moved.scale_up_s[transfer[2]].mean())
            out_s += pp * float(moved.scale_out_s[transfer[2]].mean())
    return compute_s, up_s, out_s


def _bars(clock: _Clock, ranks: tuple[int, ...], layers: set[int]) -> Iterable[Bar]:
    """Everything from the first slot with work of ``layers`` to the last."""
    touched = [
        i
        for i, (computes, transfer) in enumerate(clock.laid)
        if any(work[2] in layers for work in (*computes, *((transfer,) if transfer else ())))
    ]
    for i in range(touched[0], touched[-1] + 1) if touched else ():
        computes, transfer = clock.laid[i]
        for rank in ranks:
            at = float(clock.start[i, rank])
            for work in computes:
                stage, micro, layer = work
                took = float(clock.spent(work)[rank])
                if took > 0:
                    yield Bar(rank, "compute", stage, layer, micro, at, at + took)
                at += took
            if transfer is not None:
                stage, micro, layer = transfer
                begun, moved = float(clock.begun[i]), float(clock.moved[i, rank])
                if moved > begun:
                    yield Bar(rank, "network", stage, layer, micro, begun, moved)
