"""Prefix caches in the event loop: by hand, by law, and what a published trace allows."""

from pathlib import Path

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
    RequestStream,
    simulate,
    simulate_cluster,
)
from planner.serving.clock import Clock, Ledger
from planner.serving.engine import Replica
from planner.serving.prefix_ledger import PrefixLedger
from planner.serving.prefix_tier import TierSetup
from planner.serving.reference import PlainReplica
from planner.serving.site import Site
from planner.serving.summaries import class_summaries, prefix_summary
from planner.specs.requests import PrefixBlocks
from planner.workloads import read_trace

BLOCK = 10
TOKENS = AffineTiming(base_s=1.0, per_prefill_token_s=0.1)
"""A step takes 1 s, and 0.1 s for each prompt token."""
TRACE = Path("scenarios/workloads/traces/mooncake-conversation.jsonl.xz")


def config(capacity=1000, slots=4, **rules) -> ReplicaConfig:
    return ReplicaConfig(1, slots, 1000, capacity, prefix_cache=True, **rules)


def stream(*requests, covers=False, priority=None) -> RequestStream:
    """Requests as (arrival, prompt, answer, ids)."""
    arrival_s, inputs, outputs, ids = zip(*requests, strict=True)
    offsets = np.cumsum([0, *map(len, ids)])
    names = PrefixBlocks(BLOCK, np.array([i for r in ids for i in r], np.int64), offsets, covers)
    return RequestStream(
        np.array(arrival_s, float), np.array(inputs), np.array(outputs), prefixes=names,
        priority=None if priority is None else np.array(priority),
    )  # fmt: skip


def test_only_tokens_that_are_not_cached_are_computed():
    records = simulate(stream((0, 30, 1, [1, 2, 3]), (10, 30, 1, [1, 2, 4])), TOKENS, config())
    # 30 tokens: 1 + 3 s; then 10 tokens: 1 + 1 s
    np.testing.assert_allclose(records.finish_s, [4.0, 12.0])
    assert records.prefix.found_tokens.tolist() == [0, 20]
    assert records.prefix.computed_tokens == 40


def test_the_last_token_of_a_prompt_is_always_computed():
    records = simulate(stream((0, 30, 1, [1, 2, 3]), (10, 30, 1, [1, 2, 3])), TOKENS, config())
    np.testing.assert_allclose(records.finish_s, [4.0, 11.1])
    assert records.prefix.found_tokens.tolist() == [0, 29]


def test_requests_of_one_step_find_nothing_of_each_other_but_those_of_the_next_do():
    together = stream((0, 30, 9, [1, 2, 3]), (0, 30, 9, [1, 2, 3]), (5, 30, 9, [1, 2, 3]))
    records = simulate(together, TOKENS, config())
    # both prompts in one step of 1 + 6 s; the third finds what still runs
    assert records.prefix.found_tokens.tolist() == [0, 0, 29]
    assert records.admitted_s.tolist() == [0.0, 0.0, 7.0]


def test_a_prompt_waits_for_a_step_with_tokens_left_and_finds_more_then():
    narrow = ReplicaConfig(1, 4, 30, 1000, prefix_cache=True)
    records = simulate(stream((0, 30, 1, [1, 2, 3]), (0, 40, 1, [1, 2, 3, 4])), TOKENS, narrow)
    assert records.admitted_s.tolist() == [0.0, 4.0]
    assert records.prefix.found_tokens.tolist() == [0, 30]


def test_an_answer_is_kept_but_for_its_last_token():
    talk = stream((0, 15, 16, [1, 2, 3]), (99, 50, 1, [1, 2, 3, 4]), covers=True)
    records = simulate(talk, TOKENS, config())
    # 15 + 16 - 1 tokens have KV: three blocks
    assert records.prefix.found_tokens.tolist() == [0, 30]
    short = stream((0, 15, 15, [1, 2, 3]), (99, 50, 1, [1, 2, 3, 4]), covers=True)
    assert simulate(short, TOKENS, config()).prefix.found_tokens.tolist() == [0, 20]


def test_running_requests_push_cached_blocks_out_the_oldest_first():
    rows = (
        (0, 30, 1, [1, 2, 3]), (10, 30, 1, [4, 5, 6]),
        (20, 40, 11, [7, 8, 9, 10]),  # grows to 50 of 100: room for 5 of 6 blocks beside it
        (60, 30, 1, [4, 5, 6]), (70, 31, 1, [1, 2, 3, 13]),
    )  # fmt: skip
    records = simulate(stream(*rows), TOKENS, config(capacity=100))
    assert records.prefix.found_tokens.tolist() == [0, 0, 0, 29, 20]
    assert records.prefix.evicted_tokens >= 10


def test_shared_blocks_are_held_once_so_more_requests_fit():
    rows = [(0, 40, 2, [1, 2, 3, 4])]
    rows += [(100, 41, 20, [1, 2, 3, 4, 10 + i]) for i in range(3)]
    shared = simulate(stream(*rows), TOKENS, config(capacity=110))
    alone = simulate(
        RequestStream(*(np.array([row[i] for row in rows]) for i in range(3))),
        TOKENS, ReplicaConfig(1, 4, 1000, 110),
    )  # fmt: skip
    # 40 tokens once and 21 each, beside 61 each
    assert np.sum(shared.admitted_s[1:] == 100.0) == 3
    assert np.sum(alone.admitted_s[1:] == 100.0) == 1
    assert shared.mean_kv_tokens() < alone.mean_kv_tokens()


def test_what_the_replica_lacks_comes_from_the_store_and_takes_its_time():
    rows = stream((0, 30, 1, [1, 2, 3]), (10, 30, 1, [1, 2, 3]), (10, 30, 1, [1, 2, 3]))
    tier = TierSetup(1000, s_per_token=0.5, latency_s=2.0, common=True)
    pool = PoolSetup(TOKENS, config(slots=1), 2, "round_robin", tier)
    records = simulate_cluster(rows, Cluster((pool,)))
    # the second goes to the other replica: 29 tokens in 14.5 + 2 s, then 1 + 0.1 s
    np.testing.assert_allclose(records.finish_s, [4.0, 10 + 16.5 + 1.1, 11.1])
    assert records.prefix.loaded_tokens.tolist() == [0, 29, 0]
    assert records.prefix.load_s.tolist() == [0.0, 16.5, 0.0]
    summary = prefix_summary(records)
    assert summary.tier_hit_token_share == pytest.approx(29 / 90)
    assert summary.device_hit_token_share == pytest.approx(29 / 90)
    assert summary.hit_block_share == pytest.approx(6 / 9)
    assert (summary.loads, summary.mean_load_s) == (1, 16.5)


def test_stores_of_their_own_know_nothing_of_each_other():
    rows = stream((0, 30, 1, [1, 2, 3]), (10, 30, 1, [1, 2, 3]))
    tier = TierSetup(1000, s_per_token=0.5)
    pool = PoolSetup(TOKENS, config(), 2, "round_robin", tier)
    assert not simulate_cluster(rows, Cluster((pool,))).prefix.loaded_tokens.any()


@pytest.mark.parametrize("engine", [Replica, PlainReplica])
def test_a_failed_replica_has_forgotten_its_cache(engine):
    clock, ledger = Clock(), Ledger()
    names = PrefixBlocks(BLOCK, np.array([1, 2, 3, 1, 2, 3]), np.array([0, 3, 6]))
    for column in (ledger.input_tokens, ledger.prompts):
        column.extend([30, 30])
    for column in (ledger.output_tokens, ledger.answers, ledger.replica):
        column.extend([1, 1])
    ledger.arrival_s.extend([0.0, 0.0])
    ledger.expect(2)
    ledger.prefixes = PrefixLedger(names, ledger.input_tokens)
    ledger.prefixes.expect(range(2))
    ledger.cached = ledger.output_tokens[:]
    site = Site(clock, ledger, TOKENS, config(), lambda *answer: None)
    replica = engine(0, site)
    replica.submit(0, 0.0)
    clock.run_out()
    assert replica.match(1, 5.0) == 29
    replica.fail(5.0)
    assert replica.match(1, 5.0) == 0


def test_mooncake_through_the_event_loop_finds_what_the_trace_allows():
    table = read_trace(TRACE)
    rows = RequestStream(
        table.arrival_s, table.input_tokens, table.output_tokens, prefixes=table.prefixes
    )
    one_at_a_time = ReplicaConfig(1, 1, 8192, 10**12, prefix_cache=True)
    found = prefix_summary(simulate(rows, AffineTiming(base_s=1e-6), one_at_a_time))
    assert found.hit_block_share == pytest.approx(0.366, abs=5e-4)
    assert found.hit_token_share == pytest.approx(0.374, abs=5e-4)
    assert found.computed_tokens == pytest.approx(found.input_tokens * (1 - found.hit_token_share))


@st.composite
def families(draw):
    """Requests one after the other, prompts of a few families, answers of one token."""
    rows = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=2, max_size=25))
    return [(100.0 * i, 10 * n, 1, [10 * family + k for k in range(n)])
            for i, (family, n) in enumerate(rows)]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(families(), st.integers(62, 400), st.integers(62, 400))
def test_a_smaller_cache_never_finds_more(rows, one, other):
    found = [
        simulate(stream(*rows), TOKENS, config(capacity=capacity, slots=1)).prefix.found_tokens
        for capacity in sorted((one, other))
    ]
    assert np.all(found[0] <= found[1])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=40),
    st.integers(1, 3), st.sampled_from(["mixed", "prefill_first"]),
)  # fmt: skip
def test_a_more_urgent_request_never_waits_longer_than_a_like_one_that_came_no_sooner(
    rows, slots, policy
):
    gaps, classes = zip(*rows, strict=True)
    lengths = np.full(len(rows), 20)
    requests = RequestStream(
        np.cumsum(gaps).astype(float), lengths, lengths, priority=np.array(classes)
    )
    rules = ReplicaConfig(1, slots, 1000, 10**6, policy=policy)
    records = simulate(requests, TOKENS, rules)
    for i in range(len(rows)):
        later = (records.arrival_s >= records.arrival_s[i]) & (records.priority > classes[i])
        assert np.all(records.admitted_s[i] <= records.admitted_s[later])
    assert [c.priority for c in class_summaries(records)] == sorted(set(classes))
    assert sum(c.arrived for c in class_summaries(records)) == len(rows)


def test_a_cache_and_a_stated_share_exclude_each_other():
    with pytest.raises(InputError, match="exclude each other"):
        config(cached_input_share=0.3)
    with pytest.raises(InputError, match="computes prompts"):
        config(role="decode")
    with pytest.raises(InputError, match="needs a prefix cache"):
        Cluster((PoolSetup(TOKENS, ReplicaConfig(1, 1, 10, 10), 2, "prefix_aware"),))
