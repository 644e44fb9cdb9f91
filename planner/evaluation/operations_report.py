"""What failures, scaling and maintenance did to a run, and what their rates come to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.evaluation.operations import part_count, part_devices, start_s
from planner.evaluation.pools import FleetPool
from planner.serving import Records
from planner.serving.faults import spares_needed
from planner.serving.fleet_log import DEGRADED, TAKING, Scaling, State
from planner.serving.metrics import within_limits
from planner.specs.operations import OperationsSpec
from planner.specs.workload import Slo

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
PROMISE = 0.999
"""Share of time for which spare replicas are counted."""


def paid_devices(
    spec: OperationsSpec | None, pools: Sequence[FleetPool], records: Records
) -> tuple[float, ...]:
    """Devices of each pool that are paid for, mean over the steady window, spares included."""
    if spec is None or records.fleet is None:
        return tuple(float(pool.devices) for pool in pools)
    window = records.steady_window_s()
    paid_s = records.fleet.paid_s(window)
    found, first = [], 0
    for pool in pools:
        mine = float(paid_s[first : first + pool.replicas].sum()) / (window[1] - window[0])
        spares = spec.plan_of(pool.role).spare_nodes
        each = pool.replica.hardware.system.devices_per_node
        found.append(mine * pool.replica.devices + spares * each)
        first += pool.replicas
    return tuple(found)


def failures_per_day(spec: OperationsSpec, pools: Sequence[FleetPool]) -> float:
    """Outages a day that the rates come to, of every part of every pool, slow ones included."""
    return SECONDS_PER_DAY * sum(
        part_count(failing, pool) / (float(failing.mtbf_s) + float(failing.mttr_s))
        for pool in pools
        for failing in spec.failures
    )


def expected_availability(spec: OperationsSpec, pool: FleetPool) -> float:
    r"""Share of time a replica is up in the long run, whatever one run shows.

    .. math:: A = \prod_k \left(\frac{M_k}{M_k + S + B R_k}\right)^{n_k}

    of ``n`` parts of kind ``k`` with mean time between failures ``M`` and to repair ``R``; ``S`` is
    the start-up and ``B`` the share of failures that find no spare (1 without any): Erlang's loss
    formula for as many servers as spares, each busy for a repair.

    References
    ----------
    .. [1] R. E. Barlow, F. Proschan, "Mathematical Theory of Reliability", 1965: a series system.
    .. [2] A. K. Erlang, 1917, see L. Kleinrock, "Queueing Systems", volume 1, 1975, section 3.6.
    """
    dead = [failing for failing in spec.failures if not failing.speed_share]
    offered = sum(part_count(f, pool) * float(f.mttr_s) / float(f.mtbf_s) for f in dead)
    blocked = erlang_b(spec.plan_of(pool.role).spare_nodes, offered)
    begins_s = start_s(spec, pool)
    log_up = 0.0
    for failing in dead:
        down_s = begins_s + blocked * float(failing.mttr_s)
        parts = math.ceil(pool.replica.devices / part_devices(failing, pool))
        log_up -= parts * math.log1p(down_s / float(failing.mtbf_s))
    return math.exp(log_up)


def erlang_b(servers: int, offered: float) -> float:
    """Share of arrivals that find all servers busy; ``offered`` is arrival rate x holding time.

    >>> erlang_b(0, 0.5), round(erlang_b(2, 1.0), 6)
    (1.0, 0.2)
    """
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """What happened to one pool in a run, warm-up included."""

    role: str
    start_up_s: float
    mean_serving: float
    """Replicas that take requests, mean over the run."""
    replica_hours: float
    """Paid: serving, starting, draining, failed or under maintenance."""
    down_replica_s: float
    """From a failure until the replica serves again. [s]"""
    starts: int
    """Replicas that a policy or a schedule started."""
    stops: int
    expected_availability_share: float
    """Of a replica in the long run, see :func:`expected_availability`."""
    spare_replicas_needed: int | None
    """More replicas with which as many as the deployment has are up 99.9 % of the time; None: too
    many."""


@dataclass(frozen=True, slots=True)
class OperationsReport:
    """What failures, scaling and maintenance did to a run."""

    pools: tuple[PoolHistory, ...]
    availability_share: float
    """Replica-time that served over that and the time lying failed."""
    expected_failures_per_day: float
    """What the rates come to in the long run."""
    failures: dict[str, int]
    """Outages that stopped or slowed a replica, by kind of part."""
    spares_used: int
    maintenances: int
    retried: int
    """Requests that began anew at least once, warm-up included."""
    retries: int
    lost: int
    shed: int
    degraded_share: float
    """Share of the steady window in which a replica was down or slow."""
    degraded_good_share: float | None
    """Of requests that came then, those answered within every limit; None: none came."""
    calm_good_share: float | None
    """The same of all other requests."""
    degraded_goodput_requests_per_s: float | None
    scalings: tuple[Scaling, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; keys end in their unit."""
        plain = ("pools", "scalings")
        values = {name: getattr(self, name) for name in self.__slots__ if name not in plain}
        return values | {
            "pools": [{n: getattr(pool, n) for n in pool.__slots__} for pool in self.pools],
            "scaling_events": [
                {"time_s": one.time_s, "pool": self.pools[one.pool].role, "before": one.before,
                 "after": one.after, "reason": one.reason}
                for one in self.scalings
            ],
        }  # fmt: skip


def operations_report(
    spec: OperationsSpec | None, pools: Sequence[FleetPool], records: Records, slo: Slo
) -> OperationsReport | None:
    """Sum up what happened to the fleet and what requests felt of it; None: nothing could."""
    fleet = records.fleet
    if spec is None or fleet is None:
        return None
    window = records.steady_window_s()
    arrival_s = records.arrival_s[records.counted]
    hit = fleet.count(arrival_s, *DEGRADED) > 0
    good = within_limits(records, slo)
    degraded_s = fleet.degraded_s(window)
    span_s = window[1] - window[0]
    return OperationsReport(
        pools=_histories(spec, pools, records),
        availability_share=fleet.availability,
        expected_failures_per_day=failures_per_day(spec, pools),
        failures=fleet.failures,
        spares_used=fleet.events.get("spare", 0),
        maintenances=fleet.events.get("maintenance", 0),
        retried=int((records.retries > 0).sum()),
        retries=int(records.retries.sum()),
        lost=int(records.lost.sum()),
        shed=int(records.shed.sum()),
        degraded_share=degraded_s / span_s if span_s else 0.0,
        degraded_good_share=float(good[hit].mean()) if hit.any() else None,
        calm_good_share=float(good[~hit].mean()) if not hit.all() else None,
        degraded_goodput_requests_per_s=float(good[hit].sum()) / degraded_s if degraded_s else None,
        scalings=fleet.scalings,
    )


def _histories(
    spec: OperationsSpec, pools: Sequence[FleetPool], records: Records
) -> tuple[PoolHistory, ...]:
    fleet = records.fleet
    assert fleet is not None
    paid_s, down_s = fleet.paid_s(), fleet.spent_s(State.DOWN)
    taking_s = fleet.spent_s(*TAKING)
    found, first = [], 0
    for number, pool in enumerate(pools):
        mine = np.arange(first, first + pool.replicas)
        first += pool.replicas
        expected = expected_availability(spec, pool)
        changes = [one.after - one.before for one in fleet.scalings if one.pool == number]
        found.append(
            PoolHistory(
                role=pool.role,
                start_up_s=start_s(spec, pool),
                mean_serving=float(taking_s[mine].sum()) / fleet.end_s if fleet.end_s else 0.0,
                replica_hours=float(paid_s[mine].sum()) / SECONDS_PER_HOUR,
                down_replica_s=float(down_s[mine].sum()),
                starts=sum(change for change in changes if change > 0),
                stops=-sum(change for change in changes if change < 0),
                expected_availability_share=expected,
                spare_replicas_needed=_spares(pool.replica.pool.replicas, expected),
            )
        )
    return tuple(found)


def _spares(replicas: int, availability: float) -> int | None:
    try:
        return spares_needed(replicas, availability, PROMISE)
    except InputError:
        return None
