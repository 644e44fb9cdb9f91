"""What the replicas of one pool did, stretch by stretch, and who waited for it meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.serving.engine import Replica
from planner.serving.meter import Meter
from planner.serving.timing import RankLoad, Segment, Timing

Floats = NDArray[np.float64]

COLUMNS = (
    "replica", "start_s", "elapsed_s", "steps",
    "sequences", "context", "capped", "prefill", "pairs", "capped_pairs", "prompts",
    "group_sequences", "group_prefill", "most_sequences", "most_tokens", "longest",
)  # fmt: skip
"""Of a stretch: loads of the rank that waits for none, in its first step, of all ranks together,
and the most of any (tokens: sequences and prompt tokens)."""


@dataclass(slots=True)
class TracingTiming:
    """A timing that remembers what each stretch was asked for."""

    inner: Timing
    asked: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Ask the inner timing, and note the loads."""
        segment = self.inner.segment(ranks, epoch)
        top, group, new = ranks[0], 0, 0
        most = most_tokens = 0
        for load in ranks:
            group += load.sequences
            new += load.prefill_tokens
            most = max(most, load.sequences)
            most_tokens = max(most_tokens, load.sequences + load.prefill_tokens)
            if (load.prefill_tokens, load.context_tokens) > (
                top.prefill_tokens,
                top.context_tokens,
            ):
                top = load
        self.asked[id(segment)] = (
            top.sequences, top.context_tokens, top.capped_tokens, top.prefill_tokens,
            top.prefill_pairs, top.prefill_capped_pairs, top.prompts_finished, group, new,
            most, most_tokens, top.prefill_longest,
        )  # fmt: skip
        return segment


class TracingMeter(Meter):
    """A meter that keeps every stretch of a replica; the gaps of the base class are not needed."""

    __slots__ = ("number", "replica", "rows", "timing")

    def __init__(
        self, number: int, replica: Replica, timing: TracingTiming, rows: list[tuple[float, ...]]
    ) -> None:
        super().__init__()
        self.number, self.replica, self.timing, self.rows = number, replica, timing, rows

    def add(
        self, segment: Segment, start_s: float, steps: int, sequences: int, held_tokens: int
    ) -> None:
        """Keep a stretch."""
        self.add_work(segment, steps, sequences, held_tokens)

    def add_work(self, segment: Segment, steps: int, sequences: int, held_tokens: int) -> None:
        """Keep the stretch that ends now."""
        loads = self.timing.asked.pop(id(segment))
        elapsed_s = segment.elapsed_s(steps)
        start_s = self.replica.now_s - elapsed_s
        self.rows.append((self.number, start_s, elapsed_s, steps, *loads))

    def add_gaps(
        self, segment: Segment, start_s: float, first: int, steps: int, sequences: int
    ) -> None:
        """Gaps between tokens are not needed."""

    def add_gap(self, gap_s: float, end_s: float, count: int) -> None:
        """Nor is a single one."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Stretches of a pool as columns (:data:`COLUMNS`)."""

    rows: Floats

    def __getattr__(self, name: str) -> Any:
        try:
            return self.rows[:, COLUMNS.index(name)]
        except ValueError:
            raise AttributeError(name) from None

    def presence(self, replica: Floats, since_s: Floats, until_s: Floats, weight: Floats) -> Floats:
        """Mean over each stretch of the summed weights of those present on its replica.

        Parameters
        ----------
        replica, since_s, until_s, weight : of each request: where, from when to when, how much.
        """
        mean = np.zeros(len(self.rows))
        for number in np.unique(self.replica):
            mine, here = self.replica == number, replica == number
            if here.any():
                start, end = self.start_s[mine], self.start_s[mine] + self.elapsed_s[mine]
                area = _area(since_s[here], until_s[here], weight[here])
                mean[mine] = (area(end) - area(start)) / (end - start)
        return mean


def _area(since_s: Floats, until_s: Floats, weight: Floats) -> Callable[[Floats], Floats]:
    """Integral over time of the weights present, as a function of time."""
    times = np.concatenate([since_s, until_s])
    change = np.concatenate([weight, -weight])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(change[order])
    total = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(times))])
    return lambda at: np.asarray(np.interp(at, times, total))
