"""A candidate fleet without its size: one replica that does everything, or one of either role."""

from dataclasses import dataclass, field
from functools import cached_property

from planner.evaluation import FleetPool, Replica
from planner.search.screen import Estimate
from planner.serving.config import Role
from planner.specs.deployment import Disaggregated
from planner.specs.prices import Price
from planner.specs.scenario import Scenario

Counts = tuple[int, ...]
"""Replicas of every side."""


@dataclass(frozen=True, slots=True)
class Side:
    """One replica's layout, and what the closed form says of it in its role."""

    role: Role
    replica: Replica
    label: str
    guess: Estimate

    @property
    def least(self) -> int:
        """Replicas below which the closed form rules every run out."""
        return max(1, round(self.guess.least_devices / self.replica.devices))


@dataclass(frozen=True)
class Layout:
    """One side, or two: prefill first."""

    sides: tuple[Side, ...]
    several_systems: bool = field(default=False)
    """Whether labels say which system a side is on."""

    @property
    def apart(self) -> bool:
        """Whether prompts and answers have pools of their own."""
        return len(self.sides) > 1

    @property
    def main(self) -> Side:
        """The side that decodes."""
        return self.sides[-1]

    @property
    def guesses(self) -> Counts:
        """Replicas by the closed form."""
        return tuple(side.guess.replicas for side in self.sides)

    @property
    def least(self) -> Counts:
        """Replicas of every side that no run could do without."""
        return tuple(side.least for side in self.sides)

    @property
    def system(self) -> str:
        """Name of the system, of both where they differ."""
        names = (side.replica.hardware.system.name for side in self.sides)
        return " + ".join(dict.fromkeys(names))

    @property
    def label(self) -> str:
        """Short name of all sides."""
        if not self.apart:
            return self.main.label
        return "prefill {}; decode {}".format(*(side.label for side in self.sides))

    @property
    def named(self) -> str:
        """Label, with the system where there are several."""
        return f"{self.system}: {self.label}" if self.several_systems else self.label

    def devices(self, counts: Counts) -> int:
        """Devices of so many replicas."""
        return sum(n * s.replica.devices for n, s in zip(counts, self.sides, strict=True))

    def nodes(self, counts: Counts) -> float:
        """Nodes of so many replicas; part of a node counts as a part."""
        return sum(
            n * s.replica.devices / s.replica.hardware.system.devices_per_node
            for n, s in zip(counts, self.sides, strict=True)
        )

    def pools(self, counts: Counts) -> tuple[FleetPool, ...]:
        """The fleet of so many replicas."""
        return tuple(
            FleetPool(s.role, s.replica, n) for n, s in zip(counts, self.sides, strict=True)
        )

    @cached_property
    def prices(self) -> tuple[float, ...] | None:
        """Headline price of a device of every side; None where nobody prices all. [USD/h]"""
        hardware = [side.replica.hardware for side in self.sides]
        found = common_prices(tuple(h.prices for h in hardware))
        return None if found is None else tuple(found)

    def deployment(self, counts: Counts) -> Disaggregated:
        """Both pools as a deployment states them."""
        first, then = (
            s.replica.pool.model_copy(update={"replicas": n})
            for n, s in zip(counts, self.sides, strict=True)
        )
        names = [side.replica.hardware.system.name for side in self.sides]
        return Disaggregated(
            prefill=first, decode=then, prefill_system=names[0] if names[0] != names[1] else None
        )

    def scenario(self, base: Scenario, counts: Counts) -> Scenario:
        """``base`` as it is asked of this layout: on its system, with its pools where apart."""
        first, then = self.sides[0].replica.hardware, self.main.replica.hardware
        update: dict[str, object] = {"hardware": (then,)}
        if self.apart:
            other = first if first.system.name != then.system.name else None
            update.update(deployment=self.deployment(counts), prefill_hardware=other)
        return base.model_copy(update=update)


def common_prices(prices: tuple[tuple[Price, ...], ...]) -> list[float] | None:
    """Price of a device of every part, from the first provider and term that has them all."""
    *others, own = prices
    for price in own:
        same = [
            next((p for p in other if (p.provider, p.term) == (price.provider, price.term)), None)
            for other in others
        ]
        if all(same):
            found = [p for p in same if p is not None]
            return [float(p.usd_per_device_hour) for p in (*found, price)]
    return None
