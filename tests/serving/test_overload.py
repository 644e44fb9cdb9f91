"""A queue that grows without bound is seen, and one that only fluctuates is not."""

import numpy as np
import pytest

from planner.serving import (
    AffineTiming,
    Cluster,
    PoolSetup,
    ReplicaConfig,
    RequestStream,
    simulate_cluster,
)
from planner.serving.operations import Operations, PoolOperations, Schedule
from planner.serving.overload import overload

STEP_S, SLOTS, TOKENS = 0.01, 16, 100


def records(load, seed, requests=5000, **changes):
    """Slots that take steps of fixed time: the capacity is known, 16 requests a second."""
    rng = np.random.default_rng(seed)
    capacity_per_s = SLOTS / (STEP_S * TOKENS)
    arrival_s = np.cumsum(rng.exponential(1 / (load * capacity_per_s), requests))
    tokens = np.maximum(1, rng.geometric(1 / TOKENS, requests))
    stream = RequestStream(arrival_s, np.ones(requests, np.int64), tokens)
    config = ReplicaConfig(1, SLOTS, 10**6, 10**9)
    setup = PoolSetup(AffineTiming(base_s=STEP_S), config, **changes)
    return simulate_cluster(stream, Cluster((setup,)), stop_overload=True)


@pytest.mark.parametrize("load", [0.85, 0.99])
def test_a_load_below_capacity_is_never_called_an_overload(load):
    for seed in range(12):
        found = records(load, seed)
        assert found.overload() is None, seed
        assert found.finished.all()


@pytest.mark.parametrize(("load", "runs"), [(1.2, 10), (2.0, 3)])
def test_a_load_above_capacity_stops_and_says_how_fast_the_queue_grows(load, runs):
    growths, loads = [], []
    for seed in range(runs):
        found = records(load, seed)
        seen = found.overload()
        assert seen is not None, seed
        assert not found.finished.all()
        assert found.end_s <= found.arrival_s[-1] + STEP_S
        assert seen.queued == int((~np.isfinite(found.first_token_s)).sum())
        growths.append(seen.growth_requests_per_s)
        loads.append(seen.load_share)
    assert np.mean(growths) == pytest.approx((load - 1) * 16, rel=0.12)
    assert np.mean(loads) == pytest.approx(load, rel=0.03)


def test_a_decode_pool_that_is_too_small_is_an_overload():
    rng = np.random.default_rng(4)
    arrival_s = np.cumsum(rng.exponential(0.05, 3000))
    stream = RequestStream(arrival_s, np.ones(3000, np.int64), np.full(3000, 100))
    timing = AffineTiming(base_s=STEP_S)
    pools = (
        PoolSetup(timing, ReplicaConfig(1, SLOTS, 10**6, 10**9, role="prefill")),
        PoolSetup(timing, ReplicaConfig(1, 10, 10**6, 10**9, role="decode")),
    )
    found = simulate_cluster(stream, Cluster(pools), stop_overload=True)
    seen = found.overload()
    assert seen is not None
    # 10 slots of 99 steps of 10 ms serve 10.1 requests a second, 20 come
    assert seen.growth_requests_per_s == pytest.approx(9.9, abs=0.7)
    assert found.running.any()


def with_a_plan(plan, seed):
    """Twice the capacity of one replica, less than that of three."""
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1 / 32, 4000))
    stream = RequestStream(arrival_s, np.ones(4000, np.int64), rng.geometric(1 / TOKENS, 4000))
    setup = PoolSetup(AffineTiming(base_s=STEP_S), ReplicaConfig(1, SLOTS, 10**6, 10**9), 3)
    pool = PoolOperations(initial=1, scaling=plan)
    cluster = Cluster((setup,), operations=Operations((pool,)))
    return simulate_cluster(stream, cluster, stop_overload=True)


def test_a_fleet_that_is_still_growing_is_not_called_overloaded():
    found = with_a_plan(Schedule((0.0, 130.0), (1, 3), start_up_s=20.0), 3)
    assert found.arrival_s[-1] < 130  # and a replica is on its way
    assert found.finished.all()
    assert found.overload() is None


def test_a_fleet_that_has_grown_as_far_as_it_may_is():
    found = with_a_plan(Schedule((0.0, 10.0), (1, 1), start_up_s=2.0), 3)
    seen = found.overload()
    assert seen is not None
    assert seen.growth_requests_per_s == pytest.approx(16, rel=0.2)


def test_an_admission_limit_keeps_an_overload_from_growing():
    found = records(1.5, 0, max_outstanding=40)
    assert found.shed.any()
    assert found.overload() is None


def test_a_burst_at_the_end_is_no_overload():
    arrival_s = np.concatenate([np.arange(0, 100, 0.1), np.full(500, 99.95)])
    served_s = np.append(arrival_s[:1000] + 0.05, np.full(500, np.nan))
    assert overload(arrival_s, served_s, 0.0, 100.0) is None


def test_requests_that_come_at_once_say_nothing():
    arrival_s = np.zeros(500)
    assert overload(arrival_s, np.full(500, np.nan), 0.0, 0.0) is None
