"""Choosing a fleet when traffic, lengths or prices are not known for sure."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.specs.deployment import Parallelism
from planner.specs.scenario import Scenario
from planner.study.change import Overrides, changed
from planner.study.draws import Unknowns, unknowns_of, worlds
from planner.study.families import answers
from planner.study.grid import Case
from planner.study.row import Row
from planner.study.table import Progress, Table
from planner.study.worth import Worth, measure_first, perfect_information


@dataclass(frozen=True, slots=True)
class Choice:
    """One fleet over all worlds."""

    name: str
    slo_probability: float
    """Share of worlds in which it keeps every promise."""
    slo_low: float
    slo_high: float
    """95 % interval of that probability."""
    mean_usd_per_hour: float
    mean_regret_usd_per_hour: float
    worst_regret_usd_per_hour: float
    worst_world: Mapping[str, float]
    no_answer: int
    """Worlds in which it cannot run at all; they count as broken promises."""


@dataclass(frozen=True)
class Sizing:
    """Fleets against worlds, the one to choose first."""

    base: Scenario
    choices: tuple[Choice, ...]
    worlds: int
    lost_worlds: int
    """Worlds in which no fleet keeps the promises."""
    confidence: float
    """Share of worlds in which a fleet must keep them to be chosen by regret."""
    measure_first: tuple[Worth, ...] = ()
    """Unknowns by what measuring each before the choice is worth."""
    perfect_information_usd_per_hour: float = math.nan
    """What knowing all of them would be worth."""

    @property
    def best(self) -> Choice:
        """The fleet with the least worst regret of those that are sure enough; else the surest."""
        return self.choices[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.base.name,
            "worlds": self.worlds,
            "lost_worlds": self.lost_worlds,
            "confidence": self.confidence,
            "choices": [asdict(choice) for choice in self.choices],
            "measure_first": [asdict(worth) for worth in self.measure_first],
            "perfect_information_usd_per_hour": self.perfect_information_usd_per_hour,
        }


def size(  # noqa: PLR0913
    base: Scenario,
    choices: Mapping[str, Overrides],
    unknowns: Unknowns,
    *,
    count: int = 32,
    confidence: float = 0.95,
    breach_usd_per_hour: float = 0.0,
    seed: int = 1,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sizing:
    r"""Simulate every fleet in every world; choose the one with the least to regret.

    In world ``w`` a fleet costs :math:`c(a, w)`; when it breaks the promises, the cheapest fleet
    that keeps them must be had beside it, and the breach itself costs ``k``:

    .. math:: L(a, w) = c(a, w) + [a \text{ breaks}]\,(k + \min_{b\,\text{keeps}} c(b, w)),
              \qquad R(a, w) = L(a, w) - \min_b L(b, w)

    First come the fleets that keep the promises in at least ``confidence`` of the worlds, by
    their worst regret; then the others, by how often they keep them.  The same worlds, and in
    each the same requests, for every fleet.  Fleets that differ in replicas alone are not all
    simulated: :func:`planner.study.families.answers`.

    Parameters
    ----------
    choices : name -> overrides that make the fleet (``deployment.replicas``, ``system``, a whole
        deployment); :func:`fleets` makes all combinations.
    count : worlds.
    breach_usd_per_hour : what an hour of broken promises costs beside the fleets.
    progress : is told of simulations done, and asked for so far.

    Raises
    ------
    InputError
        No choice, a choice that names what is not known, no unknown, no deployment, no price.

    References
    ----------
    .. [1] L. J. Savage, "The Theory of Statistical Decision", JASA 46, 1951 (minimax regret).
    .. [2] E. B. Wilson, "Probable Inference", JASA 22, 1927 (interval of a share).
    """
    if not choices:
        raise InputError("--choice", "", "give at least one fleet to choose from")
    if count < 1:
        raise InputError("--worlds", str(count), "must be 1 or more")
    if base.deployment is None and not any("deployment" in each for each in choices.values()):
        raise InputError(
            base.name, "deployment",
            "is missing: fleets to choose from are variants of one; `plan` finds a layout",
        )  # fmt: skip
    for overrides in choices.values():
        changed(base, overrides)  # a name or a path that is not known is no fleet
    drawn = worlds(unknowns_of(base, unknowns), count, seed)

    def ask(cases: tuple[Case, ...]) -> Sequence[Row]:
        return Table(base, cases, tuple(drawn[0]), "simulate", executor, workers, cache=False).rows

    rows = answers(list(choices.values()), drawn, ask, alike=base.operations is None)
    if all(row["usd_per_hour"] is None for fleet in rows for row in fleet):
        why = rows[0][0]["error"] or "no price is known"
        raise InputError(base.name, "prices", f"no fleet has a cost in any world: {why}")
    by_world = [[fleet[w] for fleet in rows] for w in range(count)]
    losses = [_losses(world, breach_usd_per_hour) for world in by_world]
    found = [
        _choice(name, fleet, [loss[i] - min(loss) for loss in losses], drawn)
        for i, (name, fleet) in enumerate(zip(choices, rows, strict=True))
    ]
    found.sort(
        key=lambda c: (
            0.0 if c.slo_probability >= confidence else 1 - c.slo_probability,
            c.worst_regret_usd_per_hour,
            c.mean_regret_usd_per_hour,
        )
    )
    lost = sum(not any(map(_keeps, world)) for world in by_world)
    table_of = np.array(losses)
    return Sizing(
        base, tuple(found), count, lost, confidence, measure_first(table_of, drawn, seed),
        perfect_information(table_of),
    )  # fmt: skip


def fleets(vary: Mapping[str, Sequence[Any]]) -> dict[str, Overrides]:
    """Every combination of values as a fleet to choose, named by its values.

    >>> list(fleets({"system": ["hgx-h200", "hgx-b200"], "deployment.replicas": [2]}))
    ['hgx-h200, 2 replicas', 'hgx-b200, 2 replicas']
    """
    combinations = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]
    return {", ".join(_words(*item) for item in each.items()): each for each in combinations}


def _words(path: str, value: Any) -> str:
    name = path.rpartition(".")[2]
    if name == "replicas":
        return f"{value} replica" + ("" if value == 1 else "s")
    if name == "parallelism" and isinstance(value, Mapping):
        return Parallelism(**value).label()
    return str(value) if path == "system" else f"{name} {value}"


def _losses(world: Sequence[Row], breach: float) -> list[float]:
    """What every fleet costs in one world, breaches included; where all break, fleets alone."""
    known = [float(row["usd_per_hour"]) for row in world if row["usd_per_hour"] is not None]
    dearest = max(known, default=0.0)
    rescue = min((float(row["usd_per_hour"]) for row in world if _keeps(row)), default=0.0)
    return [
        (dearest if row["usd_per_hour"] is None else float(row["usd_per_hour"]))
        + (0.0 if _keeps(row) else breach + rescue)
        for row in world
    ]


def _keeps(row: Row) -> bool:
    return bool(row["slo_met"]) and row["usd_per_hour"] is not None


def _choice(
    name: str, fleet: Sequence[Row], regrets: Sequence[float], drawn: Sequence[dict[str, float]]
) -> Choice:
    known = [row["usd_per_hour"] for row in fleet if row["usd_per_hour"] is not None]
    worst = max(range(len(fleet)), key=regrets.__getitem__)
    kept = sum(map(_keeps, fleet))
    low, high = wilson(kept, len(fleet))
    return Choice(
        name, kept / len(fleet), low, high,
        sum(known) / len(known) if known else math.nan,
        sum(regrets) / len(regrets), regrets[worst], drawn[worst],
        sum(row["error"] is not None for row in fleet),
    )  # fmt: skip


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share, sound near 0 and 1.

    References
    ----------
    .. [1] E. B. Wilson, "Probable Inference", JASA 22, 1927.
    """
    share, spread = hits / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
