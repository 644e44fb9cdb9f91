"""A pool of prefix caches by hand, and routing by prefix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.prefix_cache import SharedTier
from planner.serving.prefix_pool import Found, PrefixAware, PrefixPool
from planner.specs.requests import PrefixBlocks

BLOCK = 10


def blocks(*requests: list[int]) -> PrefixBlocks:
    offsets = np.cumsum([0, *map(len, requests)])
    return PrefixBlocks(BLOCK, np.array([i for r in requests for i in r], np.int64), offsets)


SAME = blocks([1, 2, 3], [1, 2, 4], [1, 2, 4])


def test_a_request_finds_what_an_earlier_one_left_on_its_replica():
    pool = PrefixPool(SAME, 2, 100)
    assert pool.take(0, 0, 30, 5.0) == Found(0, 0, 5.0)
    assert pool.take(1, 0, 30, 6.0).tokens == 0  # the first is still running
    pool.done(0)
    assert pool.matches(2, 30) == [20, 0]
    assert pool.take(2, 0, 30, 7.0) == Found(20, 0, 7.0)
    assert (pool.asked_tokens, pool.found_tokens, pool.loaded_tokens) == (90, 20, 0)
    pool.shrink(0, 0)
    assert pool.held_tokens() == 20  # pinned by the third
    pool.done(2, computed=False)
    assert pool.held_tokens() == 0


def test_the_shared_tier_gives_what_the_replica_lacks():
    tier = SharedTier(1000, BLOCK, kv_bytes_per_token=1.0, bytes_per_s=10.0, latency_s=0.5)
    pool = PrefixPool(SAME, 2, 100, tier)
    pool.take(0, 0, 30, 0.0)
    pool.done(0)
    assert pool.take(1, 1, 30, 10.0) == Found(20, 20, 12.5)
    pool.done(1)
    assert pool.take(2, 1, 30, 20.0) == Found(29, 0, 20.0)
    assert pool.loaded_tokens == 20


def test_a_restarted_replica_has_forgotten():
    pool = PrefixPool(SAME, 2, 100)
    pool.take(0, 0, 30, 0.0)
    pool.done(0)
    pool.take(1, 0, 30, 1.0)
    pool.lost(0)
    assert pool.matches(2, 30) == [0, 0]
    with pytest.raises(KeyError):
        pool.done(1)


def test_prefix_decides_until_load_is_too_uneven():
    router = PrefixAware()
    assert router.choose([0, 500, 0], [0, 30, 5], 1000) == 1
    assert router.choose([0, 200, 0], [3, 30, 2], 1000) == 2  # under 30 % of the prompt
    assert router.choose([500, 500, 0], [9, 7, 0], 1000) == 1  # of equals the emptier
    assert router.choose([0, 500, 0], [100, 190, 120], 1000) == 0  # 90 apart, 1.9 times
    assert router.choose([0, 500, 0], [200, 270, 220], 1000) == 1  # 70 apart, only 1.35 times


def sessions(order: list[int]) -> PrefixBlocks:
    """Turn after turn of some conversations, each of which grows by a block a turn."""
    turns = dict.fromkeys(order, 0)
    requests = []
    for one in order:
        turns[one] += 1
        requests.append([one * 1000 + place for place in range(turns[one])])
    return blocks(*requests)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 4))
def test_routing_by_prefix_finds_no_less_than_taking_turns(order, replicas):
    prefixes = sessions(order)
    router, found = PrefixAware(match_share=0.0, most_apart=10**6), []
    for by_prefix in (True, False):
        pool = PrefixPool(prefixes, replicas, float("inf"))
        for request in range(len(order)):
            tokens = BLOCK * len(prefixes.of(request))
            replica = request % replicas
            if by_prefix:
                replica = router.choose(pool.matches(request, tokens), [0] * replicas, tokens)
            pool.take(request, replica, tokens, 0.0)
            pool.done(request)
        found.append(pool.found_tokens)
        assert pool.found_tokens <= pool.asked_tokens
    assert found[0] >= found[1]
