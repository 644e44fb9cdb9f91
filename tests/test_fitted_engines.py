"""Overheads fitted to measured runs reach every scenario that names an engine."""

import math
from typing import Any

import pytest

from planner import evaluation, files
from planner.evaluation.fitted import expected_error, unseen, with_fitted
from planner.files.overheads import load_overheads
from planner.specs.deployment import Pool

POOL: dict[str, Any] = {"parallelism": {"attention_tp": 8, "moe_tp": 8}, "weights": "fp8"}


def built(changes: dict[str, Any], **pool: Any) -> evaluation.Replica:
    scenario = files.load_scenario("r1-chat", {"deployment": POOL | pool, **changes})
    assert scenario.deployment is not None
    return evaluation.build(scenario.model, scenario.hardware[0], scenario.deployment)


def load_pool(parallelism: dict[str, int]) -> Pool:
    pool = POOL | {"parallelism": parallelism, "engine": "sglang"}
    deployment = files.load_scenario("r1-chat", {"deployment": pool}).deployment
    assert isinstance(deployment, Pool)
    return deployment


def notes(replica: evaluation.Replica) -> dict[str, str]:
    return {a.name: a.note for a in evaluation.assumptions(replica)}


def effect(parameter: str, *groups: str) -> float:
    found = [
        e.log_effect
        for e in load_overheads().effects
        if e.parameter == parameter and e.group in groups
    ]
    assert found
    return math.exp(sum(found))


def test_a_named_engine_takes_the_effects_of_its_part_precision_and_mode() -> None:
    overheads = built({}, engine="sglang").pool.engine.overheads
    groups = ("all", "fp8", "sglang", "sglang fp8", "h200-sxm", "sglang aggregated")
    groups += ("sglang tensor-parallel",)
    assert overheads.moe_factor == pytest.approx(effect("moe", *groups))
    assert overheads.request_host_s == pytest.approx(0.05 * effect("request_host", *groups))


def test_another_system_and_another_format_take_others() -> None:
    hopper = built({}, engine="sglang").pool.engine.overheads
    blackwell = built({"system": "hgx-b200"}, engine="sglang").pool.engine.overheads
    fp4 = built({"system": "hgx-b200"}, engine="sglang", weights="nvfp4").pool.engine.overheads
    parts = effect("request_host", "b200-sxm") / effect("request_host", "h200-sxm")
    assert blackwell.request_host_s / hopper.request_host_s == pytest.approx(parts)
    assert blackwell.moe_factor == hopper.moe_factor  # kernels of a part are its calibration's
    formats = effect("moe", "fp4", "sglang fp4") / effect("moe", "fp8", "sglang fp8")
    assert fp4.moe_factor / blackwell.moe_factor == pytest.approx(formats)


def test_attention_parallel_ranks_take_their_own_cost_of_a_step_with_prompts() -> None:
    both = "sglang tensor-parallel", "sglang expert-parallel"
    pool = load_pool({"attention_dp": 8, "moe_ep": 8})
    model = files.load_model("deepseek-r1")
    apart = with_fitted(pool, "h200-sxm", "disaggregated", model).engine.overheads
    one = load_pool({"attention_tp": 8, "moe_tp": 8})
    alone = with_fitted(one, "h200-sxm", "aggregated", model)
    modes = effect("prefill", both[1]) / effect("prefill", both[0])
    assert apart.prefill_factor / alone.engine.overheads.prefill_factor == pytest.approx(modes)


def test_prompts_of_data_parallel_attention_cost_the_host_as_much_in_one_pool_as_apart() -> None:
    """Of SGLang in one pool no run was fitted: 8 ms a step without the effect, 0.1 s and more."""
    pool = load_pool({"attention_dp": 8, "moe_ep": 8})
    model = files.load_model("deepseek-r1")
    host = {
        mode: with_fitted(pool, "b200-sxm", mode, model).engine.overheads.prefill_step_host_s
        for mode in ("aggregated", "disaggregated")
    }
    modes = [effect("prefill_step_host", f"sglang {mode}") for mode in host]
    assert host["aggregated"] / host["disaggregated"] == pytest.approx(modes[0] / modes[1])
    assert host["aggregated"] > 0.1


def test_attention_of_prompts_has_a_factor_of_its_own() -> None:
    changes = {"deployment.engine.overheads.prefill_attention_factor": 2.0}
    plain = built({})
    scenario = files.load_scenario("r1-chat", {"deployment": POOL | {"engine": "generic"}})
    scenario = files.apply_overrides(scenario, changes)
    assert scenario.deployment is not None
    slow = evaluation.build(scenario.model, scenario.hardware[0], scenario.deployment)
    decode, prefill = 8.0, 8192.0
    assert slow.step.decode_step_s(decode, 1000.0, None) == pytest.approx(
        plain.step.decode_step_s(decode, 1000.0, None)
    )
    loads = prefill, prefill**2 / 2, prefill**2 / 2
    own, twice = (sum(d.time_s for d in r.step.prefill_attention(*loads)) for r in (plain, slow))
    assert twice / own == pytest.approx(2.0, rel=0.02)


def test_the_generic_engine_and_one_without_runs_stay_neutral() -> None:
    neutral = built({}).pool.engine.overheads
    assert built({}, engine="generic").pool.engine.overheads == neutral
    assert built({}, engine="jetstream").pool.engine.overheads == neutral
    assert "Nothing is fitted" in notes(built({}))["engine overheads"]


def test_a_stated_overhead_goes_before_the_fitted_one() -> None:
    changes = {"deployment.engine.overheads.moe_factor": 1.25}
    scenario = files.load_scenario("r1-chat", {"deployment": POOL | {"engine": "vllm"}})
    scenario = files.apply_overrides(scenario, changes)
    assert scenario.deployment is not None
    replica = evaluation.build(scenario.model, scenario.hardware[0], scenario.deployment)
    assert replica.pool.engine.overheads.moe_factor == 1.25
    assert replica.pool.engine.overheads.request_host_s > 0


def test_an_engines_version_is_seen_or_not() -> None:
    scenario = files.load_scenario("r1-chat", {"deployment": POOL | {"engine": "sglang"}})
    known = files.apply_overrides(scenario, {"deployment.engine.version": "0.5.9"})
    assert scenario.deployment is not None
    assert known.deployment is not None
    about = "h200-sxm", "deepseek-r1"
    assert unseen(scenario.deployment, *about) == ("versions",)
    assert unseen(known.deployment, *about) == ()
    new, old = expected_error(scenario.deployment, *about), expected_error(known.deployment, *about)
    assert new is not None
    assert old is not None
    assert (new.left_out, old.left_out) == ("versions", "configurations")
    assert new.median_abs_error > old.median_abs_error


def test_assumptions_say_what_the_engine_does() -> None:
    generic, sglang = notes(built({})), notes(built({}, engine="sglang"))
    assert "full answer is reserved" in generic["admission"]
    assert "9.8 % of the answer" in sglang["admission"]
    assert "first token" in generic
    assert "first token" not in sglang
    error = next(
        e for e in load_overheads().held_out
        if e.left_out == "versions" and e.quantity == "mean_tpot_s"
    )  # fmt: skip
    assert f"median error {100 * error.median_abs_error:.0f} %" in sglang["engine overheads"]
    assert "engine.overheads.moe_factor" in sglang


def test_kernels_of_a_kind_the_engine_never_ran_are_those_of_all_engines() -> None:
    """All fitted runs of TensorRT-LLM are of a model with latent attention."""
    other = built({"model": "qwen3-235b-a22b"}, engine="tensorrt-llm", weights="fp8")
    overheads = other.pool.engine.overheads
    for name in ("gemm", "moe", "attention", "floor", "comm", "prefill"):
        shared = [
            e.log_effect
            for e in load_overheads().effects
            if e.parameter == name
            and (e.level, e.group) in {("all", "all"), ("weights", "fp8"), ("part", "h200-sxm")}
        ]
        factor = load_overheads().start[name] * math.exp(sum(shared))
        assert getattr(overheads, f"{name}_factor") == pytest.approx(factor)
    own = built({}, engine="tensorrt-llm").pool.engine.overheads
    assert overheads.step_host_s == own.step_host_s > 0
    assert overheads.request_host_s == own.request_host_s > 0
    assert "kernels are as those of all engines" in notes(other)["engine overheads"]


def test_kernels_of_a_kind_no_engine_ran_stay_as_calibrated() -> None:
    """No fitted run is of a dense model."""
    dense = built({"model": "llama-3.1-70b"}, engine="tensorrt-llm", weights="fp8")
    overheads = dense.pool.engine.overheads
    for name in ("gemm", "moe", "attention", "prefill_attention", "floor", "comm", "prefill"):
        assert getattr(overheads, f"{name}_factor") == 1.0
    own = built({}, engine="tensorrt-llm").pool.engine.overheads
    assert overheads.step_host_s == own.step_host_s > 0
    assert "kernels are as calibrated" in notes(dense)["engine overheads"]


def test_a_model_of_fewer_layers_is_launched_in_less_time() -> None:
    fewer = built({"model": "gpt-oss-120b"}, engine="tensorrt-llm")
    assert "36 of the 61" in notes(fewer)["engine overheads"]
    small = fewer.pool.engine.overheads
    large = built({}, engine="tensorrt-llm").pool.engine.overheads
    assert small.prefill_step_host_s / large.prefill_step_host_s == pytest.approx(36 / 61)
    assert small.step_host_s == large.step_host_s


def test_another_model_on_the_same_kinds_of_kernels_takes_their_factors() -> None:
    kimi = built({"model": "kimi-k2"}, engine="sglang").pool.engine.overheads
    assert kimi.moe_factor == built({}, engine="sglang").pool.engine.overheads.moe_factor != 1.0


def test_a_run_of_a_scenario_and_a_measured_run_take_the_same_overheads() -> None:
    from planner.evaluation.fitted import PARAMETERS
    from planner.validation.predict import theta_of_run
    from planner.validation.shipped import shipped_runs

    run = next(r for r in shipped_runs() if r.framework.name == "tensorrt-llm")
    other = run.model_copy(update={"model": "qwen3-235b-a22b"})
    stored = load_overheads()
    theta = dict(zip(PARAMETERS, theta_of_run(other, stored), strict=True))
    own = dict(zip(PARAMETERS, theta_of_run(run, stored), strict=True))
    assert theta["step_host"] == own["step_host"]
    assert theta["attention"] != own["attention"]
