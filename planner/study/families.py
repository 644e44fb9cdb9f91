"""Fleets that differ in their number of replicas alone: a few of them tell of the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.study.change import Overrides
from planner.study.grid import Case
from planner.study.row import Row

REPLICAS = "deployment.replicas"

Answer = Callable[[tuple[Case, ...]], Sequence[Row]]
"""Rows of cases, in their order."""


@dataclass
class _Search:
    """The smallest of some sizes that keeps the promises in one world, halved in on."""

    fleets: Sequence[int]
    """Numbers of the fleets, smallest first."""
    world: int
    low: int = -1
    """The largest that is known to break them."""
    high: int = 0
    """The smallest that is known to keep them."""

    def __post_init__(self) -> None:
        self.high = len(self.fleets)

    @property
    def open(self) -> bool:
        return self.high - self.low > 1

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    def learn(self, keeps: bool) -> None:
        if keeps:
            self.high = self.middle
        else:
            self.low = self.middle


def answers(
    fleets: Sequence[Overrides], worlds: Sequence[Overrides], ask: Answer, *, alike: bool = True
) -> list[list[Row]]:
    """A row of every fleet in every world: ``[fleet][world]``.

    Of fleets that differ in replicas alone, the smallest that keeps the promises is halved in on:
    what fewer replicas keep, more are taken to keep, and what more break, fewer.  A fleet that was
    not asked has the row of the nearest size that was, at its own cost.

    Parameters
    ----------
    ask : works cases out.
    alike : False asks every fleet in every world.
    """
    searches = [
        _Search(family, w) for family in _families(fleets, alike) for w in range(len(worlds))
    ]
    known: dict[tuple[int, int], Row] = {}
    while todo := [search for search in searches if search.open]:
        asked = [(search.fleets[search.middle], search.world) for search in todo]
        cases = (Case(i, {**fleets[f], **worlds[w]}) for i, (f, w) in enumerate(asked))
        rows = ask(tuple(cases))
        for search, place, row in zip(todo, asked, rows, strict=True):
            known[place] = row
            search.learn(bool(row["slo_met"]) and row["usd_per_hour"] is not None)
    found: list[list[Row]] = [[{} for _ in worlds] for _ in fleets]
    for search in searches:
        for at, fleet in enumerate(search.fleets):
            found[fleet][search.world] = _row(search, at, fleets, known)
    return found


def _families(fleets: Sequence[Overrides], alike: bool) -> list[list[int]]:
    """Numbers of fleets that are the same but for their replicas, smallest first."""
    groups: dict[str, list[int]] = {}
    for number, fleet in enumerate(fleets):
        rest = {path: value for path, value in fleet.items() if path != REPLICAS}
        countable = alike and isinstance(fleet.get(REPLICAS), int)
        groups.setdefault(repr(rest) if countable else f"#{number}", []).append(number)
    return [sorted(group, key=lambda n: _replicas(fleets[n])) for group in groups.values()]


def _replicas(fleet: Overrides) -> int:
    value = fleet.get(REPLICAS)
    return value if isinstance(value, int) else 1


def _row(
    search: _Search, at: int, fleets: Sequence[Overrides], known: Mapping[tuple[int, int], Row]
) -> Row:
    """Row of a size: its own, or the nearest one's on the same side of the promises."""
    place = (search.fleets[at], search.world)
    if place in known:
        return known[place]
    near = search.high if at > search.high else search.low
    row = known[search.fleets[near], search.world]
    cost = row["usd_per_hour"]
    if cost is None:
        return row
    times = _replicas(fleets[place[0]]) / _replicas(fleets[search.fleets[near]])
    return {**row, "usd_per_hour": cost * times}
