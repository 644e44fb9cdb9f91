"""Every shipped scenario runs, made small where it is large."""

import json

import pytest

from planner import files, search
from planner.evaluation import evaluate, steady
from planner.specs.workload import CurveArrivals

NAMES = list(files.scenario_titles())
SMALL = {
    "thousandth-day": {"run.start_s": 66600, "run.duration_s": 3600},
    "r1-chat-failures": {"run.duration_s": 900},
    "deepseek-production-day": {"run.start_s": 57600, "run.duration_s": 3.0, "run.warmup_s": 1.0},
    "deepseek-r1-day": {"run.window": 52, "run.warmup_s": 60.0, "space.max_nodes_per_replica": 1},
    "deepseek-r1-day-fleet": {"run.window": 52, "run.warmup_s": 60.0},
    "chat-sessions": {"run.duration_s": 60.0, "run.warmup_s": 20.0},
    "prefix-tiers": {"workload.arrivals.to_s": 1920.0, "run.warmup_s": 30.0},
    "r1-lengths-100k": {"run.requests": 1500, "run.warmup_requests": 100},
    "r1-vs-llama-405b": {"run.duration_s": 60.0, "run.warmup_s": 10.0},
}


def load(name):
    return files.load_scenario(name, SMALL.get(name, {}))


def test_every_small_variant_is_of_a_shipped_scenario():
    assert set(SMALL) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_named_after_its_file_and_has_a_title(name):
    scenario = load(name)
    assert scenario.name == name
    assert scenario.title


@pytest.mark.parametrize("name", [n for n in NAMES if load(n).steady])
def test_a_steady_scenario_gives_a_rate_between_nothing_and_all_hidden(name):
    answer = steady(load(name)).to_dict()
    low = answer["nothing_hidden"]["tokens_per_s_per_node"]
    high = answer["all_hidden"]["tokens_per_s_per_node"]
    assert 0 < low <= answer["tokens_per_s_per_node"] <= high
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("name", [n for n in NAMES if load(n).deployment and load(n).workload])
def test_a_fixed_deployment_answers_every_request(name):
    result = evaluate(load(name))
    metrics = result.metrics
    assert metrics.finished + metrics.rejected == metrics.arrived > 0
    assert metrics.ttft_s.p50 > 0
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", [n for n in NAMES if load(n).claims])
def test_claims_get_a_figure_of_our_own(name):
    for verdict in search.claims(load(name)):
        assert verdict.value > 0
        assert verdict.explanation
        json.dumps(verdict.to_dict(), allow_nan=False)


def test_the_day_gets_a_plan_that_keeps_its_promises():
    found = search.plan(load("deepseek-r1-day"))
    assert found.best.metrics.slo_met
    assert found.best.devices == min(option.devices for option in found.options)
    assert {r.stage for r in found.rejections} >= {"fit"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_compare_answers_for_every_system_or_says_why_not():
    scenario = files.load_scenario(
        "compare-systems",
        {
            "systems": ["hgx-h200", "rtx-5090-pc"],
            "run.window": 52,
            "run.warmup_s": 0.0,
            "space.weights": ["fp8"],
            "space.max_nodes_per_replica": 1,
        },
    )
    rows = {row.hardware.system.name: row for row in search.compare(scenario).rows}
    assert rows["hgx-h200"].best.metrics.slo_met
    assert rows["rtx-5090-pc"].best is None
    assert "HBM per device" in rows["rtx-5090-pc"].refusal


def test_the_whole_day_has_the_published_number_of_requests():
    workload = files.load_scenario("deepseek-r1-day").workload
    assert isinstance(workload.arrivals, CurveArrivals)
    assert len(workload.arrivals.requests_per_s) == 144
    requests = sum(workload.arrivals.requests_per_s) * workload.arrivals.window_s
    assert requests == pytest.approx(1.38e6, rel=0.005)
