"""Scaling by hand, and what holds for every load."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving.autoscale import AutoscalePolicy, Fleet, decide, follow, start_up_s

POLICY = AutoscalePolicy(0.8, least=2, most=20, start_up_s=100.0, down_cool_down_s=300.0)


def test_replicas_come_after_their_start_up():
    fleet = decide(POLICY, Fleet(2), 0.0, load=40.0, capacity=10.0)
    assert (fleet.ready, fleet.paid) == (2, 5)
    assert decide(POLICY, fleet, 99.0, 40.0, 10.0).ready == 2
    assert decide(POLICY, fleet, 100.0, 40.0, 10.0).ready == 5
    assert decide(POLICY, fleet, 50.0, 40.0, 10.0).paid == 5  # none is asked for twice


def test_replicas_leave_only_when_none_more_were_wanted_for_a_while():
    fleet = decide(POLICY, Fleet(5), 0.0, 40.0, 10.0)
    fleet = decide(POLICY, fleet, 200.0, 8.0, 10.0)
    assert fleet.ready == 5
    fleet = decide(POLICY, fleet, 299.0, 24.0, 10.0)
    assert fleet.ready == 5
    fleet = decide(POLICY, fleet, 301.0, 8.0, 10.0)
    assert fleet.ready == 3  # 24 at time 299 wanted three
    assert decide(POLICY, fleet, 700.0, 0.0, 10.0).ready == POLICY.least


def test_those_on_their_way_are_called_off_first():
    quick = AutoscalePolicy(1.0, 1, 9, start_up_s=100.0, down_cool_down_s=10.0)
    fleet = decide(quick, Fleet(2), 0.0, 50.0, 10.0)
    assert (fleet.ready, fleet.paid) == (2, 5)
    fleet = decide(quick, fleet, 20.0, 30.0, 10.0)
    assert (fleet.ready, fleet.paid) == (2, 3)


def test_a_cool_down_delays_the_next_start():
    slow = AutoscalePolicy(1.0, 1, 9, 0.0, up_cool_down_s=60.0)
    fleet = decide(slow, Fleet(1), 0.0, 20.0, 10.0)
    assert fleet.ready == 2
    assert decide(slow, fleet, 30.0, 90.0, 10.0).ready == 2
    assert decide(slow, fleet, 60.0, 90.0, 10.0).ready == 9


def test_a_step_of_load_is_short_of_capacity_until_replicas_have_started():
    plan = follow(POLICY, [16.0, 16.0, 64.0, 64.0, 64.0], capacity=10.0, window_s=100.0)
    # the step at window 2 is seen at the start of window 3; its replicas serve from window 4
    assert plan.ready.tolist() == [2, 2, 2, 2, 8]
    assert plan.paid.tolist() == [2, 2, 2, 8, 8]
    assert plan.utilisation.tolist() == pytest.approx([0.8, 0.8, 3.2, 3.2, 0.8])
    assert (plan.replica_s, plan.overloaded_share) == (2200.0, 0.4)


def test_a_start_up_inside_a_window_counts_in_part():
    plan = follow(POLICY, [16.0, 64.0, 64.0], capacity=10.0, window_s=400.0)
    assert plan.ready.tolist() == [2, 2, 2 + 6 * 0.75]


@given(
    st.lists(st.floats(0, 300), min_size=1, max_size=40),
    st.floats(0, 500), st.floats(0, 500), st.floats(0, 500), st.floats(0.3, 1.0),
)  # fmt: skip
def test_the_fleet_stays_in_its_bounds(loads, start, up, down, target):
    policy = AutoscalePolicy(target, 2, 20, start, up, down)
    plan = follow(policy, loads, 10.0, 60.0)
    assert (plan.paid >= 2).all()
    assert (plan.paid <= 20).all()
    assert (plan.ready <= plan.paid + 1e-9).all()
    assert (plan.ready >= 0).all()


@given(st.floats(0, 190))
def test_a_constant_load_keeps_its_fleet(load):
    plan = follow(POLICY, [load] * 10, 10.0, 60.0)
    assert len(set(plan.ready)) == 1
    assert plan.utilisation.max() <= 0.95 or plan.paid[0] == POLICY.most


def test_a_day_with_headroom_and_without_delay_never_lacks_capacity():
    instant = AutoscalePolicy(0.5, 1, 1000, 0.0, down_cool_down_s=0.0)
    loads = 100 + 60 * np.sin(np.linspace(0, 2 * np.pi, 144))
    plan = follow(instant, loads, 1.0, 600.0)
    assert plan.overloaded_share == 0
    assert plan.replica_s / (144 * 600) == pytest.approx(200, rel=0.01)


def test_weights_take_their_time():
    assert start_up_s(689e9, 10e9, 60.0) == pytest.approx(128.9)


@pytest.mark.parametrize(
    "wrong",
    [{"target_utilisation_share": 0.0}, {"least": 0}, {"least": 9, "most": 3}, {"start_up_s": -1}],
)
def test_a_policy_must_make_sense(wrong):
    fields = {"target_utilisation_share": 0.8, "least": 1, "most": 5, "start_up_s": 1.0}
    with pytest.raises(InputError, match="autoscale"):
        AutoscalePolicy(**fields | wrong)
    with pytest.raises(InputError, match="is empty"):
        follow(POLICY, [], 1.0, 60.0)
