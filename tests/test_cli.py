"""The command line as a user meets it: real processes for start-up and exit codes."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from planner.cli import main


def run(*args):
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


def process(*args):
    return subprocess.run(
        [sys.executable, "-m", "planner.cli", *args], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys, planner.cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(planner.cli.main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'scipy', 'simpy', 'pydantic', 'plotly', 'yaml', 'rich', 'streamlit'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_footprint_says_r1_does_not_fit_8_h100_and_by_how_many_bytes():
    out = run(
        "footprint", "--model", "deepseek-r1", "--system", "hgx-h100", "--weights", "fp8", "--json"
    )
    answer = json.loads(out.output)
    assert answer["fits"] is False
    assert answer["short_by_bytes"] > 8e9
    assert answer["kv_capacity_tokens"] == 0
    assert answer["assumptions"]


@pytest.mark.parametrize("system", ["hgx-h200", "hgx-h20", "hgx-mi300x"])
def test_footprint_says_r1_fits_and_what_every_device_holds(system):
    out = run(
        "footprint", "--model", "deepseek-r1", "--system", system, "--weights", "fp8", "--json"
    )
    answer = json.loads(out.output)
    assert answer["fits"] is True
    assert answer["short_by_bytes"] == 0
    assert answer["weights_bytes"] == pytest.approx(84.1e9 + 0.99e9, rel=0.01)
    assert sum(answer["per_device_bytes"].values()) == pytest.approx(answer["capacity_bytes"])


def test_kv_tokens_on_8_h200_are_those_of_the_hand_count():
    # 0.9 x 150.75 GB - 84.1 GB - 3 GB = 48.5 GB over 70,272 B = 691 k tokens, before buffers
    out = run(
        "footprint", "--model", "deepseek-r1", "--system", "hgx-h200", "--weights", "fp8", "--json"
    )
    assert json.loads(out.output)["kv_capacity_tokens"] == pytest.approx(691_000, rel=0.10)


def test_simulate_prints_percentiles_as_json():
    out = run("simulate", "r1-lengths-100k", "--set", "run.requests=400",
              "--set", "run.warmup_requests=0", "--json")  # fmt: skip
    answer = json.loads(out.output)
    assert {"wall_s", "requests", "ttft_s", "tpot_s", "itl_s", "e2e_s"} <= set(answer)
    assert answer["requests"] == 400
    assert answer["ttft_s"]["p50"] <= answer["ttft_s"]["p99"]


def test_the_same_seed_gives_the_same_answer():
    args = ("simulate", "r1-lengths-100k", "--set", "run.requests=200",
            "--set", "run.warmup_requests=0", "--json")  # fmt: skip
    first, second = (json.loads(run(*args).output) for _ in range(2))
    first.pop("wall_s"), second.pop("wall_s")
    assert first == second


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["plan", "nonexistent.yaml"], "is not a file"),
        (["footprint", "--model", "deepseek-r9", "--system", "hgx-h100"], "did you mean"),
        (["footprint", "--model", "deepseek-r1", "--system", "hgx-h999"], "did you mean hgx-"),
        (["footprint", "--model", "deepseek-r1", "--system", "hgx-a100", "--weights", "fp8"],
         "no fp8 matrix units"),
        (["footprint", "--model", "deepseek-r1", "--system", "hgx-h100", "--weights", "fp7"],
         "weights"),
        (["footprint", "--model", "deepseek-r1", "--system", "hgx-h200", "--parallelism",
          "attention_dp=7,moe_ep=7"], "expert slots"),
        (["footprint", "--model", "deepseek-r1", "--system", "hgx-h200", "--set",
          "accelerator.memory_bytes_per_s=4.8"], "4.8e12"),
        (["simulate", "deepseek-r1-day"], "deployment: is missing"),
        (["step", "deepseek-r1-day"], "is missing"),
        (["claims", "deepseek-r1-day"], "is empty"),
        (["plan", "deepseek-r1-day", "--set", "slo"], "PATH=VALUE"),
        (["plan", "deepseek-r1-day", "--set", "slo.ttft_p96_s=2"], "has no 'ttft_p96_s'"),
        (["plan", "deepseek-r1-day", "--set", "model=llama-9"], "is not known"),
        (["models", "no-such-config.json"], "no-such-config.json"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(args, said):
    out = process(*args)
    assert out.returncode == 2
    assert out.stdout == ""
    assert said in out.stderr
    assert "Traceback" not in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1


def test_nothing_is_written_when_the_question_is_wrong(tmp_path):
    target = tmp_path / "report.html"
    out = process("plan", "deepseek-r1-day", "--set", "slo.ttft_p95_s=-1", "--html", str(target))
    assert out.returncode == 2
    assert not target.exists()


@pytest.mark.parametrize("args", [["models"], ["hardware"], ["scenarios"]])
def test_lists_are_valid_json(args):
    assert json.loads(run(*args, "--json").output)


def test_the_kernel_runner_lists_its_points_and_refuses_a_missing_gpu_in_one_line(tmp_path):
    listed = process("calibrate", "run", "--backend", "cpu", "--list")
    assert listed.returncode == 0
    assert "gemm" in listed.stdout
    refused = process("calibrate", "run", "--backend", "quantum", "--out", str(tmp_path / "r"))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
