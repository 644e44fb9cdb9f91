"""The planner against trying everything, on random small problems."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from planner import files
from planner.errors import InputError
from planner.evaluation import build, need_workload
from planner.search import SCREEN_ALONE, plan
from planner.search.candidates import candidates
from planner.search.demand import demand
from planner.search.fleet import Fleet
from planner.search.frontier import unbeaten
from planner.search.layout import Layout, Side
from planner.search.rejection import Rejection, changes
from planner.search.screen import estimate, judge, screen
from planner.search.settle import settle
from planner.workloads import measured_traffic

SYSTEMS = ("hgx-h100", "hgx-h200", "l40s-8gpu", "rtx-5090-8gpu")
MAX_NODES = 2


def problem(seed):
    """A small model, one or two systems, random traffic and promises."""
    rng = np.random.default_rng(seed)
    return question(
        systems=[str(name) for name in rng.choice(SYSTEMS, size=1 + seed % 2, replace=False)],
        prompt=float(rng.uniform(200, 3000)), answer=float(rng.uniform(50, 400)),
        model=str(rng.choice(["olmoe-1b-7b", "qwen3-8b"])), rate=float(rng.uniform(10, 60)),
        ttft_s=float(rng.uniform(0.3, 3)), tpot_s=float(rng.uniform(0.01, 0.05)),
        sequences=int(rng.choice([32, 128])), seed=seed,
    )  # fmt: skip


def question(**of):
    """The same of given values."""
    lengths = {
        "input": {"kind": "lognormal", "mean_tokens": of["prompt"], "sigma": 0.6,
                  "max_tokens": 8192},
        "output": {"kind": "lognormal", "mean_tokens": of["answer"], "sigma": 0.5,
                   "max_tokens": 2048},
    }  # fmt: skip
    return files.load_scenario(
        "r1-vs-llama-405b",
        {
            "model": of["model"], "systems": of["systems"],
            "workload": {
                "arrivals": {"kind": "poisson", "requests_per_s": of["rate"]}, "lengths": [lengths],
            },
            "run.duration_s": 40.0, "run.warmup_s": 10.0, "run.seed": of["seed"],
            "slo.ttft_p95_s": of["ttft_s"], "slo.tpot_p95_s": of["tpot_s"],
            "space.weights": ["bf16"], "space.max_nodes": MAX_NODES,
            "space.limits.max_sequences": of["sequences"],
            "space.limits.max_step_tokens": 2048,
        },
    )  # fmt: skip


PROBLEMS = st.fixed_dictionaries({
    "systems": st.lists(st.sampled_from(SYSTEMS), min_size=1, max_size=2, unique=True),
    "prompt": st.floats(200, 3000), "answer": st.floats(50, 400), "rate": st.floats(10, 60),
    "model": st.sampled_from(["olmoe-1b-7b", "qwen3-8b"]),
    "ttft_s": st.floats(0.3, 3), "tpot_s": st.floats(0.01, 0.05),
    "sequences": st.sampled_from([32, 128]), "seed": st.integers(1, 1000),
})  # fmt: skip


def fewest_by_trying(scenario, replica, dearest, cost):
    """Fewest replicas that keep every promise beyond chance, tried one after the other."""
    most = MAX_NODES * replica.hardware.system.devices_per_node // replica.devices
    side = Side("both", replica, "", estimate(scenario, need_workload(scenario), replica))
    fleet = Fleet(scenario, need_workload(scenario), Layout((side,)))
    for replicas in range(1, most + 1):
        if cost(replica, replicas * replica.devices) >= dearest:
            return None
        if fleet.keeps((replicas,)) and all(kept.kept for kept in settle(fleet, (replicas,))):
            return replicas
    return None


def by_brute_force(scenario, cost):
    """Least cost of any layout on any system, and every (replica, fewest) met on the way."""
    best, found = math.inf, []
    for hardware in scenario.hardware:
        alone = scenario.model_copy(update={"hardware": (hardware,)})
        for candidate in candidates(alone):
            try:
                replica = build(scenario.model, hardware, candidate.pool)
                replica.memory.require()
            except Exception:
                continue
            fewest = fewest_by_trying(alone, replica, best, cost)
            if fewest:
                best = min(best, cost(replica, fewest * replica.devices))
                found.append((replica, fewest))
    return best, found


# the first dozen layouts by estimate all break a promise here, a later one keeps it
@example({
    "ttft_s": 2.067, "seed": 72, "rate": 46.54, "answer": 399.0, "prompt": 2446.0,
    "tpot_s": 0.01264, "model": "olmoe-1b-7b", "sequences": 32,
    "systems": ["hgx-h200", "rtx-5090-8gpu"],
})  # fmt: skip
@given(PROBLEMS)
@settings(
    max_examples=2, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_the_choice_costs_at_most_two_percent_more_than_the_best_there_is(of):
    scenario = question(**of)

    def cost(replica, devices):
        price = replica.hardware.prices[0].usd_per_device_hour
        return devices * float(price)

    best, found = by_brute_force(scenario, cost)
    chosen = plan(scenario).best
    if chosen is None:
        assert math.isinf(best)
        return
    assert cost(chosen.replica, chosen.devices) <= 1.02 * best
    traffic = measured_traffic(scenario.workload, scenario.run)
    own = demand(scenario.workload, scenario.run, traffic)
    for replica, fewest in found:  # the screen never rules out what simulation accepts
        line = screen(traffic, 0.0, replica)
        guess = judge(scenario, traffic, replica, line, own)
        assert guess.least_devices <= fewest * replica.devices


def test_the_least_of_a_table_by_hand():
    table = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 6.0], [3.0, 1.0], [1.0, 5.0], [4.0, 1.0]])
    kept = unbeaten(table)
    assert sorted(map(tuple, table[kept])) == [(1.0, 5.0), (2.0, 4.0), (3.0, 1.0)]


def test_nothing_on_the_frontier_is_beaten_and_everything_off_it_is():
    table = np.random.default_rng(1).integers(0, 12, (400, 3)).astype(float)
    kept = set(unbeaten(table).tolist())
    for i, row in enumerate(table):
        no_worse = (table <= row).all(axis=1)
        better = no_worse & (table < row).any(axis=1)
        assert better.any() == (i not in kept) or (i not in kept and no_worse.sum() > 1)


def test_what_would_have_to_change_names_the_nearest():
    def refused(label, needed, stage="fit"):
        return Rejection(label, stage, "HBM per device", needed, 100.0, "bytes", "more devices")

    first, second = changes(
        [
            refused("a", 300.0),
            refused("b", 110.0),
            Rejection("c", "fit", "no fp8", None, None, "", ""),
        ]
    )
    assert (first.nearest, first.refused, first.excess) == ("b", 2, pytest.approx(1.1))
    assert second.excess is None


def test_frontier_points_fit_the_space_and_the_promise():
    found = plan(problem(1))
    assert found.frontier
    for point in found.frontier:
        assert point.tpot_s <= found.scenario.slo.tpot_p95_s
        assert point.devices <= MAX_NODES * 8
    assert found.to_dict().keys() >= {
        "best", "frontier", "rejections", "screened", "screen_s", "wall_s", "changes",
    }  # fmt: skip


def test_systems_without_a_price_stand_back_where_others_have_one():
    scenario = problem(1)
    bare = scenario.hardware[0].model_copy(update={"prices": ()})
    mixed = scenario.model_copy(update={"hardware": (bare, *scenario.hardware[1:])})
    found = plan(mixed)
    assert found.best is None or found.best.costs
    assert any(r.limit == "price" and r.system == bare.system.name for r in found.rejections)


def test_a_budget_nothing_fits_names_both_wishes_and_the_nearest():
    with pytest.raises(InputError, match=r"max_usd_per_hour.*slo.tpot_p95_s.*nearest needs"):
        plan(files.apply_overrides(problem(1), {"space.max_usd_per_hour": 0.5}))
    with pytest.raises(InputError, match=r"max_rated_w.*cannot both be kept"):
        plan(files.apply_overrides(problem(1), {"space.max_rated_w": 100.0}))


def test_a_cap_just_below_the_best_refuses_it_and_one_at_it_does_not():
    best = plan(problem(10)).best.costs[0].usd_per_hour
    assert plan(files.apply_overrides(problem(10), {"space.max_usd_per_hour": best})).best
    below = plan(files.apply_overrides(problem(10), {"space.max_usd_per_hour": 0.99 * best}))
    assert below.best is None
    assert any(c.limit == "space.max_usd_per_hour" for c in below.changes)


def test_the_screen_alone_simulates_nothing():
    found = plan(problem(1), effort=SCREEN_ALONE)
    assert found.best is None
    assert found.simulated == 0
    assert found.frontier
