"""The reported AMD serving runs: readable, sourced, on parts, models and engines that resolve."""

from collections import Counter
from pathlib import Path

import pytest

from planner.files.runs import read_runs
from planner.specs.runs import Run
from planner.validation.setup import resolve

FILE = Path(__file__).parents[2] / "planner" / "validation" / "reported" / "amd.jsonl"
RUNS, BAD = read_runs(FILE)


def test_every_line_is_a_run_with_a_source() -> None:
    assert not BAD
    assert len(RUNS) >= 50
    assert max(Counter(run.id for run in RUNS).values()) == 1
    assert {run.accelerator for run in RUNS} == {"mi300x", "mi325x", "mi355x"}
    for run in RUNS:
        assert run.source.title
        assert run.measured
        assert run.measured.mean_tpot_s


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
def test_every_run_resolves(run: Run) -> None:
    assert resolve(run)
