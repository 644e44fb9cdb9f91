"""Steps of a timer, found in times that it counted."""

import numpy as np
import pytest

from planner.calibrate.timer import beyond, step_of


def times(step_s: float, seed: int = 0) -> np.ndarray:
    """800 times from 5 to 200 us, as a clock of that step counts them."""
    true = np.exp(np.random.default_rng(seed).uniform(np.log(5e-6), np.log(2e-4), 800))
    return np.round(true / step_s) * step_s if step_s else true


@pytest.mark.parametrize("step_s", [5e-7, 1.024e-6, 2.048e-6])
def test_the_step_of_a_timer_is_found_again(step_s: float) -> None:
    counted = times(step_s) + 3e-7  # a start beside the steps hides none
    assert step_of(counted) == pytest.approx(step_s, rel=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_timer_without_steps_shows_none(seed: int) -> None:
    assert step_of(times(0.0, seed)) is None


def test_few_rows_tell_no_step() -> None:
    assert step_of(times(2e-6)[:80]) is None


def test_what_half_a_step_does_not_explain_by_hand() -> None:
    """10 us for 8, 9.5 and 12 in steps of 2: 1 us of the first and the last, nothing of 0.5."""
    found = beyond(np.full(3, 10e-6), np.array([8e-6, 9.5e-6, 12e-6]), 2e-6)
    assert found.tolist() == pytest.approx([1 / 8, 0.0, 1 / 12])
