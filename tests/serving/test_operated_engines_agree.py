"""Both engines agree on fleets that fail, scale and are maintained, and count every request."""

import dataclasses

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError, InputError
from planner.serving import Cluster, PoolSetup, simulate_cluster
from planner.serving.autoscale import AutoscalePolicy
from planner.serving.faults import Failing
from planner.serving.operations import (
    Autoscaling,
    Maintenance,
    Operations,
    PoolOperations,
    Schedule,
    parts_of,
)
from planner.serving.reference import PlainReplica
from tests.serving.test_engines_agree import (
    CLUSTERS,
    CONFIGS,
    HANDOVERS,
    RULES,
    TIMINGS,
    balanced,
    closed_streams,
    open_streams,
    same_requests,
    sums_agree,
)

FAILURES = st.lists(
    st.builds(
        Failing,
        kind=st.just("device"),
        count=st.just(0),
        mtbf_s=st.sampled_from([1.0, 3.0, 20.0]),
        mttr_s=st.sampled_from([0.25, 1.0, 5.0]),
        repair=st.sampled_from(["fixed", "exponential"]),
        speed_share=st.sampled_from([0.0, 0.0, 0.5]),
    ),
    min_size=1,
    max_size=2,
)
SCALINGS = st.one_of(
    st.none(),
    st.builds(
        Autoscaling,
        policy=st.builds(
            AutoscalePolicy,
            target_utilisation_share=st.sampled_from([0.3, 0.8]),
            least=st.just(1),
            most=st.just(1),
            start_up_s=st.sampled_from([0.0, 0.5, 3.0]),
            down_cool_down_s=st.sampled_from([0.0, 2.0]),
        ),
        signal=st.sampled_from(["slots", "queue", "requests_per_s"]),
        capacity=st.sampled_from([1.0, 4.0]),
        interval_s=st.sampled_from([0.25, 1.0]),
    ),
    st.just(Schedule((0.0, 2.0, 5.0), (1, 1, 1), 0.5)),
)


@st.composite
def operated_pools(draw, replicas):
    """Return failures, spares, scaling and maintenance of a pool of so many replicas."""
    failures = []
    for number, drawn in enumerate(draw(FAILURES)):
        count = -(-2 * replicas // (2 + number))
        failing = dataclasses.replace(drawn, kind=("device", "node")[number], count=count)
        failures.append(parts_of(failing, 2 + number, 2, replicas))
    scaling, initial = draw(SCALINGS), draw(st.sampled_from([None, 1]))
    if isinstance(scaling, Autoscaling):
        policy = dataclasses.replace(scaling.policy, most=replicas)
        scaling = dataclasses.replace(scaling, policy=policy)
    elif scaling is not None:
        scaling, initial = dataclasses.replace(scaling, replicas=(1, replicas, 1)), 1
    works = draw(st.sampled_from([(), (Maintenance(0.5, 1.0),)]))
    spares, restart_s = draw(st.integers(0, 1)), draw(st.sampled_from([0.0, 0.5]))
    return PoolOperations(tuple(failures), spares, restart_s, initial, scaling, works)


RULES_OF_FAILURE = st.fixed_dictionaries(
    {
        "on_failure": st.sampled_from(["retry", "retry", "lose"]),
        "max_retries": st.sampled_from([0, 2, 20]),
        "queue_when_down": st.booleans(),
        "seed": st.integers(0, 99),
    }
)
STREAMS = st.one_of(open_streams(), closed_streams())


def operated_agree(stream, cluster, horizon_s):
    """Both engines agree on requests and on what happened to the fleet."""
    try:
        jump = simulate_cluster(stream, cluster, horizon_s=horizon_s)
    except (InfeasibleError, InputError):  # nothing fits; clients that come back at once
        return
    plain = simulate_cluster(stream, cluster, horizon_s=horizon_s, engine=PlainReplica)
    same_requests(jump, plain)
    sums_agree(jump, plain)
    assert balanced(jump)
    ours, theirs = jump.fleet, plain.fleet
    assert (ours.events, ours.scalings) == (theirs.events, theirs.scalings)
    np.testing.assert_array_equal(ours.state, theirs.state)
    np.testing.assert_allclose(ours.begin_s, theirs.begin_s, rtol=0, atol=1e-6)
    event(f"failed {bool(ours.failures)} retried {bool(jump.retries.any())}")
    event(f"lost {bool(jump.lost.any())} scaled {bool(ours.scalings)}")


@settings(max_examples=150, deadline=None)
@given(STREAMS, TIMINGS, CONFIGS, CLUSTERS, RULES_OF_FAILURE, st.data())
def test_a_fleet_that_fails_and_scales_jumps_to_where_steps_lead(
    stream, timing, config, cluster, failure, data
):
    config = dataclasses.replace(config, **data.draw(RULES))
    pool = PoolSetup(timing, config, cluster["replicas"], cluster["router"])
    operations = Operations((data.draw(operated_pools(pool.replicas)),), **failure)
    operated_agree(stream, Cluster((pool,), operations=operations), cluster["horizon_s"])


@settings(max_examples=150, deadline=None)
@given(
    STREAMS, st.tuples(TIMINGS, TIMINGS), st.tuples(CONFIGS, CONFIGS), st.tuples(RULES, RULES),
    st.tuples(CLUSTERS, CLUSTERS), st.data(),
)  # fmt: skip
def test_pools_apart_that_fail_jump_to_where_steps_lead(
    stream, timings, configs, rules, clusters, data
):
    pools = tuple(
        PoolSetup(
            timing,
            dataclasses.replace(config, **rule, role=role),
            cluster["replicas"],
            cluster["router"],
        )
        for timing, config, rule, cluster, role in zip(
            timings, configs, rules, clusters, ("prefill", "decode"), strict=True
        )
    )
    operations = Operations(
        tuple(data.draw(operated_pools(pool.replicas)) for pool in pools),
        **data.draw(RULES_OF_FAILURE),
    )
    cluster = Cluster(pools, data.draw(HANDOVERS), operations=operations)
    operated_agree(stream, cluster, clusters[0]["horizon_s"])
