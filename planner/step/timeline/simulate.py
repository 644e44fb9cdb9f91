"""The clock of one step: in-order streams on every rank, collectives that wait for the slowest.

A slot (see :mod:`planner.step.schedule`) begins on a rank when its computation and the transfer
of the slot before have ended there.  A transfer begins when every rank has reached its slot, and
ends on each rank when that rank's bytes are moved, which takes longer beside computation with
normal kernels.  Streams run in order, so events need no queue: every instant follows from those of
the slot before, for all ranks at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from planner.step import StepModel
from planner.step.schedule import Laid, Work, program
from planner.step.timeline.durations import MicroBatch, Transfer, micro_batches
from planner.step.timeline.loads import StepWork
from planner.step.timeline.outside import dense_layers, head_and_drafts

Floats = NDArray[np.float64]

Stream = Literal["compute", "scale_up", "scale_out", "host"]
"""What works in a step: multiprocessors, links inside the domain, network between domains, host."""

COLLECTIVES = "collectives"
"""Name of sums and gathers that are part of a stage and that nothing hides."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of work on one stream of one rank, for a Gantt chart. [s]

    Traffic over both levels of the network has a bar on each.
    """

    rank: int
    stream: Stream
    name: str
    """Stage; :data:`COLLECTIVES` and ``host`` beside them."""
    layer: int
    """Expert layer from 0; -1: outside of them."""
    micro_batch: int
    start_s: float
    end_s: float
    busy_s: float
    """Of it, time for which this stream is in use: less where the other level of the network, or
    kernels that copy, take longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One simulated step."""

    time_s: float
    busy: dict[Stream, float]
    """Share of the step each resource works, mean over ranks.  ``compute`` without collectives, but
    with the ends of low-latency exchanges that hold every multiprocessor."""
    network_share: float
    """Mean share of the step in which traffic of a rank is under way, over either level."""
    waiting_share: float
    """Mean share of the step in which a rank neither computes nor moves anything, nor its host
    works: it waits for slower ranks."""
    critical: dict[str, float]
    """Time by stage along the longest path; adds up to ``time_s``. [s]"""
    bars: tuple[Bar, ...]
    ranks: int
    slowest_rank: int
    """The rank that the longest path spends most time on."""

    @property
    def bound_by(self) -> str:
        """The stage that most of the longest path is in."""
        return max(self.critical, key=lambda name: self.critical[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "step_s": self.time_s,
            "busy_share": self.busy,
            "network_share": self.network_share,
            "waiting_share": self.waiting_share,
            "critical_path_s": self.critical,
            "bound_by": self.bound_by,
            "ranks": self.ranks,
            "slowest_rank": self.slowest_rank,
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

    def within(self, work: Work) -> Floats | None:
        """Collectives at the end of a computation: whole, scale-up, scale-out, ``[3, devices]``."""
        stage, micro, layer = work
        found = self.parts[micro].within.get(stage)
        return None if found is None else _levels(found, layer)

    def transferred(self, slot: int, transfer: Work) -> Floats:
        """A transfer as it ran: under way, of it on scale-up, scale-out, ``[3, devices]``. [s]"""
        stage, micro, layer = transfer
        alone = _levels(self.parts[micro].transfers[stage], layer)
        took = self.moved[slot] - self.begun[slot]
        ran: Floats = alone * np.divide(took, alone[0], out=np.ones_like(took), where=alone[0] > 0)
        return ran


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
    laid = program(work.plan, len(work.whole.pairs)) if model.shard.moe else ()
    factor = model.own_factor(work.prefill)
    dense_s, dense_moved = dense_layers(model, work)
    after_s, after_moved = head_and_drafts(model, work)
    dense_s, after_s = factor * dense_s, factor * after_s
    clock = _run(laid, parts, dense_s, model.held_up(work.prefill))
    last = np.maximum(clock.computed[-1], clock.moved[-1]) if laid else dense_s
    pp = model.shard.pp
    overhead_s = model.host_s(work.prefill) + work.host_s
    end = pp * last + after_s
    ending = int(end.argmax())
    time_s = float(end[ending]) + overhead_s
    moved = _levels(dense_moved.scaled(factor * pp) + after_moved.scaled(factor))
    used = _used(clock)
    network, up, out = ((moved + pp * used.moved).mean(axis=1) / time_s).tolist()
    compute_s = pp * (dense_s + used.compute_s) + after_s - moved[0]
    waiting_s = pp * used.waiting_s + end[ending] - end
    path, slowest = _critical(clock, dense_s, factor * dense_moved.time_s, ending)
    critical = {name: pp * value for name, value in path.items()}
    gathered_s = factor * float(after_moved.time_s[ending])
    critical["head and drafts"] = float(after_s[ending]) - gathered_s
    critical[COLLECTIVES] = critical.get(COLLECTIVES, 0.0) + gathered_s
    critical["host"] = overhead_s
    fastest = int((clock.computed - clock.start).sum(axis=0).argmin())
    kept, shown = tuple(ranks) or tuple(dict.fromkeys((slowest, fastest))), set(layers)
    hosts = kept if shown and overhead_s > 0 else ()
    host = (Bar(rank, "host", "host", -1, 0, time_s - overhead_s, time_s, overhead_s)
            for rank in hosts)  # fmt: skip
    return Timeline(
        time_s,
        {
            "compute": float(compute_s.mean()) / time_s,
            "scale_up": up,
            "scale_out": out,
            "host": overhead_s / time_s,
        },
        network,
        float(waiting_s.mean()) / time_s,
        {name: value for name, value in critical.items() if value > 0},
        (*_bars(clock, kept, shown), *host),
        len(work.whole.tokens),
        slowest,
    )


def _levels(moved: Transfer, layer: int | None = None) -> Floats:
    """Whole time, scale-up and scale-out, ``[3, devices]``. [s]"""
    found = (moved.time_s, moved.scale_up_s, moved.scale_out_s)
    return np.stack(found if layer is None else [each[layer] for each in found])


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


def _critical(
    clock: _Clock, dense_s: Floats, dense_moved_s: Floats, rank: int
) -> tuple[dict[str, float], int]:
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
            within = clock.within(work)
            moved_s = 0.0 if within is None else float(within[0, rank])
            add(COLLECTIVES, moved_s)
            add(work[0], float(clock.spent(work)[rank]) - moved_s)
    add(COLLECTIVES, float(dense_moved_s[rank]))
    add("dense layers", float((dense_s - dense_moved_s)[rank]))
    return dict(reversed(totals.items())), int(on.argmax())


@dataclass(slots=True, eq=False)
class _Used:
    """What each rank does in the expert layers, ``[devices]`` each. [s]"""

    compute_s: Floats
    waiting_s: Floats
    moved: Floats
    """Traffic under way, over scale-up, over scale-out, ``[3, devices]``."""


def _used(clock: _Clock) -> _Used:
    """Add up the slots; collectives of a stage beside a transfer keep a link busy once."""
    devices = clock.start.shape[1]
    used = _Used(np.zeros(devices), np.zeros(devices), np.zeros((3, devices)))
    for i, (computes, transfer) in enumerate(clock.laid):
        used.compute_s += clock.computed[i] - clock.start[i]
        ran = np.zeros((3, devices))
        if transfer is not None:
            ran = clock.transferred(i, transfer)
            used.waiting_s += np.maximum(0.0, clock.begun[i] - clock.computed[i])
        used.moved += ran
        at = clock.start[i]
        for work in computes:
            at = at + clock.spent(work)
            within = clock.within(work)
            if within is None:
                continue
            used.compute_s -= within[0]
            begins = at - within[0]
            ends = np.minimum(begins + within, clock.begun[i] + ran)
            used.moved += within - np.maximum(0.0, ends - np.maximum(begins, clock.begun[i]))
    return used


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
                took, within = float(clock.spent(work)[rank]), clock.within(work)
                moved_s = 0.0 if within is None else float(within[0, rank])
                if took > moved_s:
                    own_s = took - moved_s
                    yield Bar(rank, "compute", stage, layer, micro, at, at + own_s, own_s)
                at += took
                if within is not None:
                    yield from _traffic(rank, (COLLECTIVES, micro, layer), at, within[:, rank])
            if transfer is not None:
                moved = clock.transferred(i, transfer)[:, rank]
                yield from _traffic(rank, transfer, float(clock.moved[i, rank]), moved)


def _traffic(rank: int, what: tuple[str, int, int], end_s: float, levels: Floats) -> Iterable[Bar]:
    """Bars of traffic on the links it uses; ``levels``: whole time, scale-up and scale-out. [s]"""
    name, micro, layer = what
    whole_s, *each = levels.tolist()
    streams: tuple[Stream, Stream] = ("scale_up", "scale_out")
    for stream, busy_s in zip(streams, each, strict=True):
        if busy_s > 0:
            yield Bar(rank, stream, name, layer, micro, end_s - whole_s, end_s, busy_s)
