"""Failures, scaling and maintenance of a scenario, as the event loop takes them."""

import math
from collections.abc import Sequence

from planner.errors import InputError
from planner.evaluation.pools import FleetPool
from planner.serving.autoscale import AutoscalePolicy, start_up_s
from planner.serving.faults import Failing
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
from planner.specs.workload import Run
from planner.workloads import Traffic


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


def part_devices(failing: Failures, pool: FleetPool) -> int:
    """Devices that go down with one part."""
    return pool.replica.hardware.system.devices_per_node if failing.component == "node" else 1


def part_count(failing: Failures, pool: FleetPool) -> int:
    """Parts of a kind in a pool."""
    return math.ceil(pool.devices / part_devices(failing, pool))


def _components(failing: Failures, pool: FleetPool, traffic: Traffic) -> Components:
    speed_share = failing.speed_share
    if failing.component == "link" and speed_share:
        speed_share = step_speed_share(speed_share, network_share(pool, traffic))
    found = Failing(
        failing.component, part_count(failing, pool), float(failing.mtbf_s),
        float(failing.mttr_s), failing.repair, speed_share,
    )  # fmt: skip
    each = part_devices(failing, pool)
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
