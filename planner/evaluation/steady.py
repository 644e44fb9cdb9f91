"""A decode batch held constant: profiles, and capacity at a given user speed."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from planner.errors import InputError
from planner.evaluation.assumptions import Assumption, assumptions
from planner.evaluation.replica import Replica, build
from planner.evaluation.result import step_dict
from planner.evaluation.spread import Spread, joint, step_spreads
from planner.specs.scenario import Scenario
from planner.step import Step


@dataclass(frozen=True, slots=True)
class Capacity:
    """Most sequences a device can decode at a user speed."""

    tokens_per_s_per_user: float
    sequences_per_device: float
    """0: not even one sequence is that fast."""
    tokens_per_s_per_device: float
    tokens_per_s_per_node: float
    limited_by: str
    """``speed`` or ``kv_capacity``."""
    interval90: tuple[float, float] | None = None
    """Of ``sequences_per_device``."""


@dataclass(frozen=True)
class SteadyResult:
    """One decode step in steady state, and the capacities asked for."""

    scenario: Scenario
    replica: Replica
    step: Step
    sequences_per_device: float
    context_tokens: float
    tokens_per_s_per_device: float
    tokens_per_s_per_node: float
    tokens_per_s_per_user: float
    unhidden_s: float
    """Step time with no expert communication hidden. [s]"""
    hidden_s: float
    """Step time with all of it hidden that computation can cover. [s]"""
    capacities: tuple[Capacity, ...]
    assumptions: tuple[Assumption, ...]
    spreads: tuple[Spread, ...] = ()
    """What makes the step's time uncertain."""

    @property
    def step_factor(self) -> tuple[float, float]:
        """5th and 95th percentile of the step's time over the predicted one."""
        low, high = joint(self.spreads)
        return math.exp(low), math.exp(high)

    def interval90(self) -> dict[str, list[float]]:
        """90 % intervals of the step's time and of the rates that go with it."""
        low, high = self.step_factor
        rates = ("tokens_per_s_per_device", "tokens_per_s_per_node", "tokens_per_s_per_user")
        return {
            "step_s": [self.step.time_s * low, self.step.time_s * high],
            **{name: [getattr(self, name) / high, getattr(self, name) / low] for name in rates},
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        node = self.replica.hardware.system.devices_per_node
        per_node = self.sequences_per_device * node * self.step.tokens
        return {
            "scenario": self.scenario.name,
            "label": self.replica.pool.parallelism.label(),
            "sequences_per_device": self.sequences_per_device,
            "context_tokens": self.context_tokens,
            "step_s": self.step.time_s,
            "bound_s": self.step.bound_s,
            "tokens_per_s_per_device": self.tokens_per_s_per_device,
            "tokens_per_s_per_node": self.tokens_per_s_per_node,
            "tokens_per_s_per_user": self.tokens_per_s_per_user,
            "interval90": self.interval90(),
            "nothing_hidden": {
                "step_s": self.unhidden_s,
                "tokens_per_s_per_node": per_node / self.unhidden_s,
            },
            "all_hidden": {
                "step_s": self.hidden_s,
                "tokens_per_s_per_node": per_node / self.hidden_s,
            },
            "capacities": [asdict(c) for c in self.capacities],
            "step": step_dict(self.step),
            "memory": self.replica.memory.to_dict(),
            "claims": [c.model_dump() for c in self.scenario.claims],
            "assumptions": [asdict(a) for a in self.assumptions],
        }


def steady(scenario: Scenario) -> SteadyResult:
    """Lay out the scenario's steady decode step and search its capacities.

    Raises
    ------
    InputError
        The scenario lacks ``steady`` or ``deployment``.
    InfeasibleError
        The deployment cannot run, or the batch's KV does not fit.
    """
    if scenario.steady is None or scenario.decoding is None:
        missing = "steady" if scenario.steady is None else "deployment"
        raise InputError(scenario.name, missing, "is missing; `step` needs both")
    replica = build(scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing)
    replica.memory.require()
    wish, shard = scenario.steady, replica.shard
    per_device = float(wish.sequences_per_device)
    per_rank = per_device * shard.devices / shard.attention_dp
    step = replica.step.decode_step(per_rank, wish.context_tokens, replica.cap_tokens)

    def at_overlap(share: float) -> float:
        model = replace(replica.step, overlap="share", overlap_share=share)
        return float(model.decode_step_s(per_rank, wish.context_tokens, replica.cap_tokens))

    node = replica.hardware.system.devices_per_node
    rate = per_device * step.tokens / step.time_s
    spreads = step_spreads(replica, [(step, 1.0)])
    return SteadyResult(
        scenario=scenario,
        replica=replica,
        step=step,
        sequences_per_device=per_device,
        context_tokens=wish.context_tokens,
        tokens_per_s_per_device=rate,
        tokens_per_s_per_node=rate * node,
        tokens_per_s_per_user=step.tokens / step.time_s,
        unhidden_s=at_overlap(0.0),
        hidden_s=at_overlap(1.0),
        capacities=tuple(
            _uncertain(replica, wish.context_tokens, speed, joint(spreads))
            for speed in wish.tokens_per_s_per_user
        ),
        assumptions=assumptions(replica),
        spreads=spreads,
    )


def _uncertain(
    replica: Replica, context_tokens: float, speed: float, logs: tuple[float, float]
) -> Capacity:
    """Capacity, and that with steps as fast and as slow as they may be."""
    most, least = (
        capacity(replica, context_tokens, speed * math.exp(log)).sequences_per_device
        for log in logs
    )
    found = capacity(replica, context_tokens, speed)
    return replace(found, interval90=(least, most))


def capacity(replica: Replica, context_tokens: float, tokens_per_s_per_user: float) -> Capacity:
    """Largest batch whose decode step is no longer than a user's time per token.

    Every rank alike, contexts at their mean, no prefill.
    """
    shard, memory = replica.shard, replica.memory
    by_kv = memory.kv_capacity_tokens_per_rank // (
        int(context_tokens) + memory.sequence_overhead_tokens + replica.step.query_tokens - 1
    )
    sizes = np.arange(1, max(1, by_kv) + 1, dtype=float)
    step_s = np.asarray(replica.step.decode_step_s(sizes, context_tokens, replica.cap_tokens))
    token_s = step_s / replica.step.tokens_per_step
    keeps = (token_s <= 1 / tokens_per_s_per_user) & (sizes <= by_kv)
    most = float(sizes[keeps].max()) if keeps.any() else 0.0
    per_device = most * shard.attention_dp / shard.devices
    rate = per_device * (1 / token_s[int(most) - 1]) if most else 0.0
    return Capacity(
        tokens_per_s_per_user,
        per_device,
        float(rate),
        float(rate * replica.hardware.system.devices_per_node),
        "kv_capacity" if most == by_kv else "speed",
    )
