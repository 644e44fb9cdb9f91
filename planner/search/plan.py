"""plan(Scenario) -> Plan: the cheapest fleet that keeps its promises, and why not the others."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from planner.errors import InfeasibleError, InputError
from planner.evaluation import Replica, Result, build, need_workload
from planner.search.candidates import candidates
from planner.search.caps import above, contradiction, usd_per_hour
from planner.search.fleet import Fleet
from planner.search.frontier import Point, frontier
from planner.search.rejection import Change, Rejection, changes, nothing_fits
from planner.search.screen import Estimate, Line, judge, screen, tpot_limit
from planner.specs.scenario import Hardware, Scenario
from planner.specs.workload import Workload
from planner.workloads import measured_traffic

SIMULATED = 4
"""Layouts whose smallest fleet is found: the cheapest by the closed form."""
PROBED = 8
"""Layouts simulated beyond these, each once, at the most replicas that would still be cheaper
than the best; one that keeps its promises there goes on to its own smallest fleet."""


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
    simulated: int = 0
    """Runs of the simulator."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """What would have to change for what was refused, limit by limit."""
        return changes(self.rejections)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.scenario.name,
            "best": self.best.to_dict() if self.best else None,
            "options": [_option(result) for result in self.options],
            "frontier": [point.to_dict() for point in self.frontier],
            "rejections": [rejection.to_dict() for rejection in self.rejections],
            "changes": [change.to_dict() for change in self.changes],
            "screened": self.screened,
            "layouts": self.layouts,
            "simulated": self.simulated,
            "screen_s": self.screen_s,
            "wall_s": self.wall_s,
        }


def _option(result: Result) -> dict[str, Any]:
    m, cost = result.metrics, result.costs[0] if result.costs else None
    return {
        "system": result.replica.hardware.system.name,
        "label": result.replica.pool.parallelism.label(),
        "weights": result.replica.pool.weights,
        "kv": result.replica.pool.kv,
        "replicas": result.replicas,
        "nodes": result.nodes,
        "ttft_p95_s": m.ttft_s.p95,
        "tpot_p95_s": m.tpot_s.p95,
        "usd_per_hour": cost.usd_per_hour if cost else None,
        "usd_per_million_output_tokens": cost.usd_per_million_output_tokens if cost else None,
    }


def plan(scenario: Scenario, *, simulated: int = SIMULATED, probed: int = PROBED) -> Plan:
    """Find the cheapest fleet, on any of the scenario's systems, that keeps the SLO.

    Every layout that fits is screened in closed form at every batch limit; the most promising are
    simulated with common random numbers, each at the fewest replicas that keep every promise.
    After the first few, a layout is only asked whether it can be cheaper than the best so far,
    and not at all where the closed form rules that out.

    Cost is the headline price; where no system has one, it is devices.

    Parameters
    ----------
    simulated, probed : how many layouts are simulated in full, and once.

    Raises
    ------
    InputError
        No workload, an SLO without any promise, nothing to choose from.
    InfeasibleError
        Nothing fits the hardware at all.
    """
    start_s = time.perf_counter()
    workload = need_workload(scenario)
    if all(limit is None for _, limit in scenario.slo):
        raise InputError(scenario.name, "slo", "promises nothing; give e.g. ttft_p95_s")
    search = _Search(scenario, workload, simulated, probed)
    search.screen()
    if not search.entries:
        if not search.rejections:
            raise InputError(scenario.name, "space", "leaves no candidate at all")
        raise nothing_fits(search.rejections)
    possible = [
        (e.replica, e.label, e.guess.least_devices)
        for e in search.entries
        if math.isfinite(e.guess.least_devices)
    ]
    if possible and (clash := contradiction(scenario, possible)):
        raise clash
    screen_s = time.perf_counter() - start_s
    search.simulate()
    search.options.sort(key=lambda r: (search.cost(r.replica, r.devices), r.metrics.tpot_s.p95))
    fleets = [(e.replica, e.label, e.line) for e in search.entries]
    points = frontier(
        measured_traffic(workload, scenario.run),
        fleets,
        tpot_limit(scenario.slo),
        scenario.space.max_nodes,
    )
    unfit = sum(r.stage == "fit" for r in search.rejections)
    return Plan(
        scenario=scenario,
        best=search.options[0] if search.options else None,
        options=tuple(search.options),
        rejections=tuple(search.rejections),
        estimates=tuple((search.named(entry), entry.guess) for entry in search.entries),
        screened=sum(len(entry.line) for entry in search.entries) + unfit,
        wall_s=time.perf_counter() - start_s,
        screen_s=screen_s,
        frontier=points,
        layouts=len(search.entries) + unfit,
        simulated=search.runs,
    )


def name(replica: Replica) -> str:
    """Short name of a layout: ``DP8 EP8, fp8 weights, bf16 KV``."""
    pool = replica.pool
    return f"{pool.parallelism.label()}, {pool.weights} weights, {pool.kv} KV"


@dataclass(frozen=True)
class _Entry:
    """One layout that fits, and what the closed form says of it."""

    replica: Replica
    label: str
    line: Line
    guess: Estimate


@dataclass
class _Search:
    scenario: Scenario
    workload: Workload
    in_full: int
    probes: int
    entries: list[_Entry] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    options: list[Result] = field(default_factory=list)
    runs: int = 0

    @property
    def priced(self) -> bool:
        """Whether money ranks: some system has a price."""
        return any(hardware.prices for hardware in self.scenario.hardware)

    def cost(self, replica: Replica, devices: float) -> float:
        """What ranks fleets: USD an hour, or devices; infinite without a price among prices."""
        if not self.priced:
            return devices
        return usd_per_hour(replica, devices)

    def screen(self) -> None:
        """Build and screen every layout on every system; cheapest by estimate first."""
        traffic = measured_traffic(self.workload, self.scenario.run)
        for hardware in self.scenario.hardware:
            for replica in self._fitting(hardware):
                line = screen(traffic, self.workload.cached_input_share, replica)
                guess = judge(self.scenario, traffic, replica, line)
                self.entries.append(_Entry(replica, name(replica), line, guess))
        self.entries.sort(key=lambda e: (self.cost(e.replica, e.guess.devices), e.replica.devices))

    def _fitting(self, hardware: Hardware) -> Iterator[Replica]:
        scenario = self.scenario.model_copy(update={"hardware": (hardware,)})
        system = hardware.system.name if len(self.scenario.hardware) > 1 else ""
        for candidate in candidates(scenario):
            try:
                replica = build(scenario.model, hardware, candidate.pool, scenario.routing)
                replica.memory.require()
            except InfeasibleError as e:
                self.rejections.append(
                    Rejection(
                        candidate.label, "fit", e.limit, e.needed, e.available, e.unit, e.advice,
                        system,
                    )
                )  # fmt: skip
            except InputError as e:
                self.rejections.append(
                    Rejection(candidate.label, "fit", e.problem, None, None, "", "", system)
                )
            else:
                yield replica

    def simulate(self) -> None:
        """Simulate in the order of estimates, as far as an answer can still get better."""
        full, probes = self.in_full, self.probes
        for entry in self.entries:
            if not math.isfinite(self.cost(entry.replica, entry.guess.devices)):
                self._refuse_unable(entry)
            elif self._ruled_out(entry):
                continue
            elif full > 0:
                full -= 1
                self._in_full(entry)
            elif probes > 0:
                probes -= 1
                self._probe(entry)
            else:
                self._refuse(
                    entry, "screen", "devices by closed form", entry.guess.devices,
                    self.entries[0].guess.devices, "devices",
                    "more expensive than the ones simulated",
                )  # fmt: skip

    def _accept(self, result: Result) -> None:
        """Take a fleet that keeps its promises, unless it is above the budget or power cap."""
        refused = list(above(self.scenario, result, name(result.replica)))
        self.rejections += refused
        if not refused:
            self.options.append(result)

    def _in_full(self, entry: _Entry) -> None:
        fleet = self._fleet(entry)
        count = fleet.smallest()
        self.runs += len(fleet.runs)
        if count is not None:
            self._accept(fleet.result(count))
            return
        worst = fleet.worst(fleet.most)
        devices = fleet.most * entry.replica.devices
        self._refuse(
            entry, "simulation", worst.name, worst.value_s, worst.limit_s, "s",
            f"not even {fleet.most} replicas ({devices} devices, space.max_nodes) keep it",
        )  # fmt: skip

    def _probe(self, entry: _Entry) -> None:
        """Ask once, at the most replicas that would still be cheaper than the best."""
        fleet = self._fleet(entry)
        best = self._best_cost()
        each = self.cost(entry.replica, entry.replica.devices)
        count = fleet.most if math.isinf(best) else min(fleet.most, math.ceil(best / each) - 1)
        if fleet.keeps(count):
            self._accept(fleet.result(fleet.between(0, count)))
        else:
            worst = fleet.worst(count)
            self._refuse(
                entry, "simulation", worst.name, worst.value_s, worst.limit_s, "s",
                f"with {count} replicas, the most that cost less than the best",
            )  # fmt: skip
        self.runs += len(fleet.runs)

    def _fleet(self, entry: _Entry) -> Fleet:
        hardware = (entry.replica.hardware,)
        scenario = self.scenario.model_copy(update={"hardware": hardware})
        return Fleet(scenario, self.workload, entry.replica, entry.guess)

    def _best_cost(self) -> float:
        return min((self.cost(r.replica, r.devices) for r in self.options), default=math.inf)

    def _ruled_out(self, entry: _Entry) -> bool:
        """Whether no fleet of this layout can cost less than the best so far."""
        best, least = self._best_cost(), self.cost(entry.replica, entry.guess.least_devices)
        if least < best:
            return False
        unit = "usd" if self.priced else "devices"
        self._refuse(
            entry, "screen", "least cost by closed form", least, best, unit,
            "no fleet of this layout is cheaper than the best",
        )  # fmt: skip
        return True

    def _refuse_unable(self, entry: _Entry) -> None:
        guess = entry.guess
        if math.isfinite(guess.devices):
            self._refuse(entry, "screen", "price", None, None, "", "give this system a price")
            return
        self._refuse(
            entry, "screen", guess.limit, guess.needed, guess.available, guess.unit,
            "a faster layout, or a looser promise",
        )  # fmt: skip

    def named(self, entry: _Entry) -> str:
        """Label of a layout, with its system where there are several."""
        several = len(self.scenario.hardware) > 1
        return f"{entry.replica.hardware.system.name}: {entry.label}" if several else entry.label

    def _refuse(self, entry: _Entry, stage: str, limit: str, *rest: Any) -> None:
        several = len(self.scenario.hardware) > 1
        system = entry.replica.hardware.system.name if several else ""
        needed, available, unit, advice = rest
        self.rejections.append(
            Rejection(entry.label, stage, limit, needed, available, unit, advice, system)
        )
