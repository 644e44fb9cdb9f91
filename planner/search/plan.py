"""plan(Scenario) -> Plan: the cheapest fleet that keeps its promises, and why not the others."""

import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields
from typing import Any

from planner.errors import InputError
from planner.evaluation import Result, need_workload
from planner.search.caps import contradiction
from planner.search.effort import SECOND, Effort
from planner.search.evidence import Evidence, calibrated, evidence
from planner.search.frontier import Point, frontier
from planner.search.hunt import Search
from planner.search.offers import offered
from planner.search.rejection import Change, Rejection, changes, nothing_fits
from planner.search.rests import Rests, rests
from planner.search.screen import Estimate, tpot_limit
from planner.search.settle import Kept
from planner.specs.scenario import Scenario


@dataclass(frozen=True)
class Plan:
    """Ranked answers to one question."""

    scenario: Scenario
    best: Result | None
    """Cheapest fleet that keeps every promise; None: none does within ``space``."""
    options: tuple[Result, ...]
    """Every fleet that keeps its promises in simulation, cheapest first."""
    rejections: tuple[Rejection, ...]
    estimates: tuple[tuple[str, Estimate], ...]
    """Closed-form estimate of every layout that fits."""
    screened: int
    """Candidates looked at: a layout that fits at every batch limit, and each that does not."""
    wall_s: float
    screen_s: float = 0.0
    """Time to build and screen all of them. [s]"""
    frontier: tuple[Point, ...] = ()
    """Candidates nothing beats in cost, latency, devices and power, by closed form."""
    layouts: int = 0
    """Layouts looked at, whatever their batch limits."""
    pairs: int = 0
    """Pairs of a prefill and a decode layout whose cost was worked out, beside ``screened``."""
    best_measured: Result | None = None
    """The cheapest fleet found whose parts were measured themselves: the best one, or beside it."""
    settled: tuple[Kept, ...] = ()
    """The best fleet's promises over all its runs."""
    rented_usd_per_hour: float | None = None
    """Headline price of the best fleet's devices that are not owned; None without a price."""
    spares: tuple[int, ...] = ()
    """Replicas of the best fleet beyond those that the load needs, pool by pool."""
    simulated: int = 0
    """Runs of the simulator."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """What would have to change for what was refused, limit by limit."""
        return changes(self.rejections)

    @property
    def basis(self) -> Evidence | None:
        """What the best fleet's speed rests on."""
        return basis_of(self.best) if self.best else None

    @property
    def rests(self) -> Rests | None:
        """What the saving of the best fleet's two pools rests on; None where it has one."""
        return rests(self.best, self.options) if self.best else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = self.rests
        return {
            "scenario": self.scenario.name,
            "best": self.best.to_dict() if self.best else None,
            "options": [_option(result) for result in self.options],
            "frontier": [point.to_dict() for point in self.frontier],
            "rejections": [rejection.to_dict() for rejection in self.rejections],
            "changes": [change.to_dict() for change in self.changes],
            "screened": self.screened,
            "layouts": self.layouts,
            "pairs": self.pairs,
            "settled": [kept.to_dict() for kept in self.settled],
            "spares": list(self.spares),
            "rented_usd_per_hour": self.rented_usd_per_hour,
            "basis": self.basis.to_dict() if self.basis else None,
            "best_measured": _option(self.best_measured) if self.best_measured else None,
            "rests_on": _rests(found) if found else None,
            "simulated": self.simulated,
            "screen_s": self.screen_s,
            "wall_s": self.wall_s,
        }


def _rests(found: Rests) -> dict[str, Any]:
    plain = {f.name: getattr(found, f.name) for f in fields(found) if f.name != "one_pool"}
    return {**plain, "one_pool": _option(found.one_pool) if found.one_pool else None}


def _option(result: Result) -> dict[str, Any]:
    m, cost = result.metrics, result.costs[0] if result.costs else None
    return {
        "system": result.replica.hardware.system.name,
        "label": result.replica.pool.parallelism.label(),
        "pools": [
            {
                "role": use.pool.role,
                "system": use.pool.replica.hardware.system.name,
                "label": use.pool.replica.pool.parallelism.label(),
                "replicas": use.pool.replicas,
            }
            for use in result.pools
        ],
        "basis": basis_of(result).basis,
        "weights": result.replica.pool.weights,
        "kv": result.replica.pool.kv,
        "engine": result.replica.pool.engine.name,
        "replicas": result.replicas,
        "devices": result.devices,
        "nodes": result.nodes,
        "ttft_p95_s": m.ttft_s.p95,
        "tpot_p95_s": m.tpot_s.p95,
        "usd_per_hour": cost.usd_per_hour if cost else None,
        "usd_per_million_output_tokens": cost.usd_per_million_output_tokens if cost else None,
    }


def basis_of(result: Result) -> Evidence:
    """What a fleet's speed rests on, all its pools together."""
    return evidence(*(use.pool.replica for use in result.pools))


def plan(
    scenario: Scenario, *, effort: Effort | None = None, executor: Executor | None = None
) -> Plan:
    """Find the cheapest fleet, on any of the scenario's systems, that keeps the SLO.

    Every layout that fits is screened in closed form at every batch limit, in every role that
    ``space.pools`` allows, and every pair of layouts where pools may be apart; the most promising
    are simulated with common random numbers, each at the fewest replicas that keep every promise.
    After the first few, a layout is only asked whether it can be cheaper than the best so far,
    and not at all where the closed form rules that out.  The winner is run again with other seeds
    while a promise of its is within chance of the limit.

    Cost is the headline price; where no system has one, it is devices.

    Parameters
    ----------
    effort : how many layouts are simulated.
    executor : looks for the best fleet on measured parts at the same time (any
        ``concurrent.futures.Executor``); after the rest without it.

    Raises
    ------
    InputError
        No workload, an SLO without any promise, nothing to choose from, two wishes that cannot
        both come true.
    InfeasibleError
        Nothing fits the hardware at all.
    """
    start_s = time.perf_counter()
    workload = need_workload(scenario)
    if all(limit is None for _, limit in scenario.slo):
        raise InputError(scenario.name, "slo", "promises nothing; give e.g. ttft_p95_s")
    search = Search(offered(scenario), workload, effort or Effort())
    ahead = _ahead(search.scenario, executor)
    search.screen()
    if not search.together and not search.decodes:
        if not search.rejections:
            raise InputError(scenario.name, "space", "leaves no candidate at all")
        raise nothing_fits(search.rejections)
    apart = (search.prefills, search.decodes)
    if clash := contradiction(search.scenario, search.traffic, search.together, apart):
        raise clash
    screen_s = time.perf_counter() - start_s
    search.simulate()
    measured = _measured(search, ahead)
    return _answer(scenario, search, measured, (start_s, screen_s))


def _measured(search: Search, ahead: Future[Result | None] | None) -> Result | None:
    """Return the cheapest fleet on measured parts, looked for where the best is none."""
    if not search.choices:
        return None
    best = search.choices[0].result
    if basis_of(best).basis == "measured":
        return best
    if ahead is not None:
        return ahead.result()
    other = search.measured()
    return other.choices[0].result if other and other.choices else None


def _ahead(scenario: Scenario, executor: Executor | None) -> Future[Result | None] | None:
    """Begin to look for the best measured fleet beside the whole search, if it may be asked for."""
    known = tuple(h for h in scenario.hardware if calibrated(h.calibration))
    if executor is None or not known or len(known) == len(scenario.hardware):
        return None
    return executor.submit(best_measured, scenario.model_copy(update={"hardware": known}))


def best_measured(scenario: Scenario) -> Result | None:
    """Find the cheapest fleet among layouts whose shares were measured; None without any.

    Raises
    ------
    InputError
        No workload.
    """
    search = Search(scenario, need_workload(scenario), SECOND)
    search.screen()
    other = search.measured()
    return other.choices[0].result if other and other.choices else None


def _answer(
    scenario: Scenario, search: Search, measured: Result | None, times: tuple[float, float]
) -> Plan:
    start_s, screen_s = times
    best = search.choices[0] if search.choices else None
    points = frontier(
        search.traffic,
        [(side.replica, side.label, line) for side, line in search.lines],
        tpot_limit(scenario.slo),
        scenario.space.max_nodes,
        search.pairs.layouts,
    )
    unfit = sum(r.stage == "fit" for r in search.rejections)
    spare = best and tuple(a - b for a, b in zip(best.counts, best.needed, strict=True))
    several = len(scenario.hardware) > 1
    return Plan(
        scenario=scenario,
        best=best.result if best else None,
        options=tuple(choice.result for choice in search.choices),
        best_measured=measured,
        rejections=tuple(search.rejections),
        estimates=tuple(
            (f"{s.replica.hardware.system.name}: {s.label}" if several else s.label, s.guess)
            for s in search.together
        ),
        screened=search.screened + unfit,
        wall_s=time.perf_counter() - start_s,
        screen_s=screen_s,
        frontier=points,
        layouts=search.layouts + unfit,
        simulated=search.runs,
        pairs=search.pairs.screened,
        settled=best.settled if best else (),
        spares=spare or (),
        rented_usd_per_hour=search.cost(best.layout, best.counts)
        if best and search.priced
        else None,
    )
