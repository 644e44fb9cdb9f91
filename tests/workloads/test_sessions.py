"""Conversations: growing prompts, shared prefixes, stationary from the first second."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving import generate
from planner.specs.workload import Run, Workload
from planner.workloads import converse, describe, measured_traffic

FIXED = {"input": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 60}}


def sessions(lengths=FIXED, **options) -> Workload:
    arrivals = {
        "kind": "sessions", "sessions_per_s": 1.0, "mean_turns": 4.0, "mean_turn_gap_s": 30.0,
        "max_context_tokens": 10**6, "block_tokens": 16,
    }  # fmt: skip
    return Workload.model_validate({"arrivals": arrivals | options, "lengths": [lengths]})


def turn_of(table, prefix: int) -> np.ndarray:
    return (table.input_tokens - prefix - 100) // 160


def test_each_turn_brings_all_that_was_said_before():
    table = converse(sessions(shared_prefix={"kind": "fixed", "tokens": 50}), Run(duration_s=600))
    assert set((table.input_tokens - 150) % 160) == {0}  # 50 + 100, and 160 a turn
    assert set(table.output_tokens) == {60}
    counts = np.diff(table.prefixes.offsets)
    assert (counts == (table.input_tokens + 60) // 16).all()


def test_a_turn_finds_exactly_the_full_blocks_of_the_turn_before():
    """Alone in the cache, turn k + 1 finds what turn k left: prompt and answer, full blocks."""
    table = converse(sessions(), Run(duration_s=3000))
    place: dict[int, list[int]] = {}
    for request in range(len(table)):
        place.setdefault(table.prefixes.of(request)[0], []).append(request)
    compared = 0
    for turns in place.values():
        for before, after in itertools.pairwise(turns):
            old, new = table.prefixes.of(before), table.prefixes.of(after)
            assert new[: len(old)] == old
            assert table.input_tokens[after] == table.input_tokens[before] + 160
            compared += 1
    assert compared > 1000


def test_turns_are_geometric_and_the_stream_starts_in_mid_conversation():
    table = converse(sessions(), Run(duration_s=20_000))
    turn = turn_of(table, 0)
    assert turn.mean() == pytest.approx(3.0, abs=0.1)  # m - 1 turns before a turn, on average
    assert len(table) / 20_000 == pytest.approx(4.0, rel=0.05)
    early, late = turn[table.arrival_s < 300], turn[table.arrival_s > 19_700]
    assert early.mean() == pytest.approx(late.mean(), abs=0.8)
    assert (early > 0).any()


def test_reuse_has_the_share_that_the_turns_imply():
    """Unlimited cache: of (k - 1) 160 + 100 prompt tokens all but the last 100 were there."""
    table = converse(sessions(mean_turns=5.0, block_tokens=20), Run(duration_s=8000))
    found = describe(table).reuse.token_share
    assert found == pytest.approx(4 * 160 / (4 * 160 + 100), rel=0.02)


def test_single_turns_share_only_the_system_prompt():
    table = converse(
        sessions(mean_turns=1.0, shared_prefix={"kind": "fixed", "tokens": 64}, groups=3),
        Run(requests=2000),
    )
    reuse = describe(table).reuse
    assert set(table.input_tokens) == {164}
    assert reuse.hit_blocks == (2000 - 3) * 4  # 64 tokens are 4 blocks; each group misses once
    assert len({table.prefixes.of(i)[0] for i in range(2000)}) == 3


def test_a_conversation_ends_at_the_context_limit():
    table = converse(sessions(max_context_tokens=500), Run(requests=4000))
    assert len(table) == 4000
    assert (table.input_tokens + table.output_tokens).max() == 480
    with pytest.raises(InputError, match="less than every first turn; the shortest has 160"):
        converse(sessions(max_context_tokens=100), Run(requests=10))


def test_more_requests_are_the_same_and_more():
    few = converse(sessions(), Run(requests=100))
    many = converse(sessions(), Run(requests=5000))
    assert few == many.take(np.arange(100))
    stream = generate(sessions(), Run(requests=100))
    assert (stream.arrival_s == few.arrival_s).all()
    assert stream.prefixes is not None
    assert measured_traffic(sessions(), Run(requests=100)).input_tokens == few.input_tokens.mean()


def test_sessions_need_an_end_and_one_pair_of_lengths():
    with pytest.raises(InputError, match="sessions never end"):
        converse(sessions(), Run())
    with pytest.raises(ValueError, match="one pair of lengths"):
        Workload.model_validate(
            sessions().model_dump() | {"lengths": [FIXED, FIXED | {"start_s": 9.0}]}
        )


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 6.0), st.integers(1, 40), st.integers(1, 3), st.integers(0, 5))
def test_equal_names_always_have_equal_names_before_them(turns, block, groups, seed):
    lengths = {
        "input": {"kind": "uniform", "low_tokens": 1, "high_tokens": 50},
        "output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 50},
    }
    workload = sessions(
        lengths, mean_turns=turns, block_tokens=block, groups=groups,
        shared_prefix={"kind": "uniform", "low_tokens": 1, "high_tokens": 60},
    )  # fmt: skip
    table = converse(workload, Run(requests=200, seed=seed))
    before: dict[int, int] = {}
    for request in range(len(table)):
        ids = table.prefixes.of(request)
        assert len(ids) * block <= table.input_tokens[request] + table.output_tokens[request]
        for parent, block_id in zip([-1, *ids], ids, strict=False):
            assert before.setdefault(block_id, parent) == parent
