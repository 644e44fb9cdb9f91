"""The jump engine gives every request the times the plain per-step engine gives it."""

import dataclasses

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError
from planner.serving import (
    AffineTiming,
    Cluster,
    Handover,
    PoolSetup,
    ReplicaConfig,
    RequestStream,
    generate,
    simulate,
    simulate_cluster,
)
from planner.serving.reference import PlainReplica, simulate_per_step
from planner.specs.workload import ClosedLoopArrivals, LengthSegment, Run, UniformLength, Workload

TIMINGS = st.builds(
    AffineTiming,
    base_s=st.sampled_from([0.5, 0.012, 1e-4]),
    per_sequence_s=st.sampled_from([0.0, 4e-5, 0.1]),
    per_context_token_s=st.sampled_from([0.0, 2.6e-9, 1e-3]),
    per_prefill_token_s=st.sampled_from([0.0, 3e-5]),
    per_prefill_pair_s=st.sampled_from([0.0, 1e-7]),
    power_w=st.just(700.0),
)
CONFIGS = st.builds(
    ReplicaConfig,
    ranks=st.integers(1, 3),
    max_sequences=st.integers(1, 6),
    max_step_tokens=st.integers(1, 60),
    kv_capacity_tokens=st.integers(75, 300),
    cap_tokens=st.one_of(st.none(), st.integers(1, 80)),
    cached_input_share=st.sampled_from([0.0, 0.3, 0.9]),
    sequence_overhead_tokens=st.sampled_from([0, 0, 15]),
    stream_interval_tokens=st.sampled_from([1, 1, 2, 5, 30]),
    stream_counts_first=st.booleans(),
)
ROUTERS = st.sampled_from(["round_robin", "random", "least_requests", "least_kv", "power_of_two"])
RULES = st.one_of(
    st.fixed_dictionaries(
        {
            "policy": st.sampled_from(["mixed", "prefill_first", "inflight", "interleaved"]),
            "chunked_prefill": st.booleans(),
            "decode_steps_between_prefills": st.integers(1, 4),
            "poll_steps": st.sampled_from([1, 1, 3, 10]),
            "polls_ahead": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "policy": st.sampled_from(["mixed", "prefill_first", "interleaved"]),
            "chunked_prefill": st.booleans(),
            "answer_reserve_share": st.sampled_from([0.0, 0.098, 0.5]),
            "preemption": st.just("recompute"),
            "room_steps": st.sampled_from([1, 4]),
            "poll_steps": st.sampled_from([1, 1, 5]),
        }
    ),
    st.fixed_dictionaries(
        {
            "policy": st.sampled_from(["mixed", "inflight"]),
            "balance_steps": st.integers(1, 6),
            "poll_steps": st.sampled_from([1, 4]),
        }
    ),
    st.fixed_dictionaries(
        {
            "answer_reserve_share": st.sampled_from([0.0, 0.3]),
            "preemption": st.just("swap"),
            "room_steps": st.sampled_from([1, 3]),
            "swap_s_per_token": st.sampled_from([0.0, 1e-3]),
        }
    ),
)
HANDOVERS = st.one_of(
    st.none(),
    st.builds(
        Handover,
        s_per_token=st.sampled_from([0.0, 1e-3, 0.02]),
        latency_s=st.sampled_from([0.0, 0.01]),
        overlap_share=st.sampled_from([0.0, 0.9]),
    ),
)
CLUSTERS = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 3),
        "router": ROUTERS,
        "horizon_s": st.one_of(st.none(), st.floats(0.1, 20)),
    }
)


@st.composite
def open_streams(draw):
    rows = draw(
        st.lists(
            # multiples of 1/4 s make ties; the mean gap decides the load
            st.tuples(st.integers(0, 8), st.integers(1, 90), st.integers(1, 40)),
            min_size=1,
            max_size=30,
        )
    )
    scale = draw(st.sampled_from([0.0, 0.05, 0.25, 0.7]))
    gaps, inputs, outputs = zip(*rows, strict=True)
    warmup = draw(st.integers(0, 3))
    columns = np.cumsum(gaps) * scale, np.array(inputs), np.array(outputs)
    return RequestStream(*columns, warmup_requests=warmup)


@st.composite
def closed_streams(draw):
    arrivals = ClosedLoopArrivals(
        concurrency=draw(st.integers(1, 12)), think_s=draw(st.sampled_from([0.0, 0.3]))
    )
    lengths = LengthSegment(
        input=UniformLength(low_tokens=1, high_tokens=draw(st.sampled_from([1, 60, 90]))),
        output=UniformLength(low_tokens=1, high_tokens=draw(st.sampled_from([1, 40]))),
    )
    run = Run(
        requests=draw(st.integers(1, 40)),
        duration_s=draw(st.one_of(st.none(), st.floats(1, 30))),
        seed=draw(st.integers(0, 1000)),
        warmup_s=draw(st.sampled_from([0.0, 1.0])),
    )
    return generate(Workload(arrivals=arrivals, lengths=(lengths,)), run)


def both(stream, timing, config, cluster):
    jump = simulate(stream, timing, config, **cluster)
    plain = simulate_per_step(stream, timing, config, **cluster)
    return same_requests(jump, plain)


def both_clusters(stream, cluster, horizon_s=None):
    jump = simulate_cluster(stream, cluster, horizon_s=horizon_s)
    plain = simulate_cluster(stream, cluster, horizon_s=horizon_s, engine=PlainReplica)
    return same_requests(jump, plain)


def same_requests(jump, plain):
    for field in (
        "input_tokens",
        "output_tokens",
        "produced_tokens",
        "replica",
        "counted",
        "preemptions",
        "retries",
    ):
        np.testing.assert_array_equal(getattr(jump, field), getattr(plain, field), field)
    for field in ("arrival_s", "admitted_s", "first_token_s", "finish_s"):
        np.testing.assert_allclose(
            getattr(jump, field), getattr(plain, field), rtol=0, atol=1e-6, err_msg=field
        )
    return jump, plain


def sums_agree(jump, plain):
    np.testing.assert_array_equal(jump.steps, plain.steps)
    assert np.all(jump.stretches <= plain.stretches)
    for field in ("busy_s", "prefill_s", "energy_j", "kv_token_s", "end_s", "gap_mean_s"):
        np.testing.assert_allclose(
            getattr(jump, field), getattr(plain, field), rtol=1e-9, err_msg=field
        )
    assert jump.gap_counts.sum() == plain.gap_counts.sum()
    # a gap on the edge of a bin may fall to either side
    for share in (0.25, 0.5, 0.95):
        assert abs(middle(jump, share) - middle(plain, share)) <= 1


def middle(records, share):
    total = records.gap_counts.sum()
    if not total:
        return 0
    at = np.searchsorted(np.cumsum(records.gap_counts), share * total)
    return int(records.gap_bins[at])


def laws_hold(records, config):
    arrived = len(records.arrival_s)
    states = (records.finished, records.running, records.queued, records.rejected, records.lost)
    assert sum(int(state.sum()) for state in states) == arrived
    done = records.finished
    assert np.all(records.arrival_s[done] <= records.admitted_s[done])
    assert np.all(records.admitted_s[done] < records.first_token_s[done])
    assert np.all(records.first_token_s[done] <= records.finish_s[done])
    too_long = records.input_tokens + records.output_tokens > longest_tokens(config)
    np.testing.assert_array_equal(records.rejected, too_long)
    assert records.mean_kv_tokens() <= records.kv_capacity_tokens
    assert np.all(records.busy_s <= records.end_s * (1 + 1e-12))


def longest_tokens(config):
    return config.kv_capacity_tokens - config.sequence_overhead_tokens


def shortest_fits(stream, config):
    return np.min(stream.input_tokens + stream.output_tokens) <= longest_tokens(config)


@settings(max_examples=200, deadline=None)
@given(open_streams(), TIMINGS, CONFIGS, CLUSTERS)
def test_both_engines_give_each_request_the_same_times(stream, timing, config, cluster):
    if not shortest_fits(stream, config):
        return
    jump, plain = both(stream, timing, config, cluster)
    sums_agree(jump, plain)
    laws_hold(jump, config)
    event(f"jumped {jump.stretches.sum() < plain.stretches.sum()}")
    event(f"queued {jump.max_queue() > 0}")
    event(f"rejected {bool(jump.rejected.any())}")
    event(f"stopped {bool((jump.running | jump.queued).any())}")


@settings(max_examples=200, deadline=None)
@given(closed_streams(), TIMINGS, CONFIGS, CLUSTERS)
def test_both_engines_agree_on_closed_loops(stream, timing, config, cluster):
    jump, plain = both(stream, timing, config, cluster)
    sums_agree(jump, plain)
    laws_hold(jump, config)


@settings(max_examples=200, deadline=None)
@given(open_streams(), TIMINGS, CONFIGS)
def test_the_same_stream_gives_the_same_bytes(stream, timing, config):
    if not shortest_fits(stream, config):
        return
    first, second = (simulate(stream, timing, config, replicas=2) for _ in range(2))
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@settings(max_examples=200, deadline=None)
@given(open_streams(), CONFIGS, st.integers(1, 3))
def test_a_replica_works_exactly_while_it_has_an_admitted_request(stream, config, replicas):
    if not shortest_fits(stream, config):
        return
    timing = AffineTiming(base_s=0.05, per_context_token_s=1e-3)
    records = simulate(stream, timing, config, replicas=replicas)
    if records.end_s == 0:
        return
    share = records.busy_share(0.0, records.end_s)
    assert np.isclose(share, records.busy_s.mean() / records.end_s)


@settings(max_examples=200, deadline=None)
@given(open_streams(), CONFIGS)
def test_nothing_waits_in_front_of_an_idle_replica(stream, config):
    if not shortest_fits(stream, config):
        return
    records = simulate(stream, AffineTiming(base_s=0.05), config)
    kept = ~records.rejected
    arrival_s, admitted_s = records.arrival_s[kept], records.admitted_s[kept]
    finish_s = records.finish_s[kept]
    for arrived, admitted in zip(arrival_s, admitted_s, strict=True):
        if admitted > arrived:
            # somebody ran throughout the wait, whenever we look
            for moment in (arrived, (arrived + admitted) / 2):
                assert np.any((admitted_s <= moment) & (finish_s >= moment))


def some_fit(stream, *configs):
    if not isinstance(stream, RequestStream):
        return True
    pairs = list(zip(stream.input_tokens.tolist(), stream.output_tokens.tolist(), strict=True))
    return any(not any(config.refuses(*pair) for config in configs) for pair in pairs)


def balanced(records):
    states = (records.finished, records.running, records.queued, records.rejected, records.lost)
    return np.all(sum(state.astype(int) for state in states) == 1)


@settings(max_examples=300, deadline=None)
@given(open_streams(), TIMINGS, CONFIGS, RULES, CLUSTERS)
def test_every_policy_jumps_to_where_steps_lead(stream, timing, config, rules, cluster):
    config = dataclasses.replace(config, **rules)
    if not some_fit(stream, config):
        return
    jump, plain = both(stream, timing, config, cluster)
    sums_agree(jump, plain)
    assert balanced(jump)
    assert jump.mean_kv_tokens() <= jump.kv_capacity_tokens
    event(f"{config.policy} {config.preemption} preempted {bool(jump.preemptions.any())}")


@settings(max_examples=150, deadline=None)
@given(closed_streams(), TIMINGS, CONFIGS, RULES, CLUSTERS)
def test_every_policy_agrees_on_closed_loops(stream, timing, config, rules, cluster):
    config = dataclasses.replace(config, **rules)
    try:
        jump = simulate(stream, timing, config, **cluster)
    except InfeasibleError:
        return
    plain = simulate_per_step(stream, timing, config, **cluster)
    sums_agree(*same_requests(jump, plain))
    assert balanced(jump)


@settings(max_examples=300, deadline=None)
@given(
    open_streams(), st.tuples(TIMINGS, TIMINGS), st.tuples(CONFIGS, CONFIGS),
    st.tuples(RULES, RULES), st.tuples(CLUSTERS, CLUSTERS),
    st.tuples(HANDOVERS, st.one_of(st.none(), st.integers(1, 5))),
)  # fmt: skip
def test_pools_apart_jump_to_where_steps_lead(stream, timings, configs, rules, clusters, between):
    handover, most = between
    roles = ("prefill", "decode")
    pools = tuple(
        PoolSetup(
            timing,
            dataclasses.replace(config, **rule, role=role),
            cluster["replicas"],
            cluster["router"],
            most if role == "prefill" else None,
        )
        for timing, config, rule, cluster, role in zip(
            timings, configs, rules, clusters, roles, strict=True
        )
    )
    cluster = Cluster(pools, handover, request_delay_s=0.125)
    if not some_fit(stream, *(pool.config for pool in pools)):
        return
    jump, plain = both_clusters(stream, cluster, clusters[0]["horizon_s"])
    sums_agree(jump, plain)
    assert balanced(jump)
    done = jump.finished
    assert np.all(jump.arrival_s[done] + 0.125 <= jump.admitted_s[done])
    assert np.all(jump.admitted_s[done] < jump.first_token_s[done])
    event(f"shed {bool(jump.shed.any())} preempted {bool(jump.preemptions.any())}")
