"""Two of many replicas tell of a fleet only where it is clear; what is chosen runs in full."""

from dataclasses import replace

import pytest

from planner import files
from planner.evaluation import build, need_workload
from planner.search.candidates import candidates
from planner.search.fleet import Fleet
from planner.search.layout import Layout, Side
from planner.search.screen import estimate
from planner.search.trials import ENOUGH, tells, trial_of
from planner.workloads import measured_traffic
from tests.search.conftest import small


def busy(problem, rate=150.0, **changes):
    """A question whose runs are long enough for trials."""
    poisson = {"kind": "poisson", "requests_per_s": rate}
    return problem(1, **{
        "workload.arrivals": poisson, "run.duration_s": 70.0, "run.warmup_s": 10.0,
        "systems": ["hgx-h100"], **changes,
    })  # fmt: skip


def fleet_of(scenario):
    replica = build(scenario.model, scenario.hardware[0], next(iter(candidates(scenario))).pool)
    guess = estimate(scenario, need_workload(scenario), replica)
    return Fleet(scenario, need_workload(scenario), Layout((Side("both", replica, "", guess),)))


def test_a_trial_has_the_traffic_of_its_replicas(problem):
    scenario = busy(problem)
    traffic = measured_traffic(scenario.workload, scenario.run)
    part = trial_of(scenario, scenario.workload, traffic, 8)
    assert part.arrivals.requests_per_s == pytest.approx(150.0 * 2 / 8)
    assert part.lengths == scenario.workload.lengths
    assert trial_of(scenario, scenario.workload, traffic, 3) is None
    short = replace(traffic, duration_s=0.9 * ENOUGH / 150.0)
    assert trial_of(scenario, scenario.workload, short, 8) is None


@pytest.fixture(scope="module")
def sized():
    """The smallest fleet of a layout, found with trials."""
    fleet = fleet_of(busy(small))
    return fleet, fleet.fewest((24,))


def test_the_fewest_with_trials_are_the_fewest_without(sized):
    fleet, found = sized
    assert found in fleet.whole
    assert len(fleet.whole) < len(fleet.runs)  # some trial spared a run of the whole
    again = fleet_of(fleet.scenario)
    assert again.sure(found)
    assert not again.sure((found[0] - 1,))


def test_a_promise_close_to_its_limit_is_left_to_the_whole_fleet(sized):
    fleet, found = sized
    metrics = fleet.runs[found][1]
    promise = next(p for p in metrics.promises if p.name == "tpot_p95_s")

    def at(times):
        return replace(metrics, promises=(replace(promise, limit_s=times * promise.value_s),))

    assert not tells(at(1.01))
    assert not tells(at(0.99))
    assert tells(at(2.0))
    assert tells(at(0.5))


def test_fleets_that_fail_or_scale_are_never_tried_in_part(problem):
    scenario = busy(problem)
    operated = files.load_scenario("r1-chat-failures").operations
    traffic = measured_traffic(scenario.workload, scenario.run)
    scenario = scenario.model_copy(update={"operations": operated})
    assert trial_of(scenario, scenario.workload, traffic, 8) is None
