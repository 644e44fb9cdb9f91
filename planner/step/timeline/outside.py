"""What a step does outside its expert layers: dense layers, output head, drafts."""

import numpy as np
from numpy.typing import NDArray

from planner.ops import collectives
from planner.step import StepModel
from planner.step.stages import EVERY_LAYER, Stage
from planner.step.timeline.durations import (
    Transfer,
    collective,
    collectives_within,
    own_stages_s,
)
from planner.step.timeline.loads import StepWork

Floats = NDArray[np.float64]


def dense_layers(model: StepModel, work: StepWork) -> tuple[Floats, Transfer]:
    """Layers without experts, uncut: their time, ``[devices]``, and the collectives in it. [s]

    References
    ----------
    .. [1] As :func:`planner.step.schedule.dense_layers_s`.
    """
    whole = own_stages_s(model, work.whole, work.prefill)
    own = model.shard.dense_layers / model.shard.layers
    total = whole["dense"] + own * sum(whole[name] for name in EVERY_LAYER)
    moved = _nothing(work)
    shares: dict[Stage, float] = {"dense": 1.0, **dict.fromkeys(EVERY_LAYER, own)}
    for name, each in collectives_within(model, work.whole.tokens).items():
        moved = moved + each.scaled(shares.get(name, 0.0))
    return np.asarray(total), moved


def head_and_drafts(model: StepModel, work: StepWork) -> tuple[Floats, Transfer]:
    """Output head and draft passes: their time, ``[devices]``, and the collectives in it. [s]

    References
    ----------
    .. [1] As :class:`planner.step.StepModel`.
    """
    zero = np.zeros_like(work.rows)
    total, moved = zero + model.head(work.rows).time_s, _head_traffic(model, work, work.rows)
    if model.draft is None:
        return np.asarray(total), moved
    pp = model.shard.pp
    x, y, z = (pp * each for each in work.whole.attention)
    if work.prefill:
        group = pp * work.whole.group_tokens
        own = model.draft_tokens(x) + model.draft_experts(group, True)
        forms = [model.draft_prompts(x, y, z, sparse) for sparse in (True, False)]
        cores = [np.minimum(a.time_s, b.time_s) for a, b in zip(*forms, strict=True)]
        moved = moved + _pass_traffic(model, work, x, group)
        return np.asarray(sum(cores, total + own.time_s)), moved
    group = pp * work.whole.group_tokens / model.query_tokens
    drafting = pp * work.whole.tokens / model.query_tokens
    own = model.drafting(drafting) + model.drafting_experts(group)
    for inner, times in model.draft_passes():
        n = inner.verifies
        each = _pass_traffic(model, work, n * drafting, n * group)
        moved = moved + (each + _head_traffic(model, work, drafting)).scaled(times)
    cores_s = (c.time_s for c in model.draft_attention(x, y, z))
    return np.asarray(sum(cores_s, total + own.time_s)), moved


def _nothing(work: StepWork) -> Transfer:
    zero = np.zeros_like(work.rows)
    return Transfer(zero, zero, zero)


def _head_traffic(model: StepModel, work: StepWork, rows: Floats) -> Transfer:
    moved = _nothing(work)
    for comm in collectives.head_comms(model.shard, rows, model.domain):
        moved = moved + collective(model, comm, moved.time_s * 0.0)
    return moved


def _pass_traffic(model: StepModel, work: StepWork, tokens: Floats, group: float) -> Transfer:
    """Collectives of one pass of the draft module, of all micro-batches of a pipeline."""
    inner, moved = model.draft_passes()[0][0], _nothing(work)
    comms = inner.token_comms(inner.micro(tokens))
    comms += inner.expert_comms(inner.micro(group), work.prefill)
    for comm in comms:
        moved = moved + collective(inner, comm, moved.time_s * 0.0).scaled(model.shard.pp)
    return moved
