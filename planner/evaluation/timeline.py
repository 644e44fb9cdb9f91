"""timeline(Scenario): one step of the deployment, simulated rank by rank."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from planner.errors import InputError
from planner.evaluation.assumptions import Assumption, assumptions
from planner.evaluation.replica import Replica, build
from planner.evaluation.spread import Spread, joint, step_spreads
from planner.specs.deployment import Disaggregated, Pool
from planner.specs.scenario import Scenario
from planner.step import Step
from planner.step.timeline import (
    Load,
    Timeline,
    decode_load,
    drawn,
    hottest,
    prefill_load,
    simulate_step,
    step_work,
)
from planner.workloads import measured_traffic

Phase = Literal["decode", "prefill"]


@dataclass(frozen=True)
class TimelineResult:
    """A simulated step beside the closed form that the event loop uses."""

    scenario: Scenario
    replica: Replica
    phase: Phase
    timeline: Timeline
    step: Step
    """The same step in closed form, every rank as slow as the slowest is on average."""
    context_tokens: float
    """Mean context in decode, mean prompt in prefill. [tokens]"""
    rank_tokens: float
    """Of one attention rank: prompt tokens in prefill, tokens yielded in decode. [tokens]"""
    tokens_per_s_per_device: float
    """The same of a device."""
    assumptions: tuple[Assumption, ...]
    spreads: tuple[Spread, ...] = ()
    """What makes the step's time uncertain."""

    @property
    def closed_form_s(self) -> float:
        """Time of the closed form. [s]"""
        return self.step.time_s

    @property
    def tokens_per_s_per_node(self) -> float:
        """Tokens of a node's devices."""
        node = self.replica.hardware.system.devices_per_node
        return node * self.tokens_per_s_per_device

    def interval90(self) -> dict[str, list[float]]:
        """90 % intervals of the simulated step's time and of the rates that go with it."""
        low, high = (math.exp(log) for log in joint(self.spreads))
        rates = ("tokens_per_s_per_device", "tokens_per_s_per_node")
        return {
            "step_s": [self.timeline.time_s * low, self.timeline.time_s * high],
            **{name: [getattr(self, name) / high, getattr(self, name) / low] for name in rates},
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.scenario.name,
            "phase": self.phase,
            "label": self.replica.pool.parallelism.label(),
            "overlap": self.replica.pool.overlap,
            **self.timeline.to_dict(),
            "closed_form_s": self.closed_form_s,
            "closed_form_relative_error": self.closed_form_s / self.timeline.time_s - 1,
            "context_tokens": self.context_tokens,
            "rank_tokens": self.rank_tokens,
            "tokens_per_s_per_device": self.tokens_per_s_per_device,
            "tokens_per_s_per_node": self.tokens_per_s_per_node,
            "interval90": self.interval90(),
            "bars": [asdict(bar) for bar in self.timeline.bars],
            "assumptions": [asdict(a) for a in self.assumptions],
        }


def timeline(
    scenario: Scenario,
    phase: Phase = "decode",
    *,
    prompt_tokens: float | None = None,
    layers: Sequence[int] = (2, 3),
    ranks: Sequence[int] = (),
    replica: Replica | None = None,
) -> TimelineResult:
    """Simulate one steady step of the scenario's deployment over all its ranks.

    Decode: ``steady.sequences_per_device`` sequences with ``steady.context_tokens`` each.
    Prefill: ``limits.max_step_tokens`` tokens a rank of the pool that computes prompts, nothing
    cached.  Contexts vary between sequences by ``steady.context_variation``; expert loads are
    drawn from the scenario's routing with its seed.

    Parameters
    ----------
    prompt_tokens : mean prompt of a prefill step; None: the workload's, or without one
        ``steady.context_tokens``. [tokens]
    layers, ranks : of which bars are kept; ranks default to the slowest and the fastest.
    replica : of this scenario, when it is built already.

    Raises
    ------
    InputError
        The scenario lacks ``deployment``; in decode it lacks ``steady``, in prefill nothing says
        how long a prompt is.
    InfeasibleError
        The deployment cannot run.

    References
    ----------
    .. [1] :mod:`planner.step.timeline`.
    """
    if scenario.deployment is None:
        raise InputError(scenario.name, "deployment", "is missing; a step needs one")
    prefill = phase == "prefill"
    if prefill:
        context = _prompt_tokens(scenario) if prompt_tokens is None else float(prompt_tokens)
        if not context > 0:
            raise InputError(scenario.name, "prompt", f"must be > 0, got {context:g}")
    elif scenario.steady is not None:
        context = scenario.steady.context_tokens
    else:
        raise InputError(scenario.name, "steady", "is missing; a decode step needs it")
    replica = replica or _replica(scenario, scenario.deployment, prefill)
    replica.memory.require()
    step, dp = replica.step, replica.shard.attention_dp
    asked = _prefill(scenario, replica, context) if prefill else _decode(scenario, replica, context)
    experts, seed, moe = hottest(step, asked.alike), scenario.run.seed, scenario.model.moe
    if scenario.routing is not None and moe is not None:
        experts = drawn(step, scenario.routing, moe, seed, asked.alike)
    found = simulate_step(step, step_work(step, asked.load, prefill, experts), ranks, layers)
    return TimelineResult(
        scenario=scenario,
        replica=replica,
        phase=phase,
        timeline=found,
        step=asked.closed,
        context_tokens=context,
        rank_tokens=asked.tokens,
        tokens_per_s_per_device=asked.tokens * dp / replica.shard.devices / found.time_s,
        assumptions=assumptions(replica),
        spreads=step_spreads(replica, [(asked.closed, 1.0)]),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a step is made of."""

    load: Load
    closed: Step
    tokens: float
    """Of one attention rank, computed in prefill, yielded in decode. [tokens]"""
    alike: float
    """New tokens of one prompt in the step, which choose experts alike. [tokens]"""


def _decode(scenario: Scenario, replica: Replica, context: float) -> _Asked:
    wish, shard, step, cap = scenario.steady, replica.shard, replica.step, replica.cap_tokens
    assert wish is not None
    sequences = float(wish.sequences_per_device) * shard.devices / shard.attention_dp
    shape = context, cap, wish.context_variation, scenario.run.seed
    load = decode_load(shard.attention_dp, sequences, *shape)
    closed = step.decode_step(sequences, context, cap)
    return _Asked(load, closed, sequences * step.tokens_per_step, 1.0)


def _prefill(scenario: Scenario, replica: Replica, prompt: float) -> _Asked:
    tokens, cap = float(replica.pool.limits.max_step_tokens), replica.cap_tokens
    variation = scenario.steady.context_variation if scenario.steady else 0.0
    load = prefill_load(
        replica.shard.attention_dp, tokens, prompt, cap, variation, scenario.run.seed
    )
    closed = replica.step.prefill_step(tokens, max(1.0, tokens / prompt), prompt, cap)
    return _Asked(load, closed, tokens, min(tokens, prompt))


def _prompt_tokens(scenario: Scenario) -> float:
    """Mean prompt of the scenario. [tokens]"""
    if scenario.workload is not None:
        return measured_traffic(scenario.workload, scenario.run).input_tokens
    if scenario.steady is not None:
        return scenario.steady.context_tokens
    raise InputError(
        scenario.name, "prompt",
        "is not known: the scenario has neither workload nor steady; "
        "give its length with --prompt TOKENS (in Python prompt_tokens=)",
    )  # fmt: skip


def _replica(scenario: Scenario, pools: Pool | Disaggregated, prefill: bool) -> Replica:
    model, here, routing = scenario.model, scenario.hardware[0], scenario.routing
    if isinstance(pools, Pool):
        return build(model, here, pools, routing)
    if prefill:
        there = scenario.prefill_hardware or here
        return build(model, there, pools.prefill, routing, "disaggregated")
    return build(model, here, pools.decode, routing)
