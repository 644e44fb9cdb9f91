"""The planner's choice: small questions, checked against trying everything."""

import pytest

from planner import files
from planner.errors import InputError
from planner.evaluation import build, evaluate, serve
from planner.search import plan
from planner.search.candidates import candidates
from planner.search.screen import estimate
from planner.specs.deployment import Parallelism

SMALL = {
    "model": "olmoe-1b-7b",
    "system": "hgx-h100",
    "run.window": 52,
    "run.warmup_s": 0.0,
    "space.weights": ["bf16"],
    "space.max_nodes_per_replica": 1,
    "space.max_nodes": 2,
}


def question(**changes):
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return files.load_scenario("deepseek-r1-day", {**SMALL, **dotted})


@pytest.fixture(scope="module")
def found():
    return plan(question())


def test_the_winner_keeps_every_promise_on_the_fewest_devices_simulated(found):
    assert found.best.metrics.slo_met
    assert found.best.devices == min(option.devices for option in found.options)


def test_one_replica_less_than_the_winner_breaks_a_promise(found):
    best = found.best
    if best.replicas == 1:
        pytest.skip("one replica is the least there is")
    scenario = found.scenario
    _, metrics, _ = serve(scenario, scenario.workload, best.replica, best.replicas - 1, 5000.0)
    assert not metrics.slo_met


def test_every_layout_is_an_option_or_refused_with_a_reason(found):
    layouts = list(candidates(found.scenario))
    assert found.layouts == len(layouts)
    assert found.screened > found.layouts
    assert len(found.options) + len(found.rejections) == len(layouts)
    assert all(rejection.limit for rejection in found.rejections)


def test_the_plan_says_the_same_as_simulating_its_own_answer(found):
    best = found.best
    pool = best.replica.pool.model_copy(update={"replicas": best.replicas})
    again = evaluate(found.scenario.model_copy(update={"deployment": pool}))
    assert again.metrics == best.metrics


def test_no_layout_that_was_screened_out_would_have_been_cheaper(found):
    """Exhaustive: every layout that fits, at one device less than the winner has."""
    scenario, best = found.scenario, found.best
    for candidate in candidates(scenario):
        replica = build(scenario.model, scenario.hardware[0], candidate.pool)
        fewer = (best.devices - 1) // replica.devices
        if fewer:
            _, metrics, _ = serve(scenario, scenario.workload, replica, fewer, 5000.0)
            assert not metrics.slo_met, candidate.label


def test_a_promise_nothing_can_keep_gets_reasons_instead_of_a_plan():
    hopeless = plan(question(slo__tpot_p95_s=1e-5))
    assert hopeless.best is None
    assert {r.stage for r in hopeless.rejections} == {"screen"}
    assert all(r.needed > r.available for r in hopeless.rejections)


def test_a_fleet_that_may_not_grow_says_which_promise_breaks():
    small = plan(
        files.load_scenario(
            "deepseek-r1-day",
            {"run.window": 52, "run.warmup_s": 0.0, "space.max_nodes_per_replica": 1,
             "space.max_nodes": 1},
        )
    )  # fmt: skip
    assert small.best is None
    broken = [r for r in small.rejections if r.stage == "simulation"]
    assert broken
    assert all(r.limit in ("ttft_p95_s", "tpot_p95_s") for r in broken)


def test_a_plan_needs_a_promise():
    with pytest.raises(InputError, match="promises nothing"):
        plan(question(slo={}))


def test_the_estimate_is_no_more_than_the_decode_roofline_allows():
    scenario = question()
    for candidate in candidates(scenario):
        replica = build(scenario.model, scenario.hardware[0], candidate.pool)
        guess = estimate(scenario, scenario.workload, replica)
        assert guess.requests_per_s * guess.tpot_s * 3260 <= guess.sequences * 1.5


def test_layouts_use_whole_devices_and_never_repeat():
    seen = [c.pool.parallelism for c in candidates(question())]
    assert len(seen) == len(set(seen))
    assert Parallelism(attention_tp=8, moe_tp=8) in seen
    assert Parallelism(attention_dp=8, moe_ep=8) in seen
