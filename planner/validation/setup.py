"""From a run as it was measured to what the simulator takes: pools, limits, engine rules."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from planner.errors import InputError
from planner.files import load_accelerator, load_hardware, load_model, load_system, system_names
from planner.files.engines import load_engine
from planner.specs.deployment import KvFormat, Limits, Pool
from planner.specs.engine import EngineSpec
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.runs import Aggregated, Run, Workers
from planner.specs.scenario import Hardware

T = TypeVar("T")

FAMILIES = {"trtllm": "tensorrt-llm", "trt-llm": "tensorrt-llm"}
"""Other names of engines."""


@dataclass(frozen=True)
class Setup:
    """A run with every name resolved."""

    run: Run
    model: ModelSpec
    hardware: Hardware
    engine: EngineSpec
    prefill: Pool | None
    """Of a disaggregated run."""
    decode: Pool
    """Of a disaggregated run; of an aggregated one the pool that does both."""

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools, prefill first."""
        return (self.decode,) if self.prefill is None else (self.prefill, self.decode)


def resolve(run: Run) -> Setup:
    """Resolve the names of a run.

    Raises
    ------
    InputError
        Unknown model, part or engine.
    """
    model = _placed(run, "model", lambda: load_model(run.model))
    hardware = _placed(run, "accelerator", lambda: hardware_of(run.accelerator))
    engine = _placed(run, "framework.name", lambda: load_engine(family_of(run)))
    deployment = run.deployment
    if isinstance(deployment, Aggregated):
        pool = _pool(run, deployment, hardware, engine, "mixed")
        return Setup(run, model, hardware, engine, None, pool)
    return Setup(
        run, model, hardware, engine,
        _pool(run, deployment.prefill, hardware, engine, "prefill"),
        _pool(run, deployment.decode, hardware, engine, "decode"),
    )  # fmt: skip


def family_of(run: Run) -> str:
    """Name of the engine as its profile has it."""
    name = run.framework.name.lower()
    return FAMILIES.get(name, name)


def _placed(run: Run, field: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except InputError as error:
        raise InputError(run.id, field, error.problem) from None


@lru_cache(maxsize=64)
def hardware_of(accelerator: str) -> Hardware:
    """Return a system of this part: of several the one with the largest switched domain."""
    load_accelerator(accelerator)
    found = [s for s in map(load_system, system_names()) if s.accelerator == accelerator]
    if not found:
        raise InputError("", "accelerator", f"{accelerator!r}: no system with it is known")
    best = max(found, key=lambda s: (s.scale_up.topology == "switch", s.devices_per_node))
    return load_hardware(best.name)


def _pool(run: Run, workers: Workers, hardware: Hardware, engine: EngineSpec, role: str) -> Pool:
    own = run.settings
    each_rank = math.ceil(run.workload.concurrency / (workers.attention_dp * workers.replicas))
    usual = usual_limits(run, workers, hardware, engine, role)
    return Pool(
        replicas=workers.replicas,
        parallelism=workers.parallelism(),
        weights=weight_format(run),
        kv=kv_format(run, hardware),
        limits=Limits(
            max_sequences=own.max_sequences or max(usual.max_sequences, each_rank),
            max_step_tokens=own.max_step_tokens or usual.max_step_tokens,
            memory_share=own.memory_share or usual.memory_share,
            kv_tokens=own.kv_tokens,
        ),
    )


def weight_format(run: Run) -> WeightFormat:
    """Return the checkpoint's format: ``fp4`` is NVFP4."""
    given = run.precision.weights
    return "nvfp4" if given == "fp4" else given


def kv_format(run: Run, hardware: Hardware) -> KvFormat:
    """Return the cache's format: as stated; else fp8 but for bf16 weights and SGLang on Hopper."""
    if run.precision.kv is not None:
        return run.precision.kv
    if run.precision.weights == "bf16":
        return "bf16"
    hopper = hardware.accelerator.dense_flop_per_s.fp4 is None
    return "bf16" if run.framework.name.lower() == "sglang" and hopper else "fp8"


def usual_limits(
    run: Run, workers: Workers, hardware: Hardware, engine: EngineSpec, role: str
) -> Limits:
    """Limits that public benchmarks set, where a run states none.

    References
    ----------
    .. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh
       (start commands of every engine and part).
    """
    load = run.workload
    prompt, clients = load.input_tokens_max, load.concurrency
    each_rank = math.ceil(clients / workers.attention_dp)
    long = prompt > 2048
    if engine.name == "tensorrt-llm":
        tokens = max(8192, clients + prompt + 64)
        return Limits(max_sequences=max(1, each_rank), max_step_tokens=tokens, memory_share=0.85)
    if engine.name == "vllm":
        tokens = max(2 * prompt, 2048)
        if hardware.accelerator.name.startswith("h"):
            tokens = max(tokens, 32768)
        return Limits(max_sequences=max(1, clients), max_step_tokens=tokens)
    if engine.name == "sglang":
        return _sglang(run, workers, hardware, role, long)
    limits = engine.limits
    return Limits(
        max_sequences=limits.max_sequences or 512,
        max_step_tokens=limits.max_step_tokens or 8192,
        memory_share=limits.memory_share or 0.9,
    )


def _sglang(run: Run, workers: Workers, hardware: Hardware, role: str, long: bool) -> Limits:
    tp = workers.attention_tp * workers.attention_dp
    if role != "mixed":
        tokens = max(32768 // workers.attention_dp, run.workload.input_tokens_max)
        return Limits(max_sequences=4096, max_step_tokens=tokens, memory_share=0.85)
    if hardware.accelerator.dense_flop_per_s.fp4 is None:
        return Limits(max_sequences=256 if long else 512, max_step_tokens=32768, memory_share=0.82)
    if run.model.startswith("deepseek") and run.precision.weights == "fp4":
        return Limits(max_sequences=256, max_step_tokens=16384, memory_share=0.85)
    if run.model.startswith("deepseek") and tp < 8:
        return Limits(max_sequences=32, max_step_tokens=8192, memory_share=0.95)
    tokens = 32768 if run.model.startswith("deepseek") else 16384
    return Limits(max_sequences=128, max_step_tokens=tokens, memory_share=0.85)
