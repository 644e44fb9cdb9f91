"""What a step is made of, as times."""

from collections.abc import Iterable
from dataclasses import dataclass

from planner.ops import Real


@dataclass(frozen=True, slots=True)
class Duration:
    """Time of a piece of work, and what it would take at the stated peaks. [s]"""

    time_s: Real
    compute_s: Real = 0.0
    memory_s: Real = 0.0

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(
            self.time_s + other.time_s,
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
        )

    def scaled(self, factor: float) -> "Duration":
        """The same ``factor`` times over."""
        return Duration(factor * self.time_s, factor * self.compute_s, factor * self.memory_s)


def total_s(durations: Iterable[Duration]) -> Real:
    """Time of all, one after another. [s]"""
    return sum((d.time_s for d in durations), 0.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One op or collective of a step."""

    name: str
    time_s: float
    compute_s: float
    memory_s: float
    bound: str
    """``compute``, ``memory``, ``network`` or ``latency`` (kernel floors): what sets its time."""
    law: str = ""
    """Which numbers of a calibration give its time: ``gemm/fp8``, ``links/all_reduce``."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what it is made of. [s]"""

    parts: tuple[Part, ...]
    hidden_s: float
    """Time of parts that run behind others: the sum of parts less the time they take together;
    below 0 where cutting the batch costs more than it hides."""
    overhead_s: float
    time_s: float
    bound_s: float
    """Speed of light: the same work at stated peaks, no latency, everything overlapped."""
    bound_by: str
    tokens: float = 1.0
    """Mean tokens a sequence gains: more than one with speculative decoding."""

    def by_component(self) -> dict[str, float]:
        """Time by component (first part of the name), ``host`` for the step's overhead. [s]"""
        totals: dict[str, float] = {}
        for part in self.parts:
            component = part.name.split("/")[0]
            totals[component] = totals.get(component, 0.0) + part.time_s
        if self.hidden_s:  # two micro-batches that cost more than they hide take longer
            totals["hidden" if self.hidden_s > 0 else "cutting"] = -self.hidden_s
        totals["host"] = self.overhead_s
        return totals

    def by_bound(self) -> dict[str, float]:
        """Time by what sets it. [s]"""
        totals: dict[str, float] = {}
        for part in self.parts:
            totals[part.bound] = totals.get(part.bound, 0.0) + part.time_s
        totals["host"] = self.overhead_s
        return totals
