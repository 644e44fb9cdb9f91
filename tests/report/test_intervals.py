"""Intervals in tables, tiles and pages; without them nothing is shown."""

import pytest

from planner import files
from planner.evaluation import Result, steady, with_intervals
from planner.report import answer, interval_tables
from planner.report.html import page
from planner.report.words import seconds


@pytest.fixture(scope="module")
def sure(result: Result) -> Result:
    return with_intervals(result)


def test_the_table_has_every_headline_number_with_its_interval(sure: Result) -> None:
    table = interval_tables.intervals(sure)
    assert table is not None
    cells = {row[0]: row[1:] for row in table.rows}
    assert {"TTFT p95", "TPOT p95", "E2E p95", "Output", "Devices", "$/M output tokens"} <= set(
        cells
    )
    assert sure.intervals is not None
    low, high = sure.intervals.latency["tpot_s"]["p95"]
    assert cells["TPOT p95"][1] == f"{seconds(low)} to {seconds(high)}"
    assert "do not hold" in table.note
    assert "engine" in table.note


def test_tiles_and_page_show_them(sure: Result, result: Result) -> None:
    assert any("90 %" in tile.note for tile in answer.tiles(sure))
    assert not any("90 %" in tile.note for tile in answer.tiles(result))
    assert "How sure is that?" in page(sure)
    assert "How sure is that?" not in page(result)


def test_a_result_without_intervals_has_no_table(result: Result) -> None:
    assert interval_tables.intervals(result) is None
    assert result.to_dict()["interval90"] is None
    assert "interval90" not in result.to_dict()["ttft_s"]


def test_an_end_without_bound_is_said() -> None:
    assert interval_tables.between((1.0, float("inf")), seconds) == "1 s to no bound"


def test_a_steady_step_says_how_sure_it_is() -> None:
    table = interval_tables.steady_intervals(steady(files.load_scenario("deepseek-profile-decode")))
    assert [row[0] for row in table.rows] == ["Step", "A device", "A node", "A user"]
    assert "nothing is fitted" in table.note
