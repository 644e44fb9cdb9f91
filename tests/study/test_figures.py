"""Figures of studies: what they show is what the study found."""

import pytest

import planner
from planner.report import study_figures as figures
from planner.report.studies import cases_table, cell
from planner.study.sizing import Choice, Sizing


def test_a_tornado_reaches_from_one_end_to_the_other(base):
    found = planner.sensitivity(
        base, {"hardware.0.prices.0.usd_per_device_hour*": [0.5, 1.0, 2.0]}, samples=8, workers=1
    )
    low, high = figures.tornado(found).data
    assert low.x[0] + low.base == pytest.approx(found.swings[0].at_low)
    assert high.x[0] + high.base == pytest.approx(found.swings[0].at_high)
    total, first = figures.indices(found).data
    assert first.x[0] == found.indices[0].first
    assert total.error_x.array[0] == pytest.approx(
        found.indices[0].total_high - found.indices[0].total
    )


def test_every_combination_of_the_other_values_is_a_line(base):
    table = planner.what_if(
        base, {"system": ["rtx-5090-pc", "nope"], "workload.arrivals.concurrency": [1, 2]},
        workers=1,
    )  # fmt: skip
    figure = figures.cases(table, "workload.arrivals.concurrency", "tpot_p95_s")
    (line,) = figure.data
    assert line.name == "rtx-5090-pc"
    assert list(line.y) == [row["tpot_p95_s"] for row in table.rows[:2]]
    assert len(cases_table(table).rows) == 4


def test_money_bars_add_up_to_the_rent(base):
    found = planner.break_even(base)
    bars = figures.money(found).data
    total = sum(x for bar in bars for x in bar.x)
    assert total == pytest.approx(found.result.costs[0].usd_per_hour)


def test_a_fleet_is_a_point_of_cost_and_chance(base):
    choice = Choice("two", 0.9, 0.7, 0.97, 12.0, 1.0, 3.0, {}, 0)
    (points,) = figures.regret(Sizing(base, (choice,), 10, 0, 0.95)).data
    assert (points.x[0], points.y[0]) == (12.0, 0.9)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("ttft_p95_s", 0.0123, "12.3 ms"), ("ttft_p95_s", 2.5, "2.50 s"), ("slo_met", True, "✓"),
     ("devices", 1234, "1,234"), ("usd_per_hour", 12.3456, "12.346"), ("label", None, "-"),
     ("output_tokens_per_s", 1234.0, "1,234")],
)  # fmt: skip
def test_cells_are_written_by_their_unit(name, value, words):
    assert cell(name, value) == words
