"""Failures, scaling and maintenance of a scenario: for the event loop, and what came of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.evaluation.pools import FleetPool
from planner.serving import Records
from planner.serving.autoscale import AutoscalePolicy, start_up_s
from planner.serving.faults import Failing
from planner.serving.fleet_log import DEGRADED, TAKING, Scaling, State
from planner.serving.metrics import within_limits
from planner.serving.operations import (
    Autoscaling,
    Components,
    Maintenance,
    Operations,
    PoolOperations,
    Schedule,
    parts_of,
)
from planner.specs.operations import Autoscale, Failures, OperationsSpec, PoolPlan, Scheduled
from planner.specs.workload import Run, Slo
from planner.workloads import Traffic

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0


def operations_of(
    spec: OperationsSpec | None, pools: Sequence[FleetPool], run: Run, traffic: Traffic
) -> Operations | None:
    """Return what may happen to the pools as the event loop takes it; None: nothing.

    Parameters
    ----------
    run : resolved; a schedule by time of day begins at its ``start_s``.
    traffic : mean lengths; they decide how much of a step is spent on the network.

    Raises
    ------
    InputError
        The deployment has more replicas than its policy allows.
    """
    if spec is None:
        return None
    return Operations(
        tuple(_pool(spec, pool, run, traffic) for pool in pools),
        spec.on_failure,
        spec.max_retries,
        spec.no_replica == "queue",
        run.seed if spec.seed is None else spec.seed,
    )


def start_s(spec: OperationsSpec, pool: FleetPool) -> float:
    """Time until a replica of a pool serves: its devices load side by side. [s]"""
    load = spec.start_up
    weights_bytes = pool.replica.memory.weights_bytes
    return start_up_s(weights_bytes, float(load.load_bytes_per_s), float(load.other_s))


def _pool(spec: OperationsSpec, pool: FleetPool, run: Run, traffic: Traffic) -> PoolOperations:
    plan, begins_s = spec.plan_of(pool.role), start_s(spec, pool)
    scaling = _scaling(plan, pool, begins_s, run)
    initial = pool.replica.pool.replicas
    if isinstance(scaling, Schedule):
        initial = scaling.replicas[0]
    elif scaling is not None:
        if initial > scaling.policy.most:
            raise InputError(
                "", "operations.autoscale.max_replicas",
                f"{scaling.policy.most} is below the deployment's {initial} replicas",
            )  # fmt: skip
        initial = max(initial, scaling.policy.least)
    return PoolOperations(
        tuple(_components(failing, pool, traffic) for failing in spec.failures),
        plan.spare_nodes,
        begins_s,
        initial,
        scaling,
        tuple(Maintenance(w.begin_s, w.duration_s, w.replicas) for w in plan.maintenance),
    )


def _components(failing: Failures, pool: FleetPool, traffic: Traffic) -> Components:
    each = pool.replica.hardware.system.devices_per_node if failing.component == "node" else 1
    speed_share = failing.speed_share
    if failing.component == "link" and speed_share:
        speed_share = step_speed_share(speed_share, network_share(pool, traffic))
    found = Failing(
        failing.component, math.ceil(pool.devices / each), float(failing.mtbf_s),
        float(failing.mttr_s), failing.repair, speed_share,
    )  # fmt: skip
    return parts_of(found, each, pool.replica.devices, pool.replicas)


def step_speed_share(link_speed_share: float, network_share: float) -> float:
    r"""Speed of a step one of whose links runs at a share ``s`` of its bandwidth.

    .. math:: \left(1 + c \left(\tfrac{1}{s} - 1\right)\right)^{-1}

    with the share ``c`` of the step that bandwidth of the network sets: the slowest rank's traffic
    takes that much longer, and every rank waits for it.

    >>> step_speed_share(0.5, 1.0), step_speed_share(0.25, 0.2)
    (0.5, 0.625)
    """
    return 1 / (1 + network_share * (1 / link_speed_share - 1))


def network_share(pool: FleetPool, traffic: Traffic) -> float:
    """Share of a step that the network's bandwidth sets, with half the slots taken.

    Of a prefill pool, of a full step of prompts.
    """
    replica, limits = pool.replica, pool.replica.pool.limits
    if pool.role == "prefill":
        tokens = float(limits.max_step_tokens)
        prompt = traffic.input_tokens
        step = replica.step.prefill_step(
            tokens, max(1.0, tokens / prompt), prompt, replica.cap_tokens
        )
    else:
        context = traffic.input_tokens + traffic.output_tokens / 2
        half = max(1.0, limits.max_sequences / 2)
        step = replica.step.decode_step(half, context, replica.cap_tokens)
    return min(1.0, step.by_bound().get("network", 0.0) / step.time_s)


def _scaling(
    plan: PoolPlan, pool: FleetPool, begins_s: float, run: Run
) -> Autoscaling | Schedule | None:
    if plan.schedule:
        return _schedule(plan.schedule, begins_s, run.start_s)
    if plan.autoscale is None:
        return None
    auto = plan.autoscale
    policy = AutoscalePolicy(
        auto.target_share, auto.min_replicas, auto.max_replicas, begins_s,
        auto.up_cool_down_s, auto.down_cool_down_s,
    )  # fmt: skip
    return Autoscaling(policy, auto.signal, _capacity(auto, pool), auto.interval_s)


def _capacity(auto: Autoscale, pool: FleetPool) -> float:
    config = pool.replica.config(0.0, pool.role)
    slots = float(config.ranks * config.slots)
    return auto.requests_per_replica or auto.requests_per_s_per_replica or slots


def _schedule(entries: Sequence[Scheduled], begins_s: float, from_s: float) -> Schedule:
    """Entries by time of day as times of a run that begins at ``from_s``."""
    known = [entry for entry in entries if entry.start_s <= from_s][-1]
    later = [entry for entry in entries if entry.start_s > from_s]
    return Schedule(
        (0.0, *(entry.start_s - from_s for entry in later)),
        (known.replicas, *(entry.replicas for entry in later)),
        begins_s,
    )


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


def long_run(spec: OperationsSpec, pools: Sequence[FleetPool]) -> tuple[float, float]:
    r"""Failures a day and availability that the rates come to, whatever one run shows.

    .. math:: A = \prod_k \left(\frac{M_k}{M_k + D_k}\right)^{n_k}

    for a replica of ``n`` parts of kind ``k`` with mean time between failures ``M``, each of which
    takes it down for ``D``: the start-up where spares stand by (one is taken to be free), else
    repair and start-up.  The mean over all replicas; degraded parts count as failures, but take
    nothing down.

    References
    ----------
    .. [1] R. E. Barlow, F. Proschan, "Mathematical Theory of Reliability", 1965: a series system.
    """
    failures_per_s = 0.0
    up = total = 0.0
    for pool in pools:
        spares, starts_s = spec.plan_of(pool.role).spare_nodes, start_s(spec, pool)
        devices = pool.replica.devices
        each = pool.replica.hardware.system.devices_per_node
        log_up = 0.0
        for failing in spec.failures:
            mtbf_s, mttr_s = float(failing.mtbf_s), float(failing.mttr_s)
            node = failing.component == "node"
            count = math.ceil(pool.devices / each) if node else pool.devices
            failures_per_s += count / (mtbf_s + mttr_s)
            if not failing.speed_share:
                parts = math.ceil(devices / each) if node else devices
                down_s = starts_s + (0.0 if spares else mttr_s)
                log_up -= parts * math.log1p(down_s / mtbf_s)
        up += pool.replicas * math.exp(log_up)
        total += pool.replicas
    return failures_per_s * SECONDS_PER_DAY, up / total


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


@dataclass(frozen=True, slots=True)
class OperationsReport:
    """What failures, scaling and maintenance did to a run."""

    pools: tuple[PoolHistory, ...]
    availability_share: float
    """Replica-time that served over that and the time lying failed."""
    expected_availability_share: float
    """What the rates come to in the long run, see :func:`long_run`."""
    expected_failures_per_day: float
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
    per_day, expected = long_run(spec, pools)
    return OperationsReport(
        pools=_histories(spec, pools, records),
        availability_share=fleet.availability,
        expected_availability_share=expected,
        expected_failures_per_day=per_day,
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
            )
        )
    return tuple(found)
