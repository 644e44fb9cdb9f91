"""Study commands as a user meets them."""

import json

import pytest
from click.testing import CliRunner

from planner.cli import main
from planner.study.store import read_rows

SCENARIO = (
    "r1-distill-7b-rtx5090", "--set", "run.requests=24", "--set", "run.warmup_requests=4",
)  # fmt: skip
CLIENTS = ("--vary", "workload.arrivals.concurrency=1,2")


def run(*args):
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


def asked(*args):
    out = run(*args, "--json")
    assert out.exit_code == 0, out.output
    return json.loads(out.stdout)


def test_what_if_prints_a_row_a_case():
    answer = asked("what-if", *SCENARIO, *CLIENTS, "--workers", "1")
    assert [row["workload.arrivals.concurrency"] for row in answer["rows"]] == [1, 2]
    words = run("what-if", *SCENARIO, *CLIENTS, "--workers", "1", "--columns", "kv,devices").output
    assert "arrivals.concurrency" in words
    assert "bf16" in words or "fp8" in words


def test_a_sweep_leaves_a_file_and_says_what_failed(tmp_path):
    out = tmp_path / "rows.jsonl"
    args = ("sweep", *SCENARIO, "--vary", "system=rtx-5090-pc,nope", "--out", str(out),
            "--workers", "1")  # fmt: skip
    words = run(*args).output
    assert "Without an answer: 1" in words
    assert len(read_rows(out)) == 2
    again = run(*args)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_sensitivity_size_and_break_even_answer():
    found = asked("sensitivity", *SCENARIO, "--unknown", "slo.tpot_p95_s=0.1,0.2",
                  "--workers", "1")  # fmt: skip
    assert found["swings"][0]["swing"] == 0
    found = asked("size", *SCENARIO, "--unknown", "workload.arrivals.concurrency=1,4",
                  "--replicas", "1,2", "--worlds", "2", "--workers", "1")  # fmt: skip
    assert {choice["name"] for choice in found["choices"]} == {"1 replica", "2 replicas"}
    found = asked("break-even", *SCENARIO, "--region", "finland", "--term", "pue=1.1",
                  "--api", "deepseek-r1")  # fmt: skip
    assert found["terms"]["pue"]["value"] == 1.1
    assert {p["alternative"].split(":")[0] for p in found["paybacks"]} == {"rent", "API"}
    assert "When buying pays" in run("break-even", *SCENARIO).output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("what-if", *SCENARIO, "--vary", "nothing"), "PATH=VALUE"),
        (("what-if", *SCENARIO, *CLIENTS, *CLIENTS), "given twice"),
        (("sweep", *SCENARIO, *CLIENTS, "--out", "x.csv"), "must end in"),
        (("sensitivity", *SCENARIO, "--unknown", "slo.tpot_p95_s=3"), "low,high"),
        (("break-even", *SCENARIO, "--region", "atlantis"), "atlantis"),
        (("break-even", *SCENARIO, "--term", "pue=0.5"), "power usage effectiveness"),
        (("break-even", *SCENARIO, "--term", "luck=0.5"), "luck"),
        (("break-even", *SCENARIO, "--api", "free-lunch"), "is not known; there are"),
    ],
)
def test_a_bad_input_is_one_line_and_exit_code_2(args, words):
    out = run(*args)
    assert out.exit_code == 2
    assert words in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize("fleet", ["deployment.replicas=3", "deployment={replicas: 3}"])
def test_replicas_chosen_twice_are_refused_and_both_options_named(fleet):
    out = CliRunner().invoke(
        main, ["size", *SCENARIO, "--unknown", "workload.arrivals.concurrency=1,4",
               "--fleet", fleet, "--replicas", "1,2"],
    )  # fmt: skip
    assert out.exit_code == 2
    assert "--replicas" in out.stderr
    assert f"--fleet {fleet.partition('=')[0]}=" in out.stderr
