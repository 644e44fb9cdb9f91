"""timeline(Scenario): one step of the deployment, simulated rank by rank."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from planner.errors import InputError
from planner.evaluation.assumptions import Assumption, assumptions
from planner.evaluation.replica import Replica, build
from planner.specs.scenario import Scenario
from planner.step.timeline import (
    Timeline,
    decode_load,
    drawn,
    hottest,
    prefill_load,
    simulate_step,
    step_work,
)

Phase = Literal["decode", "prefill"]


@dataclass(frozen=True)
class TimelineResult:
    """A simulated step beside the closed form that the event loop uses."""

    scenario: Scenario
    replica: Replica
    phase: Phase
    timeline: Timeline
    closed_form_s: float
    """The same step with every rank as slow as the slowest is on average. [s]"""
    tokens_per_s_per_device: float
    """Prompt tokens in prefill, tokens yielded in decode."""
    assumptions: tuple[Assumption, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        node = self.replica.hardware.system.devices_per_node
        return {
            "scenario": self.scenario.name,
            "phase": self.phase,
            "label": self.replica.pool.parallelism.label(),
            "overlap": self.replica.pool.overlap,
            **self.timeline.to_dict(),
            "closed_form_s": self.closed_form_s,
            "closed_form_relative_error": self.closed_form_s / self.timeline.time_s - 1,
            "tokens_per_s_per_device": self.tokens_per_s_per_device,
            "tokens_per_s_per_node": node * self.tokens_per_s_per_device,
            "bars": [asdict(bar) for bar in self.timeline.bars],
            "assumptions": [asdict(a) for a in self.assumptions],
        }


def timeline(
    scenario: Scenario,
    phase: Phase = "decode",
    *,
    layers: Sequence[int] = (2, 3),
    ranks: Sequence[int] = (),
    replica: Replica | None = None,
) -> TimelineResult:
    """Simulate one steady step of the scenario's deployment over all its ranks.

    Decode: ``steady.sequences_per_device`` sequences with ``steady.context_tokens`` each.
    Prefill: ``limits.max_step_tokens`` tokens a rank, of prompts of ``steady.context_tokens``.
    Contexts vary between sequences by ``steady.context_variation``; expert loads are drawn from
    the scenario's routing with its seed.

    Parameters
    ----------
    layers, ranks : of which bars are kept; ranks default to the slowest and the fastest.
    replica : of this scenario, when it is built already.

    Raises
    ------
    InputError
        The scenario lacks ``steady`` or ``deployment``.
    InfeasibleError
        The deployment cannot run.

    References
    ----------
    .. [1] :mod:`planner.step.timeline`.
    """
    if scenario.steady is None or scenario.decoding is None:
        missing = "steady" if scenario.steady is None else "deployment"
        raise InputError(scenario.name, missing, "is missing; `step` needs both")
    if replica is None:
        replica = build(scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing)
    wish, shard, step = scenario.steady, replica.shard, replica.step
    prefill, cap, dp = phase == "prefill", replica.cap_tokens, replica.shard.attention_dp
    tokens = float(replica.pool.limits.max_step_tokens)
    sequences = float(wish.sequences_per_device) * shard.devices / dp
    seed, moe = scenario.run.seed, scenario.model.moe
    shape = wish.context_tokens, cap, wish.context_variation, seed
    if prefill:
        load = prefill_load(dp, tokens, *shape)
        closed = step.prefill_step(tokens, max(1.0, tokens / shape[0]), wish.context_tokens, cap)
        rate = tokens
    else:
        load = decode_load(dp, sequences, *shape)
        closed = step.decode_step(sequences, wish.context_tokens, cap)
        rate = sequences * step.tokens_per_step
    alike = min(tokens, wish.context_tokens) if prefill else 1.0
    experts = hottest(step, alike)
    if scenario.routing is not None and moe is not None:
        experts = drawn(step, scenario.routing, moe, seed, alike)
    found = simulate_step(step, step_work(step, load, prefill, experts), ranks, layers)
    per_device = rate * dp / shard.devices / found.time_s
    return TimelineResult(
        scenario, replica, phase, found, closed.time_s, per_device, assumptions(replica)
    )
