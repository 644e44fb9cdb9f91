"""What the stretches of one replica add up to."""

import math

from planner.serving.timing import Segment, steps_beyond

BIN_WIDTH = math.log(1.005)
"""Gaps between tokens are counted in bins 0.5 % wide: bin ``b`` starts at ``1.005**b`` s."""


class Meter:
    """Sums over stretches, exact; the gaps between tokens also as a histogram.

    A decode step gives each of its sequences one token, so its time is the gap between two tokens
    of each of them.  Gaps that end after ``gaps_from_s`` count.
    """

    __slots__ = (
        "busy_s",
        "energy_j",
        "gap_bins",
        "gap_sum_s",
        "gap_tokens",
        "gaps_from_s",
        "kv_token_s",
        "prefill_s",
        "steps",
        "stretches",
    )

    def __init__(self) -> None:
        self.gaps_from_s = math.inf
        self.busy_s = self.prefill_s = self.energy_j = self.kv_token_s = 0.0
        self.steps = self.stretches = 0
        self.gap_bins: dict[int, int] = {}
        self.gap_tokens = 0
        self.gap_sum_s = 0.0

    def add(
        self, segment: Segment, start_s: float, steps: int, sequences: int, held_tokens: int
    ) -> None:
        """Count a stretch.

        Parameters
        ----------
        sequences : that decode, over all ranks.
        held_tokens : KV in use before the first step's decode tokens. [tokens]
        """
        elapsed_s = segment.elapsed_s(steps)
        self.stretches += 1
        self.steps += steps
        self.busy_s += elapsed_s
        self.prefill_s += segment.prefill_s
        self.energy_j += segment.power_w * elapsed_s
        self.kv_token_s += (held_tokens + sequences) * elapsed_s
        if sequences:
            if steps > 1:
                # sum of i * (first + i * slope) for i < steps
                ramp = 0.5 * steps * (steps - 1)
                squares = ramp * (2 * steps - 1) / 3.0
                self.kv_token_s += sequences * (
                    segment.first_step_s * ramp + segment.slope_s_per_step * squares
                )
            first = 0
            if start_s < self.gaps_from_s:
                if self.gaps_from_s >= start_s + elapsed_s:
                    return
                first = steps_beyond(segment, start_s, self.gaps_from_s) - 1
                elapsed_s -= segment.elapsed_s(first)
            self.gap_tokens += sequences * (steps - first)
            self.gap_sum_s += sequences * elapsed_s
            self._add_gaps(segment, first, steps, sequences)

    def _add_gaps(self, segment: Segment, first: int, steps: int, sequences: int) -> None:
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
