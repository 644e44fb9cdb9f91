"""A step under the slots of an overlap policy: the uncut batch and micro-batches of it."""

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.ops import Real
from planner.step.parts import Step
from planner.step.schedule import cut_layers_s, dense_layers_s
from planner.step.stages import StageTimes, by_stage

if TYPE_CHECKING:
    from planner.step.model import StepModel


def layers_s(
    model: "StepModel",
    tokens: tuple[Real, Real],
    core_s: Real,
    part_core_s: Real,
    prefill: bool,
) -> Real:
    """Time of all layers under the slots of the policy. [s]

    Parameters
    ----------
    tokens : of the busiest rank and of all ranks together.
    core_s : attention cores of the whole batch (dense layers run it uncut). [s]
    part_core_s : attention cores of one micro-batch. [s]

    References
    ----------
    .. [1] :mod:`planner.step.schedule`.
    """
    part = cut_stages(model, tokens, part_core_s, prefill)
    whole = part
    if model.plan(prefill).micro_batches > 1:
        whole = model.stages(model.micro(tokens[0]), None, prefill)
        whole["attention_core"] = core_s / model.shard.pp
    return slots_s(model, whole, part, prefill)


def cut_stages(
    model: "StepModel", tokens: tuple[Real, Real], core_s: Real, prefill: bool
) -> StageTimes:
    """Stage times of one micro-batch of the policy, ``core_s`` being its attention cores. [s]

    Parameters
    ----------
    tokens : of the busiest rank and of all ranks together, in all micro-batches.

    References
    ----------
    .. [1] :mod:`planner.step.schedule`.
    """
    n = model.plan(prefill).micro_batches
    rank, group = (model.micro(count) / n for count in tokens)
    part = model.beside_traffic(prefill).stages(rank, group, prefill)
    part["attention_core"] = core_s / model.shard.pp
    return part


def slots_s(model: "StepModel", whole: StageTimes, part: StageTimes, prefill: bool) -> Real:
    """Time of all layers, from stage times of the uncut batch and of one micro-batch. [s]

    References
    ----------
    .. [1] :mod:`planner.step.schedule`.
    """
    expert_s = cut_layers_s(model.shard, model.plan(prefill), part, model.held_up(prefill))
    return model.shard.pp * (dense_layers_s(model.shard, whole) + expert_s)


def in_slots(
    model: "StepModel", step: Step, tokens: tuple[float, float], part_core_s: float, prefill: bool
) -> Step:
    """The parts of ``step`` under the slots of the policy, which change what hides what.

    Parameters
    ----------
    tokens : of the busiest rank and of all ranks together.
    part_core_s : attention cores of one micro-batch. [s]

    References
    ----------
    .. [1] :mod:`planner.step.schedule`.
    """
    pp, layers, after_s = model.shard.pp, list[tuple[str, float]](), step.overhead_s
    for own in step.parts:
        if own.name.startswith(("lm_head/", "draft/")):
            after_s += own.time_s
        else:
            layers.append((own.name, own.time_s / pp))
    part = cut_stages(model, tokens, part_core_s, prefill)
    time_s = float(slots_s(model, by_stage(layers), part, prefill)) + after_s
    apart_s = sum(p.time_s for p in step.parts) + step.overhead_s
    return replace(step, time_s=time_s, hidden_s=apart_s - time_s)
