"""Failures by renewal theory, groups by hand, spares by the binomial."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving.faults import (
    Failing,
    Outages,
    down_s,
    group_availability,
    group_outages,
    joined,
    outages,
    spares_needed,
)


def seed(number: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(number)


def given_outages(*rows: tuple[int, float, float]) -> Outages:
    number, begin, end = zip(*rows, strict=True)
    return Outages("device", np.array(number), np.array(begin, float), np.array(end, float), 0.0)


@pytest.mark.parametrize("repair", ["exponential", "fixed"])
def test_the_share_of_time_down_is_mttr_over_the_cycle(repair):
    failing = Failing("device", 400, mtbf_s=90.0, mttr_s=10.0, repair=repair)
    drawn = outages(failing, 10_000.0, seed())
    assert down_s(drawn, 10_000.0) / (400 * 10_000) == pytest.approx(0.1, rel=0.02)
    assert len(drawn) == pytest.approx(400 * 10_000 / 100, rel=0.02)
    assert (np.diff(drawn.begin_s) >= 0).all()


def test_the_start_is_as_broken_as_the_rest():
    failing = Failing("node", 5000, mtbf_s=80.0, mttr_s=20.0)
    down = (outages(failing, 1.0, seed()).begin_s == 0).mean() * len(outages(failing, 1.0, seed()))
    assert down == pytest.approx(1000, abs=4 * math.sqrt(5000 * 0.2 * 0.8))


def test_more_components_and_longer_runs_leave_the_others_alone():
    few = outages(Failing("link", 3, 50.0, 5.0), 500.0, seed(4))
    many = outages(Failing("link", 9, 50.0, 5.0), 900.0, seed(4))
    same = (many.component < 3) & (many.begin_s < 500)
    assert many.begin_s[same].tolist() == few.begin_s.tolist()
    assert many.end_s[same].tolist() == few.end_s.tolist()


def test_a_group_is_down_while_any_member_is():
    members = given_outages((0, 1, 3), (5, 2, 4), (1, 2, 6), (0, 8, 9), (4, 4, 5))
    groups = group_outages(members, 4)
    rows = zip(groups.component, groups.begin_s, groups.end_s, strict=True)
    assert [tuple(map(float, row)) for row in rows] == [(0, 1, 6), (1, 2, 5), (0, 8, 9)]
    assert down_s(groups, 100) == 5 + 3 + 1
    assert down_s(groups, 8.5) == 5 + 3 + 0.5


def test_an_expert_parallel_group_has_the_availability_of_all_its_devices():
    failing = Failing("device", 32 * 60, mtbf_s=2000.0, mttr_s=10.0)
    groups = group_outages(outages(failing, 20_000.0, seed(1)), 32)
    share = 1 - down_s(groups, 20_000.0) / (60 * 20_000)
    assert group_availability(failing, 32) == pytest.approx((2000 / 2010) ** 32)
    assert share == pytest.approx(group_availability(failing, 32), abs=0.005)


def test_outages_of_devices_and_their_nodes_are_taken_together():
    both = joined([given_outages((0, 5, 6)), given_outages((1, 1, 9))])
    assert both.begin_s.tolist() == [1, 5]
    half = Outages("device", np.array([0]), np.zeros(1), np.ones(1), 0.5)
    with pytest.raises(InputError, match="one speed"):
        joined([both, half])


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


def test_no_components_have_no_outages():
    nothing = outages(Failing("node", 0, 1.0, 1.0), 100.0, seed())
    assert len(group_outages(nothing, 8)) == 0
