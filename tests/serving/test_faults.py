"""Failures by renewal theory, groups by hand, spares by the binomial."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving.faults import Failing, alternating, spares_needed


def seed(number: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(number)


def drawn(failing: Failing, duration_s: float, number: int = 0) -> np.ndarray:
    """(component, begin, end) of every outage that begins in a run."""
    rows = []
    for component, own in enumerate(seed(number).spawn(failing.count)):
        for begin_s, end_s in alternating(failing, np.random.default_rng(own)):
            if begin_s >= duration_s:
                break
            rows.append((component, begin_s, end_s))
    return np.array(rows).reshape(-1, 3)


@pytest.mark.parametrize("repair", ["exponential", "fixed"])
def test_the_share_of_time_down_is_mttr_over_the_cycle(repair):
    failing = Failing("device", 400, mtbf_s=90.0, mttr_s=10.0, repair=repair)
    _, begin_s, end_s = drawn(failing, 10_000.0).T
    down_s = (np.minimum(end_s, 10_000.0) - begin_s).sum()
    assert down_s / (400 * 10_000) == pytest.approx(1 - failing.availability, rel=0.02)
    assert len(begin_s) == pytest.approx(400 * 10_000 / 100, rel=0.02)
    assert (end_s > begin_s).all()


def test_the_start_is_as_broken_as_the_rest():
    failing = Failing("node", 5000, mtbf_s=80.0, mttr_s=20.0)
    down = (drawn(failing, 1.0)[:, 1] == 0).sum()
    assert down == pytest.approx(1000, abs=4 * math.sqrt(5000 * 0.2 * 0.8))


def test_more_components_and_longer_runs_leave_the_others_alone():
    few = drawn(Failing("link", 3, 50.0, 5.0), 500.0, 4)
    many = drawn(Failing("link", 9, 50.0, 5.0), 900.0, 4)
    same = (many[:, 0] < 3) & (many[:, 1] < 500)
    assert many[same].tolist() == few.tolist()


def test_spares_by_hand():
    # two of three up at A = 0.9: 0.729 + 3 * 0.081 = 0.972
    assert spares_needed(2, 0.9, 0.972 - 1e-9) == 1
    assert spares_needed(2, 0.9, 0.973) == 2
    assert spares_needed(2, 0.9, 0.81 - 1e-9) == 0
    assert 100 < spares_needed(10_000, 0.99, 0.99) < 150  # a mean of 101, and some deviations
    with pytest.raises(InputError, match="no 1,000 spares"):
        spares_needed(100, 0.05, 0.9)


@given(st.integers(1, 40), st.floats(0.8, 1.0), st.floats(0.5, 0.999))
def test_a_better_promise_never_takes_fewer_spares(groups, availability, promise):
    more = spares_needed(groups, availability, (1 + promise) / 2)
    assert more >= spares_needed(groups, availability, promise)


@pytest.mark.parametrize(
    "bad",
    [{"mtbf_s": 0.0}, {"mttr_s": math.inf}, {"count": -1}, {"speed_share": 1.0}],
)
def test_what_cannot_fail_like_that_is_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Failing(**{"kind": "node", "count": 1, "mtbf_s": 1.0, "mttr_s": 1.0} | bad)
