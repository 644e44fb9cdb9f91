"""Overlap policies as programs of slots: what computes while which transfer is under way.

In a slot every rank computes some stages of one micro-batch while one transfer of the other is on
the wire (less the time for which its own kernels hold the multiprocessors); the slot ends when both
have.  Normal kernels move less while something computes beside them (:func:`slot_s`).  Transfers
are issued at the end of a slot, so computation and links are each used by one piece of work at a
time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np

from planner.ops import Real
from planner.shard import Shard
from planner.specs.overlap import OverlapPolicy
from planner.step.stages import EVERY_LAYER, Stage

SHARED: tuple[Stage, ...] = ("shared_up", "shared_down")
ATTENTION: tuple[Stage, ...] = ("attention_in", "attention_core", "attention_out", "router")
LATER: tuple[Stage, ...] = ("attention_core", "attention_out", "router")
"""Second part of attention in the five-stage pipeline: from its core on."""


@dataclass(frozen=True, slots=True)
class Slot:
    """``per_layer * L + fixed`` slots of one kind in a step with ``L`` expert layers."""

    per_layer: int
    fixed: int
    compute: tuple[Stage, ...]
    transfer: Stage | None = None

    def count(self, layers: float) -> float:
        """How many there are."""
        return self.per_layer * layers + self.fixed


@dataclass(frozen=True, slots=True)
class Schedule:
    """The expert layers of a step: kinds of slots, and micro-batches they are cut into."""

    slots: tuple[Slot, ...]
    micro_batches: int


PLAIN = Schedule(
    (
        Slot(1, 0, ATTENTION),
        Slot(1, 0, (), "dispatch"),
        Slot(1, 0, ("experts",)),
        Slot(1, 0, (), "combine"),
        Slot(1, 0, SHARED),
    ),
    1,
)
SHARED_EXPERT = Schedule(
    (
        Slot(1, 0, ATTENTION),
        Slot(1, 0, ("dispatch_sms", "shared_up"), "dispatch"),
        Slot(1, 0, ("experts",)),
        Slot(1, 0, ("combine_sms", "shared_down"), "combine"),
    ),
    1,
)
TWO_BATCH = Schedule(
    (
        Slot(0, 1, ATTENTION),
        Slot(1, 0, ("dispatch_sms", *ATTENTION), "dispatch"),
        Slot(1, 0, ("dispatch_sms", "experts"), "dispatch"),
        Slot(1, 0, ("combine_sms", "experts", *SHARED), "combine"),
        Slot(1, -1, ("combine_sms", *SHARED, *ATTENTION), "combine"),
        Slot(0, 1, ("combine_sms", *SHARED), "combine"),
    ),
    2,
)
FIVE_STAGE = Schedule(
    (
        Slot(0, 1, ATTENTION),
        Slot(2, -1, ("dispatch_sms", *SHARED, "attention_in"), "dispatch"),
        Slot(0, 1, ("dispatch_sms", *SHARED), "dispatch"),
        Slot(2, 0, ("experts",)),
        Slot(2, -1, ("combine_sms", *LATER), "combine"),
        Slot(0, 1, ("combine_sms",), "combine"),
    ),
    2,
)


def schedule(policy: OverlapPolicy, prefill: bool) -> Schedule:
    """Slots of one policy.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3/R1 Inference System Overview", github.com/deepseek-ai/
       open-infra-index, 2025 (two micro-batches in prefill, five stages in decode).
    .. [2] SGLang Team, "Deploying DeepSeek with PD Disaggregation and Large-Scale Expert
       Parallelism on 96 H100 GPUs", lmsys.org, 2025 (two-batch overlap).
    """
    match policy:
        case "none" | "share":
            return PLAIN
        case "shared_expert":
            return SHARED_EXPERT
        case "two_batch":
            return TWO_BATCH
        case "five_stage":
            return TWO_BATCH if prefill else FIVE_STAGE
    assert_never(policy)


def slot_s(compute_s: Real, transfer_s: Real, held_up: Real) -> Real:
    r"""Time of a slot: its computation, or its transfer, which is slower beside computation. [s]

    .. math:: \max(c,\; t + s c)

    A transfer that takes ``t`` alone and :math:`t / (1 - s)` beside computation has moved
    :math:`(1 - s) c` of itself when the computation ends; the rest goes at full speed.

    Parameters
    ----------
    compute_s, transfer_s : each on its own. [s]
    held_up : share ``s`` of a transfer's speed that computation beside it takes.

    References
    ----------
    .. [1] :data:`planner.step.multiprocessors.NORMAL_TRANSFER_HELD_UP`.
    """
    return np.maximum(compute_s, transfer_s + held_up * compute_s)


def expert_layers_s(
    plan: Schedule, layers: float, stage_s: Mapping[Stage, Real], held_up: float
) -> Real:
    """Time of all expert layers of a step, every rank alike. [s]

    Parameters
    ----------
    layers : expert layers.
    stage_s : time of each stage of one layer for one micro-batch. [s]
    held_up : as for :func:`slot_s`.

    References
    ----------
    .. [1] Longest path through the slots, which follow one another.
    """
    total: Real = 0.0
    for slot in plan.slots:
        compute_s = sum((stage_s[name] for name in slot.compute), 0.0)
        transfer_s = stage_s[slot.transfer] if slot.transfer else 0.0
        total = total + slot.count(layers) * slot_s(compute_s, transfer_s, held_up)
    return total


def dense_layers_s(shard: Shard, whole: Mapping[Stage, Real]) -> Real:
    """Layers without experts, which no policy cuts: attention and dense MLP. [s]

    References
    ----------
    .. [1] SGLang, github.com/sgl-project/sglang, python/sglang/srt/operations_strategy.py (only
       layers with experts are cut).
    """
    own = shard.dense_layers / shard.layers
    return whole["dense"] + own * sum((whole[name] for name in EVERY_LAYER), 0.0)


def cut_layers_s(shard: Shard, plan: Schedule, part: Mapping[Stage, Real], held_up: float) -> Real:
    """Expert layers, from stage times of one micro-batch over all layers. [s]

    References
    ----------
    .. [1] As :func:`expert_layers_s`.
    """
    layers = shard.moe.layers if shard.moe else 0.0
    one = {
        name: time_s / (shard.layers if name in EVERY_LAYER else layers)
        for name, time_s in part.items()
    }
    return expert_layers_s(plan, layers, one, held_up)


Work = tuple[Stage, int, int]
"""Stage, micro-batch, expert layer (from 0)."""
Laid = tuple[tuple[Work, ...], Work | None]
"""One slot of a program: what computes, and the transfer beside it."""


@lru_cache(maxsize=64)
def program(plan: Schedule, layers: int) -> tuple[Laid, ...]:
    """The slots of ``layers`` expert layers in the order they run.

    Their kinds are counted by :meth:`Slot.count`; a simulation of ranks that differ walks them.
    """
    return tuple(_laid(plan, layers))


def _laid(plan: Schedule, layers: int) -> Iterator[Laid]:
    if plan.micro_batches == 1:
        for layer in range(layers):
            for slot in plan.slots:
                yield (
                    tuple((stage, 0, layer) for stage in slot.compute),
                    (slot.transfer, 0, layer) if slot.transfer else None,
                )
        return
    yield _works(ATTENTION, 0, 0), None
    for layer in range(layers):
        last = layer == layers - 1
        if plan is TWO_BATCH:
            after = () if last else _works(ATTENTION, 0, layer + 1)
            yield _beside(("dispatch", 0, layer), _works(ATTENTION, 1, layer))
            yield _beside(("dispatch", 1, layer), _works(("experts",), 0, layer))
            shared = _works(SHARED, 0, layer)
            yield _beside(("combine", 0, layer), (*_works(("experts",), 1, layer), *shared))
            yield _beside(("combine", 1, layer), (*_works(SHARED, 1, layer), *after))
            continue
        for micro in (0, 1):
            other, at = 1 - micro, layer + micro
            opens = () if at == layers else _works(("attention_in",), other, at)
            closes = () if at == layers else _works(LATER, other, at)
            yield _beside(("dispatch", micro, layer), (*_works(SHARED, micro, layer), *opens))
            yield _works(("experts",), micro, layer), None
            yield _beside(("combine", micro, layer), closes)


def _beside(transfer: Work, works: tuple[Work, ...]) -> Laid:
    """A transfer, and what computes once its kernels have let go of the multiprocessors."""
    name, micro, layer = transfer
    held: Stage = "dispatch_sms" if name == "dispatch" else "combine_sms"
    return ((held, micro, layer), *works), transfer


def _works(stages: tuple[Stage, ...], micro: int, layer: int) -> tuple[Work, ...]:
    return tuple((stage, micro, layer) for stage in stages)
