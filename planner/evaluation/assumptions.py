"""Everything an answer rests on that is not a confirmed fact, and where facts are from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from planner import memory
from planner.evaluation.replica import Replica
from planner.sourced import Sourced


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
        "admission",
        "KV for prompt and full answer is reserved when a request is admitted, as if its length "
        "were known; engines that admit more and preempt run fuller.",
    ),
    ("attention", "Attention runs in bf16 whatever the weights; fp8 KV only halves its bytes."),
    (
        "chunked prefill",
        "Re-expanding the latent cache of earlier chunks of one long prompt is not counted "
        "(about 5 % of attention at 8k chunks).",
    ),
    ("speculation", "No speculative decoding: one token a sequence a step."),
)


def assumptions(replica: Replica) -> tuple[Assumption, ...]:
    """List every doubtful number used, and what the model itself takes for granted."""
    hardware, pool = replica.hardware, replica.pool
    found = [
        *_doubtful("accelerator", hardware.accelerator),
        *_doubtful("system", hardware.system),
        *_doubtful("calibration", hardware.calibration),
    ]
    for name in ("RUNTIME_BYTES", "COLLECTIVE_BUFFER_BYTES", "LOW_LATENCY_BATCH_TOKENS"):
        value: Sourced = getattr(memory, name)
        found.append(_assumption(f"memory.{name.lower()}", value))
    found.append(
        Assumption(
            "limits.memory_share", pool.limits.memory_share, "assumed", "choice of the engine",
            "share of device memory the engine uses; vLLM's default is 0.9",
        )
    )  # fmt: skip
    moe = replica.shard.moe
    if moe and replica.shard.attention_dp > 1 and replica.shard.moe_ep > 1:
        found.append(
            Assumption(
                "overlap_share", pool.overlap_share, "assumed", "choice of the scenario",
                "share of expert communication that runs behind computation",
            )
        )  # fmt: skip
    found += [Assumption(n, None, "assumed", "model", text) for n, text in MODEL_STATEMENTS]
    return tuple(found)


def sources(*specs: BaseModel) -> tuple[str, ...]:
    """Every source key that the numbers of ``specs`` name, sorted."""
    keys = {
        key.strip()
        for spec in specs
        for _, value in _facts("", spec)
        for key in value.source.split(",")
    }
    return tuple(sorted(keys - {"assumption", "override"}))


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
