"""A run's summary says what its requests went through."""

import dataclasses
import math

import numpy as np
import pytest

from planner.errors import InputError
from planner.serving import AffineTiming, ReplicaConfig, RequestStream, simulate, summarise
from planner.serving.metrics import request_limits
from planner.specs.workload import Slo

SECOND = AffineTiming(base_s=1.0, power_w=5.0)
ONE_SLOT = ReplicaConfig(1, max_sequences=1, max_step_tokens=100, kv_capacity_tokens=100)


def stream(*rows, **warmup):
    arrival_s, inputs, outputs = zip(*rows, strict=True)
    return RequestStream(np.array(arrival_s, float), np.array(inputs), np.array(outputs), **warmup)


def three_requests(**warmup):
    """One slot: served 0-3, 3-5 and 10-11; first tokens at 1, 4 and 11."""
    rows = stream((0.0, 6, 3), (1.0, 7, 2), (10.0, 8, 1), **warmup)
    return simulate(rows, SECOND, ONE_SLOT)


def test_latencies_are_as_defined():
    metrics = summarise(three_requests())
    assert metrics.ttft_s.mean == pytest.approx((1 + 3 + 1) / 3)
    assert metrics.ttft_s.p50 == 1.0
    assert metrics.queue_s.mean == pytest.approx(2 / 3)
    assert metrics.e2e_s.mean == pytest.approx((3 + 4 + 1) / 3)
    assert metrics.tpot_s.count == 2, "an answer of one token has no time per further token"
    assert metrics.tpot_s.mean == 1.0
    assert metrics.itl_s.count == 3
    assert metrics.itl_s.mean == 1.0
    assert metrics.itl_s.p99 == pytest.approx(1.0, rel=0.005)


def test_throughput_is_over_first_arrival_to_last_answer_and_steady_without_the_drain():
    metrics = summarise(three_requests())
    assert metrics.throughput.window_s == 11.0
    assert metrics.throughput.requests_per_s == pytest.approx(3 / 11)
    assert metrics.throughput.input_tokens_per_s == pytest.approx(21 / 11)
    assert metrics.throughput.output_tokens_per_s == pytest.approx(6 / 11)
    assert metrics.steady.window_s == 10.0
    assert metrics.steady.requests_per_s == pytest.approx(2 / 10)
    assert metrics.steady.input_tokens_per_s == pytest.approx(13 / 10)
    assert metrics.steady.output_tokens_per_s == pytest.approx(5 / 10)
    assert metrics.busy_share == pytest.approx(5 / 10)
    assert metrics.mean_running == pytest.approx(5 / 10)
    assert metrics.mean_queue == pytest.approx(2 / 10)
    assert metrics.max_queue == 1
    assert metrics.energy_j == pytest.approx(30.0)


def test_a_warm_up_is_served_but_not_counted():
    for warmup in ({"warmup_requests": 1}, {"warmup_s": 0.5}):
        metrics = summarise(three_requests(**warmup))
        assert metrics.arrived == 2
        assert metrics.ttft_s.mean == pytest.approx(2.0)
        assert metrics.itl_s.count == 3, "the first answer's gaps end after the first arrival"
    late = summarise(three_requests(warmup_requests=2))
    assert late.itl_s.count == 0
    assert math.isnan(late.itl_s.mean)
    with pytest.raises(InputError, match="leaves no request to count"):
        summarise(three_requests(warmup_requests=3))


def test_promises_name_the_value_and_the_limit():
    metrics = summarise(three_requests(), Slo(ttft_p50_s=1.0, ttft_p95_s=2.0, e2e_p99_s=10.0))
    assert not metrics.slo_met
    assert [promise.name for promise in metrics.promises] == [
        "ttft_p50_s",
        "ttft_p95_s",
        "e2e_p99_s",
    ]
    (broken,) = metrics.broken
    assert (broken.name, broken.limit_s) == ("ttft_p95_s", 2.0)
    assert broken.value_s == metrics.ttft_s.p95


def test_goodput_counts_requests_within_every_limit():
    metrics = summarise(three_requests(), Slo(ttft_p95_s=2.0, tpot_p95_s=1.0))
    assert metrics.good_share == pytest.approx(2 / 3)
    assert metrics.goodput_requests_per_s == pytest.approx(2 / 10)
    strict = summarise(three_requests(), Slo(tpot_p95_s=0.5))
    assert strict.good_share == pytest.approx(1 / 3), "one token has no pace to miss"
    assert summarise(three_requests()).good_share == 1.0


def test_a_request_is_held_to_the_95th_percentile_or_the_highest_promised():
    limits = request_limits(
        Slo(ttft_p50_s=1.0, ttft_p95_s=2.0, ttft_p99_s=3.0, tpot_p50_s=0.1, tpot_p90_s=0.2)
    )
    assert limits == {"ttft": 2.0, "tpot": 0.2}
    assert request_limits(None) == {}


def test_a_rejected_request_is_infinitely_late():
    rows = stream((0.0, 6, 3), (1.0, 6, 300), (10.0, 8, 1))
    metrics = summarise(simulate(rows, SECOND, ONE_SLOT), Slo(ttft_p50_s=1.0, ttft_p99_s=100.0))
    assert (metrics.arrived, metrics.finished, metrics.rejected) == (3, 2, 1)
    assert [promise.value_s for promise in metrics.promises] == [1.0, math.inf]
    assert metrics.good_share == pytest.approx(2 / 3)
    assert metrics.ttft_s.count == 2


def test_a_request_left_at_the_horizon_breaks_its_promises():
    rows = stream((0.0, 6, 50), (1.0, 6, 2))
    records = simulate(rows, SECOND, ONE_SLOT, horizon_s=20.5)
    metrics = summarise(records, Slo(e2e_p95_s=1000.0, ttft_p50_s=1000.0))
    assert metrics.unfinished == 2
    assert metrics.finished == 0
    assert not metrics.slo_met
    assert metrics.throughput.output_tokens_per_s == 0.0
    assert metrics.steady.output_tokens_per_s == pytest.approx(1.0), "tokens of its 1 s window"


def test_requests_that_arrive_at_once_have_the_whole_run_as_their_window():
    metrics = summarise(simulate(stream((0.0, 6, 3), (0.0, 6, 3)), SECOND, ONE_SLOT))
    assert metrics.steady.window_s == 6.0
    assert metrics.steady.output_tokens_per_s == metrics.throughput.output_tokens_per_s == 1.0


def independent(count):
    """Records whose times to first token are independent and uniform on (0, 1)."""
    rng = np.random.default_rng(5)
    tokens = np.ones(count, np.int64)
    records = simulate(RequestStream(np.arange(count) * 5.0, tokens, tokens), SECOND, ONE_SLOT)
    return dataclasses.replace(records, first_token_s=records.arrival_s + rng.random(count))


def test_half_widths_of_independent_values_are_the_textbooks():
    metrics = summarise(independent(20_000))
    widths = metrics.ttft_s.half_width
    error = math.sqrt(1 / 12 / 20_000)
    assert widths.mean == pytest.approx(2.093 * error, rel=0.5)
    # the standard error of a quantile q of a uniform is sqrt(q (1 - q) / n)
    assert widths.p95 == pytest.approx(2.093 * math.sqrt(0.95 * 0.05 / 20_000), rel=0.5)
    assert abs(metrics.ttft_s.p95 - 0.95) < 2 * widths.p95


def test_a_run_too_short_for_a_percentile_says_so():
    widths = summarise(independent(1_000)).ttft_s.half_width
    assert widths.p99 is None
    assert widths.p95 is not None
    assert summarise(independent(10)).ttft_s.half_width.mean is None
