"""Times of the stages of a step, for every layer and device at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.comm import comm_load
from planner.ops import Comm
from planner.ops.layer import loaded_expert_ops
from planner.roofline import op_time
from planner.step import StepModel
from planner.step.stages import EVERY_LAYER, Stage, stage_of
from planner.step.timeline.loads import RankWork, StepWork

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """Collectives, ``[layers, devices]`` or ``[devices]`` each. [s]"""

    time_s: Floats
    scale_up_s: Floats
    """Of it, with links inside the domain in use."""
    scale_out_s: Floats
    """Of it, with the network between domains in use."""

    def __add__(self, other: "Transfer") -> "Transfer":
        return Transfer(
            self.time_s + other.time_s,
            self.scale_up_s + other.scale_up_s,
            self.scale_out_s + other.scale_out_s,
        )

    def scaled(self, factor: float) -> "Transfer":
        """The same ``factor`` times as long."""
        return Transfer(factor * self.time_s, factor * self.scale_up_s, factor * self.scale_out_s)


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """Stage times of one layer of one micro-batch."""

    compute: Mapping[Stage, Floats]
    """``[layers, devices]`` each, with collectives that are part of the stage. [s]"""
    within: Mapping[Stage, Transfer]
    """Those collectives: sums and gathers at the end of a stage, which nothing hides."""
    transfers: Mapping[Stage, Transfer]
    """``dispatch`` and ``combine``; or the collectives that take their place."""

    def scaled(self, factor: float) -> "MicroBatch":
        """The same ``factor`` times as long."""
        if factor == 1.0:
            return self
        return MicroBatch(
            {name: factor * time_s for name, time_s in self.compute.items()},
            {name: own.scaled(factor) for name, own in self.within.items()},
            {name: own.scaled(factor) for name, own in self.transfers.items()},
        )


def micro_batches(model: StepModel, work: StepWork) -> tuple[MicroBatch, ...]:
    """Times of every stage for each micro-batch of a step.

    References
    ----------
    .. [1] The ops of :mod:`planner.ops` with each rank's own load.
    """
    cut = len(work.micro) > 1
    beside = model.beside_traffic(work.prefill) if cut else model
    factor = model.own_factor(work.prefill)
    return tuple(_times(beside, micro, work.prefill).scaled(factor) for micro in work.micro)


def attention_core_s(model: StepModel, work: RankWork, prefill: bool) -> Floats:
    """Attention cores of all layers of one device, ``[devices]``. [s]

    References
    ----------
    .. [1] As :class:`planner.step.StepModel`.
    """
    x, y, z = (model.shard.pp * each for each in work.attention)
    if not prefill:
        total = sum((d.time_s for d in model.decode_attention(x, y, z)), np.zeros_like(x))
        return np.asarray(total) / model.shard.pp
    forms = [model.prefill_attention(x, y, z, sparse) for sparse in (True, False)]
    both = zip(*forms, strict=True)
    total = sum((np.minimum(a.time_s, b.time_s) for a, b in both), np.zeros_like(x))
    return np.asarray(total) / model.shard.pp


def own_stages_s(model: StepModel, work: RankWork, prefill: bool) -> dict[Stage, Floats]:
    """Stages that depend on one rank's tokens, over all layers, ``[devices]`` each. [s]

    References
    ----------
    .. [1] As :class:`planner.step.StepModel`.
    """
    found = model.stages(work.tokens, 0.0, prefill)
    whole = {name: np.zeros_like(work.tokens) + time_s for name, time_s in found.items()}
    whole["attention_core"] = attention_core_s(model, work, prefill)
    return {k: v for k, v in whole.items() if k not in ("experts", "dispatch", "combine")}


def collectives_within(model: StepModel, tokens: Floats) -> dict[Stage, Transfer]:
    """Collectives that are part of :func:`own_stages_s`, ``[devices]`` each.

    References
    ----------
    .. [1] :func:`planner.ops.collectives.token_comms`.
    """
    found: dict[Stage, Transfer] = {}
    for comm in model.token_comms(tokens):
        at, own = stage_of(comm.name), collective(model, comm, 0.0 * tokens)
        found[at] = found[at] + own if at in found else own
    return found


def collective(model: StepModel, comm: Comm, like: Floats) -> Transfer:
    """All calls of a collective, and the links they use, in the shape of ``like``.

    References
    ----------
    .. [1] :func:`planner.comm.comm_load`.
    """
    whole = like + model.comm_s(comm)
    if comm.ranks <= comm.ranks_in_domain:
        return Transfer(whole, whole, like)
    calls = model.overheads.comm_factor * comm.count
    up, out = comm_load(comm, model.system, model.calibration).links_s
    return Transfer(whole, like + calls * up, like + calls * out)


def _times(model: StepModel, work: RankWork, prefill: bool) -> MicroBatch:
    shard, moe = model.shard, model.shard.moe
    if moe is None:
        return MicroBatch({}, {}, {})
    layers = len(work.pairs)
    # a stage of a pipeline holds a broken number of layers on average
    scale = moe.layers / layers
    nothing = np.zeros_like(work.pairs)
    compute: dict[Stage, Floats] = {}
    for name, total in own_stages_s(model, work, prefill).items():
        per_layer = total / (shard.layers if name in EVERY_LAYER else moe.layers)
        compute[name] = scale * np.broadcast_to(per_layer, work.pairs.shape)
    within: dict[Stage, Transfer] = {}
    for name, own in collectives_within(model, work.tokens).items():
        part = scale / (shard.layers if name in EVERY_LAYER else moe.layers)
        within[name] = Transfer(nothing, nothing, nothing) + own.scaled(part)
    given = None if shard.uses_all_to_all else work.group_tokens
    apart = prefill and model.gate_apart
    ops = loaded_expert_ops(moe, work.pairs, work.touched, apart, given)
    experts = sum((op_time(op, model.part, model.calibration).time_s for op in ops), nothing)
    compute["experts"] = np.asarray(experts) / layers
    return MicroBatch(compute, within, _transfers(model, work, prefill, layers))


def _transfers(
    model: StepModel, work: RankWork, prefill: bool, layers: int
) -> dict[Stage, Transfer]:
    """Expert traffic of each rank: what it sends or what it takes in, whichever is more."""
    nothing = np.zeros_like(work.pairs)
    found: dict[Stage, Transfer] = {
        "dispatch": Transfer(nothing, nothing, nothing),
        "combine": Transfer(nothing, nothing, nothing),
    }
    sends = nothing + work.tokens / work.tokens.mean()
    for comm in model.expert_comms(work.group_tokens, prefill):
        own = replace(comm, bytes_per_rank=comm.bytes_per_rank * sends)
        if comm.kind == "all_to_all":
            own = replace(
                comm,
                busiest_share=np.maximum(sends, work.inward),
                busiest_scale_out_share=np.maximum(sends, work.inward_out),
            )
        before = comm.name.endswith(("dispatch", "all_gather"))
        at: Stage = "dispatch" if before else "combine"
        found[at] = collective(model, own, nothing).scaled(1 / layers)
    return found
