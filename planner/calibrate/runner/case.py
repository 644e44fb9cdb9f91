"""What a backend hands over for one point: something to call, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from .points import Point
from .timing import Call
from .work import Work

TOLERANCE = {
    "fp32": 2e-4, "bf16": 2e-2, "fp16": 2e-2, "fp8_block": 6e-2, "fp8_row": 2e-2,
    "fp8_tensor": 2e-2, "none": 0.0,
}  # fmt: skip
"""Norm of the error over the norm of the float64 reference that a kernel may make.

The FP8 layer quantises its own intermediate (3 mantissa bits: 2.6 %), hence its width.
"""


class CheckFailedError(Exception):
    """A kernel's result is not the reference's: it is not worth timing."""


class Check(NamedTuple):
    """Relative error of a kernel against float64, and what may be."""

    relative_error: float
    tolerance: float

    def passed(self) -> float:
        """Return the error; raise CheckFailedError where it is too large or no number."""
        if not self.relative_error <= self.tolerance:
            raise CheckFailedError(
                f"relative error {self.relative_error:.3g} against float64, "
                f"allowed {self.tolerance:g}"
            )
        return self.relative_error


@dataclass(slots=True)
class Case:
    """One point made ready: ``call(i)`` runs it on the ``i``-th set of operands."""

    call: Call
    work: Work
    sets: int = 1
    check: Callable[[], Check] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of the row that the point does not say: ``pairs``, ``touched``."""
    note: str = ""


class Backend(Protocol):
    """A device that can measure points."""

    name: str

    def header(self, seed: int, budget_s: float) -> dict[str, Any]:
        """First line of the rows."""

    def prepare(self, points: list[Point]) -> None:
        """Do ahead what helps all points (compile, allocate)."""

    def measure(self, point: Point) -> dict[str, Any]:
        """Check and time one point; return the result's fields of its row."""

    def recover(self, error: Exception) -> bool:
        """Free what a failed point held; say whether the device still works."""

    def close(self) -> None:
        """Let go of the device."""


def measured(case: Case, error: float | None, timed: dict[str, Any]) -> dict[str, Any]:
    """Fields of a row from a case and its times."""
    return {
        **case.extra,
        **timed,
        "bytes": round(case.work.traffic_bytes),
        "flop": round(case.work.flop),
        "check_rel_err": error,
        "note": case.note,
    }
