"""With prefix caches, too, the jump engine gives every request the times the plain one gives it."""

import dataclasses

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from planner.serving import Cluster, PoolSetup, RequestStream, simulate_cluster
from planner.serving.operations import Operations
from planner.serving.prefix_tier import TierSetup
from planner.serving.reference import PlainReplica
from planner.specs.requests import PrefixBlocks
from tests.serving.test_engines_agree import (
    CONFIGS,
    HANDOVERS,
    RULES,
    TIMINGS,
    balanced,
    same_requests,
    some_fit,
    sums_agree,
)
from tests.serving.test_operated_engines_agree import (
    RULES_OF_FAILURE,
    operated_agree,
    operated_pools,
)

BLOCK = 5
ROUTERS = st.sampled_from(["round_robin", "least_requests", "prefix_aware", "prefix_cost"])
CACHING = CONFIGS.map(
    lambda config: dataclasses.replace(config, cached_input_share=0.0, prefix_cache=True)
)


@st.composite
def sharing_streams(draw):
    """Requests whose prompts start alike: some of one family, each a few blocks of its tree."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 8), st.integers(1, 90), st.integers(1, 40), st.integers(0, 1),
                st.integers(0, 1),
            ),
            min_size=8,
            max_size=40,
        )
    )  # fmt: skip
    scale = draw(st.sampled_from([0.0, 0.05, 0.25, 0.7, 3.0]))
    covers = draw(st.booleans())
    gaps, inputs, outputs, families, own = map(np.array, zip(*rows, strict=True))
    names: dict[tuple[int, ...], int] = {}
    ids, offsets = [], [0]
    for tokens, answer, family, branch in zip(inputs, outputs, families, own, strict=True):
        count = (tokens + answer) // BLOCK if covers else -(-tokens // BLOCK)
        path: tuple[int, ...] = ()
        for place in range(count):
            # the first blocks are the family's, then the branch's
            path = (*path, family if place < 3 else 10 + branch)
            ids.append(names.setdefault(path, len(names)))
        offsets.append(len(ids))
    prefixes = PrefixBlocks(BLOCK, np.array(ids, np.int64), np.array(offsets), covers)
    priority = None
    if draw(st.booleans()):
        priority = np.array(draw(st.lists(st.integers(0, 2), min_size=len(rows),
                                          max_size=len(rows))))  # fmt: skip
    return RequestStream(
        np.cumsum(gaps) * scale, inputs, outputs, prefixes=prefixes, priority=priority
    )


def both(stream, cluster, horizon_s=None):
    jump = simulate_cluster(stream, cluster, horizon_s=horizon_s)
    plain = simulate_cluster(stream, cluster, horizon_s=horizon_s, engine=PlainReplica)
    same_requests(jump, plain)
    sums_agree(jump, plain)
    assert balanced(jump)
    for field in ("asked_blocks", "found_tokens", "loaded_tokens", "computed_tokens"):
        np.testing.assert_array_equal(getattr(jump.prefix, field), getattr(plain.prefix, field))
    assert jump.prefix.evicted_tokens <= plain.prefix.evicted_tokens
    return jump


TIERS = st.builds(
    TierSetup,
    capacity_tokens=st.sampled_from([40, 400, 10_000]),
    s_per_token=st.sampled_from([0.0, 1e-3, 0.03]),
    latency_s=st.sampled_from([0.0, 0.05]),
    common=st.booleans(),
)
CLUSTERS = st.fixed_dictionaries(
    {
        "router": ROUTERS,
        "rank_router": st.sampled_from(["least_requests", "prefix_aware"]),
        "replicas": st.integers(1, 3),
        "tier": st.one_of(st.none(), TIERS),
        "horizon_s": st.one_of(st.none(), st.floats(0.1, 20)),
    }
)


@settings(max_examples=300, deadline=None)
@given(sharing_streams(), TIMINGS, CACHING, RULES, CLUSTERS)
def test_every_policy_with_a_prefix_cache_jumps_to_where_steps_lead(
    stream, timing, config, rules, cluster
):
    config = dataclasses.replace(config, **rules, rank_router=cluster["rank_router"])
    if not some_fit(stream, config):
        return
    pool = PoolSetup(timing, config, cluster["replicas"], cluster["router"], cluster["tier"])
    jump = both(stream, Cluster((pool,)), cluster["horizon_s"])
    assert jump.mean_kv_tokens() <= jump.kv_capacity_tokens
    event(f"{config.policy} {config.preemption} preempted {bool(jump.preemptions.any())}")
    event(f"hits {bool(jump.prefix.found_tokens.any())} evicted {jump.prefix.evicted_tokens > 0}")


@settings(max_examples=100, deadline=None)
@given(
    sharing_streams(), TIMINGS, st.tuples(CACHING, CONFIGS), st.tuples(RULES, RULES), CLUSTERS,
    HANDOVERS,
)  # fmt: skip
def test_a_prefill_pool_with_caches_jumps_to_where_steps_lead(
    stream, timing, configs, rules, cluster, handover
):
    prefill, decode = (
        dataclasses.replace(config, **rule, role=role)
        for config, rule, role in zip(configs, rules, ("prefill", "decode"), strict=True)
    )
    if not some_fit(stream, prefill, decode):
        return
    pools = (
        PoolSetup(timing, prefill, cluster["replicas"], cluster["router"], cluster["tier"]),
        PoolSetup(timing, decode, 2),
    )
    jump = both(stream, Cluster(pools, handover, request_delay_s=0.125), cluster["horizon_s"])
    event(f"hits {bool(jump.prefix.found_tokens.any())}")


@settings(max_examples=150, deadline=None)
@given(sharing_streams(), TIMINGS, CACHING, CLUSTERS, RULES_OF_FAILURE, st.data())
def test_a_fleet_with_caches_that_fails_jumps_to_where_steps_lead(
    stream, timing, config, cluster, failure, data
):
    config = dataclasses.replace(config, **data.draw(RULES), rank_router=cluster["rank_router"])
    pool = PoolSetup(timing, config, cluster["replicas"], cluster["router"], cluster["tier"])
    operations = Operations((data.draw(operated_pools(pool.replicas)),), **failure)
    operated_agree(stream, Cluster((pool,), operations=operations), cluster["horizon_s"])
