"""Devices and dollars of two pools with steps off: they hold the point, widen, and collapse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.evaluation import Result, evaluate, with_intervals
from planner.evaluation.spread import Spread
from planner.search.intervals import sized
from planner.search.screen import Line
from planner.search.slower import prefill_replicas_at, replicas_at

DECODE_DOUBT = 1.15
"""The decode pool has room for steps three times as long: e^1.15 is more."""
POOL = {"parallelism": {"attention_tp": 1}, "weights": "bf16"}


@pytest.fixture(scope="module")
def apart(request) -> Result:
    from tests.search.conftest import small

    deployment = {"prefill": {**POOL, "replicas": 3}, "decode": {**POOL, "replicas": 4}}
    return evaluate(small(4, systems=["hgx-h100"], deployment=deployment))


def within(result: Result, prefill: float, decode: float):
    """Intervals with so much doubt about the steps of either pool."""
    doubt = iter([prefill, decode])

    def spreads(*_: object) -> tuple[Spread, ...]:
        d = next(doubt)
        return (Spread("x", -d, d, ""),) if d else ()

    found = sized(with_intervals(result, spreads)).intervals
    assert found is not None
    return found


def test_without_doubt_two_pools_are_a_point(apart):
    assert within(apart, 0, 0).devices == (7, 7)


def test_doubt_of_either_pool_widens_devices_and_dollars(apart):
    name = "usd_per_million_output_tokens"
    value = getattr(apart.costs[0], name)
    before = (7.0, 7.0), (value, value)
    for doubt in ((0.1, 0.0), (0.1, 0.1), (0.3, 0.3)):
        found = within(apart, *doubt)
        now = found.devices, found.usd[0][name]
        for old, new, point in zip(before, now, (7.0, value), strict=True):
            assert new[0] <= min(old[0], point)
            assert new[1] >= max(old[1], point)
        before = now
    assert before[0][0] < 7 < before[0][1]


def test_each_pool_has_its_own_factor(apart):
    prompts, answers = within(apart, 0.3, 0.0).devices, within(apart, 0.0, DECODE_DOUBT).devices
    both = within(apart, 0.3, DECODE_DOUBT).devices
    assert prompts[1] > 7
    assert answers[1] > 7
    assert both[1] - 7 == pytest.approx(prompts[1] - 7 + answers[1] - 7)
    assert 7 - both[0] == pytest.approx(7 - prompts[0] + 7 - answers[0])


def test_prefill_replicas_by_hand():
    # 1 s of 2 s may be waited for: half busy; at 1.2 s a prompt, 0.4: 10 x 1.2 x 0.5 / 0.4
    assert prefill_replicas_at(1.0, 2.0, 10, 1.2) == 15
    assert prefill_replicas_at(1.0, 2.0, 10, 2.0) == math.inf
    # without a promise on the first token only the rate counts
    assert prefill_replicas_at(1.0, math.inf, 10, 1.25) == 13


@given(
    st.floats(0.01, 3), st.floats(0.02, 4), st.integers(1, 50), st.floats(0.2, 4),
    st.floats(1, 3),
)  # fmt: skip
def test_longer_steps_never_take_fewer_prefill_replicas(alone_s, limit_s, n, factor, more):
    assert prefill_replicas_at(alone_s, limit_s, n, 1.0) == n
    less = prefill_replicas_at(alone_s, limit_s, n, factor)
    assert less <= prefill_replicas_at(alone_s, limit_s, n, factor * more)


def test_longer_steps_use_up_the_room_under_the_promise_first():
    # rates of 1, 2, 3 requests a second at 1, 2, 3 s a token: two replicas serve 2 each
    numbers = np.array([1.0, 2.0, 3.0])
    line = Line(numbers, numbers, numbers, numbers, 1.0, numbers)
    assert replicas_at(line, 2.0, 2, 1.5) == 6  # only the first pace keeps 2 s: 1 / 1.5 each
    assert replicas_at(line, 2.0, 2, 1.5, room=1.5) == 3  # the second one keeps 3 s: 2 / 1.5
    assert replicas_at(line, 2.0, 2, 1.0, room=1.5) == 2
    assert replicas_at(line, 2.0, 2, 1.5, room=9.0) == 2  # never fewer by longer steps
