"""The prefix cache by hand, and the laws of LRU."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.prefix_cache import PrefixCache, SharedTier, replay
from planner.specs.requests import PrefixBlocks

BLOCK = 10


def blocks(requests: list[list[int]]) -> PrefixBlocks:
    offsets = np.cumsum([0, *map(len, requests)])
    return PrefixBlocks(BLOCK, np.array([i for r in requests for i in r], np.int64), offsets)


@st.composite
def traffic(draw: st.DrawFn) -> list[list[int]]:
    """Requests as walks down a tree: equal ids always have equal ids before them."""
    paths = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=40))
    names: dict[tuple[int, ...], int] = {}
    return [
        [names.setdefault(tuple(path[: i + 1]), len(names)) for i in range(len(path))]
        for path in paths
    ]


def test_a_prompt_finds_its_longest_kept_prefix():
    cache = PrefixCache(100, BLOCK)
    assert cache.match([1, 2, 3], 30) == 0
    assert cache.insert([1, 2, 3]) == 30
    assert cache.match([1, 2, 4], 30) == 20
    assert cache.match([9, 2, 3], 30) == 0
    assert cache.match([1, 2, 3], 25) == 24  # all of it, but the last token is computed
    assert cache.match([1, 2, 3, 4], 12) == 11  # ids that go on into the answer do not count
    assert cache.insert([1, 2, 4]) == 10
    assert cache.held_tokens == 40


def test_the_least_recently_used_end_goes_first():
    cache = PrefixCache(40, BLOCK)
    cache.insert([1, 2])
    cache.insert([5, 6])
    cache.insert([1, 3])  # 1 is fresh again; 2, then 6 and 5 are the oldest
    assert cache.held_tokens == 40
    assert [cache.match(ids, 20) for ids in ([1, 2], [5, 6], [1, 3])] == [10, 19, 19]
    assert cache.evict_to(20) == 20
    assert [cache.match(ids, 20) for ids in ([5, 6], [1, 3])] == [0, 19]


def test_a_request_larger_than_the_cache_keeps_its_start():
    cache = PrefixCache(25, BLOCK)
    cache.insert([1, 2, 3, 4])
    assert cache.held_tokens == 20
    assert cache.match([1, 2, 3, 4], 40) == 20


def test_pinned_blocks_stay_until_they_are_let_go():
    cache = PrefixCache(30, BLOCK)
    cache.insert([1, 2, 3])
    cache.hold([1, 2])
    cache.hold([1])
    assert cache.evict_to(0) == 10  # only 3 was free
    assert (cache.pinned_tokens, cache.held_tokens) == (20, 20)
    cache.let_go([1])
    assert cache.pinned_tokens == 20  # 1 is still read by the first
    cache.let_go([1, 2])
    assert cache.held_tokens == 0


def test_a_restart_forgets():
    cache = PrefixCache(30, BLOCK)
    cache.insert([1])
    cache.clear()
    assert cache.match([1], 10) == 0


def test_loads_from_the_shared_tier_queue_on_its_link():
    tier = SharedTier(100, BLOCK, s_per_token=0.1, latency_s=0.5)
    tier.insert([1, 2])
    assert (tier.match([1, 2, 3], 30), tier.held_tokens) == (20, 20)
    assert tier.load_s(20) == 0.5 + 2.0
    assert tier.load(10.0, 20) == 12.5
    assert tier.load(11.0, 10) == 13.5  # waits until 12, then 1 s and the latency
    assert tier.load(100.0, 10) == 101.5


def test_a_router_that_scatters_loses_reuse():
    requests = blocks([[1, 2], [1, 2], [1, 2], [1, 2]])
    tokens = np.full(4, 20)
    together = replay(requests, tokens, math.inf)
    apart = replay(requests, tokens, math.inf, np.array([0, 1, 0, 1]))
    assert (together.hit_blocks, together.blocks, together.hit_tokens) == (6, 8, 3 * 19)
    assert apart.hit_blocks == 4
    assert apart.block_share == 0.5
    assert apart.token_share == pytest.approx(38 / 80)


@given(traffic(), st.integers(0, 12), st.integers(0, 12))
def test_more_capacity_never_hits_less(requests: list[list[int]], one: int, other: int):
    tokens = np.array([BLOCK * len(r) for r in requests], np.int64)
    less, more = sorted((one, other))
    hits = [
        replay(blocks(requests), tokens, capacity).hit_tokens
        for capacity in (less * BLOCK, more * BLOCK, math.inf)
    ]
    assert hits == sorted(hits)


@given(traffic(), st.integers(1, 12))
def test_what_is_kept_is_counted_and_its_start_is_kept_too(requests: list[list[int]], size: int):
    cache, written, gone = PrefixCache(size * BLOCK, BLOCK), 0, 0
    for ids in requests:
        written += cache.insert(ids)
        assert cache.held_tokens <= size * BLOCK
        kept = [i for i in ids if i in cache._idle]
        assert kept == ids[: len(kept)]
        assert len(kept) == min(len(ids), size)
    held = cache.held_tokens
    gone = cache.evict_to(0)
    assert gone == held
    assert written >= held


@given(traffic(), st.integers(1, 12), st.randoms(use_true_random=False))
def test_pins_come_out_even(requests: list[list[int]], size: int, random):
    """Requests run at once, each pins what it found; all are let go: nothing stays pinned."""
    cache, running = PrefixCache(size * BLOCK, BLOCK), []
    for ids in requests:
        found = cache.match(ids, BLOCK * len(ids))
        held = ids[: found // BLOCK]
        cache.hold(held)
        cache.insert(ids)
        assert cache.match(ids, BLOCK * len(ids)) >= found
        running.append(held)
        random.shuffle(running)
        if len(running) > 3:
            cache.let_go(running.pop())
        cache.evict_to(size * BLOCK)
        assert cache.held_tokens <= max(size * BLOCK, cache.pinned_tokens)
    for each in running:
        cache.let_go(each)
    assert cache.pinned_tokens == 0
    assert cache.held_tokens <= size * BLOCK
