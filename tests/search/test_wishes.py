"""Wishes beyond latency: money, power, availability, providers; and how sure an answer is."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from click.testing import CliRunner

from planner import files
from planner.cli import main
from planner.errors import InputError
from planner.evaluation import build
from planner.report import risk
from planner.search import Kept, evidence, plan, plan_models
from planner.search.intervals import plan_intervals
from planner.search.offers import offered
from planner.search.settle import settle
from planner.search.spares import at_least, spares, up_share
from planner.sourced import Sourced
from planner.specs.deployment import Parallelism, Pool
from planner.specs.scenario import Reliability

WISH = Reliability(availability=0.999, node_mtbf_h=990.0, recovery_h=10.0)


def test_a_replica_over_two_nodes_is_down_twice_as_often():
    assert up_share(WISH, 1) == pytest.approx(0.99)
    assert up_share(WISH, 2) == pytest.approx(990 / 1010)
    assert up_share(WISH, 0.5) == up_share(WISH, 1)


def test_two_of_three_replicas_by_hand():
    assert at_least(2, 3, 0.9) == pytest.approx(0.9**3 + 3 * 0.9**2 * 0.1)
    assert at_least(3, 3, 0.9) == pytest.approx(0.729)


def test_spares_are_the_fewest_that_do():
    # ten replicas at 0.99: none spare 0.904, one 0.9948, two 0.99984
    assert spares(WISH, 10, 1) == 2
    assert spares(replace_wish(0.99), 10, 1) == 1
    assert spares(replace_wish(0.9), 10, 1) == 0
    assert spares(None, 10, 1) == 0


def replace_wish(availability):
    return WISH.model_copy(update={"availability": availability})


def test_replicas_that_are_hardly_ever_up_are_refused():
    broken = Reliability(availability=0.999, node_mtbf_h=0.001, recovery_h=1e9)
    with pytest.raises(InputError, match=r"reliability\.availability"):
        spares(broken, 10, 1)


def test_a_fleet_with_spares_costs_them_and_keeps_its_promises_without_them(problem):
    wish = {"availability": 0.999, "node_mtbf_h": 990.0, "recovery_h": 10.0}
    bare, safe = plan(problem(4)), plan(problem(4, **{"space.reliability": wish}))
    assert any(safe.spares)
    assert not any(bare.spares)
    assert safe.best.devices > bare.best.devices
    assert safe.best.metrics.slo_met
    assert any(head == "Spares" for head, _ in risk.decisions(safe))


def test_a_budget_a_million_tokens_is_the_same_as_one_an_hour(problem):
    best = plan(problem(4)).best
    each = best.costs[0].usd_per_hour
    tokens_per_h = 3600 * best.traffic.requests_per_s
    tokens_per_h *= best.traffic.input_tokens + best.traffic.output_tokens
    per_million = each / tokens_per_h * 1e6
    assert plan(problem(4, **{"space.max_usd_per_million_tokens": 1.001 * per_million})).best
    below = plan(problem(4, **{"space.max_usd_per_million_tokens": 0.999 * per_million}))
    assert below.best is None
    with pytest.raises(InputError, match=r"max_usd_per_million_tokens.*cannot both be kept"):
        plan(problem(4, **{"space.max_usd_per_million_tokens": 1e-6 * per_million}))


def test_a_clash_of_pools_apart_adds_both_pools(problem):
    with pytest.raises(InputError, match=r"prefill .*, decode .*devices"):
        plan(problem(4, **{"space.pools": ["apart"], "space.max_usd_per_hour": 0.01}))


def test_only_the_offers_of_wanted_providers_count(problem):
    scenario = problem(4)
    provider = scenario.hardware[0].prices[-1].provider
    found = plan(problem(4, **{"space.providers": [provider]}))
    assert {c.price.provider for c in found.best.costs} == {provider}
    with pytest.raises(InputError, match=r"Nobody: no offer .* these have one: .*" + provider):
        plan(problem(4, **{"space.providers": ["Nobody"]}))


def test_only_offers_in_wanted_regions_count_and_those_that_name_none(problem):
    def here(region):
        scenario = problem(4)
        (hardware,) = scenario.hardware
        first, *rest = hardware.prices
        prices = (first.model_copy(update={"region": region}), *rest)
        hardware = hardware.model_copy(update={"prices": prices})
        space = scenario.space.model_copy(update={"regions": ("Finland",)})
        return scenario.model_copy(update={"hardware": (hardware,), "space": space})

    assert plan(here("finland")).best.costs[0].price == here("finland").hardware[0].prices[0]
    assert (
        len(offered(here("ohio")).hardware[0].prices)
        == len(offered(here(None)).hardware[0].prices) - 1
    )


def test_a_region_nobody_rents_in_names_the_offers_there_are(problem):
    scenario = problem(4)
    (hardware,) = scenario.hardware
    prices = tuple(p.model_copy(update={"region": "ohio"}) for p in hardware.prices)
    update = {
        "hardware": (hardware.model_copy(update={"prices": prices}),),
        "space": scenario.space.model_copy(update={"regions": ("finland",)}),
    }
    with pytest.raises(InputError, match=rf"finland: no offer .*{prices[0].provider} \(ohio\)"):
        plan(scenario.model_copy(update=update))


def test_the_end_to_end_median_can_be_promised(problem):
    kept = plan(problem(1, **{"slo": {"e2e_p50_s": 60.0}}))
    assert [p.name for p in kept.best.metrics.promises] == ["e2e_p50_s"]


def kept(value_s, half_width_s):
    return Kept("tpot_p95_s", 0.05, value_s, half_width_s, 1)


def test_a_promise_is_sure_when_its_limit_is_outside_the_interval():
    assert kept(0.045, 0.001).sure
    assert not kept(0.0495, 0.001).sure
    assert not kept(0.0495, None).sure
    assert "too close to call" in risk.sure(kept(0.0495, 0.001))
    assert "beyond chance" in risk.sure(kept(0.045, 0.001))


class Runs:
    """A fleet whose runs are given."""

    def __init__(self, result, values, width):
        self.scenario = result.scenario
        self.values, self.asked = values, 0
        percentiles = result.metrics.tpot_s
        self.metrics = replace(
            result.metrics,
            tpot_s=replace(percentiles, half_width=replace(percentiles.half_width, p95=width)),
        )
        self.runs = {(1,): (None, self._run(0), 0.0)}
        self.settled = {}

    def _run(self, index):
        promise = next(p for p in self.metrics.promises if p.name == "tpot_p95_s")
        value = replace(promise, limit_s=1.0, value_s=self.values[index])
        return replace(self.metrics, promises=(value,))

    def run(self, counts, seed):
        self.asked += 1
        return None, self._run(self.asked), 0.0


def test_more_runs_are_made_until_the_limit_is_outside_the_interval_and_no_longer(problem):
    result = plan(problem(4)).best
    clear = Runs(result, [0.9], 0.05)
    assert settle(clear, (1,))[0].sure
    assert clear.asked == 0
    close = Runs(result, [0.98, 0.9, 0.91, 0.9, 0.9], 0.05)
    found = settle(close, (1,))[0]
    assert found.sure
    assert 0 < close.asked < 4
    open_ = Runs(result, [0.999, 1.01, 0.99, 1.0, 1.001], 0.05)
    found = settle(open_, (1,))[0]
    assert (found.sure, found.runs) == (False, 5)
    assert math.isclose(found.value_s, 1.0)


@pytest.mark.parametrize(
    ("system", "basis"),
    [("hgx-h200", "measured"), ("hgx-h20", "transferred"), ("hgx-mi355x", "assumed")],
)
def test_what_a_speed_rests_on(system, basis):
    pool = Pool(parallelism=Parallelism(attention_dp=8, moe_ep=8), weights="fp8")
    replica = build(files.load_model("deepseek-r1"), files.load_hardware(system), pool)
    assert evidence(replica).basis == basis
    measured = build(files.load_model("deepseek-r1"), files.load_hardware("hgx-b200"), pool)
    assert evidence(measured, replica).basis == basis


def test_a_winner_nobody_measured_names_the_best_that_was(problem):
    scenario = problem(4)
    hardware = scenario.hardware[0]
    strange = files.load_hardware("hgx-mi300x")
    cheap = tuple(
        p.model_copy(
            update={"usd_per_device_hour": Sourced(0.01 * p.usd_per_device_hour, "nobody")}
        )
        for p in strange.prices
    )
    both = (strange.model_copy(update={"prices": cheap}), hardware)
    found = plan(scenario.model_copy(update={"hardware": both}))
    assert found.basis.basis == "assumed"
    assert found.best_measured.replica.hardware.system.name == hardware.system.name
    assert found.best_measured.metrics.slo_met
    sentence = risk.basis_sentence(found)
    assert "not measured" in sentence
    assert hardware.accelerator.title in sentence
    best, other = (fleet.costs[0].usd_per_hour for fleet in (found.best, found.best_measured))
    assert f"(${other - best:,.2f}/h or " in sentence
    whole = risk.basis_sentence(plan_intervals(found))
    assert "devices at 90 %" in whole or "no number keeps the promises" in whole
    assert "Benchmark first: " in whole
    alone = plan(scenario.model_copy(update={"hardware": both[:1]}))
    assert alone.best_measured is None
    assert "No fleet found on measured parts" in risk.basis_sentence(alone)


def test_devices_that_are_there_already_are_used_first_and_cost_nothing(problem):
    bare = plan(problem(4))
    name = bare.best.replica.hardware.system.name
    found = plan(problem(4, **{"space.owned": {name: bare.best.devices}}))
    assert found.rented_usd_per_hour == 0
    assert found.best.metrics.slo_met
    some = plan(problem(4, **{"space.owned": {name: 1}, "space.pools": ["apart"]}))
    whole = plan(problem(4, **{"space.pools": ["apart"]}))
    assert some.rented_usd_per_hour < whole.rented_usd_per_hour
    assert any(head == "Owned already" for head, _ in risk.decisions(some))


def test_the_cheapest_model_that_is_good_enough_wins(problem):
    small, large = (files.load_model(n) for n in ("qwen3-8b", "olmoe-1b-7b"))
    models = {"qwen3-8b": (small, 60.0), "olmoe-1b-7b": (large, 40.0)}
    found = plan_models(problem(4), models, 50.0)
    assert found.best.model.name == "qwen3-8b"
    assert "below 50" in found.answers[-1].refusal
    either = plan_models(problem(4), models, 30.0)
    assert either.best.usd_per_hour <= found.best.usd_per_hour
    with pytest.raises(InputError, match=r"70 is reached by no model; the nearest is qwen3-8b"):
        plan_models(problem(4), models, 70.0)


@pytest.mark.parametrize(
    "more",
    [
        ["--min-quality", "3"],
        ["--model", "qwen3-8b=3"],
        ["--model", "qwen3-8b", "--min-quality", "3"],
        ["--model", "qwen3-8c=3", "--min-quality", "3"],
    ],
)
def test_a_choice_of_models_needs_names_qualities_and_a_floor(more):
    outcome = CliRunner().invoke(main, ["plan", "r1-chat", *more])
    assert outcome.exit_code != 0
    assert "Traceback" not in outcome.output
    assert (
        "--model" in outcome.output
        or "--min-quality" in outcome.output
        or "qwen3-8c" in (outcome.output)
    )


def test_a_second_process_changes_nothing_but_the_time(problem):
    scenario = problem(4)
    strange = files.load_hardware("hgx-mi300x")
    cheap = tuple(
        p.model_copy(
            update={"usd_per_device_hour": Sourced(0.01 * p.usd_per_device_hour, "nobody")}
        )
        for p in strange.prices
    )
    both = (strange.model_copy(update={"prices": cheap}), *scenario.hardware)
    scenario = scenario.model_copy(update={"hardware": both})
    alone = plan(scenario)
    with ThreadPoolExecutor(1) as executor:
        beside = plan(scenario, executor=executor)
    for one, other in ((alone.best, beside.best), (alone.best_measured, beside.best_measured)):
        assert one.metrics == other.metrics


def test_a_cache_and_failures_that_a_plan_leaves_out_are_named(problem):
    deployment = {
        "parallelism": {"attention_tp": 1, "moe_tp": 1},
        "weights": "bf16",
        "prefix_cache": True,
    }
    operated = files.load_scenario("r1-chat-failures").operations
    scenario = problem(1, **{"space.pools": ["together"], "deployment": deployment})
    best = plan(scenario.model_copy(update={"operations": operated})).best
    said = {a.name: a.note for a in best.assumptions}
    assert "cached_input_share" in said["prefix cache"]
    assert "as if nothing failed" in said["operations"]


def test_devices_owned_of_a_system_that_is_not_asked_for_are_refused_by_name(problem):
    with pytest.raises(InputError, match=r"space.owned: hgx-b200: none of the systems asked for"):
        plan(problem(1, **{"space.owned": {"hgx-b200": 8}}))


def test_where_nothing_fits_for_want_of_a_format_the_reason_is_said_without_numbers(problem):
    with pytest.raises(InputError, match=r"space: no layout fits; no fp4 matrix units.*") as error:
        plan(problem(1, **{"space.weights": ["nvfp4"]}))
    assert "has 0" not in str(error.value)
