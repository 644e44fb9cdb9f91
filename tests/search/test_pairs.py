"""Pools apart against trying every pair, and the bounds that refuse them."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from planner import files
from planner.errors import InfeasibleError, InputError
from planner.evaluation import build, evaluate, need_workload
from planner.search import plan
from planner.search.candidates import candidates
from planner.search.effort import Effort
from planner.search.fleet import Fleet
from planner.search.hunt import Search
from planner.search.layout import Layout, Side
from planner.search.pair_fleet import PairFleet
from planner.search.pairs import left_out, pair_up
from planner.search.prompts import screen_prompts
from planner.search.screen import Estimate
from planner.search.settle import settle
from planner.serving import Promise
from planner.workloads import measured_traffic


def layouts(scenario):
    """Every layout that fits, of one pool and of two."""
    search = Search(scenario, need_workload(scenario), Effort())
    search.screen()
    alone = [Layout((side,)) for side in search.together]
    return alone + [Layout(pair) for pair in product(search.prefills, search.decodes)]


def sizes(layout, most_devices):
    """Numbers of replicas that come to at most so many devices."""
    ranges = [range(1, most_devices // side.replica.devices + 1) for side in layout.sides]
    return [c for c in product(*ranges) if layout.devices(c) <= most_devices]


def good(scenario, layout, counts):
    fleet = Fleet(scenario, need_workload(scenario), layout)
    return fleet.keeps(counts) and all(kept.kept for kept in settle(fleet, counts))


@pytest.mark.parametrize("seed", [1, 2, 4])
@pytest.mark.parametrize("pools", [["apart"], ["together", "apart"]])
def test_no_fleet_of_any_pair_of_layouts_is_cheaper_than_the_one_chosen(problem, seed, pools):
    scenario = problem(seed, **{"space.pools": pools})
    best = plan(scenario).best
    assert best is not None
    assert best.metrics.slo_met
    for layout in layouts(scenario):
        for counts in sizes(layout, best.devices - 1):
            assert not good(scenario, layout, counts), (layout.label, counts)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_no_pool_that_simulation_accepts_is_below_the_closed_form_least(problem, seed):
    scenario, refused = problem(seed), 0
    for layout in layouts(scenario):
        for counts in sizes(layout, 4):
            if any(n < least for n, least in zip(counts, layout.least, strict=True)):
                fleet = Fleet(scenario, need_workload(scenario), layout)
                assert not fleet.keeps(counts), (layout.label, counts)
                refused += 1
    assert refused or seed != 2  # the bound says something where prompts are long


def test_a_plan_of_pools_apart_is_what_simulating_its_deployment_gives(problem):
    scenario = problem(2, **{"space.pools": ["apart"]})
    best = plan(scenario).best
    assert best.apart
    deployment = best.scenario.deployment
    again = evaluate(scenario.model_copy(update={"deployment": deployment}))
    assert again.metrics == best.metrics
    assert again.devices == best.devices


def test_two_systems_may_share_a_fleet_only_where_one_provider_prices_both(problem):
    scenario = problem(2)
    here, there = scenario.hardware[0], files.load_hardware("hgx-h200")
    guess = Estimate(1.0, 0.0, 0.1, 1, 1.0, least_devices=1.0)

    def side(role, hardware):
        pool = next(iter(candidates(scenario))).pool
        replica = build(scenario.model, hardware, pool)
        return Side(role, replica, "x", guess)

    both = scenario.hardware[0].prices and there.prices
    assert both
    alike = pair_up([side("prefill", there)], [side("decode", here)],
                    any_system=True, priced=True, several=True)  # fmt: skip
    assert len(alike.layouts) == 1
    strange = there.model_copy(
        update={"prices": tuple(p.model_copy(update={"provider": "Nobody"}) for p in there.prices)}
    )
    apart = pair_up([side("prefill", strange)], [side("decode", here)],
                    any_system=True, priced=True, several=True)  # fmt: skip
    assert not apart.layouts
    alone = pair_up([side("prefill", there)], [side("decode", here)],
                    any_system=False, priced=True, several=True)  # fmt: skip
    assert not alone.layouts


def test_a_cheaper_prefill_layout_beside_a_cheaper_decode_layout_is_the_cheapest_pair(problem):
    scenario = problem(2)
    pool = next(iter(candidates(scenario))).pool
    replica = build(scenario.model, scenario.hardware[0], pool)

    def sides(role, devices):
        return [
            Side(role, replica, f"{role} {n}", Estimate(1.0, 0.0, 0.1, n, float(n)))
            for n in devices
        ]

    found = pair_up(sides("prefill", [5, 2, 3]), sides("decode", [7, 4]),
                    any_system=False, priced=True, several=False)  # fmt: skip
    assert found.screened == 6
    assert found.layouts[0].label == "prefill prefill 2; decode decode 4"


def test_pairs_left_out_say_how_many_the_bound_leaves(problem):
    scenario = problem(2)
    pool = next(iter(candidates(scenario))).pool
    replica = build(scenario.model, scenario.hardware[0], pool)

    def sides(role):
        return [
            Side(role, replica, f"{role} {n}",
                 Estimate(1.0, 0.0, 0.1, 2 * n, 2.0 * n, least_devices=float(n)))
            for n in range(1, 11)
        ]  # fmt: skip

    found = pair_up(sides("prefill"), sides("decode"),
                    any_system=False, priced=False, several=False)  # fmt: skip
    (left,) = found.refused
    kept = {tuple(s.guess.replicas // 2 for s in pair.sides) for pair in found.layouts}
    others = [p for p in product(range(1, 11), repeat=2) if p not in kept]
    assert len(left.least) == len(others)
    assert sorted(left.least) == sorted(a + b for a, b in others)
    (refusal,) = left_out(found, 8.0, "devices")
    open_ = sum(a + b < 8 for a, b in others)
    assert f"the bound leaves {open_} of them" in refusal.advice
    (refusal,) = left_out(found, 2.0, "devices")
    assert "rules all of them out" in refusal.advice


def test_a_step_twice_as_full_never_computes_prompts_slower_by_the_sum_of_its_parts(problem):
    scenario = problem(1)
    replica = build(scenario.model, scenario.hardware[0], next(iter(candidates(scenario))).pool)
    line = screen_prompts(measured_traffic(scenario.workload, scenario.run), 0.0, replica)
    steps_s = line.step_tokens / line.requests_per_s
    assert (np.diff(steps_s) >= -1e-9).all()


@pytest.mark.parametrize(
    ("axis", "values", "seen"),
    [
        ("space.engines", ["vllm", "sglang"], lambda pool: pool.engine.name),
        ("space.redundant_per_rank", [0, 1], lambda pool: pool.redundant_experts),
        ("space.kv", ["bf16", "fp8"], lambda pool: pool.kv),
        (
            "space.speculative",
            [None, {"method": "mtp", "draft_tokens": 1, "profile": "deepseek-r1-mtp"}],
            lambda pool: pool.speculative,
        ),
        (
            "space.batch_limits",
            [{"max_sequences": 16}, {"max_sequences": 64}],
            lambda pool: pool.limits.max_sequences,
        ),
    ],
)
def test_every_axis_of_the_space_is_tried_at_each_of_its_values(axis, values, seen):
    scenario = files.load_scenario("deepseek-r1-slo", {axis: values, "system": "hgx-h200"})
    found = [c for c in candidates(scenario) if c.pool.parallelism.moe_ep > 1]
    assert len({str(seen(c.pool)) for c in found}) >= len(values)
    assert len({c.label for c in found}) == len(found)
    some = next(c for c in found if c.pool.parallelism.moe_ep == 16)
    build(scenario.model, scenario.hardware[0], some.pool)


def test_an_engine_or_a_profile_that_is_not_known_is_refused_by_name():
    with pytest.raises(InputError, match=r"space.engines.*'vlm' is not known"):
        files.load_scenario("deepseek-r1-slo", {"space.engines": ["vlm"]})
    wish = {"method": "mtp", "draft_tokens": 1, "profile": "nobody"}
    with pytest.raises(InputError, match="'nobody' is not known"):
        files.load_scenario("deepseek-r1-slo", {"space.speculative": [wish]})


def test_more_effort_never_finds_a_dearer_fleet(problem):
    scenario = problem(4)
    little = plan(scenario, effort=Effort(1, 0, 1)).best
    much = plan(scenario, effort=Effort(8, 16, 8)).best
    assert much.devices <= little.devices


def test_a_model_that_fits_nowhere_says_what_it_lacks(problem):
    with pytest.raises(InfeasibleError, match="no layout fits"):
        plan(problem(1, model="deepseek-r1"))


def test_a_pair_stands_on_the_frontier_beside_layouts_of_one_pool(problem):
    found = plan(problem(4))
    pairs = [p for p in found.frontier if p.label.startswith("prefill ")]
    assert pairs
    for point in pairs:
        assert not any(
            other.devices <= point.devices and other.tpot_s < point.tpot_s
            for other in found.frontier
        )


@dataclass
class Queue(PairFleet):
    """A pair that keeps its promise from 2 prefill and 5 decode replicas on.

    Short of decode replicas, prompts wait, and more prefill replicas change nothing.
    """

    def keeps(self, counts):
        self.runs[counts] = None
        return counts[0] >= 2 and counts[1] >= 5

    def sure(self, counts):
        return self.keeps(counts)

    def worst(self, counts):
        late_s = 100.0 - 10 * min(counts[1], 5) if counts[1] < 5 else 10.0 / counts[0]
        return Promise("ttft_p95_s", 4.0, late_s)


def test_a_full_decode_pool_is_found_though_the_first_token_is_what_is_late(problem):
    scenario = problem(4)
    replica = build(scenario.model, scenario.hardware[0], next(iter(candidates(scenario))).pool)
    sides = tuple(
        Side(role, replica, role, Estimate(1.0, 0.0, 0.1, n, float(n), least_devices=1.0))
        for role, n in (("prefill", 1), ("decode", 2))
    )
    fleet = Queue(scenario, need_workload(scenario), Layout(sides))
    found, _ = fleet.cheapest(lambda counts: sum(counts) < 20)
    assert found == (2, 5)
    assert fleet.cheapest(lambda counts: sum(counts) < 6)[0] is None
