"""Failures, spares, scaling and maintenance in the event loop, small enough to follow on paper."""

import numpy as np
import pytest

from planner.errors import InputError
from planner.serving import (
    AffineTiming,
    Cluster,
    Handover,
    PoolSetup,
    ReplicaConfig,
    RequestStream,
    breakdowns,
    simulate,
    simulate_cluster,
)
from planner.serving.autoscale import AutoscalePolicy
from planner.serving.engine import Replica
from planner.serving.faults import Failing
from planner.serving.fleet_log import State
from planner.serving.operations import (
    Autoscaling,
    Components,
    Maintenance,
    Operations,
    PoolOperations,
    Schedule,
    parts_of,
)
from planner.serving.reference import PlainReplica

SECOND = AffineTiming(base_s=1.0)
NEVER = (1e6, 2e6)
ENGINES = pytest.mark.parametrize("engine", [Replica, PlainReplica])


def config(role="both", slots=64):
    return ReplicaConfig(1, slots, 1000, 1000, role=role)


def stream(*rows):
    arrival_s, inputs, outputs = zip(*rows, strict=True)
    return RequestStream(np.array(arrival_s, float), np.array(inputs), np.array(outputs))


def part(replicas=(0,), speed_share=0.0):
    failing = Failing("device", 1, 1e3, 1.0, speed_share=speed_share)
    return Components(failing, (replicas,))


@pytest.fixture
def outages(monkeypatch):
    """Let parts break at given times, in order of part."""

    def arrange(*times):
        each = iter([iter([*one, NEVER]) for one in times])
        monkeypatch.setattr(breakdowns, "alternating", lambda failing, rng: next(each))

    return arrange


def run(requests, pools, engine, replicas=1, **rules):
    pools = pools if isinstance(pools, tuple) else (pools,)
    setup = PoolSetup(SECOND, config(slots=rules.pop("slots", 64)), replicas)
    operations = Operations(pools, **rules)
    return simulate_cluster(requests, Cluster((setup,), operations=operations), engine=engine)


@ENGINES
def test_a_failed_replica_serves_again_after_repair_and_reload(outages, engine):
    outages([(2.5, 4.0)])
    records = run(stream((0, 4, 5)), PoolOperations((part(),), restart_s=1.0), engine)
    # two tokens by 2 s; back at 5; prompt of 4 + 2 in [5, 6] gives the third, fifth at 8
    assert records.first_token_s.tolist() == [1.0]
    assert records.finish_s.tolist() == [8.0]
    assert records.retries.tolist() == [1]
    assert records.busy_s.tolist() == [5.5]
    fleet = records.fleet
    assert fleet.availability == pytest.approx(5.5 / 8)
    assert fleet.failures == {"device": 1}
    assert fleet.degraded_s((0, 8)) == 2.5
    assert fleet.paid_s().tolist() == [8.0]


@ENGINES
def test_a_spare_takes_the_place_of_a_dead_part(outages, engine):
    outages([(2.5, 500.0)])
    pool = PoolOperations((part(),), spares=1, restart_s=1.0)
    records = run(stream((0, 4, 5)), pool, engine)
    assert records.finish_s.tolist() == [6.5]  # back at 3.5
    assert records.fleet.events == {"device": 1, "spare": 1}


@ENGINES
def test_a_spare_that_is_free_again_goes_to_who_waits_longest(outages, engine):
    outages([(0.5, 4.0)], [(1.5, 500.0)])
    parts = Components(Failing("device", 2, 1e3, 1.0), ((0,), (1,)))
    pool = PoolOperations((parts,), spares=1, restart_s=2.0)
    records = run(stream((3.0, 4, 5)), pool, engine, replicas=2)
    fleet = records.fleet
    # the first is back at 2.5 on the spare; its part at 4 becomes the second's spare
    assert fleet.spent_s(State.DOWN).tolist() == [2.0, 4.5]
    assert records.finish_s.tolist() == [8.0]


@ENGINES
def test_requests_of_a_dead_replica_go_to_another_at_once(outages, engine):
    outages([(2.5, 50.0)])
    records = run(stream((0, 4, 5)), PoolOperations((part(),)), engine, replicas=2)
    assert records.finish_s.tolist() == [5.5]  # prompt of 6 in [2.5, 3.5]
    assert records.replica.tolist() == [1]


@ENGINES
@pytest.mark.parametrize("rules", [{"on_failure": "lose"}, {"max_retries": 0}])
def test_requests_may_be_lost_instead(outages, engine, rules):
    outages([(2.5, 4.0)])
    records = run(stream((0, 4, 5), (3, 4, 1)), PoolOperations((part(),)), engine, **rules)
    assert records.lost.tolist() == [True, False]
    assert records.finished.tolist() == [False, True]
    assert records.finish_s[1] == 5.0
    assert records.produced_tokens.tolist() == [2, 1]
    assert records.left_s.tolist() == [2.5, 5.0]
    assert records.mean_running(0, 5) == pytest.approx((2.5 + 1) / 5)
    assert records.mean_queue(0, 5) == pytest.approx(1 / 5)


@ENGINES
def test_arrivals_without_a_replica_wait_or_are_turned_away(outages, engine):
    rows = stream((0, 4, 2), (3, 4, 2))
    outages([(2.5, 4.0)])
    assert run(rows, PoolOperations((part(),)), engine).finish_s.tolist() == [2.0, 6.0]
    outages([(2.5, 4.0)])
    records = run(rows, PoolOperations((part(),)), engine, queue_when_down=False)
    assert records.shed.tolist() == [False, True]


@ENGINES
def test_a_degraded_part_slows_every_step_of_its_replica(outages, engine):
    outages([(2.5, 5.5)])
    pool = PoolOperations((part(speed_share=0.5),))
    records = run(stream((0, 4, 6)), pool, engine)
    # [2, 3] as begun, [3, 5] and [5, 7] at half speed, [7, 8] at full speed again
    assert records.finish_s.tolist() == [8.0]
    assert records.fleet.availability == 1.0
    assert records.fleet.spent_s(State.SLOW).tolist() == [3.0]
    assert records.retries.tolist() == [0]


@ENGINES
def test_a_node_takes_all_its_replicas_along(outages, engine):
    outages([(0.5, 2.0)])
    both = PoolOperations((part((0, 1)),))
    records = run(stream((0, 4, 1), (0, 4, 1)), both, engine, replicas=2)
    assert records.finish_s.tolist() == [3.0, 3.0]
    assert records.retries.tolist() == [1, 1]


NOTHING = PoolOperations()


def apart(engine, requests, *, prefill=NOTHING, decode=NOTHING):
    pools = (
        PoolSetup(SECOND, config("prefill"), 1),
        PoolSetup(SECOND, config("decode"), 1),
    )
    operations = Operations((prefill, decode))
    cluster = Cluster(pools, Handover(s_per_token=0.5), operations=operations)
    return simulate_cluster(requests, cluster, engine=engine)


@ENGINES
def test_a_cache_on_the_way_is_lost_with_its_sender(outages, engine):
    outages([(2.0, 3.0)])
    records = apart(engine, stream((0, 4, 3)), prefill=PoolOperations((part(),)))
    # prompt in [0, 1], cache until 3, sender dies at 2; again in [3, 4], cache until 6
    assert records.first_token_s.tolist() == [6.0]
    assert records.finish_s.tolist() == [8.0]
    assert records.retries.tolist() == [1]


@ENGINES
def test_a_dead_decode_replica_sends_its_requests_through_prefill_again(outages, engine):
    outages([(4.5, 5.0)])
    records = apart(engine, stream((0, 4, 4)), decode=PoolOperations((part(),)))
    # decode from 3: tokens at 3 and 4; prompt of 6 in [4.5, 5.5], cache until 8.5, then 2 more
    assert records.first_token_s.tolist() == [3.0]
    assert records.finish_s.tolist() == [9.5]
    assert records.produced_tokens.tolist() == [4]


@ENGINES
def test_caches_wait_at_the_sender_for_a_decode_replica(outages, engine):
    outages([(0.5, 2.0)])
    records = apart(engine, stream((0, 4, 3)), decode=PoolOperations((part(),)))
    assert records.first_token_s.tolist() == [4.0]  # sent from 2 to 4
    assert records.retries.tolist() == [0]


@ENGINES
def test_a_waiting_cache_is_lost_with_its_sender(outages, engine):
    outages([(1.5, 2.0)], [(0.5, 5.0)])
    one = PoolOperations((part(),))
    records = apart(engine, stream((0, 4, 3)), prefill=one, decode=one)
    # computed again in [2, 3], sent from 5 to 7
    assert records.first_token_s.tolist() == [7.0]
    assert records.retries.tolist() == [1]


def scaling(most, signal="slots", capacity=1.0, **changes):
    policy = {"target_utilisation_share": 1.0, "least": 1, "start_up_s": 2.0}
    policy |= {"down_cool_down_s": 0.0} | changes
    return Autoscaling(AutoscalePolicy(most=most, **policy), signal, capacity, 1.0)


@ENGINES
@pytest.mark.parametrize("signal", ["slots", "queue", "requests_per_s"])
def test_a_policy_starts_replicas_and_drains_before_it_stops_them(engine, signal):
    rows = stream((0, 4, 9), (0, 4, 9), (0, 4, 9), (3.5, 4, 3))
    pool = PoolOperations(initial=1, scaling=scaling(2, signal, down_cool_down_s=4.0))
    records = run(rows, pool, engine, replicas=2, slots=1)
    # at 1 s: 3 requests of 1 slot, or 2 waiting, or 3 a second: the second replica serves from 3
    fleet = records.fleet
    first = fleet.scalings[0]
    assert (first.time_s, first.before, first.after) == (1.0, 1, 2)
    assert fleet.spent_s(State.STARTING)[1] == 2.0
    assert fleet.count(np.array([0.5, 2.0, 5.0]), State.UP, State.DRAINING).tolist() == [1, 1, 2]
    assert records.replica.tolist() == [0, 0, 0, 1]
    assert records.finish_s[3] == 6.5
    assert fleet.paid_s()[1] >= 5.5  # from 1 s until its request is answered


@ENGINES
def test_a_replica_that_drains_takes_nothing_new(engine):
    pool = PoolOperations(scaling=Schedule((0.0, 2.0), (2, 1)))
    rows = stream((0, 4, 5), (0, 4, 9), (3, 4, 2))
    records = run(rows, pool, engine, replicas=2)
    # both have one request at 2 s: the higher number leaves, and is gone at 9
    assert records.replica.tolist() == [0, 1, 0]
    assert records.fleet.paid_s().tolist() == [9.0, 9.0]
    assert records.fleet.spent_s(State.DRAINING).tolist() == [0.0, 7.0]


@ENGINES
def test_a_schedule_starts_early_enough_to_serve_on_time(engine):
    plan = Schedule((0.0, 5.0, 8.0), (1, 3, 2), start_up_s=2.0)
    records = run(stream((0, 4, 12)), PoolOperations(initial=1, scaling=plan), engine, replicas=3)
    fleet = records.fleet
    times = np.array([0.0, 4.9, 5.0, 7.9, 8.1])
    assert fleet.count(times, State.UP).tolist() == [1, 1, 3, 3, 2]
    assert fleet.paid_s().tolist() == [12.0, 9.0, 5.0]
    assert [one.reason for one in fleet.scalings] == ["schedule", "schedule"]


@ENGINES
def test_maintenance_drains_one_replica_after_the_other(engine):
    pool = PoolOperations(restart_s=1.0, maintenance=(Maintenance(1.5, 2.0),))
    records = run(stream((0, 4, 3), (0, 4, 12)), pool, engine, replicas=2)
    fleet = records.fleet
    # first: drains until 3, away until 5, loads until 6; second: drains from 6 until 12
    assert fleet.spent_s(State.DRAINING).tolist() == [1.5, 6.0]
    assert fleet.spent_s(State.MAINTENANCE).tolist() == [2.0, 0.0]
    assert fleet.spent_s(State.STARTING).tolist() == [1.0, 0.0]
    assert fleet.events == {"maintenance": 2}
    assert not records.retries.any()


@pytest.mark.parametrize(
    "router", ["round_robin", "random", "least_requests", "least_kv", "power_of_two"]
)
def test_operations_in_which_nothing_happens_change_nothing(router):
    rng = np.random.default_rng(2)
    columns = np.cumsum(rng.exponential(0.3, 200)), rng.integers(1, 90, 200)
    rows = RequestStream(*columns, rng.integers(1, 20, 200))
    calm = Cluster(
        (PoolSetup(SECOND, config(slots=3), 4, router),), operations=Operations((PoolOperations(),))
    )
    usual = simulate(rows, SECOND, config(slots=3), replicas=4, router=router)
    records = simulate_cluster(rows, calm)
    for name in ("admitted_s", "first_token_s", "finish_s", "replica", "busy_s"):
        np.testing.assert_array_equal(getattr(records, name), getattr(usual, name))


def test_the_same_seed_breaks_the_same_things_whatever_is_served():
    parts = parts_of(Failing("device", 8, 50.0, 3.0), 1, 4, 2)
    pool = PoolOperations((parts,), spares=1)
    light, heavy = (
        run(stream(*((i * gap, 4, 3) for i in range(400))), pool, Replica, replicas=2, seed=5)
        for gap in (0.5, 0.25)
    )
    end_s = min(light.end_s, heavy.end_s)

    def downs(fleet):
        mine = (fleet.state == State.DOWN) & (fleet.until_s < end_s)
        return sorted(zip(fleet.replica[mine], fleet.begin_s[mine], strict=True))

    assert len(downs(light.fleet)) > 5
    assert downs(light.fleet) == downs(heavy.fleet)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (PoolOperations((part((3,)),)), "replica 3 of a pool of 1"),
        (PoolOperations(scaling=scaling(9)), "9 replicas of a pool of 1"),
        (PoolOperations(restart_s=-1.0), "must not be negative"),
    ],
)
def test_operations_that_do_not_go_with_the_pool_are_refused(pool, message):
    with pytest.raises(InputError, match=message):
        run(stream((0, 4, 5)), pool, Replica)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Schedule((1.0,), (1,)),
        lambda: Schedule((0.0, 1.0), (1,)),
        lambda: Maintenance(0.0, 0.0),
        lambda: Autoscaling(AutoscalePolicy(1.0, 1, 1, 0.0), "slots", 0.0, 1.0),
    ],
)
def test_plans_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        wrong()
