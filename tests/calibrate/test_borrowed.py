"""Errors on another part's rows: seen as such, and no goal of the part's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from planner.calibrate.check import TOO_FEW, why_nothing
from planner.calibrate.goals import goal, meets_goal
from planner.cli import main
from planner.report.calibration import errors_table, goals_met, write_calibration_html
from planner.report.goal_tables import goals_markdown, summary_table


def record(split: str, family: str = "gemm", dtype: str = "bf16", **more: Any) -> dict[str, Any]:
    """Errors of 4 and 10 % on 50 points."""
    errors = {"median_abs_error": 0.04, "p90_abs_error": 0.1, "bias": 0.01, "n": 50}
    source = {"elsewhere": "h200-sxm: tables, shares of h100-sxm"}.get(split, "tables")
    return {
        "part": "rtx-4090", "family": family, "dtype": dtype, "split": split, **errors,
        "source": source, "stored": True, **more,
    }  # fmt: skip


BORROWED = [record("elsewhere"), record("elsewhere", "moe_layer")]


def test_the_other_part_is_named_on_the_narrowest_page() -> None:
    table = errors_table(BORROWED, [meets_goal(r) for r in BORROWED]).shown(40)
    titles = [column.title for column in table.columns]
    assert "source" not in titles
    for row in table.rows:
        assert row[titles.index("held out")] == "elsewhere, on h200-sxm"
        assert row[titles.index("goal")] == ""
    assert table.note.startswith("No goal is set. Errors on another part, without a goal: 2.")


def test_what_is_borrowed_is_in_no_count_of_goals() -> None:
    records = [record("interpolation"), record("part"), *BORROWED]
    met = [meets_goal(r) for r in records]
    assert met == [True, True, None, None]
    assert goals_met(records, met).startswith("2 of 2 goals met. ")
    assert goals_met([], []) == ""
    rows = {row[:2]: row[-1] for row in summary_table(records, met).rows}
    assert rows["dense products", "elsewhere"] == rows["MoE layers", "elsewhere"] == "\N{EN DASH}"
    assert rows["kernels", "all"] == "2 of 2"


def test_totals_tell_kernels_engines_attention_and_links_apart() -> None:
    far = {"median_abs_error": 0.3}
    records = [
        record("interpolation"), record("shape", **far), record("elsewhere"),
        record("interpolation", "attention_decode", "bf16 gqa_64 vllm fp8-cache"),
        record("interpolation", "attention_decode", "bf16 gqa"),
        record("interpolation", "collective", "bf16 direct", **far),
    ]  # fmt: skip
    met = [meets_goal(r) for r in records]
    rows = {row[:2]: row[-1] for row in summary_table(records, met).rows}
    assert rows["decode attention of engines", "interpolation"] == "1 of 1"
    assert rows["kernels", "all"] == "3 of 4"
    assert rows["kernels but engines' attention", "all"] == "2 of 3"
    assert rows["links", "all"] == "0 of 1"
    lines = goals_markdown(records, [goal(r) for r in records], met).splitlines()
    assert "| dense products | interpolation | 5 % (15 %) | 1 of 1 | 4.0 to 4.0 |" in lines
    assert "| dense products | shape | 12 % | 0 of 1 | 30.0 to 30.0 |" in lines
    assert "| kernels | all | | 3 of 4 | |" in lines
    assert not any("elsewhere" in line or "collectives" in line for line in lines)


def test_a_page_without_goals_passes_no_verdict(tmp_path: Path) -> None:
    path = write_calibration_html(BORROWED, [None, None], [], [], tmp_path / "page.html")
    (answer,) = re.findall(r'<p class="answer.*', path.read_text("utf-8"))
    assert answer.startswith('<p class="answer">No goal is set.')


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gaudi3", "gaudi3: no rows held out: none of its kernels was measured"),
        ("dgx-spark-gb10", "rtx-pro-6000, another chip: no such transfer can be checked"),
        ("rtx-4090", "its shares are those of l40s. Above is what such a transfer does elsewhere"),
    ],
)
def test_it_is_said_why_nothing_is_held_out(target: str, message: str) -> None:
    found = CliRunner().invoke(main, ["calibrate", "check", target, "--stored"])
    assert found.exit_code == 0
    assert message in " ".join(found.output.split())
    assert "0 of 0" not in found.output


def test_a_file_of_few_sizes_says_what_it_lacks(tmp_path: Path) -> None:
    """Five products of three sizes: fitted, none held out."""
    path = tmp_path / "few.jsonl"
    rows: list[dict[str, Any]] = [{"op": "header", "device": "a processor"}]
    for m, k in ((1, 512), (8, 512), (8, 1024), (64, 512), (64, 1024)):
        flop, time_s = 2 * m * k * 512, 1e-5 + 2 * m * k * 512 / 1e10
        shape = {"m": m, "k": k, "n": 512, "kernel": "own", "flop": flop, "time_s": time_s}
        rows.append({"op": "gemm", "dtype": "fp32", **shape})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = CliRunner().invoke(main, ["calibrate", "check", str(path)])
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.split())
    assert "four sizes and five rows of one kernel" in words
    assert "a larger --budget goes on in that file" in words
    assert "0 of 0" not in found.output
    assert why_nothing("x", [record("interpolation"), record("in_sample")]) == ""
    assert TOO_FEW in why_nothing("few.jsonl", [record("in_sample")], of_file=True)
