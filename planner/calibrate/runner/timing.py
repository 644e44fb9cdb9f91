"""Time of one call: repeats long enough for the clock, median and minimum of several."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

Call = Callable[[int], object]
"""``call(i)`` does the operation on the ``i``-th of several equal sets of operands."""

REPEATS = 7


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one call, over ``repeats`` of ``inner`` calls each."""

    time_s: float
    min_s: float
    repeats: int
    inner: int
    timing: str

    def as_dict(self) -> dict[str, float | int | str]:
        """Fields of a row."""
        return {
            "time_s": self.time_s,
            "min_s": self.min_s,
            "repeats": self.repeats,
            "inner": self.inner,
            "timing": self.timing,
        }


def summary(samples_s: list[float], inner: int, timing: str) -> Timed:
    """Median and minimum of repeats of ``inner`` calls. [s]

    >>> summary([2.0, 4.0, 8.0], 2, "clock").time_s
    2.0
    """
    each = [sample / inner for sample in samples_s]
    return Timed(statistics.median(each), min(each), len(each), inner, timing)


def sets_past_cache(operand_bytes: float, cache_bytes: float, most: int = 256) -> int:
    """Sets of operands to rotate over, so that none is still in the cache when its turn comes.

    >>> sets_past_cache(30e6, 100e6)
    4
    """
    return max(1, min(most, -int(-cache_bytes // max(operand_bytes, 1.0))))


def by_clock(call: Call, sets: int = 1, target_s: float = 6e-3, repeats: int = REPEATS) -> Timed:
    """Time by the host's clock; for work that is done when the call returns. [s]"""
    call(0)
    start = perf_counter()
    call(1 % sets)
    once_s = max(perf_counter() - start, 1e-7)
    inner = max(1, min(2000, round(target_s / once_s)))
    samples, turn = [], 0
    for _ in range(repeats):
        start = perf_counter()
        for _ in range(inner):
            call(turn % sets)
            turn += 1
        samples.append(perf_counter() - start)
    return summary(samples, inner, "clock")
