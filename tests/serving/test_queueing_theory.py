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


def test_one_slot_and_any_service_waits_as_pollaczek_and_khinchine_say():
    load, step_s = 0.6, 1e-2

    def mean_wait(rng):
        requests = 5000
        # one in ten takes 5.5 s on average, the others 0.5 s: a variance of 5 around a mean of 1
        means = np.where(rng.random(requests) < 0.1, 5.5, 0.5)
        tokens = steps_of(rng.exponential(means), step_s)
        records = simulate(
            poisson_stream(rng, requests, load, tokens), AffineTiming(base_s=step_s), config(1)
        )
        return float((records.admitted_s - records.arrival_s)[1000:].mean())

    mean, half_width = interval(mean_wait)
    second_moment = 2 * (0.1 * 5.5**2 + 0.9 * 0.5**2)
    theory = load * second_moment / (2 * (1 - load))
    assert theory == pytest.approx(4.875)
    # a step at least, and times rounded to steps: about half a step more
    assert mean == pytest.approx(theory, abs=half_width + 5 * step_s)
    assert half_width < 0.2 * mean


@pytest.mark.parametrize("replicas", [1, 3])
def test_littles_law_holds_for_every_queue(replicas):
    """What is there on average is what comes a second times how long it stays."""
    timing = AffineTiming(base_s=0.01, per_sequence_s=2e-3, per_prefill_token_s=1e-4)

    def gaps(rng):
        requests = 2000
        stream = RequestStream(
            np.cumsum(rng.exponential(0.16 / replicas, requests)),
            rng.integers(1, 200, requests),
            rng.integers(1, 60, requests),
        )
        records = simulate(stream, timing, config(6), replicas=replicas)
        begin_s, end_s = stream.arrival_s[400], stream.arrival_s[-1]
        mine = slice(400, None)
        rate = (requests - 400) / (end_s - begin_s)
        waits = float((records.admitted_s - records.arrival_s)[mine].mean())
        stays = float((records.finish_s - records.admitted_s)[mine].mean())
        return (
            records.mean_queue(begin_s, end_s) - rate * waits,
            records.mean_running(begin_s, end_s) - rate * stays,
            records.mean_queue(begin_s, end_s),
            records.mean_running(begin_s, end_s),
        )

    values = np.array([gaps(np.random.default_rng(seed)) for seed in range(REPLICATIONS)])
    t = stats.t.ppf(0.995, REPLICATIONS - 1)
    half_widths = t * values.std(ddof=1, axis=0) / math.sqrt(REPLICATIONS)
    queue_gap, running_gap, queue, running = values.mean(axis=0)
    assert queue > 0.05
    assert abs(queue_gap) <= half_widths[0]
    assert abs(running_gap) <= half_widths[1] + 1e-3 * running
    assert half_widths[0] < 0.1 * queue
    assert half_widths[1] < 0.01 * running
