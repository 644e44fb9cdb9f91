"""The summary of traffic, by hand and on the traces that are shipped."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner import files
from planner.cli import main
from planner.serving.prefix_cache import replay
from planner.specs.requests import PrefixBlocks, RequestTable
from planner.specs.workload import Run
from planner.workloads import describe, played


def shipped(name: str) -> RequestTable:
    workload, _ = files.load_traffic(files.scenario_root() / "workloads" / f"{name}.yaml")
    return played(workload.arrivals, Run())


def test_a_summary_by_hand():
    ids = PrefixBlocks(10, np.array([1, 2, 1, 3, 1, 2]), np.array([0, 2, 4, 6]))
    table = RequestTable(
        np.array([0.0, 60.0, 120.0]), np.array([20, 15, 20]), np.array([1, 2, 3]), ids
    )
    summary = describe(table)
    assert summary.requests_per_s == 3 / 120
    assert summary.gap_cv == 0
    assert summary.busiest_minute_requests_per_s == 1 / 60
    assert (summary.input_tokens.p50, summary.input_tokens.maximum) == (20, 20)
    assert summary.output_tokens.mean == 2
    assert (summary.reuse.blocks, summary.reuse.hit_blocks) == (6, 3)
    assert summary.reuse.hit_tokens == 10 + 19  # the last token is computed
    assert summary.reuse.token_share == pytest.approx(29 / 55)


def test_lengths_without_times_have_no_rate():
    one = RequestTable(np.zeros(2), np.array([1, 2]), np.array([1, 1]), None, timed=False)
    summary = describe(one)
    assert math.isnan(summary.requests_per_s)
    assert math.isnan(summary.gap_cv)


def test_mooncake_has_its_known_reuse():
    """36.6 % of blocks and 37.4 % of prompt tokens, counted from the trace's own ids."""
    table = shipped("mooncake-conversation")
    assert len(table) == 12_031
    unlimited = describe(table).reuse
    assert unlimited.blocks == 288_500
    assert unlimited.block_share == pytest.approx(0.366, abs=5e-4)
    assert unlimited.token_share == pytest.approx(0.374, abs=5e-4)
    assert replay(table.prefixes, table.input_tokens, math.inf) == unlimited


def test_a_limited_cache_finds_less_and_scattering_less_still():
    table = shipped("mooncake-conversation").take(np.arange(3000))
    one = replay(table.prefixes, table.input_tokens, 3e6)
    turns = np.arange(len(table)) % 4
    scattered = replay(table.prefixes, table.input_tokens, 3e6, turns)
    assert scattered.token_share < one.token_share < describe(table).reuse.token_share


def test_azure_has_its_published_medians():
    """Splitwise (ISCA 2024), section III: medians 1,020 and 129 tokens, 1,500 and 13."""
    talk = describe(shipped("azure-2023-conversation"))
    code = describe(shipped("azure-2023-code"))
    assert (talk.requests, talk.input_tokens.p50, talk.output_tokens.p50) == (19_366, 1020, 129)
    assert (code.requests, code.output_tokens.p50) == (8_819, 13)
    assert code.input_tokens.p50 == pytest.approx(1500, rel=0.03)
    assert code.gap_cv > 10 > talk.gap_cv


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["gamma", "weibull"])
def test_drawn_gaps_have_the_variation_asked_for(tmp_path, kind, cv):
    path = tmp_path / "drawn.yaml"
    path.write_text(
        f"arrivals: {{kind: {kind}, requests_per_s: 20, cv: {cv}}}\n"
        "lengths: [{input: {kind: fixed, tokens: 9}, output: {kind: fixed, tokens: 3}}]\n"
    )
    summary = planner.describe_workload(path).summary
    assert summary.requests == 100_000
    assert summary.gap_cv == pytest.approx(cv, rel=0.05)
    assert summary.requests_per_s == pytest.approx(20, rel=0.04)
    assert "100,000 requests drawn" in summary.notes[0]


def run(*words: str):
    return CliRunner().invoke(main, ["workload", *words])


def test_the_command_shows_a_trace_and_changes_it(tmp_path):
    path = tmp_path / "requests"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,10,1\n60,30,3\n120,20,2\n")
    page = run(str(path))
    assert page.exit_code == 0
    assert "3 requests (table) in 2 min" in page.output
    plain = json.loads(run(str(path), "--json").output)
    assert plain["requests_per_s"] == 3 / 120
    assert plain["mean_input_tokens"] == 20
    assert plain["reuse"] is None
    faster = json.loads(
        run(str(path), "--json", "--set", "workload.arrivals.time_scale=0.5").output
    )
    assert faster["duration_s"] == 60
    assert json.loads(run(str(path), "--json", "--set", "run.requests=2").output)["requests"] == 2


def test_the_command_shows_a_scenario_and_shared_prefixes(tmp_path):
    page = run("deepseek-r1-day", "--set", "run.window=52", "--set", "run.warmup_s=0")
    assert page.exit_code == 0
    assert "5,046 requests (curve)" in page.output
    path = tmp_path / "talk.yaml"
    path.write_text(
        "title: Talk\n"
        "arrivals: {kind: sessions, sessions_per_s: 1, mean_turns: 3, mean_turn_gap_s: 10,\n"
        "  max_context_tokens: 4000, block_tokens: 16}\n"
        "lengths: [{input: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 100}}]\n"
    )
    page = run(str(path), "--set", "run.requests=3000")
    assert page.exit_code == 0
    assert "prompt tokens repeat" in page.output
    plain = json.loads(run(str(path), "--json", "--set", "run.requests=3000").output)
    found = [row["hit_token_share"] for row in plain["caches"]]
    assert found == sorted(found)
    assert found[-1] <= plain["reuse"]["token_share"]
    loop = tmp_path / "loop.yaml"
    loop.write_text(
        "arrivals: {kind: closed_loop, concurrency: 8}\n"
        "lengths: [{input: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 100}}]\n"
    )
    assert "8 clients: arrivals follow from the service" in run(str(loop)).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "scenario: 'nowhere.csv' is not a file"),
        (["deepseek-ep144-decode"], "workload: is missing; this command needs traffic"),
        (["TRACE", "--set", "workload.arrivals.rat_scale=2"], "did you mean rate_scale?"),
        (["TRACE", "--set", "workload.arrivals.rate_scale=-2"],
         "--set: workload.arrivals.rate_scale: Input should be greater than 0, got -2"),
        (["TRACE", "--set", "workload.arrivals.file=gone"], "'gone' does not exist"),
        (["TRACE", "--set", "workload.arrivals.from_s=9"], "no request of the trace is in the"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_said_in_one_line(tmp_path, words, message):
    path = tmp_path / "requests"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,10,1\n")
    out = run(*(str(path) if word == "TRACE" else word for word in words))
    assert out.exit_code == 2
    assert message in out.output
    assert len(out.output.strip().splitlines()) == 1


def test_a_scenario_plays_a_trace_and_an_override_keeps_or_reads_it_again(tmp_path):
    (tmp_path / "a.csv").write_text("arrival_s,input_tokens,output_tokens\n0,10,1\n3,30,3\n")
    (tmp_path / "b.csv").write_text("arrival_s,input_tokens,output_tokens\n0,7,1\n")
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nmodel: deepseek-r1\nsystem: hgx-h200\n"
        "workload:\n  arrivals: {kind: trace, file: a.csv, rate_scale: 1}\n"
    )
    loaded = files.load_scenario(scenario)
    assert len(loaded.workload.arrivals.table) == 2
    slower = files.apply_overrides(loaded, {"workload.arrivals.time_scale": 2.0})
    assert slower.workload.arrivals.table is loaded.workload.arrivals.table
    assert played(slower.workload.arrivals, Run()).arrival_s.tolist() == [0, 6]
    other = files.apply_overrides(loaded, {"workload.arrivals.file": str(tmp_path / "b.csv")})
    assert other.workload.arrivals.table.input_tokens.tolist() == [7]
    scenario.write_text(scenario.read_text().split("workload:")[0] + "workload: a.csv\n")
    assert len(files.load_scenario(scenario).workload.arrivals.table) == 2
    scenario.write_text(
        scenario.read_text().split("workload:")[0]
        + "workload:\n  arrivals: {kind: trace, file: gone.csv}\n"
    )
    with pytest.raises(planner.InputError, match=r"s\.yaml:5: .*'gone\.csv' does not exist"):
        files.load_scenario(scenario)
