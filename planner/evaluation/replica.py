"""One replica put together: shard, memory, step physics, tables."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from planner import arch
from planner.comm import with_exchange
from planner.errors import InfeasibleError, InputError
from planner.evaluation.attention_kernels import with_attention_kernels
from planner.evaluation.expert_kernels import with_expert_kernels
from planner.evaluation.factors import with_factors
from planner.evaluation.fitted import Mode, with_fitted
from planner.evaluation.graphs import captured
from planner.evaluation.power import PowerModel
from planner.evaluation.timing import TableTiming
from planner.memory import Memory, footprint
from planner.routing import HotRank, hot_rank
from planner.serving import ReplicaConfig
from planner.serving.balance import BY_PREFIX
from planner.serving.config import Role
from planner.serving.prefix_tier import TierSetup
from planner.shard import Shard, shard
from planner.specs.deployment import ALL_GATHER, Pool
from planner.specs.engine import BOX_DEVICES
from planner.specs.hardware import SystemSpec
from planner.specs.model import ModelSpec
from planner.specs.routing import Routing
from planner.specs.scenario import Hardware
from planner.step import StepModel
from planner.step.draft import draft
from planner.step.graphs import computed


@dataclass(frozen=True, slots=True)
class Replica:
    """Everything the simulation and the reports need to know of one replica of a pool."""

    model: ModelSpec
    hardware: Hardware
    pool: Pool
    shard: Shard
    memory: Memory
    step: StepModel
    cap_tokens: int | None

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.shard.devices

    def power(self) -> PowerModel | None:
        """Power of the devices and their hosts; None where no maximum is published."""
        return power_model(self.hardware, self.devices)

    def timing(self, prompt_tokens: float = 1.0) -> TableTiming:
        """Tables of step times.  Building them takes milliseconds; they are not kept.

        Parameters
        ----------
        prompt_tokens : of the mean prompt; as many as fit in a step choose experts alike where
            the scenario's routing says so. [tokens]
        """
        limits, q = self.pool.limits, self.step.query_tokens
        alike = max(1.0, min(prompt_tokens, float(limits.max_step_tokens)))
        padded = int(computed(self.step, float(limits.max_sequences)).tokens)
        return TableTiming(
            replace(self.step, prompt_tokens=alike),
            limits.max_step_tokens + max(padded, q * limits.max_sequences),
            self.pool.parallelism.attention_dp,
            self.power() or PowerModel(0, 0.0, 0.0, 0.0),
        )

    def config(self, cached_input_share: float, role: Role = "both") -> ReplicaConfig:
        """Limits and scheduling rules as the event loop takes them."""
        limits, engine = self.pool.limits, self.pool.engine
        return ReplicaConfig(
            ranks=self.pool.parallelism.attention_dp,
            max_sequences=limits.max_sequences,
            max_step_tokens=limits.max_step_tokens,
            kv_capacity_tokens=self.memory.kv_capacity_tokens_per_rank,
            cap_tokens=self.cap_tokens,
            cached_input_share=cached_input_share,
            # half a block each; drafts hold cache until they are refused
            sequence_overhead_tokens=self.memory.sequence_overhead_tokens
            + engine.kv_block_tokens // 2
            + self.step.query_tokens
            - 1,
            policy=engine.policy,
            chunked_prefill=engine.chunked_prefill,
            decode_steps_between_prefills=engine.decode_steps_between_prefills,
            answer_reserve_share=engine.answer_reserve_share,
            preemption=engine.preemption,
            room_steps=engine.room_steps,
            swap_s_per_token=self._swap_s_per_token(),
            poll_steps=engine.poll_steps,
            polls_ahead=engine.polls_ahead,
            balance_steps=engine.balance_steps,
            stream_interval_tokens=engine.stream_interval_tokens,
            stream_counts_first=engine.stream_counts_first,
            role=role,
            prefix_cache=self.pool.prefix_cache is not None,
            rank_router="prefix_aware" if self.pool.router in BY_PREFIX else "least_requests",
        )

    def tier(self) -> TierSetup | None:
        """The store behind the prefix caches as the event loop takes it; it holds KV once."""
        tier = self.pool.prefix_cache.tier if self.pool.prefix_cache else None
        if tier is None:
            return None
        each = arch.kv_bytes_per_token(self.model, self.pool.kv)
        return TierSetup(
            tier.capacity_bytes / each,
            each / tier.bytes_per_s,
            tier.latency_s,
            tier.place == "pool",
        )

    def _swap_s_per_token(self) -> float:
        """Time for one token's KV over a device's link to the host, where it swaps. [s]"""
        if self.pool.engine.preemption != "swap":
            return 0.0
        link = self.hardware.accelerator.host_link_bytes_per_s
        if link is None:
            raise InputError(
                "", "engine.preemption",
                f"{self.hardware.accelerator.name} has no known link to the host; use recompute",
            )  # fmt: skip
        return self.memory.kv_bytes_per_token / float(link)


def build(
    model: ModelSpec, hardware: Hardware, pool: Pool, routing: Routing | None = None,
    mode: Mode = "aggregated",
) -> Replica:  # fmt: skip
    """Put one replica together.

    Parameters
    ----------
    routing : how popular experts are; None: equally, so that every rank is alike.
    mode : which of the engine's fitted overheads are taken, where it has any.

    Raises
    ------
    InfeasibleError
        The parallelism does not divide the model, or joins more devices than the system can.
    InputError
        The part does not multiply in the format asked for, or has no such exchange library.
    """
    pool = with_fitted(pool, hardware.accelerator.name, mode, model)
    pool = _exchanging(pool, hardware.system)
    local = shard(model, pool)
    if pool.exchange and not local.gathers_tokens:
        calibration = with_exchange(hardware.calibration, pool.exchange)
        hardware = hardware.model_copy(update={"calibration": calibration})
    served = with_attention_kernels(hardware.calibration, pool)
    served = with_expert_kernels(served, pool, local)
    hardware = hardware.model_copy(update={"calibration": served})
    _require_network(hardware.system, local.devices)
    drafts = draft(model, pool)
    step = StepModel(
        local,
        hardware.system,
        hardware.accelerator,
        with_factors(hardware.calibration, pool.engine.overheads),
        pool.overlap_share,
        _hot_rank(model, hardware.system, pool, routing),
        pool.overlap,
        pool.fused_norm,
        drafts,
        overheads=pool.engine.overheads,
        graphs=captured(
            pool, hardware.accelerator, drafts.query_tokens if drafts else 1, local.uses_all_to_all
        ),
        gate_apart=pool.gate_apart,
    )
    step.decode_step_s(1.0, 1.0, None)  # raises where the part lacks a precision
    caps = [arch.attention_core(group).cap_tokens for group in model.attention]
    known = [cap for cap in caps if cap is not None]
    return Replica(
        model=model,
        hardware=hardware,
        pool=pool,
        shard=local,
        memory=footprint(
            local,
            hardware.accelerator,
            pool.limits,
            step.draft.shard if step.draft else None,
            pool.engine,
        ),
        step=step,
        cap_tokens=max(known) if known else None,
    )


def _exchanging(pool: Pool, system: SystemSpec) -> Pool:
    """The pool with what its engine does where it names no exchange.

    What hides expert traffic behind computation needs an all-to-all that runs beside it (vLLM's
    dual batch overlap runs with DeepEP alone).
    """
    rule = pool.engine.gathers if pool.overlap in ("share", "none") else "never"
    boxed = system.scale_up.devices <= BOX_DEVICES
    if pool.exchange or rule == "never" or (rule == "in_a_box" and not boxed):
        return pool
    return pool.model_copy(update={"exchange": ALL_GATHER})


def _hot_rank(
    model: ModelSpec, system: SystemSpec, pool: Pool, routing: Routing | None
) -> HotRank | None:
    ep = pool.parallelism.moe_ep
    if routing is None or model.moe is None or ep == 1:
        return None
    per_node = max(1, system.scale_up.devices // pool.parallelism.moe_tp)
    return _tabulated(routing, model.moe, ep, pool.redundant_experts, per_node)


_tabulated = lru_cache(maxsize=64)(hot_rank)
"""Sampling loads takes a second; layouts with the same expert ranks share the table."""


def _require_network(system: SystemSpec, devices: int) -> None:
    """Refuse a replica of more devices than the system can join."""
    joined = system.scale_up.devices
    if devices <= joined:
        return
    if system.scale_out is None:
        raise InfeasibleError(
            f"devices one replica can join on {system.name}", devices, joined, "devices",
            "it has no network between domains",
        )  # fmt: skip
    most = (system.max_nodes or math.inf) * system.devices_per_node
    if devices > most:
        raise InfeasibleError(
            f"devices one replica can join on {system.name}", devices, most, "devices"
        )


def power_model(hardware: Hardware, devices: int) -> PowerModel | None:
    """Power of ``devices`` devices; None where the maker publishes no maximum power."""
    part, system, shares = hardware.accelerator, hardware.system, hardware.calibration
    if part.max_power_w is None:
        return None
    max_w = float(part.max_power_w)
    server_w = float(system.server_power_w_per_device or max_w)
    return PowerModel(
        devices=devices,
        idle_w=shares.idle_power_share * max_w,
        max_w=max_w,
        host_w=max(0.0, server_w - max_w),
    )
