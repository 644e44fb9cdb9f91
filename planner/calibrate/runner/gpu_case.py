"""A point on the device: one way to run it or several to choose from, each with its check."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .case import Case, Check
from .timing import Call
from .work import Work


@dataclass(frozen=True, slots=True)
class Probe:
    """A small instance of a kernel: what compiles it, and how wrong it is."""

    launch: Callable[[], object]
    check: Callable[[], Check]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a point: a tile, a number of splits, a library's call."""

    call: Call
    name: str = ""
    setup: Callable[[], object] | None = None
    """What must have run before: alignment for this tile, operands of this call."""
    probe_key: tuple[Any, ...] = ()
    probe: Callable[[], Probe] | None = None


@dataclass(slots=True)
class GpuCase:
    """One point made ready."""

    ways: list[Way]
    work: Work
    sets: int = 1
    extra: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    graph: bool = True
    most_calls: int = 200
    """Calls in one captured graph at most."""

    def as_case(self, call: Call) -> Case:
        """Say the point as any backend does."""
        return Case(call, self.work, self.sets, None, self.extra, self.note)
