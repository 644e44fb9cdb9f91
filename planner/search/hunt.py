"""The search itself: layouts are screened, the cheapest simulated, the rest refused by name."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from planner.errors import InfeasibleError, InputError
from planner.evaluation import Replica, Result, build
from planner.search.candidates import candidates
from planner.search.caps import above, rented, usd_per_hour
from planner.search.demand import demand
from planner.search.effort import SECOND, Effort
from planner.search.evidence import evidence
from planner.search.fleet import Fleet
from planner.search.layout import Counts, Layout, Side
from planner.search.pair_fleet import PairFleet
from planner.search.pairs import Pairs, distinct, left_out, pair_up
from planner.search.prompts import judge_prompts, screen_prompts
from planner.search.rejection import Rejection
from planner.search.screen import Line, judge, screen
from planner.search.settle import Kept, settle
from planner.search.spares import spares
from planner.specs.scenario import Hardware, Scenario
from planner.specs.workload import Workload
from planner.workloads import Traffic, measured_traffic


@dataclass(frozen=True, slots=True)
class Choice:
    """A fleet that keeps every promise."""

    layout: Layout
    needed: Counts
    """Replicas that keep the promises."""
    counts: Counts
    """The same with spares."""
    result: Result
    settled: tuple[Kept, ...]
    """Its promises over several runs, where that was looked at: of the best, always."""


@dataclass
class Search:
    """Everything known so far of one question."""

    scenario: Scenario
    workload: Workload
    effort: Effort
    together: list[Side] = field(default_factory=list)
    prefills: list[Side] = field(default_factory=list)
    decodes: list[Side] = field(default_factory=list)
    lines: list[tuple[Side, Line]] = field(default_factory=list)
    """Sides of one pool at every batch limit, for the frontier."""
    pairs: Pairs = field(default_factory=lambda: Pairs((), 0, ()))
    rejections: list[Rejection] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    """Cheapest first once :meth:`simulate` is done."""
    screened: int = 0
    layouts: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        self.traffic: Traffic = measured_traffic(self.workload, self.scenario.run)
        self.demand = demand(self.workload, self.scenario.run, self.traffic)
        self._fleets: dict[tuple[int, ...], Fleet] = {}
        self._settles = False

    @property
    def priced(self) -> bool:
        """Whether money ranks: some system has a price."""
        return any(hardware.prices for hardware in self.scenario.hardware)

    @property
    def unit(self) -> str:
        """Of what ranks fleets."""
        return "usd" if self.priced else "devices"

    @property
    def several(self) -> bool:
        """Whether labels have to say which system they mean."""
        return len(self.scenario.hardware) > 1

    def cost(self, layout: Layout, counts: Counts) -> float:
        """What ranks fleets: USD an hour, or devices; infinite without a price among prices."""
        owned = self.scenario.space.owned
        if self.priced:
            return usd_per_hour(layout, counts, owned)
        return sum(rented(layout, counts, owned))

    def screen(self) -> None:
        """Build and screen every layout on every system in every role that is asked for."""
        for hardware in self.scenario.hardware:
            for label, replica in self._fitting(hardware):
                self.layouts += 1
                line = None
                if "together" in self.scenario.space.pools:
                    line = self._together(label, replica)
                if "apart" in self.scenario.space.pools:
                    self._apart(label, replica, line)
        self.pair()

    def pair(self) -> None:
        """Screen all pairs of a prefill and a decode layout."""
        if self.prefills and self.decodes:
            self.pairs = pair_up(
                [s for s in self.prefills if math.isfinite(s.guess.devices)],
                distinct([s for s in self.decodes if math.isfinite(s.guess.devices)]),
                any_system=self.scenario.space.prefill_systems == "any",
                priced=self.priced, several=self.several, owned=self.scenario.space.owned,
            )  # fmt: skip

    def _together(self, label: str, replica: Replica) -> Line:
        line = screen(self.traffic, self.workload.cached_input_share, replica)
        side = Side(
            "both", replica, label, judge(self.scenario, self.traffic, replica, line, self.demand)
        )
        self.screened += len(line)
        self.lines.append((side, line))
        self.together.append(side)
        return line

    def _apart(self, label: str, replica: Replica, known: Line | None) -> None:
        """Screen a layout for either role; an engine's fit has overheads of its own for those."""
        share = self.workload.cached_input_share
        if replica.pool.engine.fit is not None:
            known = None
            replica = build(
                self.scenario.model, replica.hardware, replica.pool, self.scenario.routing,
                "disaggregated",
            )  # fmt: skip
        line = screen(self.traffic, share, replica, "decode", known)
        self.screened += len(line)
        guess = judge(self.scenario, self.traffic, replica, line, self.demand)
        self.decodes.append(Side("decode", replica, label, guess))
        if replica.pool.speculative is None:
            prompts = screen_prompts(self.traffic, share, replica)
            self.screened += len(prompts)
            guess = judge_prompts(self.scenario, self.traffic, replica, prompts, self.demand)
            self.prefills.append(Side("prefill", replica, label, guess))

    def _fitting(self, hardware: Hardware) -> Iterator[tuple[str, Replica]]:
        scenario = self.scenario.model_copy(update={"hardware": (hardware,)})
        system = hardware.system.name if self.several else ""
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
                yield candidate.label, replica

    def simulate(self) -> None:
        """Simulate in the order of estimates, as far as an answer can still get better.

        Sizes are found with the scenario's own seed, and only the winner is run with others.  If
        it does not stand, all is gone through again, each that would be the best settled when it
        is found; runs that were made are not made again.
        """
        known = list(self.rejections)
        self._in_order()
        if self.choices and not self._stands(self.choices[0]):
            self.rejections, self.choices, self._settles = known, [], True
            self._in_order()
            while self.choices and not self._stands(self.choices[0]):
                self.choices.pop(0)
        self.runs += sum(fleet.simulated for fleet in self._fleets.values())

    def _in_order(self) -> None:
        """Look at every layout once, cheapest by estimate first."""
        alone = [Layout((side,), self.several) for side in self.together]
        alone.sort(key=lambda each: (self._estimate(each), each.main.replica.devices))
        full, probes, pairs = self.effort.in_full, self.effort.probed, self.effort.pairs
        for layout in sorted([*alone, *self.pairs.layouts], key=self._estimate):
            if not math.isfinite(self._estimate(layout)):
                self._refuse_unable(layout)
            elif self._ruled_out(layout):
                continue
            elif layout.apart and pairs > 0:
                pairs -= 1
                self._pair(layout)
            elif not layout.apart and full > 0 and self._worth(layout):
                full -= 1
                self._in_full(layout)
            elif not layout.apart and (probes > 0 or self._hopeful(probes)):
                probes -= 1
                self._probe(layout)
            else:
                self._refuse_dearer(layout, alone)
        if self.pairs.refused:
            self.rejections += left_out(self.pairs, self._best_cost(), self.unit)
        self.choices.sort(
            key=lambda c: (self.cost(c.layout, c.counts), c.result.metrics.tpot_s.p95)
        )

    def _fleet(self, layout: Layout) -> Fleet:
        """The runs of a layout: the same ones when it is looked at again."""
        kind = PairFleet if layout.apart else Fleet
        name = tuple(id(side) for side in layout.sides)
        return self._fleets.setdefault(name, kind(self.scenario, self.workload, layout))

    def _stands(self, choice: Choice) -> bool:
        """Whether the best fleet keeps its promises over several seeds; else it is refused."""
        settled = choice.settled or settle(self._fleet(choice.layout), choice.needed)
        broken = next((kept for kept in settled if not kept.kept), None)
        if broken is not None:
            self._refuse_unsettled(choice.layout, broken)
            return False
        self.choices[0] = replace(choice, settled=settled)
        return True

    def _worth(self, layout: Layout) -> bool:
        """Whether a layout's own smallest fleet is of interest: cheaper, or among alternatives."""
        return (
            len(self.choices) < self.effort.alternatives
            or self._estimate(layout) <= self._best_cost()
        )

    def _hopeful(self, probes: int) -> bool:
        """Whether to go on though all probes are spent: nothing was found that keeps promises."""
        return not self.choices and probes > -self.effort.last_resort

    def measured(self) -> "Search | None":
        """The same search among layouts whose parts were measured themselves; None without any.

        The answer of the whole search may rest on assumptions; this is the one that does not.
        """
        together, prefills, decodes = (
            [s for s in group if evidence(s.replica).basis == "measured"]
            for group in (self.together, self.prefills, self.decodes)
        )
        if not together and not decodes:
            return None
        other = Search(self.scenario, self.workload, SECOND, together, prefills, decodes)
        other.pair()
        other.simulate()
        self.runs += other.runs
        return other

    def _estimate(self, layout: Layout) -> float:
        if not math.isfinite(sum(side.guess.devices for side in layout.sides)):
            return math.inf
        return self.cost(layout, layout.guesses)

    def _most(self, layout: Layout) -> int:
        """Replicas of one pool that ``space.max_nodes`` nodes hold, at least one."""
        replica = layout.main.replica
        devices = self.scenario.space.max_nodes * replica.hardware.system.devices_per_node
        return max(1, devices // replica.devices)

    def _in_full(self, layout: Layout) -> None:
        fleet, most = self._fleet(layout), self._most(layout)
        self._take(fleet, fleet.fewest((most,)))
        if (most,) in fleet.runs and not fleet.keeps((most,)):
            self._refuse_broken(
                fleet, (most,),
                f"not even {most} replicas ({layout.devices((most,))} devices, space.max_nodes) "
                "keep it",
            )  # fmt: skip

    def _probe(self, layout: Layout) -> None:
        """Ask once, at the most replicas that would still be cheaper than the best."""
        fleet, most = self._fleet(layout), self._most(layout)
        best = self._best_cost()
        count = max(1, bisect_left(range(1, most + 1), best, key=lambda n: self.cost(layout, (n,))))
        found = fleet.fewest((count,), 0)
        self._take(fleet, found)
        if found is None:
            replicas = "1 replica" if count == 1 else f"{count} replicas"
            self._refuse_broken(
                fleet, (count,), f"with {replicas}, the most that cost less than the best"
            )

    def _pair(self, layout: Layout) -> None:
        fleet, best = self._fleet(layout), self._best_cost()
        assert isinstance(fleet, PairFleet)
        nodes = self.scenario.space.max_nodes

        def allowed(counts: Counts) -> bool:
            return self.cost(layout, counts) < best and layout.nodes(counts) <= nodes

        found, last = fleet.cheapest(allowed)
        self._take(fleet, found)
        if found is None and last in fleet.runs:
            text = "with {} prefill and {} decode replicas; more would cost as much as the best"
            self._refuse_broken(fleet, last, text.format(*last))
        elif found is None:
            self._refuse(
                layout, "screen", "least cost by closed form", self.cost(layout, last), best,
                self.unit, "no fleet of this pair is cheaper than the best",
            )  # fmt: skip

    def _take(self, fleet: Fleet, needed: Counts | None) -> None:
        """Take a fleet that keeps its promises, unless it is above a cap.

        In the second go, one that would be the best has to keep them beyond chance, with a replica
        more if need be.
        """
        settled: tuple[Kept, ...] = ()
        while needed is not None and self._settles:
            counts = self.with_spares(fleet.layout, needed)
            if self.cost(fleet.layout, counts) >= self._best_cost():
                break
            settled = settle(fleet, needed)
            broken = next((kept for kept in settled if not kept.kept), None)
            if broken is None:
                break
            needed = self._one_more(fleet, needed, broken)
        if needed is not None and fleet.sure(needed):
            counts = self.with_spares(fleet.layout, needed)
            refused = list(above(self.scenario, self.traffic, fleet.layout, counts))
            self.rejections += refused
            if not refused:
                fleet.sure(counts)
                result = fleet.result(counts)
                self.choices.append(Choice(fleet.layout, needed, counts, result, settled))

    def _one_more(self, fleet: Fleet, counts: Counts, broken: Kept) -> Counts | None:
        """One replica more of the side a promise depends on; None, refused, where it ends."""
        layout = fleet.layout
        side = len(counts) - 1 if broken.name.startswith("tpot") else 0
        larger = tuple(n + (i == side) for i, n in enumerate(counts))
        if layout.nodes(larger) <= self.scenario.space.max_nodes and fleet.sure(larger):
            return larger
        self._refuse_unsettled(layout, broken)
        return None

    def _refuse_unsettled(self, layout: Layout, broken: Kept) -> None:
        self._refuse(
            layout, "simulation", broken.name, broken.value_s, broken.limit_s, "s",
            f"mean of {broken.runs} runs with other seeds; the first run kept it",
        )  # fmt: skip

    def with_spares(self, layout: Layout, counts: Counts) -> Counts:
        """Replicas with what ``space.reliability`` asks for beyond them, pool by pool."""
        wish = self.scenario.space.reliability
        found = []
        for side, count in zip(layout.sides, counts, strict=True):
            replica = side.replica
            nodes = replica.devices / replica.hardware.system.devices_per_node
            found.append(count + spares(wish, count, nodes))
        return tuple(found)

    def _best_cost(self) -> float:
        return min((self.cost(c.layout, c.counts) for c in self.choices), default=math.inf)

    def _ruled_out(self, layout: Layout) -> bool:
        """Whether no fleet of this layout can cost less than the best so far."""
        best, least = self._best_cost(), self.cost(layout, layout.least)
        if least < best:
            return False
        self._refuse(
            layout, "screen", "least cost by closed form", least, best, self.unit,
            "no fleet of this layout is cheaper than the best",
        )  # fmt: skip
        return True

    def _refuse_unable(self, layout: Layout) -> None:
        guess = layout.main.guess
        if math.isfinite(guess.devices):
            self._refuse(layout, "screen", "price", None, None, "", "give this system a price")
            return
        self._refuse(
            layout, "screen", guess.limit, guess.needed, guess.available, guess.unit,
            "a faster layout, or a looser promise",
        )  # fmt: skip

    def _refuse_dearer(self, layout: Layout, alone: Sequence[Layout]) -> None:
        first = alone[0] if alone else self.pairs.layouts[0]
        self._refuse(
            layout, "screen", "devices by closed form", layout.devices(layout.guesses),
            first.devices(first.guesses), "devices", "more expensive than the ones simulated",
        )  # fmt: skip

    def _refuse_broken(self, fleet: Fleet, counts: Counts, advice: str) -> None:
        worst = fleet.worst(counts)
        if counts not in fleet.whole:
            advice += "; shown by two of them with their part of the traffic"
        self._refuse(
            fleet.layout, "simulation", worst.name, worst.value_s, worst.limit_s, "s", advice
        )

    def _refuse(self, layout: Layout, stage: str, limit: str, *rest: Any) -> None:
        needed, available, unit, advice = rest
        system = layout.system if self.several else ""
        self.rejections.append(
            Rejection(layout.label, stage, limit, needed, available, unit, advice, system)
        )
