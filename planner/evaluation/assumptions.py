"""Everything an answer rests on that is not a confirmed fact, and where facts are from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel

from planner import memory
from planner.evaluation.engine_assumptions import engine_statements
from planner.evaluation.expert_kernels import in_whole_tiles, library_of, untuned_note
from planner.evaluation.link_assumptions import MEASURED, doubtful_laws, unused_shares
from planner.evaluation.pools import FleetPool, transfer_name
from planner.evaluation.replica import Replica
from planner.ops.head import KERNELS_TO_CHOOSE
from planner.ops.op import COMPUTE_PRECISION
from planner.ops.tiles import LOAD_SPREAD
from planner.sourced import Sourced
from planner.specs.deployment import Disaggregated, Pool
from planner.specs.engine import ShareOf
from planner.specs.hardware import Precision
from planner.specs.operations import CHOICE
from planner.step.draft import KERNELS_A_PASS, KERNELS_A_STEP, tokens_apart
from planner.step.multiprocessors import (
    COMBINE_SM_BYTES_PER_S,
    DISPATCH_SM_BYTES_PER_S,
    NORMAL_TRANSFER_HELD_UP,
    communication_sm_share,
)


@dataclass(frozen=True, slots=True)
class Assumption:
    """One number or statement that a reader should know is not confirmed."""

    name: str
    value: float | None
    confidence: str
    source: str
    note: str


MODEL_STATEMENTS = (
    ("experts", "Routed experts are equally popular: no imbalance between ranks."),
    (
        "expert load",
        "The hottest expert rank sets the pace, mean over layers and steps; the rank with the most "
        "tokens and the one with the most experts touched are taken for one.",
    ),
    (
        "attention",
        "Attention multiplies in 16 bits whatever the weights; in 8 where the cache has 8 and the "
        "kernels that were measured for the engine do.",
    ),
    (
        "chunked prefill",
        "Re-expanding the latent cache of earlier chunks of one long prompt is not counted "
        "(about 5 % of attention at 8k chunks).",
    ),
    ("pipeline", "Pipeline stages are equal and always full: no bubbles."),
    ("speculation", "No speculative decoding: one token a sequence a step."),
    (
        "accepted tokens",
        "Every step yields the mean number of accepted tokens, evenly spaced in time: acceptance "
        "neither varies between requests nor with the batch.  A prompt computed beside decoding "
        "sequences waits for one token's part of their step, so first tokens are up to a step "
        "early.",
    ),
    (
        "overlap",
        "Micro-batches are equal halves; a transfer starts when the computation before it has "
        "ended on every rank, and each stage waits for its slowest rank.",
    ),
    ("shared expert", "The shared expert's halves fit beside dispatch and combine, in that order."),
)


_BUFFERS = (
    "RESERVED_BYTES", "CONTEXT_BYTES", "WORKSPACE_BYTES", "GRAPH_BYTES", "COLLECTIVE_BUFFER_BYTES",
    "LOW_LATENCY_BATCH_TOKENS",
)  # fmt: skip

_SHARE_OF: dict[ShareOf, str] = {
    "device": "share of device memory the engine uses; vLLM's default is 0.9",
    "static": "share of free memory for weights and cache (mem-fraction-static)",
    "free": "share for the cache of what weights and activations leave free",
}


def assumptions(replica: Replica) -> tuple[Assumption, ...]:
    """List every doubtful number used, and what the model itself takes for granted."""
    hardware, pool = replica.hardware, replica.pool
    unused = _unused(replica)
    found = [
        assumption
        for name, spec in (
            ("accelerator", hardware.accelerator),
            ("system", hardware.system),
            ("calibration", hardware.calibration),
        )
        for assumption in _doubtful(name, spec)
        if not unused.intersection(assumption.name.split("."))
    ]
    found += [
        Assumption(name, None, "assumed", source, note)
        for name, source, note in doubtful_laws(replica)
    ]
    for name in _BUFFERS:
        value: Sourced = getattr(memory, name)
        found.append(_assumption(f"memory.{name.lower()}", value))
    found.append(_assumption("lm_head.kernels_to_choose", KERNELS_TO_CHOOSE))
    found.append(
        Assumption(
            "limits.memory_share", pool.limits.memory_share, "assumed", "choice of the engine",
            _SHARE_OF[pool.engine.memory_share_of],
        )
    )  # fmt: skip
    if replica.hardware.calibration.kernels_of:
        found.append(
            Assumption(
                "kernels", None, "assumed", f"scenario: {replica.hardware.calibration.kernels_of}",
                "products and attention cores as measured on this part, with libraries of its date",
            )
        )  # fmt: skip
    if library := library_of(replica.hardware.calibration, replica.shard):
        found.append(
            Assumption(
                "expert kernels", None, "assumed", f"measured: {library}",
                "experts' products as this library takes; which one an engine runs changes by "
                "version, format and part (deployment.experts_kernel)"
                + untuned_note(library, replica.shard),
            )
        )  # fmt: skip
    if in_whole_tiles(replica.hardware.calibration, replica.shard):
        found.append(
            Assumption(
                "expert tiles", LOAD_SPREAD, "assumed", "assumption",
                "experts are computed in whole tiles: the mean of those over loads whose logarithm "
                "has this spread",
            )
        )  # fmt: skip
    if engine := replica.hardware.calibration.attention_of:
        found.append(
            Assumption(
                "attention kernels", None, "assumed", f"measured: {engine}",
                "attention as this engine called it when it was measured; other releases and "
                "settings may run other kernels (deployment.attention_kernel)",
            )
        )  # fmt: skip
    found += _engine(replica)
    found += _speculation(replica)
    if replica.step.scheduled and replica.step.plan(prefill=True).micro_batches > 1:
        held = communication_sm_share(replica.hardware.accelerator)
        found.append(_assumption("overlap.communication_sm_share", held))
        found.append(_assumption("overlap.normal_transfer_held_up", NORMAL_TRANSFER_HELD_UP))
    if replica.step.scheduled:
        found.append(_assumption("overlap.dispatch_sm_bytes_per_s", DISPATCH_SM_BYTES_PER_S))
        found.append(_assumption("overlap.combine_sm_bytes_per_s", COMBINE_SM_BYTES_PER_S))
    if replica.shard.uses_all_to_all and pool.overlap == "share":
        found.append(
            Assumption(
                "overlap_share", pool.overlap_share, "assumed", "choice of the scenario",
                "share of expert communication that runs behind computation",
            )
        )  # fmt: skip
    taken = [(n, text) for n, text in MODEL_STATEMENTS if n not in _beside_the_point(replica)]
    found += [Assumption(n, None, "assumed", "model", text) for n, text in taken]
    return tuple(found)


def fleet_assumptions(
    pools: Sequence[FleetPool], deployment: Pool | Disaggregated | None
) -> tuple[Assumption, ...]:
    """List what all pools rest on; what only the prefill pool does is named so."""
    found = list(assumptions(pools[-1].replica))
    if not isinstance(deployment, Disaggregated):
        return tuple(found)
    known = set(found)
    found += [
        replace(a, name=f"prefill pool: {a.name}")
        for a in assumptions(pools[0].replica)
        if a not in known
    ]
    link = transfer_name(pools, deployment).replace("_", "-")
    found += [
        Assumption(
            "transfer_overlap_share", deployment.transfer_overlap_share, "assumed",
            "choice of the scenario",
            "share of a cache's transfer that runs while its prompt is computed",
        ),
        Assumption(
            "transfer", None, "assumed", "model",
            f"Caches go from prefill to decode over the {link} link of each rank's own device, as "
            "many at a time as both replicas have data-parallel ranks, and have it for themselves.",
        ),
    ]  # fmt: skip
    return tuple(found)


def _engine(replica: Replica) -> list[Assumption]:
    """Overheads of the engine, each with its value, and what is taken for granted of it."""
    overheads = replica.pool.engine.overheads
    stated = [
        _assumption(f"engine.overheads.{name}", value)
        for name, value in overheads
        if value.note != "not fitted"
    ]
    return stated + [
        Assumption(name, None, "assumed", source, text)
        for name, source, text in engine_statements(replica)
    ]


def _speculation(replica: Replica) -> list[Assumption]:
    """Acceptance, which no model predicts: measured elsewhere, or assumed."""
    spec = replica.pool.speculative
    if spec is None:
        return []
    apart = Assumption(
        "speculative.verification", None, "assumed", "github NVIDIA/TensorRT-LLM, fmhaKernels.h",
        "attention computes each new token apart, at what one more sequence costs",
    )  # fmt: skip
    return [
        *((apart,) if tokens_apart(replica.hardware.accelerator) else ()),
        Assumption(
            "speculative.tokens_per_step",
            spec.expected_tokens,
            "secondary" if spec.source else "assumed",
            spec.source or "choice of the scenario",
            f"mean tokens a step with {spec.draft_tokens} draft tokens; depends on the text",
        ),
        _assumption("speculative.kernels_a_step", KERNELS_A_STEP),
        _assumption("speculative.kernels_a_pass", KERNELS_A_PASS),
    ]


def sources(*specs: BaseModel) -> tuple[str, ...]:
    """Every source key that the numbers of ``specs`` name, sorted."""
    keys = {
        key.strip()
        for spec in specs
        for _, value in _facts("", spec)
        for key in value.source.split(",")
    }
    return tuple(sorted(keys - {"assumption", "override", CHOICE}))


def _beside_the_point(replica: Replica) -> set[str]:
    """Statements about parts this replica does not have."""
    without = set()
    if replica.shard.moe is None or replica.step.hot is not None:
        without.add("experts")
    if replica.step.hot is None:
        without.add("expert load")
    if replica.shard.pp == 1:
        without.add("pipeline")
    without.add("speculation" if replica.step.draft else "accepted tokens")
    if not replica.step.scheduled or replica.step.plan(prefill=True).micro_batches == 1:
        without.add("overlap")
    if not replica.step.scheduled or replica.step.overlap != "shared_expert":
        without.add("shared expert")
    if all(a.name != "mla" for a in replica.shard.attention):
        without.add("chunked prefill")
    return without


def _unused(replica: Replica) -> set[str]:
    """Parts of dotted names that lead to numbers this replica does not touch."""
    shard, moe, system = replica.shard, replica.shard.moe, replica.hardware.system
    matrices = [m for group in shard.attention for m in group.matrices] + [*shard.dense]
    if moe:
        matrices += [moe.gate_up, moe.down, *moe.shared]
    used = {COMPUTE_PRECISION[m.storage] for m in matrices} | {"bf16"}  # attention, output head
    unused: set[str] = {p for p in get_args(Precision) if p not in used}
    unused |= {*MEASURED, *unused_shares(replica)}
    stored = moe.gate_up.storage if moe else ""
    unused |= set(replica.hardware.calibration.stored_experts) - {stored}
    if moe is None:
        unused.add("grouped_gemm")
    if shard.devices == 1:
        unused |= {"scale_up", "links"}
    if shard.devices <= system.scale_up.devices:
        unused |= {"scale_out", "scale_out_share", "all_to_all_scale_out_share"}
    if not shard.uses_all_to_all:
        unused |= {"all_to_all_scale_up_share", "all_to_all_scale_out_share", "all_to_all_floor_s"}
    return unused


def _doubtful(prefix: str, spec: BaseModel) -> Iterator[Assumption]:
    skip = ("purchase_usd", "host_link_bytes_per_s")
    for name, value in _facts(prefix, spec):
        if value.doubtful and not name.endswith(skip):
            yield _assumption(name, value)


def _assumption(name: str, value: Sourced) -> Assumption:
    return Assumption(name, float(value), value.confidence, value.source, value.note)


def _facts(path: str, value: Any) -> Iterator[tuple[str, Sourced]]:
    """Every sourced number inside a spec, with its dotted path."""
    if isinstance(value, Sourced):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, inner in value:
            yield from _facts(f"{path}.{name}" if path else name, inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _facts(f"{path}.{key}", inner)
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _facts(f"{path}.{i}", inner)
