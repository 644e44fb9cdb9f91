"""Tokens sent several at a time: what the client sees of an answer."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.serving import AffineTiming, ReplicaConfig, RequestStream, simulate, summarise
from planner.serving.meter import BIN_WIDTH
from planner.serving.reference import simulate_per_step
from tests.serving.test_engines_agree import CONFIGS, RULES, TIMINGS, open_streams, some_fit

CONFIG = ReplicaConfig(ranks=1, max_sequences=8, max_step_tokens=100, kv_capacity_tokens=10_000)
STEPS = AffineTiming(base_s=0.1)


def one(answer: int, **rules: object) -> object:
    stream = RequestStream(np.zeros(1), np.array([10]), np.array([answer]))
    return simulate(stream, STEPS, dataclasses.replace(CONFIG, **rules))  # type: ignore[arg-type]


def gaps(records: object) -> list[float]:
    found = []
    for index, count in zip(records.gap_bins, records.gap_counts, strict=True):  # type: ignore[attr-defined]
        found += [round(float(np.exp((index + 0.5) * BIN_WIDTH)), 2)] * int(count)
    return found


def test_an_answer_of_12_tokens_comes_as_1_5_5_and_1() -> None:
    records = one(12, stream_interval_tokens=5)
    assert gaps(records) == [0.1, 0.5, 0.5]
    assert records.gap_mean_s == pytest.approx(1.1 / 3)  # type: ignore[attr-defined]


def test_an_engine_that_counts_its_steps_sends_up_to_the_fifth_token_first() -> None:
    records = one(12, stream_interval_tokens=5, stream_counts_first=False)
    assert gaps(records) == [0.2, 0.4, 0.5]  # 1, 5, 10, 12


def test_an_answer_shorter_than_the_interval_comes_in_two_parts() -> None:
    assert gaps(one(4, stream_interval_tokens=30)) == [0.3]
    assert gaps(one(1, stream_interval_tokens=30)) == []


def test_first_token_and_time_per_token_are_those_of_every_token_sent_alone() -> None:
    alone, together = (summarise(one(40, stream_interval_tokens=k)) for k in (1, 10))  # type: ignore[arg-type]
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        assert getattr(together, name).mean == getattr(alone, name).mean
    assert together.itl_s.p99 == pytest.approx(10 * alone.itl_s.p99, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(open_streams(), TIMINGS, CONFIGS, RULES, st.integers(2, 12))
def test_gaps_between_parts_add_up_to_the_gaps_between_tokens(
    stream: RequestStream, timing: AffineTiming, config: ReplicaConfig, rules: dict[str, object],
    interval: int,
) -> None:  # fmt: skip
    stream = dataclasses.replace(stream, warmup_requests=0)  # every gap counts
    config = dataclasses.replace(config, **rules)  # type: ignore[arg-type]
    if not some_fit(stream, config):
        return
    alone, together = (
        simulate(stream, timing, dataclasses.replace(config, stream_interval_tokens=k))
        for k in (1, interval)
    )
    for field in ("first_token_s", "finish_s", "admitted_s", "busy_s"):
        np.testing.assert_array_equal(getattr(alone, field), getattr(together, field))
    sums = [
        r.gap_mean_s * r.gap_counts.sum() if r.gap_counts.sum() else 0.0 for r in (alone, together)
    ]
    assert sums[1] == pytest.approx(sums[0])


def test_a_preempted_answer_goes_on_where_it_was() -> None:
    # room for two prompts of 10 but not for both answers: the second is computed again
    config = dataclasses.replace(
        CONFIG, kv_capacity_tokens=40, answer_reserve_share=0.0, preemption="recompute",
        stream_interval_tokens=4,
    )  # fmt: skip
    stream = RequestStream(np.zeros(2), np.array([10, 10]), np.array([20, 20]))
    jump, plain = (run(stream, STEPS, config) for run in (simulate, simulate_per_step))
    assert jump.preemptions.sum() > 0
    assert gaps(jump) == gaps(plain)
    # 1, 5, 9, 13, 17, 20 of each
    assert jump.gap_counts.sum() == 10
