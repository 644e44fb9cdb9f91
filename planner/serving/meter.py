"""What the stretches of one replica add up to."""

import math

from planner.serving.timing import Segment, steps_beyond

BIN_WIDTH = math.log(1.005)
"""Gaps between tokens are counted in bins 0.5 % wide: bin ``b`` starts at ``1.005**b`` s."""


class Meter:
    """Sums over stretches, exact; the gaps between tokens also as a histogram.

    A decode step gives each of its sequences one token, so its time is the gap between two tokens
    of each of them, but for those that stood still before it.  Where several tokens are sent at
    once, gaps are those between two that were sent (:mod:`planner.serving.streaming`).  Gaps that
    end after ``gaps_from_s`` count.
    """

    __slots__ = (
        "busy_s",
        "energy_j",
        "gap_bins",
        "gap_sum_s",
        "gap_tokens",
        "gaps_from_s",
        "kv_token_s",
        "preempted",
        "prefill_s",
        "steps",
        "stretches",
    )

    def __init__(self) -> None:
        self.gaps_from_s = math.inf
        self.busy_s = self.prefill_s = self.energy_j = self.kv_token_s = 0.0
        self.steps = self.stretches = self.preempted = 0
        self.gap_bins: dict[int, int] = {}
        self.gap_tokens = 0
        self.gap_sum_s = 0.0

    def add(
        self, segment: Segment, start_s: float, steps: int, sequences: int, held_tokens: int
    ) -> None:
        """Count a stretch in which every sequence that decodes did so in the step before, too.

        Parameters
        ----------
        sequences : that decode, over all ranks.
        held_tokens : KV in use before the first step's decode tokens. [tokens]
        """
        if steps > 1 or start_s < self.gaps_from_s:
            self.add_work(segment, steps, sequences, held_tokens)
            if sequences:
                self.add_gaps(segment, start_s, 0, steps, sequences)
            return
        # the same for one step, which is most of them
        step_s = segment.first_step_s
        self.stretches += 1
        self.steps += 1
        self.busy_s += step_s
        self.prefill_s += segment.prefill_s
        self.energy_j += segment.power_w * step_s
        self.kv_token_s += (held_tokens + sequences) * step_s
        if sequences:
            self.gap_tokens += sequences
            self.gap_sum_s += sequences * step_s
            bins, index = self.gap_bins, math.floor(math.log(step_s) / BIN_WIDTH)
            bins[index] = bins.get(index, 0) + sequences

    def add_work(self, segment: Segment, steps: int, sequences: int, held_tokens: int) -> None:
        """Count the time, energy and KV of a stretch, but no gaps."""
        elapsed_s = segment.elapsed_s(steps)
        self.stretches += 1
        self.steps += steps
        self.busy_s += elapsed_s
        self.prefill_s += segment.prefill_s
        self.energy_j += segment.power_w * elapsed_s
        self.kv_token_s += (held_tokens + sequences) * elapsed_s
        if steps > 1 and sequences:
            # sum of i * (first + i * slope) for i < steps
            ramp = 0.5 * steps * (steps - 1)
            squares = ramp * (2 * steps - 1) / 3.0
            self.kv_token_s += sequences * (
                segment.first_step_s * ramp + segment.slope_s_per_step * squares
            )

    def add_gap(self, gap_s: float, end_s: float, count: int) -> None:
        """Count one gap of each of ``count`` sequences, that ends at ``end_s``."""
        if end_s > self.gaps_from_s and count:
            self.gap_tokens += count
            self.gap_sum_s += count * gap_s
            index = math.floor(math.log(gap_s) / BIN_WIDTH)
            self.gap_bins[index] = self.gap_bins.get(index, 0) + count

    def add_gaps_after(
        self, waited: list[tuple[int, float]], segment: Segment, start_s: float, steps: int,
        sequences: int,
    ) -> None:  # fmt: skip
        """Count the gaps of a stretch before which some sequences stood still.

        Parameters
        ----------
        waited : (sequences, for how long they stood [s]).
        """
        first_s, late = segment.elapsed_s(1), 0
        for count, waited_s in waited:
            late += count
            self.add_gap(first_s + waited_s, start_s + first_s, count)
        if sequences > late:
            self.add_gaps(segment, start_s, 0, 1, sequences - late)
        if steps > 1 and sequences:
            self.add_gaps(segment, start_s, 1, steps, sequences)

    def add_gaps(
        self, segment: Segment, start_s: float, first: int, steps: int, sequences: int
    ) -> None:
        """Count the gaps of steps ``first <= i < steps`` of a stretch that began at ``start_s``."""
        if start_s < self.gaps_from_s:
            if self.gaps_from_s >= start_s + segment.elapsed_s(steps):
                return
            first = max(first, steps_beyond(segment, start_s, self.gaps_from_s) - 1)
        elapsed_s = segment.elapsed_s(steps) - (segment.elapsed_s(first) if first else 0.0)
        self.gap_tokens += sequences * (steps - first)
        self.gap_sum_s += sequences * elapsed_s
        self._sort(segment, first, steps, sequences)

    def _sort(self, segment: Segment, first: int, steps: int, sequences: int) -> None:
        """Sort steps ``first <= i < steps`` into bins."""
        bins, start_s, slope = self.gap_bins, segment.first_step_s, segment.slope_s_per_step
        high = math.floor(math.log(start_s + (steps - 1) * slope) / BIN_WIDTH)
        if steps - first > 1 and slope:
            low = math.floor(math.log(start_s + first * slope) / BIN_WIDTH)
            for index in range(low, high):
                edge_s = math.exp((index + 1) * BIN_WIDTH)
                edge = min(steps, math.ceil((edge_s - start_s) / slope))
                if edge > first:
                    bins[index] = bins.get(index, 0) + sequences * (edge - first)
                    first = edge
        bins[high] = bins.get(high, 0) + sequences * (steps - first)
