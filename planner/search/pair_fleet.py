"""Fewest prefill and decode replicas of a pair of layouts that keep every promise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.search.fleet import Fleet
from planner.search.layout import Counts

STEPS = 10
"""Times a pool is made larger before a pair is given up."""
HELPS = 0.95
"""What a larger pool must bring the broken promise to, of its value before, to be enlarged on."""
PREFILL, DECODE = 0, 1


@dataclass
class PairFleet(Fleet):
    """Trial runs of two pools at different sizes, with common random numbers.

    A late first token asks for more prefill replicas, a slow one after it for more of the decode
    pool, and where that does not help for more of the other; then both are made smaller as far as
    the promises hold, the dearer pool first.
    """

    def cheapest(self, allowed: Callable[[Counts], bool]) -> tuple[Counts | None, Counts]:
        """Find sizes that keep every promise, as small as simulation finds them.

        Parameters
        ----------
        allowed : whether sizes are within the space and cheaper than the best so far.

        Returns
        -------
        found : None where no allowed sizes were found to keep every promise.
        last : the sizes last simulated.
        """
        counts = self._start(allowed)
        if counts is None:
            return None, self.layout.least
        side, before_s = PREFILL, math.inf
        for _ in range(STEPS):
            if self.keeps(counts):
                counts = self._smaller(counts)
                if self.sure(counts):
                    return counts, counts
            worst = self.worst(counts)
            if worst.value_s > HELPS * before_s:
                # a full decode pool makes prompts wait too, and the other way round
                side = DECODE if side == PREFILL else PREFILL
            else:
                side = self._bottleneck(counts)
            before_s = worst.value_s
            larger = _with(counts, side, max(counts[side] + 1, math.ceil(counts[side] * 1.1)))
            if not allowed(larger):
                return None, counts
            counts = larger
        return None, counts

    def _start(self, allowed: Callable[[Counts], bool]) -> Counts | None:
        """Return the estimate, or the largest sizes below it that are allowed."""
        counts, least = self.layout.guesses, self.layout.least
        while not allowed(counts):
            over = [n - m for n, m in zip(counts, least, strict=True)]
            if not any(step > 0 for step in over):
                return None
            side = DECODE if over[DECODE] >= over[PREFILL] else PREFILL
            counts = _with(counts, side, counts[side] - 1)
        return counts

    def _bottleneck(self, counts: Counts) -> int:
        """Return the pool that the promise broken by most depends on."""
        name = self.worst(counts).name
        if not name.startswith("e2e"):
            return DECODE if name.startswith("tpot") else PREFILL
        busy, first = self.runs[counts][0].busy_s, counts[PREFILL]
        return PREFILL if busy[:first].mean() > busy[first:].mean() else DECODE

    def _smaller(self, counts: Counts) -> Counts:
        sides = self.layout.sides
        weight = [n * s.replica.devices for n, s in zip(counts, sides, strict=True)]
        order = (DECODE, PREFILL) if weight[DECODE] >= weight[PREFILL] else (PREFILL, DECODE)
        for side in order:
            low, high = sides[side].least - 1, counts[side]
            step = max(1, round(high * 0.1))
            while high - low > 1:
                middle = max(low + 1, high - step)
                if self.keeps(_with(counts, side, middle)):
                    high = middle
                else:
                    low, step = middle, max(1, step // 2)
            counts = _with(counts, side, high)
        return counts


def _with(counts: Counts, side: int, replicas: int) -> Counts:
    return (replicas, counts[DECODE]) if side == PREFILL else (counts[PREFILL], replicas)
