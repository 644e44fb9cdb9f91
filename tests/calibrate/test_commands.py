"""``calibrate run``, ``fit``, ``check`` and ``compare`` as a user meets them."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from planner import files
from planner.calibrate.goals import meets_goal
from planner.cli import main
from planner.specs.calibration import CalibrationSpec

FIELDS = {
    "part", "family", "dtype", "split", "n", "median_abs_error", "p90_abs_error", "bias",
    "source", "stored",
}  # fmt: skip
MEASUREMENTS = files.profile_root() / "measurements"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", *map(str, args)], catch_exceptions=False)


MEASURED = (("gemm", 20, 30), ("grouped_gemm", 30, 24))
"""Operation, budget of a run of it [s], and rows that are enough to hold some out."""
MOST_RUNS = 4
"""Runs of a budget until enough is measured; each goes on in the same file."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real times of this processor, dense products and experts, measured by the runner."""
    out = tmp_path_factory.mktemp("cpu") / "rows.jsonl"
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "planner.cli", "calibrate", "run", "--backend", "cpu"]
    for op, budget_s, enough in MEASURED:
        asked = [*command, "--only", op, "--budget", str(budget_s), "--out", str(out)]
        for _ in range(MOST_RUNS):
            subprocess.run(asked, check=True, capture_output=True, env=alone)
            found = [json.loads(line)["op"] for line in out.read_text("utf-8").splitlines()]
            if found.count(op) >= enough:
                break
    return out


def test_measure_fit_check_in_three_commands(rows: Path, tmp_path: Path) -> None:
    """Structure and sanity; how close it comes is printed, a busy machine asserts nothing of it."""
    fitted = run("fit", rows, "--out", tmp_path / "fit.json")
    assert fitted.exit_code == 0, fitted.output
    said = json.loads((tmp_path / "fit.json").read_text("utf-8"))
    assert 0 < said["laws"]["gemm/fp32"]["compute_share"]["value"] <= 1
    assert 0 < said["laws"]["grouped_gemm/fp32"]["compute_share"]["value"] <= 1
    assert said["peak_flop_per_s"]["fp32"] > 1e8
    checked = run("check", rows, "--json")
    assert checked.exit_code == 0
    records = json.loads(checked.output)
    for record in records:
        assert set(record) == FIELDS
        assert record["stored"] is False
        assert 0 <= record["median_abs_error"] <= record["p90_abs_error"] < math.inf
        assert math.isfinite(record["bias"])
    held = {(r["family"], r["split"]) for r in records if r["split"] != "in_sample"}
    assert ("gemm", "interpolation") in held
    assert ("grouped_gemm", "interpolation") in held
    sys.stdout.write(run("check", rows).output)  # what pytest -rP shows


def test_a_page_with_plots(rows: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("check", rows, "h800-sxm", "--html", page).exit_code == 0
    text = page.read_text("utf-8")
    assert 'data-figure="parity"' in text
    assert 'data-figure="residuals"' in text
    assert "Worst points" in text
    nowhere = run("check", rows, "--html", tmp_path)
    assert nowhere.exit_code == 2
    assert "--html" in nowhere.output


def test_stored_figures_are_a_list_of_records() -> None:
    found = json.loads(run("check", "--json").output)
    assert all(set(record) == FIELDS and record["stored"] for record in found)
    assert {"interpolation", "shape", "ep_degree", "part"} <= {record["split"] for record in found}


def test_a_summary_counts_the_goals_of_each_family() -> None:
    records = json.loads(run("check", "h200-sxm", "--stored", "--json").output)
    own = [r for r in records if (r["family"], r["split"]) == ("gemm", "interpolation")]
    met = sum(r["median_abs_error"] <= 0.05 and r["p90_abs_error"] <= 0.15 for r in own)
    brief = run("check", "h200-sxm", "--stored", "--brief").output
    (line,) = (
        row for row in brief.splitlines() if row.startswith("dense products  ") if "inter" in row
    )
    assert line.split()[3] == str(len(own))
    assert line.split()[-3:] == [str(met), "of", str(len(own))]
    assert "Worst points" not in brief


def test_a_part_with_carried_rows_is_fitted_anywhere(tmp_path: Path) -> None:
    out = tmp_path / "h800.yaml"
    assert run("fit", "h800-sxm", "--out", out).exit_code == 0
    again, shipped = files.load_spec(out, CalibrationSpec), files.load_calibration("h800-sxm")
    assert again.gemm["fp8"].compute_share == pytest.approx(
        float(shipped.gemm["fp8"].compute_share), rel=0.02
    )
    wrong = run("fit", "h800-sxm", "--out", tmp_path / "h800.json")
    assert wrong.exit_code == 2
    assert "must end in .yaml" in wrong.output


def test_two_sources_side_by_side() -> None:
    own = MEASUREMENTS / "h800-sxm-infersim.jsonl"
    (record, *_) = json.loads(
        run("compare", own, "published", "--part", "h800-sxm", "--json").output
    )
    assert record["median_ratio"] == 1.0
    assert (
        "Times of the same points" in run("compare", own, "published", "--part", "h800-sxm").output
    )


def _edited(lines: list[str], change: Any) -> list[str]:
    row = json.loads(lines[3])
    row.update(change)
    return [*lines[:3], json.dumps(row), *lines[4:]]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [*lines[:5], lines[5][: len(lines[5]) // 2]], ":6: is not JSON"),
        (lambda lines: _edited(lines, {"time_s": -1.0}), ":4: time_s: must be a finite time > 0"),
        (lambda lines: _edited(lines, {"time_s": float("nan")}), ":4: time_s: must be a finite"),
        (lambda lines: _edited(lines, {"op": "teleport"}), ":4: op: 'teleport' is not known"),
        (lambda lines: _edited(lines, {"device": "another"}), ":4: device: 'another' among rows"),
        (lambda lines: lines[1:], ":1: op: expected the header line"),
        (lambda lines: lines[:2], "too few rows|need products"),
    ],
    ids=["cut short", "negative", "nan", "unknown op", "two devices", "no header", "no rows"],
)
@pytest.mark.parametrize("command", ["fit", "check"])
def test_rows_that_are_not_sound_are_refused_in_one_line(
    rows: Path, tmp_path: Path, edit: Any, message: str, command: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(edit(rows.read_text("utf-8").splitlines())) + "\n", "utf-8")
    found = run(command, path)
    assert found.exit_code == 2
    (line,) = found.output.strip().splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nonsense"), "'nonsense' is not known"),
        (("fit", "gaudi3"), "no measured rows"),
        (("check", "none.jsonl"), "cannot be read"),
        (("compare", "published", "published", "--part", "gaudi3"), "no rows of gaudi3"),
        (("compare", "published", "published", "--part", "nonsense"), "nonsense"),
    ],
)
def test_what_is_not_there_is_said(arguments: tuple[str, ...], message: str) -> None:
    found = run(*arguments)
    assert found.exit_code == 2
    assert message in found.output


def test_goals_are_judged_by_median_and_p90() -> None:
    def record(split: str, median: float, p90: float) -> dict[str, Any]:
        return {"family": "gemm", "split": split, "median_abs_error": median, "p90_abs_error": p90}

    assert meets_goal(record("interpolation", 0.05, 0.15)) is True
    assert meets_goal(record("interpolation", 0.05, 0.16)) is False
    assert meets_goal(record("shape", 0.11, 0.9)) is True
    assert meets_goal(record("part", 0.21, 0.3)) is False
    assert meets_goal(record("in_sample", 0.0, 0.0)) is None
