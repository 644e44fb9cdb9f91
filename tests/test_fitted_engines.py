"""Overheads fitted to measured runs reach every scenario that names an engine."""

import math
from typing import Any

import pytest

from planner import evaluation, files
from planner.evaluation.fitted import expected_error, unseen
from planner.files.overheads import load_overheads

POOL: dict[str, Any] = {"parallelism": {"attention_tp": 8, "moe_tp": 8}, "weights": "fp8"}


def built(changes: dict[str, Any], **pool: Any) -> evaluation.Replica:
    scenario = files.load_scenario("r1-chat", {"deployment": POOL | pool, **changes})
    assert scenario.deployment is not None
    return evaluation.build(scenario.model, scenario.hardware[0], scenario.deployment)


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
    groups = ("sglang", "sglang fp8", "h200-sxm", "sglang aggregated")
    assert overheads.moe_factor == pytest.approx(effect("moe", *groups))
    assert overheads.request_host_s == pytest.approx(0.05 * effect("request_host", *groups))


def test_another_system_and_another_format_take_others() -> None:
    hopper = built({}, engine="sglang").pool.engine.overheads
    blackwell = built({"system": "hgx-b200"}, engine="sglang").pool.engine.overheads
    fp4 = built({"system": "hgx-b200"}, engine="sglang", weights="nvfp4").pool.engine.overheads
    parts = effect("moe", "b200-sxm") / effect("moe", "h200-sxm")
    assert blackwell.moe_factor / hopper.moe_factor == pytest.approx(parts)
    formats = effect("moe", "sglang fp4") / effect("moe", "sglang fp8")
    assert fp4.moe_factor / blackwell.moe_factor == pytest.approx(formats)


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


def test_kernels_of_a_kind_the_engine_never_ran_stay_as_calibrated() -> None:
    """All fitted runs of TensorRT-LLM are of a model with latent attention."""
    other = built({"model": "qwen3-235b-a22b"}, engine="tensorrt-llm", weights="fp8")
    overheads = other.pool.engine.overheads
    for name in ("gemm", "moe", "attention", "floor", "comm", "prefill"):
        assert getattr(overheads, f"{name}_factor") == 1.0
    own = built({}, engine="tensorrt-llm").pool.engine.overheads
    assert overheads.step_host_s == own.step_host_s > 0
    assert overheads.request_host_s == own.request_host_s > 0
    assert "kernels are as calibrated" in notes(other)["engine overheads"]


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
    assert theta["moe"] == theta["attention"] == 1.0
    assert theta["step_host"] == theta_of_run(run, stored)[PARAMETERS.index("step_host")]
