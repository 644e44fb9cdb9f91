"""Independent replications: seeds, intervals by hand, and what they cannot tell."""

import csv
import gzip
import json

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.evaluation.replications import _interval, _student_t, seeds_of
from planner.report.request_log import request_columns, write_requests

SMALL = {"run.duration_s": 12.0, "run.warmup_s": 2.0}


@pytest.fixture(scope="module")
def report():
    return planner.simulate(planner.load_scenario("r1-chat-ep16", SMALL), replications=4)


def test_an_interval_is_students_t_by_hand():
    found = _interval([1.0, 2.0, 3.0], _student_t(2))
    error = 1.0 / 3**0.5
    assert found.mean == 2.0
    assert found.half_width_90 == pytest.approx(2.9200 * error, rel=1e-4)
    assert found.half_width_95 == pytest.approx(4.3027 * error, rel=1e-4)


def test_the_first_replication_is_the_plain_run_and_the_others_are_other_runs(report):
    plain = planner.simulate(planner.load_scenario("r1-chat-ep16", SMALL))
    values = report.replications.intervals["ttft_s.p95"].values
    assert report.metrics == plain.metrics
    assert values[0] == plain.metrics.ttft_s.p95
    assert len(set(values)) == 4
    other = planner.load_scenario("r1-chat-ep16", {**SMALL, "run.seed": seeds_of(1, 2)[1]})
    assert planner.simulate(other).metrics.ttft_s.p95 == values[1]


def test_a_95_percent_interval_of_a_known_mean_covers_it_about_95_times_in_100():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        found = _interval(rng.exponential(1.0, (8, 50)).mean(axis=1).tolist(), _student_t(7))
        covered += abs(found.mean - 1.0) <= found.half_width_95
    assert 915 <= covered <= 980


def test_replications_of_a_trace_as_recorded_are_refused():
    scenario = planner.load_scenario("prefix-caching")
    with pytest.raises(planner.InputError, match="all alike"):
        planner.simulate(scenario, replications=2)
    with pytest.raises(planner.InputError, match="at least 2"):
        planner.simulate(planner.load_scenario("r1-chat-ep16", SMALL), replications=0)


def test_columns_say_what_became_of_every_request(report, tmp_path):
    columns = request_columns(report.records)
    assert set(columns["outcome"]) == {"finished"}
    assert columns["counted"].sum() == report.metrics.arrived
    for name in ("requests.csv", "requests.csv.gz", "requests.parquet"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        path = write_requests(report.records, tmp_path / name)
        rows = _read(path)
        assert list(rows[0]) == list(columns)
        assert [float(row["ttft_s"]) for row in rows] == columns["ttft_s"].tolist()
        assert [row["request"] for row in rows[:3]] in (["0", "1", "2"], [0, 1, 2])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "requests.csv", "requests.csv.gz", "requests.parquet",
    ]  # fmt: skip


def _read(path):
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return list(csv.DictReader(text.splitlines()))


def test_pools_apart_have_the_prefill_replica_of_every_prompt():
    small = {"run.start_s": 57600, "run.duration_s": 1.0, "run.warmup_s": 0.2}
    found = planner.simulate(planner.load_scenario("deepseek-production-day", small))
    columns = found.requests()
    first = found.records.prefill_replicas
    handed = columns["output_tokens"] > 1
    assert (columns["prefill_replica"][handed] < first).all()
    assert (columns["prefill_replica"][handed] >= 0).all()
    assert (columns["replica"][handed] >= first).all()
    assert (columns["prompt_end_s"] >= columns["admitted_s"])[handed].all()
    assert (columns["first_token_s"] >= columns["prompt_end_s"])[handed].all()


def test_the_command_writes_records_and_states_the_warm_up(tmp_path):
    target = tmp_path / "r.csv"
    sets = [word for path, value in SMALL.items() for word in ("--set", f"{path}={value}")]
    command = ["simulate", "r1-chat-ep16", *sets, "--json"]
    answer = CliRunner().invoke(main, [*command, "--records", str(target), "--replications", "2"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.output)
    assert found["replications"]["count"] == 2
    assert found["warmup"]["requests_not_counted"] > 0
    assert found["warmup"]["counted_from_s"] >= 2.0
    assert len(found["series"]["queued"]) == len(found["series"]["start_s"]) == 60
    assert len(target.read_text().splitlines()) == found["requests"] + 1
    refused = CliRunner().invoke(main, [*command, "--records", str(tmp_path / "r.xlsx")])
    assert refused.exit_code == 2
    assert ".parquet" in refused.output
