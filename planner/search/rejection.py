"""Why candidates were refused, and what would have to change."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from planner.errors import InfeasibleError, InputError, PlannerError

MOST_REASONS = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate was refused: which limit, by how much."""

    label: str
    stage: str
    """``fit`` (memory, divisibility, precision), ``screen`` (closed form) or ``simulation``."""
    limit: str
    needed: float | None
    available: float | None
    unit: str
    advice: str
    system: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def excess(self) -> float:
        """Needed over available: 1.1 misses by a tenth; infinite where it cannot be said."""
        if self.needed is None or not self.available:
            return float("inf")
        return self.needed / self.available


@dataclass(frozen=True, slots=True)
class Change:
    """One limit that refused candidates, and the one that came nearest to it."""

    limit: str
    stage: str
    refused: int
    nearest: str
    """Label of the candidate that missed by least."""
    needed: float | None
    available: float | None
    unit: str
    excess: float | None
    """By what factor the nearest missed."""
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def changes(rejections: Iterable[Rejection]) -> tuple[Change, ...]:
    """What would have to change, limit by limit, those that miss by least first."""
    groups: dict[tuple[str, str], list[Rejection]] = {}
    for rejection in rejections:
        groups.setdefault((rejection.stage, rejection.limit), []).append(rejection)
    found = []
    for (stage, limit), group in groups.items():
        near = min(group, key=lambda r: r.excess)
        known = near.excess < float("inf")
        label = f"{near.system}: {near.label}" if near.system else near.label
        found.append(
            Change(
                limit, stage, len(group), label, near.needed, near.available, near.unit,
                near.excess if known else None, near.advice,
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda c: (c.excess is None, c.excess or 0.0, -c.refused)))


def nothing_fits(rejections: list[Rejection]) -> PlannerError:
    """The refusal that came closest, or the reasons where none has numbers."""
    memory = [r for r in rejections if r.limit == "HBM per device" and r.needed]
    if memory:
        nearest = min(memory, key=lambda r: r.excess)
        return InfeasibleError(
            f"no layout fits; nearest is {nearest.label}: {nearest.limit}",
            nearest.needed or 0.0,
            nearest.available or 0.0,
            nearest.unit,
            "allow more nodes a replica (space.max_nodes_per_replica) or fewer bits a weight",
        )
    numbered = [r for r in rejections if r.needed is not None]
    if numbered:
        first = min(numbered, key=lambda r: r.excess)
        return InfeasibleError(
            f"no layout fits; {first.label}: {first.limit}",
            first.needed or 0.0, first.available or 0.0, first.unit, first.advice,
        )  # fmt: skip
    reasons = dict.fromkeys(f"{r.system}: {r.limit}" if r.system else r.limit for r in rejections)
    return InputError("", "space", f"no layout fits; {'; '.join(list(reasons)[:MOST_REASONS])}")
