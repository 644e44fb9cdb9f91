"""Figures and tiles of runs in which replicas fail or scale, and of runs with prefix caches."""

import pytest

from planner import evaluation, files, search
from planner.report import pages
from planner.report.answer import tiles
from planner.report.compare_figures import Rates, speeds
from planner.report.interval_tables import between
from planner.report.planned import plan_tiles, planned
from planner.report.simulated import simulated
from planner.report.words import seconds, share
from planner.serving.fleet_log import State


@pytest.fixture(scope="module")
def failing():
    found = evaluation.evaluate(files.load_scenario("r1-chat-failures", {"run.duration_s": 900}))
    return evaluation.with_intervals(found)


@pytest.fixture(scope="module")
def drawn(failing):
    return simulated(failing)


def shapes(figure):
    return [shape for shape in figure.layout.shapes if str(shape.fillcolor).startswith("rgba(213")]


def test_a_failure_is_marked_in_every_figure_over_time(failing, drawn):
    spans = failing.records.fleet.spans(State.DOWN)
    assert spans
    for name in ("load", "tokens", "use", "late"):
        found = shapes(drawn.figures[name])
        assert [shape.x0 * 60 for shape in found] == pytest.approx([begin for begin, _ in spans])
        assert [shape.x1 * 60 for shape in found] == pytest.approx([end for _, end in spans])
        assert "a replica failed" in {trace.name for trace in drawn.figures[name].data}


def test_a_report_of_it_has_the_same_figures_tables_and_intervals(failing, drawn):
    blocks = pages.blocks(failing)
    assert "replicas" in {name for block in blocks for name in block.figures}
    titles = {table.title for block in blocks for table in block.tables}
    assert {"How sure", "Operations"} <= titles
    notes = {tile.label: tile.note for tile in tiles(failing)}
    within = failing.intervals.latency["ttft_s"]["p95"]
    assert between(within, seconds) in notes["First token, p95"]


def test_replicas_are_stacked_by_what_they_do(failing, drawn):
    figure = drawn.figures["replicas"]
    by = {trace.name: trace for trace in figure.data}
    (pool,) = failing.series().pools
    assert list(by["serving"].y) == pool.replicas["serving"].tolist()
    assert {"serving", "slow", "failed"} <= set(by)
    assert all(trace.stackgroup for trace in by.values() if trace.mode == "lines")


def test_tiles_of_a_run_say_its_intervals_and_what_they_leave_out(failing, drawn):
    shown = {tile.label: tile for tile in drawn.tiles}
    within = failing.intervals.latency["ttft_s"]["p95"]
    assert between(within, seconds) in shown["TTFT p95"].note
    assert shown["Availability"].value == share(failing.operations.availability_share)
    assert "They do not hold" in drawn.sure
    assert {"How sure", "Operations"} <= {table.title for table in drawn.tables}
    assert simulated(evaluation.evaluate(failing.scenario)).sure == ""


def test_decisions_of_a_policy_are_marks_with_their_reason():
    scenario = files.load_scenario("r1-chat-autoscale", {"run.requests": 3000})
    result = evaluation.evaluate(scenario)
    figure = simulated(result).figures["replicas"]
    (marks,) = [trace for trace in figure.data if trace.name == "decision"]
    made = result.operations.scalings
    assert list(marks.y) == [one.after for one in made]
    assert marks.text[0] == f"autoscale: {made[0].before} to {made[0].after}"


def test_caches_and_classes_are_shown():
    scenario = files.load_scenario("chat-sessions", {"run.duration_s": 120, "run.warmup_s": 20})
    result = evaluation.evaluate(scenario)
    drawn = simulated(result)
    shown = {tile.label: tile for tile in drawn.tiles}
    assert shown["Prompt tokens in caches"].value == share(result.prefix.hit_token_share)
    assert "By priority" in {table.title for table in drawn.tables}
    (line,) = [trace for trace in drawn.figures["cache"].data if trace.stackgroup]
    assert line.name == "in the replica's memory"


def test_a_plan_on_carried_over_shares_warns_and_names_what_each_fleet_rests_on():
    scenario = files.load_scenario("r1-distill-7b-rtx5090")
    found = search.plan_intervals(search.plan(scenario))
    drawn, best = planned(found), found.best
    assert "rtx-pro-6000" in drawn.warning
    assert drawn.warning not in drawn.headline
    assert drawn.decisions[0] == ("What its speed rests on", drawn.warning)
    assert {row[-1] for row in drawn.options.rows} == {"transferred"}
    shown = {tile.label: tile for tile in drawn.tiles}
    within = best.intervals.latency["tpot_s"]["p95"]
    assert between(within, seconds) in shown["TPOT p95"].note
    assert drawn.sure


def test_rates_of_a_configuration_carry_their_intervals():
    found = evaluation.steady(files.load_scenario("published/sglang-h100-decode"))
    figure = speeds({"a": Rates.of(found)})
    low, high = found.interval90()["tokens_per_s_per_device"]
    (point,) = figure.data
    assert point.y[0] - point.error_y.arrayminus[0] == pytest.approx(low)
    assert point.y[0] + point.error_y.array[0] == pytest.approx(high)


def test_pools_apart_are_named_and_their_replicas_drawn_one_above_the_other():
    pools = {
        "prefill": {
            "replicas": 2, "parallelism": {"attention_tp": 8, "moe_ep": 8}, "weights": "fp8",
        },
        "decode": {"parallelism": {"attention_dp": 16, "moe_ep": 16}, "weights": "fp8"},
    }  # fmt: skip
    changes = {
        "run.duration_s": 12, "run.warmup_s": 2, "workload.arrivals.requests_per_s": 4,
        "routing": None, "deployment": pools,
        "operations": {
            "failures": [{"component": "node", "mtbf_s": 2e3, "mttr_s": 60}],
            "start_up": {"load_bytes_per_s": 2e9, "other_s": 10},
        },
    }  # fmt: skip
    result = evaluation.evaluate(files.load_scenario("r1-chat", changes))
    devices = {tile.label: tile for tile in plan_tiles(result)}["Devices"]
    assert "2 x TP8 EP8 for prompts + 1 x DP16 EP16 for answers" in devices.note
    figure = simulated(result).figures["replicas"]
    axes = {trace.name: trace.yaxis for trace in figure.data}
    assert axes["decode: serving"] == "y"
    assert axes["prefill: serving"] == "y2"
    assert figure.layout.yaxis2.title.text == "prefill"
