"""A step laid out part by part: what each costs, what sets its time, and the speed of light."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.comm import comm_time_s, ideal_links
from planner.ops import (
    AttentionDecode,
    AttentionPrefill,
    Comm,
    GroupedGemm,
    Op,
    collectives,
    layer,
)
from planner.ops.head import head_ops
from planner.roofline import op_time
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import SystemSpec
from planner.step.parts import Duration, Part, Step
from planner.step.slots import in_slots

if TYPE_CHECKING:
    from planner.step.model import StepModel


def laid_out(
    model: "StepModel", ops: list[Op], comms: list[Comm], rows: float, drafts: Duration
) -> Step:
    """Parts of a step in sequence, but for the share of expert traffic assumed to be hidden.

    Parameters
    ----------
    ops, comms : of one micro-batch of the pipeline.
    rows : rows of the output head. [tokens]
    drafts : all work of a draft module.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    pp = model.shard.pp
    parts = [_part(model, op, pp) for op in ops]
    parts += [_part(model, op, 1) for op in head_ops(model.shard, rows)]
    head_comms = collectives.head_comms(model.shard, rows, model.domain)
    traffic = [_comm_part(model, c, pp) for c in comms]
    parts += [*traffic, *(_comm_part(model, c, 1) for c in head_comms)]
    if model.draft is not None:
        times = float(drafts.time_s), float(drafts.compute_s), float(drafts.memory_s)
        parts.append(Part("draft/module", *times, _bound(*times)))
    hideable_s = sum(part.time_s for c, part in zip(comms, traffic, strict=True) if c.hideable)
    work_s = sum(p.time_s for p in parts) - hideable_s
    exposed_s = float(model.exposed_s(hideable_s, work_s))
    unhindered = ideal(model.system, model.calibration)
    light = {
        "compute": sum(p.compute_s for p in parts),
        "memory": sum(p.memory_s for p in parts),
        "network": max(
            _network_s([c for c in comms if c.hideable is which], unhindered, pp)
            for which in (True, False)
        ),
    }
    bound_by = max(light, key=lambda name: light[name])
    return Step(
        tuple(parts),
        hideable_s - exposed_s,
        model.overhead_s,
        work_s + exposed_s + model.overhead_s,
        light[bound_by],
        bound_by,
        model.tokens_per_step,
    )


def prefill_laid_out(
    model: "StepModel", tokens: float, prompts: float, pairs: tuple[float, float]
) -> Step:
    """Parts of a prefill step, under the slots of the policy where it has any.

    Parameters
    ----------
    tokens, prompts : of one rank; every prompt's first token comes out.
    pairs : causal (query, context) pairs, all and with the context capped.

    References
    ----------
    .. [1] :mod:`planner.step.schedule`.
    """
    pp, dp = model.shard.pp, model.shard.attention_dp
    m = tokens / pp
    cores = model.prefill_cores(tokens, *pairs)
    ops = [*model.token_ops(m), *layer.prompt_ops(model.shard, m), *cores]
    ops += model.expert_ops(m * dp, prefill=True)
    comms = [*model.token_comms(m), *model.expert_comms(m * dp, prefill=True)]
    drafts = model.draft_tokens(tokens) + model.draft_experts(tokens * dp, prefill=True)
    prompt = [model.draft_prompts(tokens, *pairs, sparse) for sparse in (True, False)]
    cheaper = [min(both, key=lambda d: float(d.time_s)) for both in zip(*prompt, strict=True)]
    drafts = sum(cheaper, drafts)
    step = replace(laid_out(model, ops, comms, prompts, drafts), tokens=1.0)
    n = model.plan(prefill=True).micro_batches
    if model.scheduled and tokens >= n:
        beside = model.beside_traffic(prefill=True)
        part = beside.prefill_cores(tokens / n, *(p / n for p in pairs))
        part_s = pp * sum(map(beside.op_s, part))
        step = in_slots(model, step, (tokens, tokens * dp), part_s, prefill=True)
    factor = model.own_factor(prefill=True)
    host_s = model.host_s(prefill=True) - model.overhead_s
    host_s += factor * float(model.overheads.per_sequence_step_host_s) * prompts
    return _of_engine(step, factor, host_s)


def _of_engine(step: Step, factor: float, host_s: float) -> Step:
    """The same step with all work of prompts ``factor`` times as long, and more host time. [s]"""
    overhead_s = step.overhead_s + host_s
    time_s = factor * (step.time_s - step.overhead_s) + overhead_s
    step = replace(step, overhead_s=overhead_s, time_s=time_s)
    if factor == 1.0:
        return step
    parts = tuple(replace(part, time_s=factor * part.time_s) for part in step.parts)
    return replace(step, parts=parts, hidden_s=factor * step.hidden_s)


def with_host(step: Step, host_s: float) -> Step:
    """The same step with more host time. [s]

    References
    ----------
    .. [1] :class:`planner.step.parts.Step`.
    """
    overhead_s = step.overhead_s + host_s
    return replace(step, overhead_s=overhead_s, time_s=step.time_s + host_s)


def _part(model: "StepModel", op: Op, rounds: int) -> Part:
    t = op_time(op, model.part, model.calibration)
    time_s, compute_s, memory_s = (float(rounds * x) for x in (t.time_s, t.compute_s, t.memory_s))
    kind: str = op.precision
    if isinstance(op, AttentionDecode | AttentionPrefill):
        kind = op.variant or ""
    elif isinstance(op, GroupedGemm) and op.storage in model.calibration.stored_experts:
        kind = str(op.storage)
    bound = _bound(time_s, compute_s, memory_s)
    return Part(op.name, time_s, compute_s, memory_s, bound, f"{op.family}/{kind}".rstrip("/"))


def _comm_part(model: "StepModel", comm: Comm, rounds: int) -> Part:
    time_s = float(rounds * model.comm_s(comm))
    return Part(comm.name, time_s, 0.0, 0.0, "network", f"links/{comm.kind}")


def _bound(time_s: float, compute_s: float, memory_s: float) -> str:
    if max(compute_s, memory_s) < 0.5 * time_s:
        return "latency"
    return "compute" if compute_s > memory_s else "memory"


def _network_s(
    comms: Iterable[Comm], network: tuple[SystemSpec, CalibrationSpec], rounds: int
) -> float:
    """Time of the collectives, one after another, on ``network``. [s]"""
    return float(sum(rounds * comm_time_s(c, *network) for c in comms))


def ideal(system: SystemSpec, calibration: CalibrationSpec) -> tuple[SystemSpec, CalibrationSpec]:
    """The same network at its stated bandwidth and without latency.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (ceilings).
    """
    up = system.scale_up.model_copy(update={"latency_s": 0.0})
    out = system.scale_out and system.scale_out.model_copy(update={"latency_s": 0.0})
    return (
        system.model_copy(update={"scale_up": up, "scale_out": out}),
        calibration.model_copy(update={"links": ideal_links(calibration.links)}),
    )
