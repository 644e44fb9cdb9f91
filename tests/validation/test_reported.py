"""Runs that others reported: sourced, apart from what is fitted, and all predicted."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.calibrate.engine_run import fit_engines
from planner.cli import main
from planner.errors import InputError
from planner.files.overheads import load_overheads
from planner.validation import reported as module
from planner.validation.predict import flags, predict_runs
from planner.validation.reported import GROUPS, refuse_reported, reported_runs
from planner.validation.shipped import shipped_runs
from planner.validation.summary import summarise

RUNS = {run.id: run for run in reported_runs()}
ONE = RUNS["reported/sglang-cookbook-b200-r1-1000-1000-c1"]
PAGE = Path(__file__).parents[2] / "docs" / "reported.md"


def what_was_measured(run):
    """Model, part, engine, load and result."""
    return (
        run.model, run.accelerator, run.framework.name, run.workload.concurrency,
        run.measured.mean_ttft_s, run.measured.mean_tpot_s,
    )  # fmt: skip


def test_ids_are_unique_over_all_files():
    assert len(RUNS) == len(reported_runs()) > 150


@pytest.mark.parametrize("run", RUNS.values(), ids=lambda run: run.id)
def test_a_run_says_where_it_is_from_and_what_was_measured(run):
    assert run.source.title
    assert (run.source.url or "").startswith("https://") or "names no address" in (run.note or "")
    assert run.measured is not None
    assert set(run.unusable) <= {"mean_ttft_s", "mean_tpot_s"}
    assert not flags(run)


def test_none_is_a_run_that_was_fitted():
    shipped = shipped_runs()
    assert not {run.id for run in shipped} & RUNS.keys()
    fitted = {what_was_measured(run) for run in shipped if run.measured}
    assert not fitted & {what_was_measured(run) for run in RUNS.values()}


def test_a_fit_refuses_them():
    with pytest.raises(InputError, match="never fitted"):
        fit_engines([*shipped_runs()[:20], ONE], "2026-11-29", "test")
    refuse_reported(shipped_runs())


def test_one_client_by_hand():
    """421 answer tokens: 0.153 s to the first, 420 of 9.16 ms: 105.2 tokens/s on 8 devices."""
    measured = ONE.measured
    seconds = measured.mean_ttft_s + 420 * measured.mean_tpot_s
    assert seconds == pytest.approx(0.153 + 3.8472)
    assert ONE.workload.output_tokens_max == 421
    assert measured.output_tokens_per_s_per_device == pytest.approx(421 / seconds / 8, rel=1e-3)


def test_every_run_is_predicted_with_an_interval():
    runs = list(RUNS.values())
    made = predict_runs(runs, load_overheads(), 2)
    assert [each.id for each in made if each.error] == []
    for each in made:
        for name, (low, high) in each.interval90.items():
            assert 0 < low <= each.predicted[name] <= high < math.inf
    rows = summarise(runs, made, GROUPS)
    assert {row["by"] for row in rows} == set(GROUPS)
    overall = {row["quantity"]: row for row in rows if row["by"] == "overall"}
    assert overall["mean_tpot_s"]["coverage_share"] == 1


def test_the_command_sums_up_by_maker(monkeypatch):
    monkeypatch.setattr(module, "reported_runs", lambda: (ONE,))
    answer = CliRunner().invoke(main, ["validate", "--reported", "--workers", "1", "--json"])
    assert answer.exit_code == 0, answer.output
    rows = json.loads(answer.output)["summary"]
    maker = [row for row in rows if row["by"] == "maker"]
    assert {row["group"] for row in maker} == {"NVIDIA"}
    assert {row["n"] for row in maker} == {1}


def test_reported_runs_come_with_no_other_file():
    answer = CliRunner().invoke(main, ["validate", "runs.jsonl", "--reported"])
    assert answer.exit_code != 0
    assert "--reported" in answer.output + str(answer.exception)


def test_a_bad_line_is_named(monkeypatch, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": "x"}\n')
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="x"):
        reported_runs.__wrapped__()


def test_the_page_shows_every_run():
    page = PAGE.read_text("utf-8")
    missing = [id for id in RUNS if f"| {id.removeprefix('reported/')} |" not in page]
    assert not missing, "run scripts/write_reported.py"
