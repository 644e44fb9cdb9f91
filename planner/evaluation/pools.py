"""The pools of a fleet: who they are, how caches get from one to the other, what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.comm.transfer import KvLink, Link, kv_link
from planner.cost import Cost, Flow, serving_cost
from planner.evaluation.replica import Replica, build
from planner.serving import Cluster, Handover, PoolSetup, Records
from planner.serving.config import Role
from planner.serving.operations import Operations
from planner.sourced import Sourced
from planner.specs.deployment import Disaggregated, Pool
from planner.specs.operations import OperationsSpec
from planner.specs.prices import Price
from planner.specs.scenario import Scenario


@dataclass(frozen=True, slots=True)
class FleetPool:
    """Identical replicas of one role."""

    role: Role
    replica: Replica
    replicas: int
    """As many as there may be at once, where the number changes."""

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return self.replicas * self.replica.devices

    @property
    def nodes(self) -> float:
        """Nodes of all replicas; a fraction where a replica takes part of one."""
        return self.devices / self.replica.hardware.system.devices_per_node


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How full one pool was, mean over the whole run."""

    pool: FleetPool
    busy_share: float
    """Share of time in which its replicas were in a step."""
    kv_share: float
    """KV in use over its capacity."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        replica = self.pool.replica
        return {
            "role": self.pool.role,
            "system": replica.hardware.system.name,
            "parallelism": replica.pool.parallelism.model_dump(),
            "label": replica.pool.parallelism.label(),
            "weights": replica.pool.weights,
            "kv": replica.pool.kv,
            "engine": replica.pool.engine.name,
            "replicas": self.pool.replicas,
            "devices": self.pool.devices,
            "nodes": self.pool.nodes,
            "busy_share": self.busy_share,
            "mean_kv_share": self.kv_share,
            "memory": replica.memory.to_dict(),
        }


def fleet_of(scenario: Scenario, deployment: Pool | Disaggregated) -> tuple[FleetPool, ...]:
    """Put the pools of a deployment together, prefill first.

    Raises
    ------
    InfeasibleError
        A pool cannot run, or its weights leave no room for a cache.
    """
    here, model, routing = scenario.hardware[0], scenario.model, scenario.routing

    def most(pool: Pool, role: Role = "both") -> int:
        return most_replicas(scenario.operations, pool.replicas, role)

    pools: tuple[FleetPool, ...]
    if isinstance(deployment, Pool):
        pools = (FleetPool("both", build(model, here, deployment, routing), most(deployment)),)
    else:
        there = scenario.prefill_hardware or here
        first, then = deployment.prefill, deployment.decode
        prefill = build(model, there, first, routing, "disaggregated")
        decode = build(model, here, then, routing, "disaggregated")
        pools = (
            FleetPool("prefill", prefill, most(first, "prefill")),
            FleetPool("decode", decode, most(then, "decode")),
        )
    for pool in pools:
        pool.replica.memory.require()
    return pools


def most_replicas(spec: OperationsSpec | None, replicas: int, role: str) -> int:
    """Replicas that a pool may have at once."""
    if spec is None:
        return replicas
    plan = spec.plan_of(role)
    if plan.schedule:
        return max(entry.replicas for entry in plan.schedule)
    return max(replicas, plan.autoscale.max_replicas if plan.autoscale else 0)


def cluster_of(
    pools: Sequence[FleetPool], cached_input_share: float, deployment: Pool | Disaggregated,
    prompt_tokens: float, operations: Operations | None = None,
) -> Cluster:  # fmt: skip
    """Return the pools as the event loop takes them.

    Parameters
    ----------
    prompt_tokens : mean prompt, see :func:`handover` and :meth:`Replica.timing`. [tokens]
    operations : what may happen to the pools.
    """
    setups = tuple(
        PoolSetup(
            pool.replica.timing(prompt_tokens),
            pool.replica.config(cached_input_share, pool.role),
            pool.replicas,
            pool.replica.pool.router,
            pool.replica.tier(),
        )
        for pool in pools
    )
    over = None
    if isinstance(deployment, Disaggregated):
        over = handover(pools, deployment, prompt_tokens)
    delay_s = float(pools[0].replica.pool.engine.overheads.request_host_s)
    return Cluster(setups, over, request_delay_s=delay_s, operations=operations)


def handover(
    pools: Sequence[FleetPool], deployment: Disaggregated, prompt_tokens: float
) -> Handover:
    r"""Time of a cache from a prefill replica to a decode replica.

    A cache goes over the links of its attention rank's devices on either side, each with its own
    part of the bytes: heads that eight senders share may all arrive at one receiver.  So many
    caches go side by side as both replicas have data-parallel ranks, ``r``.  The event loop sends
    one at a time, at

    .. math:: s = \frac{1}{r} \max\left(\frac{b_p}{W_p}, \frac{b_d}{W_d}\right)

    a token, with ``b`` bytes of cache a token on a device and link rate ``W`` of both sides, so
    that the rate at which caches leave is right; a cache's own time is made up for by the latency
    :math:`\alpha + n\,(r - 1)\,s` at the mean prompt ``n``.

    References
    ----------
    .. [1] R. Qin et al., "Mooncake", arXiv:2407.00079, sections 4 and 5 (transfer engine over RDMA,
       layer-wise transfer).
    """
    prefill, decode = (pool.replica for pool in pools)
    links = transfer_links(pools, deployment)
    sides = min(prefill.shard.attention_dp, decode.shard.attention_dp)
    each_s = max(
        side.memory.kv_bytes_per_token / link.bytes_per_s
        for side, link in zip((prefill, decode), links, strict=True)
    )
    seen = 1 - deployment.transfer_overlap_share
    return Handover(
        each_s / sides,
        max(link.latency_s for link in links) + seen * prompt_tokens * (each_s - each_s / sides),
        deployment.transfer_overlap_share,
    )


def transfer_name(pools: Sequence[FleetPool], deployment: Disaggregated) -> Link:
    """Name the link that takes caches: as stated, or as near as both pools are."""
    if deployment.transfer:
        return deployment.transfer
    systems = {pool.replica.hardware.system.name for pool in pools}
    domain = pools[0].replica.hardware.system.scale_up.devices
    together = len(systems) == 1 and sum(pool.devices for pool in pools) <= domain
    return "scale_up" if together else "scale_out"


def transfer_links(pools: Sequence[FleetPool], deployment: Disaggregated) -> list[KvLink]:
    """Return a device's link on either side, prefill first.

    Raises
    ------
    InfeasibleError
        A system has no such link.
    """
    name = transfer_name(pools, deployment)
    return [
        kv_link(name, side.system, side.calibration)
        for side in (pool.replica.hardware for pool in pools)
    ]


def uses(pools: Sequence[FleetPool], records: Records) -> tuple[PoolUse, ...]:
    """How full every pool was."""
    found, first = [], 0
    for pool in pools:
        mine = slice(first, first + pool.replicas)
        first += pool.replicas
        capacity = pool.replica.memory.kv_capacity_tokens * pool.replicas
        held = float(records.kv_token_s[mine].sum())
        found.append(
            PoolUse(
                pool,
                float(records.busy_s[mine].mean()) / records.end_s if records.end_s else 0.0,
                held / (capacity * records.end_s) if records.end_s and capacity else 0.0,
            )
        )
    return tuple(found)


def fleet_w(pools: Sequence[FleetPool], records: Records) -> float | None:
    """Mean power over the run, idle time at idle power; None where a part's is not known. [W]"""
    total_j, first = 0.0, 0
    for pool in pools:
        mine = slice(first, first + pool.replicas)
        first += pool.replicas
        power = pool.replica.power()
        if power is None or not records.end_s:
            return None
        idle_j = power.idle_replica_w * float(records.idle_s[mine].sum())
        total_j += float(records.energy_j[mine].sum()) + idle_j
    return total_j / records.end_s


def decoding_load(records: Records) -> tuple[float, float]:
    """Sequences that decode and their cache in the decode pool, means over the run. [tokens]

    A request decodes from its first token to its last.
    """
    if not records.end_s:
        return 0.0, 0.0
    done = np.isfinite(records.finish_s) & np.isfinite(records.first_token_s)
    decoding_s = float((records.finish_s - records.first_token_s)[done].sum())
    held = float(records.kv_token_s[records.prefill_replicas :].sum())
    return decoding_s / records.end_s, held / records.end_s


def prices_of(pools: Sequence[FleetPool]) -> tuple[Price, ...]:
    """Prices of a device of the fleet; of two systems the mean over devices, by provider and term.

    A provider that lacks one of the parts is passed over.
    """
    own = pools[-1].replica.hardware.prices
    other = pools[0].replica.hardware.prices
    part = pools[-1].replica.hardware.accelerator.name
    if pools[0].replica.hardware.accelerator.name == part:
        return own
    known = {(p.provider, p.term): p for p in reversed(other)}
    return tuple(
        _mean_price(pools, known[p.provider, p.term], p)
        for p in own
        if (p.provider, p.term) in known
    )


def _mean_price(pools: Sequence[FleetPool], prefill: Price, decode: Price) -> Price:
    first, then = prefill.usd_per_device_hour, decode.usd_per_device_hour
    devices = [pool.devices for pool in pools]
    mean = (devices[0] * first + devices[1] * then) / sum(devices)
    source = ", ".join(dict.fromkeys((first.source, then.source)))
    note = f"mean of {devices[0]} {prefill.accelerator} and {devices[1]} {decode.accelerator}"
    return decode.model_copy(
        update={
            "accelerator": f"{prefill.accelerator} + {decode.accelerator}",
            "usd_per_device_hour": Sourced(mean, source, note, "derived"),
        }
    )


def prefill_bill_share(
    pools: Sequence[FleetPool], devices: Sequence[float] | None = None
) -> float | None:
    """Share of the bill that the prefill pool is; None where one pool does everything.

    At the headline prices where the systems differ, by devices where one of them has no price.

    Parameters
    ----------
    devices : of each pool that are paid for; None: all.
    """
    if len(pools) == 1:
        return None
    priced = all(pool.replica.hardware.prices for pool in pools)
    each = [
        count * (float(pool.replica.hardware.prices[0].usd_per_device_hour) if priced else 1.0)
        for pool, count in zip(pools, devices or [p.devices for p in pools], strict=True)
    ]
    return each[0] / sum(each)


def costs_of(pools: Sequence[FleetPool], devices: float, flow: Flow) -> tuple[Cost, ...]:
    """Cost of all pools together at every price, for the devices that are paid for."""
    return tuple(serving_cost(price, devices, flow) for price in prices_of(pools))
