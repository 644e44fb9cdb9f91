"""The one seam between physics and clock: what a step costs, as the event loop sees it."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(slots=True)
class RankLoad:
    """What one attention rank brings to the next step.  Totals, never lists of sequences.

    Without attention data parallelism a replica has one rank.
    """

    sequences: int = 0
    """Sequences that decode one token in this step."""
    context_tokens: int = 0
    """Sum of their contexts (the KV tokens read, before the new one). [tokens]"""
    capped_tokens: int = 0
    """Sum of min(context, cap) where the model caps attention; else equal to context. [tokens]"""
    growing: int = 0
    """Decoding sequences whose capped context still grows (== sequences without a cap)."""
    prefill_tokens: int = 0
    """Prompt tokens computed in this step. [tokens]"""
    prefill_pairs: float = 0.0
    """(query, context) pairs of those tokens, causal, earlier chunks and cached prefix included."""
    prefill_capped_pairs: float = 0.0
    """The same with the context capped."""
    prompts_finished: int = 0
    """Prompts whose last token is computed in this step (rows for the output head)."""
    prefill_longest: int = 0
    """Longest context that one of those tokens sees, itself included; 0: not known. [tokens]"""


class Segment(NamedTuple):
    """Time of a stretch of steps during which composition does not change.

    Step ``i`` (from 0) takes ``first_step_s + i * slope_s_per_step``, for ``i < valid_steps``.
    """

    first_step_s: float
    slope_s_per_step: float = 0.0
    valid_steps: int = 1 << 62
    occupancy_s: float = 0.0
    """Time the first pipeline stage is taken; 0: the whole step (no pipelining across steps)."""
    prefill_s: float = 0.0
    """Part of the first step that is there because of prefill (the marginal time). [s]"""
    power_w: float = 0.0
    """Mean power of the whole replica during the stretch. [W]"""

    def elapsed_s(self, steps: int) -> float:
        """Time of the first ``steps`` steps.  Both engines use this one function. [s]"""
        return steps * self.first_step_s + self.slope_s_per_step * (0.5 * steps * (steps - 1))


class Timing(Protocol):
    """Answers what a step costs.  ``epoch`` changes when the answer for equal loads may change.

    The engines pass the same list of the same objects every time and change them in place: read
    them, keep none.  Times are above 0 and slopes not below.

    A stretch is asked for with the loads of its first step; each rank then gains one token a
    sequence a step.  Any prefill or finished prompt makes a stretch of one step.
    """

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the stretch that starts with these loads."""
        ...


_ALWAYS = 1 << 62


@dataclass(frozen=True, slots=True)
class AffineTiming:
    """A timing with constant coefficients: for tests and for queueing theory. [s]"""

    base_s: float = 0.0
    per_sequence_s: float = 0.0
    per_context_token_s: float = 0.0
    per_prefill_token_s: float = 0.0
    per_prefill_pair_s: float = 0.0
    power_w: float = 0.0
    ranks: int = field(default=1)

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return ``base + max over ranks of its own affine time``."""
        if len(ranks) == 1:
            load = ranks[0]
            context_s = self.per_context_token_s
            decode = self.per_sequence_s * load.sequences + context_s * load.capped_tokens
            own, slope = 0.0, context_s * load.growing
            if load.prefill_tokens:
                own = (
                    self.per_prefill_token_s * load.prefill_tokens
                    + self.per_prefill_pair_s * load.prefill_capped_pairs
                )
            return Segment(self.base_s + (decode + own), slope, _ALWAYS, 0.0, own, self.power_w)
        best = slope = longest_decode = 0.0
        times = []
        for load in ranks:
            decode = (
                self.per_sequence_s * load.sequences + self.per_context_token_s * load.capped_tokens
            )
            time = decode + (
                self.per_prefill_token_s * load.prefill_tokens
                + self.per_prefill_pair_s * load.prefill_capped_pairs
            )
            own = self.per_context_token_s * load.growing
            times.append((time, own))
            longest_decode = max(longest_decode, decode)
            if time > best or (time == best and own > slope):
                best, slope = time, own
        valid = 1 << 62
        if len(times) > 1:
            for time, own in times:
                if own > slope:
                    valid = min(valid, overtaking_steps(best - time, own - slope))
        return Segment(
            self.base_s + best, slope, valid, prefill_s=best - longest_decode, power_w=self.power_w
        )


def overtaking_steps(gap_s: float, closing_s_per_step: float) -> int:
    """Steps until a rank that is ``gap_s`` behind and closes by that much a step is ahead.

    At least 1: the first step's time is right whatever follows.
    """
    steps = int(gap_s / closing_s_per_step) + 1
    return steps if steps > 1 else 1


def steps_beyond(segment: Segment, start_s: float, time_s: float) -> int:
    """Fewest steps (at least 1) with which a stretch begun at ``start_s`` ends after ``time_s``.

    The root of ``elapsed_s(k) = time_s - start_s``, quadratic in ``k``, moved to the first whole
    number for which ``start_s + elapsed_s(k) > time_s`` holds exactly as the engines compute it.
    """
    gap_s = time_s - start_s
    steps = 1
    if gap_s >= segment.first_step_s:
        half_slope = 0.5 * segment.slope_s_per_step
        linear = segment.first_step_s - half_slope
        # the form of the root without a difference of near-equal numbers: right for slope 0, too
        root = 2.0 * gap_s / (linear + math.sqrt(linear * linear + 4.0 * half_slope * gap_s))
        steps = math.floor(root) + 1
    while steps > 1 and start_s + segment.elapsed_s(steps - 1) > time_s:
        steps -= 1
    while start_s + segment.elapsed_s(steps) <= time_s:
        steps += 1
    return steps


def scaled(segment: Segment, factor: float) -> Segment:
    """Return the stretch with every step ``factor`` times as long."""
    return segment._replace(
        first_step_s=segment.first_step_s * factor,
        slope_s_per_step=segment.slope_s_per_step * factor,
        prefill_s=segment.prefill_s * factor,
    )


def delayed(segment: Segment, delay_s: float) -> Segment:
    """Return the first step alone, longer by ``delay_s``."""
    return segment._replace(
        first_step_s=segment.first_step_s + delay_s, slope_s_per_step=0.0, valid_steps=1
    )
