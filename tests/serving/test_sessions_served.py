"""Conversations in the event loop: turns that wait for answers, and what they find in caches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving import (
    AffineTiming,
    Cluster,
    PoolSetup,
    ReplicaConfig,
    generate,
    simulate,
    simulate_cluster,
)
from planner.serving.reference import PlainReplica
from planner.specs.workload import Run, Workload
from tests.serving.test_engines_agree import TIMINGS, same_requests, sums_agree

BLOCK = 16
FIXED = {"input": {"kind": "fixed", "tokens": 96}, "output": {"kind": "fixed", "tokens": 64}}
DRAWN = {
    "input": {"kind": "uniform", "low_tokens": 1, "high_tokens": 60},
    "output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 30},
}
TIMING = AffineTiming(base_s=0.01, per_prefill_token_s=1e-3)
ROOMY = ReplicaConfig(1, 64, 4096, 10**9, prefix_cache=True)


def talks(lengths=FIXED, shares=(), **options) -> Workload:
    arrivals = {
        "kind": "sessions", "sessions_per_s": 1.0, "mean_turns": 4.0, "mean_think_s": 5.0,
        "max_context_tokens": 10**5, "block_tokens": BLOCK,
    }  # fmt: skip
    return Workload.model_validate(
        {"arrivals": arrivals | options, "lengths": [lengths], "priority_shares": shares}
    )


def test_a_turn_is_sent_when_the_one_before_is_answered_and_thought_about():
    stream = generate(talks(), Run(duration_s=300, seed=3))
    records = simulate(stream, TIMING, ROOMY)
    turns = stream.turns
    followers = turns.follower[turns.follower >= 0]
    answered = 0
    for pause_s in turns.pause_s[followers].tolist():
        gap_s = records.arrival_s[:, None] - records.finish_s[None, :] - pause_s
        turn, before = np.nonzero(np.abs(gap_s) < 1e-9)
        whole = records.input_tokens + records.output_tokens
        answered += int((records.input_tokens[turn] == whole[before] + 96).any())
    assert answered == int((records.input_tokens > 96).sum()) > 500


def test_a_later_turn_computes_only_what_is_new():
    stream = generate(talks(mean_think_s=0.5), Run(duration_s=200, seed=1))
    records = simulate(stream, TIMING, ROOMY)
    later = records.input_tokens > 96
    # turn k holds prompt and answer but for the last token's KV: of 160 k tokens a block less
    before = records.input_tokens[later] - 96
    np.testing.assert_array_equal(records.prefix.found_tokens[later], (before - 1) // BLOCK * BLOCK)
    assert not records.prefix.found_tokens[~later].any()
    assert records.prefix.evicted_tokens == 0


def test_a_shared_prefix_is_computed_once():
    work = talks(shared_prefix={"kind": "fixed", "tokens": 160}, mean_turns=1.0, mean_think_s=1.0)
    records = simulate(generate(work, Run(duration_s=100)), TIMING, ROOMY)
    assert records.prefix.found_tokens[0] == 0
    assert (records.prefix.found_tokens[records.arrival_s > 1 + records.arrival_s[0]] == 160).all()


def test_slow_answers_slow_conversations_down_but_not_turns_at_drawn_times():
    slow, fast = AffineTiming(base_s=0.2), AffineTiming(base_s=0.001)
    config = ReplicaConfig(1, 1000, 4096, 10**9)
    ends = {}
    for name, pause in (("think", {"mean_think_s": 5.0}), ("gap", {"mean_turn_gap_s": 5.0})):
        options = {"mean_think_s": None} | pause
        for speed, timing in (("slow", slow), ("fast", fast)):
            stream = generate(talks(**options), Run(duration_s=200, seed=2))
            ends[name, speed] = len(simulate(stream, timing, config).arrival_s)
    assert ends["think", "slow"] < ends["think", "fast"]
    assert ends["gap", "slow"] == ends["gap", "fast"]


def test_conversations_without_a_prefix_say_so_where_a_cache_asks():
    work = Workload.model_validate(
        {"arrivals": {"kind": "poisson", "requests_per_s": 1.0}, "lengths": [FIXED]}
    )
    with pytest.raises(InputError, match="prompts start alike"):
        simulate(generate(work, Run(requests=5)), TIMING, ROOMY)
    closed = Workload.model_validate(
        {"arrivals": {"kind": "closed_loop", "concurrency": 2}, "lengths": [FIXED]}
    )
    with pytest.raises(InputError, match="prompts start alike"):
        simulate(generate(closed, Run(requests=5)), TIMING, ROOMY)


@settings(max_examples=60, deadline=None)
@given(TIMINGS, st.integers(1, 3), st.integers(0, 99), st.booleans(), st.sampled_from([120, 400]))
def test_both_engines_agree_on_conversations(timing, replicas, seed, caches, capacity):
    work = talks(
        DRAWN, (0.6, 0.4), max_context_tokens=110, mean_think_s=0.4,
        shared_prefix={"kind": "fixed", "tokens": 20},
    )  # fmt: skip
    config = ReplicaConfig(
        1, 3, 40, capacity, prefix_cache=caches, answer_reserve_share=0.2, preemption="recompute"
    )
    router = "prefix_aware" if caches else "least_requests"
    cluster = Cluster((PoolSetup(timing, config, replicas, router),))
    jump, plain = (
        simulate_cluster(generate(work, Run(requests=40, seed=seed)), cluster, **engine)
        for engine in ({}, {"engine": PlainReplica})
    )
    sums_agree(*same_requests(jump, plain))
    np.testing.assert_array_equal(jump.priority, plain.priority)
    assert jump.finished.all()
