"""Scenario files and overrides: what is wrong, where, and what would do."""

from pathlib import Path
from typing import Any

import pytest

from planner import files
from planner.errors import InfeasibleError, InputError
from planner.evaluation import evaluate
from planner.specs.scenario import Scenario

BASE = "name: x\nmodel: deepseek-r1\nsystem: hgx-h200\n"
POISSON = """\
workload:
  arrivals: {kind: poisson, requests_per_s: RATE}
  lengths: [{input: {kind: fixed, tokens: 10}, output: {kind: fixed, tokens: 5}}]
"""
TRACE = "workload:\n  arrivals: {kind: trace, arrival_s: A, input_tokens: I, output_tokens: O}\n"
PRICE = """\
prices:
  - accelerator: PART
    provider: me
    term: on-demand
    usd_per_device_hour: RATE
    retrieved: "2026-01-05"
"""


def load(folder: Path, text: str, **overrides: Any) -> Scenario:
    path = folder / "s.yaml"
    path.write_text(text, "utf-8")
    return files.load_scenario(path, {k.replace("__", "."): v for k, v in overrides.items()})


def fault(folder: Path, text: str) -> tuple[str, str, str]:
    with pytest.raises(InputError) as caught:
        load(folder, text)
    error = caught.value
    file, _, line = error.where.rpartition(":")
    assert file == str(folder / "s.yaml")
    return line, error.field, error.problem


def trace(arrivals: str, inputs: str, outputs: str) -> str:
    columns = TRACE.replace("A,", arrivals + ",").replace("I,", inputs + ",")
    return BASE + columns.replace("O}", outputs + "}")


def test_a_sound_file_is_read_whole(tmp_path: Path) -> None:
    scenario = load(tmp_path, BASE + POISSON.replace("RATE", "4e0"))
    assert scenario.model.name == "deepseek-r1"
    assert scenario.hardware[0].accelerator.name == "h200-sxm"
    assert scenario.workload is not None
    assert scenario.hardware[0].prices


@pytest.mark.parametrize(
    ("text", "line", "field", "problem"),
    [
        ("modle: y", "4", "modle", "unknown key; did you mean model?"),
        ("slo: {ttft_p95: 2}", "4", "slo.ttft_p95", "unknown key; did you mean ttft_p95_s?"),
        ("slo:\n  ttft_p95_s: -2", "5", "slo.ttft_p95_s", "greater than 0, got -2"),
        ("slo: {ttft_p95_s: .nan}", "4", "slo.ttft_p95_s", "finite number, got nan"),
        ("run: {requests: many}", "4", "run.requests", "valid integer"),
        ("run: {requests: 2.5}", "4", "run.requests", "got 2.5"),
        ("run: {seed: no}", "4", "run.seed", "got 'no'"),
        ("deployment: 3", "4", "deployment", "got 3"),
        ("deployment: {weights: fp8}", "4", "deployment.parallelism", "is missing"),
        (
            "deployment: {parallelism: {attention_tp: 8}, weights: fp8}",
            "4", "deployment.parallelism", "= 8 and moe_tp * moe_ep = 1 must be the same",
        ),
        (
            "deployment:\n  parallelism: {}\n  weights: fp9", "6", "deployment.weights",
            "'bf16', 'fp8', 'nvfp4', 'nvfp4_w4a16', 'mxfp4', 'int4' or 'mxfp4_fp8', got 'fp9'",
        ),
        (
            "workload: {arrivals: {requests_per_s: 2}}",
            "4", "workload.arrivals.kind", "is missing; one of poisson, gamma",
        ),
        (
            "workload: {arrivals: {kind: poison, requests_per_s: 2}}",
            "4", "workload.arrivals.kind", "unknown kind 'poison'; did you mean poisson?",
        ),
        (
            "workload:\n  arrivals: {kind: poisson, requests_per_s: 2}\n  lengths:\n"
            "    - input: {tokens: 2}\n      output: {kind: fixed, tokens: 2}\n",
            "7", "workload.lengths.0.input.kind", "is missing; one of fixed, uniform, lognormal",
        ),
        (
            "routing: {popularity: {kind: zipff}}",
            "4", "routing.popularity.kind", "did you mean zipf?",
        ),
        ("workload: none.yaml", "4", "workload", "file 'none.yaml' does not exist"),
        ("api_prices: [deepsek-r1]", "4", "api_prices", "did you mean deepseek-r1?"),
        ("prices: [Nobody]", "4", "prices", "'Nobody' has no price in the shipped list; known:"),
        ("model: qwen3-8b", "4", "", "key 'model' is given twice"),
    ],
)  # fmt: skip
def test_a_fault_names_line_field_value_and_remedy(
    tmp_path: Path, text: str, line: str, field: str, problem: str
) -> None:
    got = fault(tmp_path, BASE + text + "\n")
    assert got[:2] == (line, field)
    assert problem in got[2]


@pytest.mark.parametrize(
    ("rate", "problem"),
    [
        ("-3", "greater than 0, got -3"), ("0", "greater than 0"), (".nan", "finite number"),
        (".inf", "finite number, got inf"), ("fast", "valid number"), ("[1]", "valid number"),
    ],
)  # fmt: skip
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: str, problem: str) -> None:
    line, field, text = fault(tmp_path, BASE + POISSON.replace("RATE", rate))
    assert line == "5"
    assert field.endswith("requests_per_s")
    assert problem in text


@pytest.mark.parametrize(
    ("columns", "field", "problem"),
    [
        (("[]", "[]", "[]"), "", "at least one row"),
        (("[2, 1]", "[1, 1]", "[1, 1]"), "", "arrival_s must not fall; sort the trace by time"),
        (("[1, 2]", "[1]", "[1, 1]"), "", "differ in length"),
        (("[1, 2]", "[1, 0]", "[1, 1]"), "input_tokens.1", "greater than or equal to 1"),
        (("[1, .nan]", "[1, 1]", "[1, 1]"), "arrival_s.1", "finite number, got nan"),
        (("[-1, 2]", "[1, 1]", "[1, 1]"), "arrival_s.0", "greater than or equal to 0, got -1"),
    ],
)
def test_a_trace_must_be_sound(
    tmp_path: Path, columns: tuple[str, str, str], field: str, problem: str
) -> None:
    line, path, text = fault(tmp_path, trace(*columns))
    assert line == "5"
    assert path.endswith(field)
    assert problem in text


def test_unknown_names_say_which_were_meant(tmp_path: Path) -> None:
    wrong = fault(tmp_path, BASE.replace("deepseek-r1", "deepseek-r9"))
    assert wrong == ("2", "model", "'deepseek-r9' is not known; did you mean deepseek-r1?")
    wrong = fault(tmp_path, BASE.replace("hgx-h200", "hgx-h2000"))
    assert wrong == ("3", "system", "'hgx-h2000' is not known; did you mean hgx-h200?")
    missing = fault(tmp_path, BASE.replace("system: hgx-h200\n", ""))
    assert missing[1:] == ("system", "is missing; name one, or several as systems")


def test_a_price_of_another_part_is_refused(tmp_path: Path) -> None:
    text = PRICE.replace("RATE", "{value: 2, source: me}")
    line, field, problem = fault(tmp_path, BASE + text.replace("PART", "h100-sxm"))
    assert (line, field) == ("5", "prices.0.accelerator")
    assert problem == "this price is for h100-sxm; the scenario runs on h200-sxm"
    scenario = load(tmp_path, BASE + text.replace("PART", "h200-sxm"))
    assert scenario.hardware[0].prices[0].provider == "me"


def test_a_price_needs_its_source(tmp_path: Path) -> None:
    text = PRICE.replace("PART", "h200-sxm").replace("RATE", "2.5")
    line, field, problem = fault(tmp_path, BASE + text)
    assert (line, field) == ("8", "prices.0.usd_per_device_hour")
    assert "a fact needs its source" in problem
    assert "2.5" in problem


def test_words_stay_words(tmp_path: Path) -> None:
    scenario = load(tmp_path, BASE.replace("name: x", "name: no\ntitle: on\nnotes: yes"))
    assert (scenario.name, scenario.title, scenario.notes) == ("no", "on", "yes")


@pytest.mark.parametrize("name", ["nowhere", "", "../x", "/tmp", "planner"])
def test_a_scenario_that_is_no_file_lists_the_shipped_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"is not a file; known: .*deepseek-r1-day"):
        files.load_scenario(name)


def test_a_misspelt_scenario_says_which_was_meant() -> None:
    with pytest.raises(InputError, match=r"did you mean deepseek-r1-day\?"):
        files.load_scenario("deepseek-r1-dya")


def test_slots_that_do_not_divide_are_infeasible_not_malformed(tmp_path: Path) -> None:
    deployment = "deployment: {parallelism: {attention_dp: 48, moe_ep: 48}, weights: fp8}\n"
    scenario = load(tmp_path, BASE + POISSON.replace("RATE", "1") + deployment)
    with pytest.raises(InfeasibleError, match="needs 48 slots, has 256; take moe_ep 32, or"):
        evaluate(scenario)


# --- overrides ---------------------------------------------------------------------------------

DAY = files.load_scenario("deepseek-r1-day")


def test_an_override_replaces_a_value() -> None:
    changed = files.apply_overrides(DAY, {"slo.tpot_p95_s": 0.04, "run.seed": 7})
    assert changed.slo.tpot_p95_s == 0.04
    assert changed.run.seed == 7
    assert DAY.slo.tpot_p95_s != 0.04


def test_an_override_of_a_fact_is_an_assumption() -> None:
    changed = files.apply_overrides(DAY, {"accelerator.memory_bytes_per_s": 6e12})
    bandwidth = changed.hardware[0].accelerator.memory_bytes_per_s
    assert (float(bandwidth), bandwidth.source, bandwidth.confidence) == (
        6e12, "override", "assumed",
    )  # fmt: skip
    assert bandwidth.doubtful
    other = files.apply_overrides(DAY, {"system.scale_up.latency_s": 2e-6})
    assert other.hardware[0].system.scale_up.latency_s == 2e-6


def test_names_can_be_overridden_when_a_file_is_read() -> None:
    scenario = files.load_scenario("deepseek-r1-day", {"model": "qwen3-8b", "system": "hgx-h100"})
    assert scenario.model.name == "qwen3-8b"
    assert scenario.hardware[0].accelerator.name == "h100-sxm"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("nope", 1, "the scenario has no 'nope'"),
        ("slo.tpot", 1, "slo has no 'tpot'; known: "),
        ("hardware.9.accelerator", 1, "hardware has no '9'; known: 0"),
        ("", 1, "the scenario has no ''"),
        ("slo.tpot_p95_s", -1, "greater than 0, got -1"),
        ("slo.tpot_p95_s", "fast", "valid number"),
        ("slo.tpot_p95_s", float("nan"), "finite number, got nan"),
        ("accelerator.memory_bytes_per_s", 4.8, "4.8 TB/s is written 4.8e12"),
        ("accelerator.memory_bytes_per_s", "x", "a fact needs its source"),
        ("model.moe.top_k", 999, "top_k 999 is larger than the 256 experts"),
        ("space.kv", "fp8", "valid tuple, got 'fp8'"),
    ],
)
def test_a_bad_override_names_the_path_and_the_problem(path: str, value: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        files.apply_overrides(DAY, {path: value})
    error = caught.value
    assert error.where.startswith("--set")
    assert path in str(error)
    assert problem in error.problem


def test_an_override_into_an_absent_part_is_an_input_error() -> None:
    with pytest.raises(InputError, match="deployment"):
        files.apply_overrides(DAY, {"deployment.parallelism.attention_tp": 8})


def test_kernels_of_another_part_replace_products_and_attention_and_nothing_else() -> None:
    asked = {"kernels": "h800-sxm"}
    own = files.load_scenario("published/sglang-h100-prefill", {"kernels": None})
    other = files.load_scenario("published/sglang-h100-prefill", asked)
    h800 = files.load_calibration("h800-sxm")
    before, after = own.hardware[0].calibration, other.hardware[0].calibration
    assert after.gemm == h800.gemm != before.gemm
    assert after.grouped_gemm == h800.grouped_gemm
    assert after.attention_prefill == h800.attention_prefill
    assert (after.links, after.elementwise) == (before.links, before.elementwise)
    assert after.kernels_of == "h800-sxm"
    assert other.hardware[0].accelerator == own.hardware[0].accelerator


def test_kernels_of_a_part_without_a_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"kernels: nothing was fitted on 'h900'"):
        files.load_scenario("published/sglang-h100-prefill", {"kernels": "h900"})
