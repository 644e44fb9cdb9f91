"""The timeline in JSON, in the terminal and as a page."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.report.step_page import StepAnswer, step_page
from planner.report.timeline_figures import STAGES, timeline_figures
from planner.step.stages import STAGES as KNOWN

NAME = "deepseek-profile-decode"


@pytest.fixture(scope="module")
def answer() -> StepAnswer:
    scenario = planner.load_scenario(
        NAME, {"routing": "deepseek-r1-translation", "steady.context_variation": 0.4}
    )
    return StepAnswer(planner.steady(scenario), planner.timeline(scenario))


def test_every_stage_has_a_word_and_a_colour() -> None:
    assert set(KNOWN) - {"dense"} <= STAGES.keys()


def test_the_api_gives_bars_busy_shares_and_the_longest_path(answer: StepAnswer) -> None:
    found = answer.timeline.timeline
    assert sum(found.critical.values()) == pytest.approx(found.time_s)
    assert {bar.rank for bar in found.bars} >= {found.slowest_rank}
    assert found.busy.keys() == {"compute", "scale_up", "scale_out", "host"}
    for rank in {bar.rank for bar in found.bars}:
        for stream in ("compute", "scale_up", "scale_out"):
            own = [b for b in found.bars if (b.rank, b.stream) == (rank, stream)]
            gaps = [b.start_s - a.end_s for a, b in pairwise(own)]
            assert min(gaps) > -1e-12  # one piece of work at a time
        host = [b for b in found.bars if (b.rank, b.stream) == (rank, "host")]
        assert [b.end_s for b in host] == [found.time_s]
        assert host[0].busy_s / found.time_s == pytest.approx(found.busy["host"])


def test_traffic_over_both_levels_has_a_bar_on_each(answer: StepAnswer) -> None:
    bars = answer.timeline.timeline.bars
    up, out = (
        {
            (b.rank, b.name, b.layer, b.micro_batch, b.start_s, b.end_s)
            for b in bars
            if s == b.stream
        }
        for s in ("scale_up", "scale_out")
    )
    assert up == out != set()
    assert all(b.busy_s <= b.end_s - b.start_s + 1e-12 for b in bars)
    alone = planner.timeline(planner.load_scenario("published/trtllm-r1-b200-latency")).timeline
    assert {b.stream for b in alone.bars} == {"compute", "scale_up", "host"}  # one node


def test_a_longer_context_on_some_ranks_makes_the_simulated_step_longer() -> None:
    alike, spread = (
        planner.timeline(planner.load_scenario(NAME, {"steady.context_variation": v}))
        for v in (0.0, 1.0)
    )
    assert spread.timeline.time_s > 1.005 * alike.timeline.time_s
    assert spread.closed_form_s == alike.closed_form_s
    assert alike.closed_form_s == pytest.approx(alike.timeline.time_s)


def test_the_same_seed_gives_the_same_timeline(answer: StepAnswer) -> None:
    again = planner.timeline(answer.timeline.scenario)
    assert again.to_dict() == answer.timeline.to_dict()


def test_figures_hold_every_bar(answer: StepAnswer) -> None:
    figures = timeline_figures(answer.timeline)
    assert figures.keys() == {"gantt", "critical", "busy"}
    drawn = sum(len(trace.x) for trace in figures["gantt"].data)
    assert drawn == len(answer.timeline.timeline.bars)
    total = sum(sum(trace.x) for trace in figures["critical"].data) / 1e3
    assert total == pytest.approx(answer.timeline.timeline.time_s)
    rows = figures["gantt"].layout.yaxis.categoryarray
    streams = [row.split(": ")[1] for row in rows[::-1]]
    assert streams == 2 * ["compute", "scale-up link", "scale-out network", "host"]
    notes = [note.text for note in figures["gantt"].layout.annotations]
    assert sum("1 ms at the step's end" in text for text in notes) == 2


def test_the_page_stands_alone(answer: StepAnswer) -> None:
    page = step_page(answer)
    assert 'id="figures"' in page
    assert "overlap five stage" in page
    assert "<script src" not in page


def test_the_command_prints_json_and_writes_a_page(tmp_path: Path) -> None:
    path = tmp_path / "step.html"
    run = CliRunner().invoke(main, ["step", NAME, "--json", "--html", str(path)])
    assert run.exit_code == 0, run.output
    data = json.loads(run.output)
    assert data["timeline"]["phase"] == "decode"
    assert data["timeline"]["busy_share"]["compute"] > 0.5
    assert path.stat().st_size > 100_000
    text = CliRunner().invoke(main, ["step", NAME, "--phase", "prefill"]).output
    assert "Longest path of a prefill step over 128 devices" in text
