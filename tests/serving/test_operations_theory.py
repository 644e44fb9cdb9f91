"""Failures against renewal and queueing theory, and a long run in which nothing gets lost.

Each check is over independent replications: theory must lie in the 99 % interval of their mean.
"""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from planner.evaluation.operations_report import erlang_b
from planner.serving import AffineTiming, Cluster, PoolSetup, ReplicaConfig, RequestStream
from planner.serving.autoscale import AutoscalePolicy
from planner.serving.engine import Replica
from planner.serving.faults import Failing
from planner.serving.fleet_log import State
from planner.serving.operated import OperatedFront
from planner.serving.operations import (
    Autoscaling,
    Maintenance,
    Operations,
    PoolOperations,
    parts_of,
)
from planner.serving.simulation import simulate_cluster

REPLICATIONS = 24
STEP_S = 5e-3


def interval(sample):
    """Return mean and half-width over replications with seeds 0, 1, ..."""
    values = np.array([sample(seed) for seed in range(REPLICATIONS)])
    t = stats.t.ppf(0.995, REPLICATIONS - 1)
    return values.mean(axis=0), t * values.std(ddof=1, axis=0) / math.sqrt(REPLICATIONS)


def breaking(seed, requests, rate_per_s, mtbf_s, mttr_s, restart_s=0.0):
    """One server with a mean service of 1 s that breaks; what was done is kept."""
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1 / rate_per_s, requests))
    tokens = np.maximum(1, np.rint(rng.exponential(1 / STEP_S, requests))).astype(np.int64)
    stream = RequestStream(arrival_s, np.ones(requests, np.int64), tokens)
    config = ReplicaConfig(1, 1, 10**6, 10**9)
    parts = parts_of(Failing("device", 1, mtbf_s, mttr_s), 1, 1, 1)
    operations = Operations(
        (PoolOperations((parts,), restart_s=restart_s),), max_retries=10**6, seed=seed
    )
    setup = PoolSetup(AffineTiming(base_s=STEP_S), config)
    return simulate_cluster(stream, Cluster((setup,), operations=operations))


def test_a_server_that_breaks_answers_as_m_m_1_with_breakdowns():
    arrive, serve, fail, mend = 0.5, 1.0, 0.05, 0.5

    def mean_answer(seed):
        records = breaking(seed, 3000, arrive, 1 / fail, 1 / mend)
        return float((records.finish_s - records.arrival_s)[500:].mean())

    mean, half_width = interval(mean_answer)
    # H. White, L. S. Christie, "Queuing with Preemptive Priorities or with Breakdown", Operations
    # Research 6(1), 1958: mean number in the system, divided by the arrival rate
    both = fail + mend
    theory = (both**2 + fail * serve) / (both * (serve * mend - arrive * both))
    assert theory == pytest.approx(2.848, abs=1e-3)
    assert mean == pytest.approx(theory, abs=half_width + 4 * STEP_S)
    assert half_width < 0.1 * mean


@pytest.mark.parametrize("restart_s", [0.0, 3.0])
def test_availability_is_mtbf_over_mtbf_and_the_time_to_serve_again(restart_s):
    mtbf_s, mttr_s = 40.0, 5.0

    def share(seed):
        return breaking(seed, 800, 0.25, mtbf_s, mttr_s, restart_s).fleet.availability

    mean, half_width = interval(share)
    # a failure during the restart begins it anew: its mean is (exp(r / MTBF) - 1) MTBF, in which
    # repairs after such failures come on top
    tries = math.exp(restart_s / mtbf_s)
    down_s = mttr_s * tries + (tries - 1) * mtbf_s
    assert mean == pytest.approx(mtbf_s / (mtbf_s + down_s), abs=half_width)
    assert half_width < 0.03


def test_the_router_holds_what_comes_while_it_has_nobody():
    rate, mtbf_s, mttr_s = 0.3, 30.0, 6.0

    def held(seed):
        records = breaking(seed, 2000, rate, mtbf_s, mttr_s)
        fleet = records.fleet
        down = fleet.state == State.DOWN
        begins, ends = fleet.begin_s[down], fleet.until_s[down]
        at = np.searchsorted(begins, records.arrival_s, "right") - 1
        inside = (at >= 0) & (records.arrival_s < ends[at])
        return float((ends[at] - records.arrival_s)[inside].sum()) / records.end_s

    mean, half_width = interval(held)
    # Little: arrivals x chance that it is down x what is left of a repair
    assert mean == pytest.approx(rate * mttr_s * mttr_s / (mtbf_s + mttr_s), abs=half_width)
    assert half_width < 0.2 * mean


@pytest.mark.parametrize("spares", [0, 1, 4])
def test_availability_with_spares_is_near_the_formula_of_the_report(spares):
    mtbf_s, mttr_s, restart_s = 2e5, 1200.0, 100.0
    parts = parts_of(Failing("device", 32, mtbf_s, mttr_s), 1, 16, 2)
    pool = PoolOperations((parts,), spares, restart_s)
    calls = np.arange(3000) * 500.0
    stream = RequestStream(calls, np.ones(3000, np.int64), np.ones(3000, np.int64))
    setup = PoolSetup(AffineTiming(base_s=1.0), ReplicaConfig(1, 4, 100, 1000), 2)
    shares = [
        simulate_cluster(
            stream, Cluster((setup,), operations=Operations((pool,), seed=seed))
        ).fleet.availability
        for seed in range(4)
    ]
    blocked = erlang_b(spares, 32 * mttr_s / mtbf_s)
    expected = (1 + (restart_s + blocked * mttr_s) / mtbf_s) ** -16
    # parts that are out together are counted one by one: a little too low with few spares
    assert np.mean(shares) == pytest.approx(expected, abs=0.012)
    assert 0.89 < expected < 0.993


def soak(requests, seed=1):
    """Two replicas of two parts and a third one on demand, under a load that comes and goes."""
    rng = np.random.default_rng(seed)
    gap_s = np.where(np.arange(requests) % 400 < 200, 0.05, 0.15)
    stream = RequestStream(
        np.cumsum(rng.exponential(gap_s)),
        rng.integers(1, 200, requests),
        rng.integers(1, 120, requests),
    )
    config = ReplicaConfig(2, 8, 256, 2000)
    parts = parts_of(Failing("device", 6, 120.0, 4.0), 1, 2, 3)
    slow = parts_of(Failing("link", 6, 100.0, 5.0, speed_share=0.5), 1, 2, 3)
    policy = AutoscalePolicy(0.6, 1, 3, 2.0, down_cool_down_s=10.0)
    pool = PoolOperations(
        (parts, slow), 1, 1.0, 2, Autoscaling(policy, "slots", 16.0, 1.0), (Maintenance(50, 5),)
    )
    timing = AffineTiming(base_s=0.01, per_context_token_s=1e-6, per_prefill_token_s=1e-5)
    cluster = Cluster(
        (PoolSetup(timing, config, 3, max_outstanding=20),),
        operations=Operations((pool,), max_retries=2),
    )
    return OperatedFront(stream, cluster, Replica)


def test_a_soak_of_a_hundred_thousand_steps_loses_nothing_that_is_not_counted():
    front = soak(12_000)
    records = front.run(None)
    assert records.steps.sum() > 100_000
    assert records.fleet.failures["device"] > 20
    assert records.fleet.failures["link"] > 20
    assert len(records.fleet.scalings) > 20
    assert records.retries.sum() > 50
    assert records.lost.any() or records.shed.any()
    states = (records.finished, records.running, records.queued, records.rejected, records.lost)
    assert np.all(sum(state.astype(int) for state in states) == 1)
    assert not (records.running | records.queued).any()
    assert np.all(
        records.produced_tokens[records.finished] == records.output_tokens[records.finished]
    )
    # and nobody remembers them
    assert not front._home
    assert not front._transit
    assert not any(front._on)
    assert not front.fleet.agenda._due or len(front.fleet.agenda) <= 12 + 2 + 3
    assert all(pool.outstanding == 0 and not pool.waiting for pool in front._operated)
    assert all(pool.available.outstanding(n) == 0 for pool in front._operated for n in range(3))


def test_memory_grows_by_the_columns_of_a_request_alone():
    def peak_bytes(requests):
        front = soak(requests)
        tracemalloc.start()
        front.run(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = peak_bytes(1000), peak_bytes(4000)
    # ten columns of eight bytes, twice while they are frozen, and what happened to the fleet
    assert (many - few) / 3000 < 400
