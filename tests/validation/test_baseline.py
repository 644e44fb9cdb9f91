"""No group of predictions may get worse than it was when somebody last looked."""

import json

from click.testing import CliRunner

from planner.cli import main
from planner.validation import baseline
from planner.validation.baseline import Group, worse
from planner.validation.family import family_of
from planner.validation.shipped import shipped_runs

STORED = [Group("a", 10, 0.10, 0.02), Group("b", 10, 0.20, 0.02)]


def test_no_group_of_predictions_is_worse_than_stored():
    """What to do: docs/runs.md, "Baseline"."""
    assert [str(w) for w in worse(baseline.now(), baseline.load_baseline())] == []


def test_a_group_beyond_its_noise_is_worse_and_one_within_is_not():
    found = [Group("a", 10, 0.119), Group("b", 10, 0.23)]
    assert [w.name for w in worse(found, STORED)] == ["b"]


def test_a_group_that_is_gone_is_worse():
    assert [w.name for w in worse([Group("a", 10, 0.05)], STORED)] == ["b"]


def test_an_unpredictable_group_is_worse():
    found = [Group("a", 10, float("nan")), Group("b", 10, 0.1)]
    assert [w.name for w in worse(found, STORED)] == ["a"]


def test_the_sample_has_every_engine_part_model_and_mode_and_is_always_the_same():
    runs = shipped_runs()
    chosen = baseline.sample(runs)
    assert chosen == baseline.sample(tuple(reversed(runs)))

    def kinds(of):
        return {(family_of(r), r.accelerator, r.model, r.deployment.kind) for r in of}

    assert kinds(chosen) == kinds(runs)
    assert len(chosen) < 100


def test_the_shipped_runs_are_the_published_ones():
    runs = shipped_runs()
    assert len(runs) == 437
    assert {r.source.licence for r in runs} == {"Apache-2.0"}
    assert len({r.id for r in runs}) == 437


def test_what_is_stored_is_what_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "PATH", tmp_path / "baseline.json")
    baseline.store(STORED)
    assert baseline.load_baseline() == STORED
    assert json.loads(baseline.PATH.read_text())[0]["name"] == "a"


def test_the_command_names_the_group_that_got_worse(monkeypatch):
    monkeypatch.setattr(baseline, "now", lambda: [Group("a", 10, 0.3), Group("b", 10, 0.2)])
    monkeypatch.setattr(baseline, "load_baseline", lambda: STORED)
    result = CliRunner().invoke(main, ["validate", "--baseline"])
    assert result.exit_code == 1
    assert "worse: a: median error 30.0 %, stored 10.0 %" in result.output
