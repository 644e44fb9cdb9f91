"""With simple timings a replica is a queue whose mean waits are known.

Each check is over independent replications: theory must lie in the 99 % interval of their mean.
"""

import math

import numpy as np
import pytest
from scipy import stats

from planner.serving import AffineTiming, ReplicaConfig, RequestStream, simulate

REPLICATIONS = 24


def interval(sample):
    """Return mean and half-width over replications with seeds 0, 1, ..."""
    values = np.array([sample(np.random.default_rng(seed)) for seed in range(REPLICATIONS)])
    t = stats.t.ppf(0.995, REPLICATIONS - 1)
    return values.mean(), t * values.std(ddof=1) / math.sqrt(REPLICATIONS)


def poisson_stream(rng, requests, requests_per_s, output_tokens):
    arrival_s = np.cumsum(rng.exponential(1 / requests_per_s, requests))
    return RequestStream(arrival_s, np.ones(requests, np.int64), output_tokens)


def config(slots):
    return ReplicaConfig(1, slots, max_step_tokens=10**6, kv_capacity_tokens=10**9)


def steps_of(service_s, step_s):
    return np.maximum(1, np.rint(service_s / step_s)).astype(np.int64)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_slot_and_fixed_service_waits_like_m_d_1(load):
    def mean_wait(rng):
        requests = 6000
        stream = poisson_stream(rng, requests, load, np.ones(requests, np.int64))
        records = simulate(stream, AffineTiming(base_s=1.0), config(1))
        return float((records.admitted_s - records.arrival_s)[1000:].mean())

    mean, half_width = interval(mean_wait)
    # Pollaczek-Khinchine with no variance of service
    assert mean == pytest.approx(load / (2 * (1 - load)), abs=half_width)
    assert half_width < 0.1 * mean


def erlang_c_wait_s(servers, offered):
    """Return the mean wait of M/M/c with a mean service of 1 s."""
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (below + last) / (servers - offered)


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.7), (4, 3.2)])
def test_slots_that_do_not_slow_each_other_wait_like_m_m_c(servers, offered):
    step_s = 1e-3  # an exponential service of 1 s in steps of 1 ms

    def mean_wait(rng):
        requests = 6000
        tokens = steps_of(rng.exponential(1.0, requests), step_s)
        records = simulate(
            poisson_stream(rng, requests, offered, tokens),
            AffineTiming(base_s=step_s),
            config(servers),
        )
        return float((records.admitted_s - records.arrival_s)[1000:].mean())

    mean, half_width = interval(mean_wait)
    # an arrival waits for the end of the step in progress: at most one step more
    assert mean == pytest.approx(erlang_c_wait_s(servers, offered), abs=half_width + step_s)
    assert half_width < 0.15 * mean


@pytest.mark.parametrize("service", ["fixed", "exponential"])
def test_steps_as_long_as_their_batch_share_the_processor(service):
    """The mean answer time of M/G/1 processor sharing depends on the mean service only."""
    load, token_s = 0.6, 1e-3

    def mean_answer(rng):
        requests = 5000
        service_s = rng.exponential(1.0, requests) if service == "exponential" else 1.0
        tokens = np.broadcast_to(steps_of(service_s, token_s), requests)
        records = simulate(
            poisson_stream(rng, requests, load, tokens),
            AffineTiming(base_s=1e-9, per_sequence_s=token_s),
            config(1000),
        )
        return float((records.finish_s - records.arrival_s)[1000:].mean())

    mean, half_width = interval(mean_answer)
    # a step of up to a few ms passes before an arrival takes part
    assert mean == pytest.approx(1.0 / (1.0 - load), abs=half_width + 5 * token_s)
    assert half_width < 0.1 * mean


def test_time_spent_decoding_is_the_same_summed_over_requests_or_over_steps():
    """Little's law for the decoding stage, exact in every run."""
    rng = np.random.default_rng(3)
    requests = 500
    stream = RequestStream(
        np.cumsum(rng.exponential(0.3, requests)),
        rng.integers(1, 400, requests),
        rng.integers(1, 200, requests),
    )
    timing = AffineTiming(base_s=0.012, per_sequence_s=1e-3, per_context_token_s=1e-6)
    for ranks in (1, 4):
        config = ReplicaConfig(ranks, 16, 256, 5000, cap_tokens=300)
        records = simulate(stream, timing, config)
        spent_s = float((records.finish_s - records.first_token_s).sum())
        gaps = int((records.output_tokens - 1).sum())
        assert records.gap_counts.sum() == gaps
        assert records.gap_mean_s * gaps == pytest.approx(spent_s, rel=1e-9)
