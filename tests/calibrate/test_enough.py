"""Runs are asked whether they determine an engine's overheads."""

import pytest

from planner.calibrate.engine_fit import OF_FACTOR
from planner.calibrate.enough import KINDS, standings, verdict
from planner.evaluation.fitted import PARAMETERS
from planner.files.overheads import load_overheads
from planner.specs.overheads import Effect
from planner.validation.family import family_of
from planner.validation.shipped import shipped_runs

RUNS = shipped_runs()
VLLM = [run for run in RUNS if family_of(run) == "vllm"][:10]


PRIOR = OF_FACTOR["family"]


def stored(log_se):
    effects = (
        Effect(parameter="moe", level="family", group="vllm", log_effect=0.0, log_se=log_se),
    )
    return load_overheads().model_copy(update={"effects": effects})


def of(found, name):
    return next(s for s in found if s.parameter == name)


def test_a_parameter_with_a_small_error_is_fitted():
    moe = of(standings(stored(PRIOR / 3), VLLM), "moe")
    assert (moe.state, moe.value, moe.more_runs) == ("fitted", 1.0, 0)


def test_how_many_more_runs_would_do_by_hand():
    """Error 3/4 of the prior p: the runs have (16/9 - 1) / p^2, 3 / p^2 are wanted."""
    moe = of(standings(stored(0.75 * PRIOR), VLLM), "moe")
    assert moe.state == "leaning"
    assert moe.more_runs == pytest.approx(10 * (3 / (7 / 9) - 1), abs=1)
    assert moe.bring


def test_what_is_not_there_is_not_determined_and_says_what_to_bring():
    row = of(standings(stored(PRIOR / 3), VLLM), "row_host")
    assert (row.state, row.value, row.more_runs) == ("not determined", None, None)
    assert "clients" in row.bring


def test_every_parameter_of_every_engine_has_a_standing():
    found = standings(load_overheads(), RUNS)
    assert len(found) == 3 * len(PARAMETERS)
    assert set(KINDS) >= set(PARAMETERS)
    assert "fitted by these runs" in verdict(found)
