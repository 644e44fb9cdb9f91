"""Results of benchmark tools are read with their own field names and set beside predictions."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner import files
from planner.cli import main
from planner.errors import InputError
from planner.files.benchmarks import read_benchmarks
from planner.specs.deployment import Parallelism, Pool
from planner.specs.scenario import Scenario
from planner.specs.workload import ClosedLoopArrivals, GammaArrivals, PoissonArrivals
from planner.validation.own import Row, arrivals_of, as_scenario, beside

FOLDER = Path(__file__).parents[1] / "data" / "benchmarks"
BASE = Scenario(
    name="own",
    model=files.load_model("olmoe-1b-7b"),
    hardware=(files.load_hardware("hgx-h100"),),
    deployment=Pool(parallelism=Parallelism(), weights="bf16"),
)


def read(name, tool):
    return read_benchmarks(FOLDER / name, tool)


def test_vllm_writes_milliseconds_and_one_object():
    (run,) = read("vllm.json", "vllm")
    assert (run.requests, run.concurrency, run.requests_per_s) == (80, 8, None)
    assert (run.input_tokens, run.output_tokens) == (512, 128)
    assert run.latency_s["ttft"] == {"mean": 0.0248, "p50": 0.0221, "p99": 0.061}
    assert run.latency_s["tpot"]["mean"] == pytest.approx(0.0079)
    assert run.output_tokens_per_s == 984.6


def test_vllm_appends_an_object_a_line():
    first, second = read("vllm-appended.json", "vllm")
    assert first.concurrency == 8
    arrivals, _ = arrivals_of(second)
    assert isinstance(arrivals, GammaArrivals)
    assert (arrivals.requests_per_s, arrivals.cv) == (5.0, 2.0)


def test_sglang_writes_a_run_a_line_and_infinity_for_no_rate():
    first, second = read("sglang.jsonl", "sglang")
    assert (first.concurrency, first.requests_per_s) == (4, None)
    assert first.latency_s["e2e"]["p99"] == pytest.approx(0.96)
    assert second.lengths == ((400, 500, 600, 612), (128, 128, 128))
    assert isinstance(arrivals_of(second)[0], PoissonArrivals)


def test_aiperf_says_its_units():
    (run,) = read("aiperf.json", "aiperf")
    assert (run.requests, run.concurrency) == (60, 8)
    assert run.latency_s["e2e"]["mean"] == pytest.approx(1.18)
    assert run.latency_s["tpot"]["p95"] == pytest.approx(0.009 * 1.25)
    assert run.model == "allenai/OLMoE-1B-7B-0924"


def test_guidellm_calls_the_time_after_the_first_token_inter_token_latency():
    first, second = read("guidellm.json", "guidellm")
    assert first.latency_s["tpot"]["mean"] == pytest.approx(0.0092)
    assert first.latency_s["e2e"]["mean"] == pytest.approx(1.21)
    assert (first.concurrency, second.requests_per_s) == (6, 4.0)
    assert first.failed == 1


def changed(tmp_path, name, change):
    data = json.loads((FOLDER / name).read_text())
    change(data)
    path = tmp_path / name
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("name", "tool", "change", "words"),
    [
        ("vllm.json", "vllm", lambda d: d.pop("mean_tpot_ms"), "mean_tpot_ms: is missing"),
        ("vllm.json", "vllm", lambda d: d.update(completed=0), "completed: must be above 0"),
        ("vllm.json", "vllm", lambda d: d.update(mean_ttft_ms="x"), "mean_ttft_ms: must be a num"),
        ("aiperf.json", "aiperf", lambda d: d.pop("time_to_first_token"), "time_to_first_token"),
        ("aiperf.json", "aiperf", lambda d: d["inter_token_latency"].update(unit="h"), "unit"),
        ("guidellm.json", "guidellm", lambda d: d.update(benchmarks=[]), "benchmarks: is missing"),
        (
            "guidellm.json", "guidellm",
            lambda d: d["benchmarks"][1]["metrics"].pop("prompt_token_count"),
            "benchmarks[1].metrics.prompt_token_count.successful.mean",
        ),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_error_that_names_the_field(tmp_path, name, tool, change, words):
    path = changed(tmp_path, name, change)
    with pytest.raises(InputError) as caught:
        read_benchmarks(path, tool)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1", "{}\n{"])
@pytest.mark.parametrize("tool", ["vllm", "sglang", "aiperf", "guidellm"])
def test_what_is_not_json_is_refused(tmp_path, text, tool):
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(InputError, match=r"is not JSON|is missing"):
        read_benchmarks(path, tool)


def test_another_tools_file_is_refused():
    with pytest.raises(InputError, match="another tool"):
        read("guidellm.json", "vllm")
    with pytest.raises(InputError, match="another tool"):
        read("vllm.json", "guidellm")


def test_the_benchmarks_own_traffic_is_simulated():
    (run,) = read("vllm.json", "vllm")
    scenario, notes = as_scenario(run, BASE)
    assert scenario.workload is not None
    assert scenario.workload.arrivals == ClosedLoopArrivals(concurrency=8)
    assert scenario.run.requests == 80
    assert any("all alike" in note for note in notes)
    assert not any("The file is of" in note for note in notes)


def test_another_model_is_said():
    other = BASE.model_copy(update={"model": files.load_model("deepseek-r1")})
    (run,) = read("vllm.json", "vllm")
    assert any("The file is of allenai" in note for note in as_scenario(run, other)[1])


def test_recorded_lengths_keep_their_mean():
    run = read("sglang.jsonl", "sglang")[1]
    scenario, _ = as_scenario(run, BASE)
    assert scenario.workload is not None
    means = scenario.workload.lengths[0].input.bin_means_tokens
    assert sum(means) / len(means) == pytest.approx(528)


def test_rows_have_errors_and_say_whether_the_interval_holds_them():
    (run,) = read("vllm.json", "vllm")
    found = beside(run, BASE)
    rows = {row.quantity: row for row in found.rows}
    assert {"ttft_mean_s", "tpot_p99_s", "itl_mean_s", "output_tokens_per_s"} <= set(rows)
    tpot = rows["tpot_mean_s"]
    assert tpot.interval90 is not None
    assert tpot.interval90[0] <= tpot.predicted <= tpot.interval90[1]
    json.dumps(found.to_dict())
    assert Row("x_s", 2.0, 3.0, (1.0, 2.5)).relative_error == 0.5
    assert Row("x_s", 2.0, 3.0, (2.5, 3.5)).inside is False


def test_a_deployment_is_needed():
    (run,) = read("vllm.json", "vllm")
    with pytest.raises(InputError, match="deployment"):
        beside(run, BASE.model_copy(update={"deployment": None}))


def test_the_command_prints_both_and_wants_a_scenario():
    path = str(FOLDER / "guidellm.json")
    without = CliRunner().invoke(main, ["validate", "--from-guidellm", path])
    assert without.exit_code == 2
    assert "--scenario" in without.output
    args = ["validate", "--from-guidellm", path, "--scenario", "rtx-4090-llama-8b"]
    unknown = CliRunner().invoke(main, args)
    assert unknown.exit_code == 2
    args[-1] = "published/trtllm-llama-70b-offline"
    shown = CliRunner().invoke(main, args)
    assert shown.exit_code == 0, shown.output
    assert "6 clients" in shown.output
    assert "file is of allenai" in " ".join(shown.output.split())
    plain = CliRunner().invoke(main, [*args, "--json"])
    assert [run["tool"] for run in json.loads(plain.output)] == ["guidellm", "guidellm"]
