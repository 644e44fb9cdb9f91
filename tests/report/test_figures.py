import json
import math

import plotly.graph_objects as go
import pytest

from planner.report import PlanReport, Report
from planner.report.style import seconds_axis


def test_memory_bars_add_up_to_the_capacity(report: Report) -> None:
    bars = report.figures()["memory"].data
    total = 1e9 * sum(bar.x[0] for bar in bars)
    assert total == pytest.approx(report.replica.memory.capacity_bytes, rel=1e-9)


def test_step_bars_add_up_to_the_step(report: Report) -> None:
    bars = report.figures()["step"].data[0]
    assert sum(bars.x) / 1e3 == pytest.approx(report.decode.time_s, rel=1e-9)


def test_latency_curve_passes_through_the_percentiles(report: Report) -> None:
    for trace, metric in zip(report.figures()["latency"].data, ("ttft_s", "tpot_s"), strict=False):
        share_at = dict(zip([round(y, 6) for y in trace.y], trace.x, strict=True))
        assert share_at[50.0] == pytest.approx(getattr(report.metrics, metric).p50, rel=1e-6)
        assert list(trace.x) == sorted(trace.x)


def test_load_counts_every_request(report: Report) -> None:
    figure = report.figures()["load"]
    arrivals, running, waiting = figure.data
    bin_s = report.records.end_s / len(arrivals.y)
    assert sum(arrivals.y) * bin_s == pytest.approx(len(report.records.arrival_s))
    assert min(running.y) >= 0
    assert min(waiting.y) >= 0
    assert any("warm-up" in note.text for note in figure.layout.annotations)


def test_cost_bars_are_the_costs(report: Report) -> None:
    bars = report.figures()["cost"].data[0]
    assert sorted(bars.x) == pytest.approx(sorted(c.usd_per_hour for c in report.costs))


def test_day_curve_marks_the_measured_window(report: Report) -> None:
    figure = report.figures()["day"]
    assert figure.layout.shapes[0].x0 * 3600 == pytest.approx(60)
    assert figure.layout.shapes[0].x1 * 3600 == pytest.approx(120)
    rates = figure.data[0].y
    assert rates[1] * 1e3 == pytest.approx(9.0 * 120)


def test_frontier_shows_every_fleet(plan_report: PlanReport) -> None:
    traces = {trace.name: trace for trace in plan_report.figures()["frontier"].data}
    simulated = list(traces["chosen"].y) + list(traces.get("simulated", traces["chosen"]).y)
    assert plan_report.best
    assert list(traces["chosen"].y) == [plan_report.best.nodes]
    if "simulated" in traces:
        assert sorted(simulated) == sorted(r.nodes for r in plan_report.options)
    finite = [e for _, e in plan_report.estimates if math.isfinite(e.devices)]
    assert len(traces["estimated in closed form"].x) == len(finite)


def test_axes_have_units_and_figures_are_plain_json(plan_report: PlanReport) -> None:
    for figure in plan_report.figures().values():
        plain = json.loads(figure.to_json())
        assert plain["layout"]["xaxis"]["title"]["text"]
        assert plain["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"


@pytest.mark.parametrize(
    ("spans", "marks"),
    [
        ([1e-5, 0.5], [1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 0.2]),
        ([0.1, 10.0], [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
    ],
)
def test_marks_of_an_axis_of_times_do_not_touch(spans: list[float], marks: list[float]) -> None:
    """A tenth of the axis apart: over two decades all of 1, 2 and 5, over nearly five fewer."""
    figure = go.Figure()
    seconds_axis(figure, spans, "t")
    assert list(figure.layout.xaxis.tickvals) == marks
