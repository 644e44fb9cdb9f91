"""How public benchmarks started the engines they measured, where a run does not say.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml (prefill and decode apart).
.. [3] SGLang, github.com/sgl-project/sglang/pull/38374 (Qwen3.5 FP8 lands on Triton's experts where
   no backend is named).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from planner.specs.deployment import ALL_GATHER, DEFAULT_KERNELS, Limits
from planner.specs.engine import EngineSpec
from planner.specs.model import ModelSpec
from planner.specs.runs import Aggregated, Disaggregated, Run, Workers
from planner.specs.scenario import Hardware

BALANCE_STEPS = 60
"""Steps that TensorRT-LLM's attention ranks wait for each other's prompts when balancing is on
(``attention_dp_config: {enable_balance: true, timeout_iters: 60}``)."""

BATCH_WAIT_STEPS = 40
"""Steps that TensorRT-LLM lets prompts wait for each other (``batch_wait_timeout_iters``)."""


@dataclass(frozen=True)
class Start:
    """What an engine was started with."""

    limits: Limits
    poll_steps: int = 1
    """Decode steps between two looks for new requests."""
    balance_steps: int = 0
    """Decode steps for which prompts wait until every attention rank has one."""
    captured: tuple[int, ...] = ()
    """Batch sizes of its graphs; none: those of the engine."""
    exchange: str = ""
    """How tokens reach their experts; empty: as the engine does by default."""
    experts_kernel: str = ""
    """Library that multiplies the experts; empty: as the engine does by default."""


@dataclass(frozen=True)
class Role:
    """Replicas of a run, and what they do."""

    run: Run
    model: ModelSpec
    workers: Workers
    hardware: Hardware
    engine: EngineSpec
    name: str
    """``mixed``, ``prefill`` or ``decode``."""

    @property
    def blackwell(self) -> bool:
        """Whether the part multiplies FP4."""
        return self.hardware.accelerator.dense_flop_per_s.fp4 is not None

    @property
    def rack(self) -> bool:
        """Whether the part sits in a rack-scale system (GB200, GB300)."""
        return self.hardware.accelerator.name.startswith("gb")

    @property
    def each_rank(self) -> int:
        """Clients a rank, were they spread evenly."""
        ranks = self.workers.attention_dp * self.workers.replicas
        return math.ceil(self.run.workload.concurrency / ranks)


def usual_start(role: Role) -> Start:
    """Return what public benchmarks start such an engine with."""
    match role.engine.name:
        case "tensorrt-llm":
            return replace(_trtllm(role), experts_kernel=_trtllm_experts(role))
        case "vllm":
            return _vllm(role)
        case "sglang" if role.name == "mixed":
            return replace(_sglang(role), experts_kernel=_sglang_experts(role))
        case "sglang":
            return _sglang_apart(role)
    limits = role.engine.limits
    return Start(
        Limits(
            max_sequences=limits.max_sequences or 512,
            max_step_tokens=limits.max_step_tokens or 8192,
            memory_share=limits.memory_share or 0.9,
        ),
        role.engine.poll_steps,
    )


def _trtllm(role: Role) -> Start:
    load = role.run.workload
    prompt, clients = load.input_tokens_max, load.concurrency
    if role.name == "prefill":
        batch = max(1, 16384 // prompt)
        tokens = max(16384, batch * prompt + 256 * (prompt > 2048))
        return Start(Limits(max_sequences=batch, max_step_tokens=tokens, memory_share=0.8))
    tokens = max(8192, clients + prompt + 64)
    most = role.each_rank
    if role.name == "decode" and role.workers.attention_dp == 1:
        most = _captured(most, 16 if prompt > 2048 else 32)
    limits = Limits(max_sequences=most, max_step_tokens=tokens, memory_share=0.8)
    if role.name == "decode":
        return Start(limits, captured=_trtllm_graphs(most, role))
    if role.workers.attention_dp > 1:
        return Start(limits, balance_steps=BALANCE_STEPS)
    waits = role.blackwell and role.run.precision.weights == "fp8" and prompt <= 1024
    return Start(limits, BATCH_WAIT_STEPS if waits and 64 <= clients < 256 else 1)


def _trtllm_experts(role: Role) -> str:
    """Return the experts' kernels of FP4 weights: start commands name TRTLLM's, the part's own.

    With data-parallel attention in one pool they name CUTLASS's, the engine's default [1]_.
    """
    if role.run.precision.weights != "fp4":
        return ""
    return "" if role.name == "mixed" and role.workers.attention_dp > 1 else DEFAULT_KERNELS


def _captured(clients: int, least: int) -> int:
    """Return the sequences of a decode replica.

    Recipes capture graphs up to a power of two and stop there, with up to an eighth more clients
    than slots.
    """
    return clients if clients <= least else 1 << (clients.bit_length() - 1)


def _trtllm_graphs(most: int, role: Role) -> tuple[int, ...]:
    """Return what decode recipes capture: on racks every 8, else powers of two up to the most.

    On other Blackwell parts they add sizes close below the most, where a full replica runs: three
    to seven, of which two stand in for all.
    """
    if role.rack:
        return _rising([1, 2, 4, *range(8, most, 8)], most)
    near = [most * 7 // 8, most * 15 // 16] if role.blackwell else []
    return _rising([*(1 << i for i in range(most.bit_length())), *near], most)


def _rising(sizes: list[int], most: int) -> tuple[int, ...]:
    return tuple(sorted({size for size in sizes if 0 < size < most} | {most}))


def _vllm(role: Role) -> Start:
    load = role.run.workload
    tokens, share, largest = max(2 * load.input_tokens_max, 2048), 0.9, 2048
    if not role.blackwell:
        tokens, share, largest = 16384 if load.concurrency <= 32 else 32768, 0.95, 512
    captured: tuple[int, ...] = ()
    if role.run.precision.weights == "fp8":  # --max-cudagraph-capture-size, or 512 sequences
        captured = _rising([1, 2, 4, *range(8, 256, 8), *range(256, largest, 16)], largest)
    limits = Limits(max_sequences=load.concurrency, max_step_tokens=tokens, memory_share=share)
    return Start(limits, captured=captured)


def _sglang(role: Role) -> Start:
    run, clients = role.run, role.run.workload.concurrency
    long, fp4 = run.workload.input_tokens_max > 2048, run.precision.weights == "fp4"
    if not role.blackwell:
        most = 256 if long else 512
        return Start(Limits(max_sequences=most, max_step_tokens=32768, memory_share=0.82))
    poll = 10 if clients < 16 else 30
    if not run.model.startswith("deepseek"):
        if run.precision.weights == "fp8" and role.hardware.accelerator.name.startswith("b300"):
            return Start(Limits(max_sequences=clients, max_step_tokens=16384, memory_share=0.8), 10)
        share = 0.82 if not fp4 else 0.85
        return Start(Limits(max_sequences=128, max_step_tokens=32768, memory_share=share), poll)
    if fp4:
        return Start(Limits(max_sequences=256, max_step_tokens=16384, memory_share=0.85), poll)
    if role.workers.attention_tp * role.workers.attention_dp < 8:
        return Start(Limits(max_sequences=32, max_step_tokens=8192, memory_share=0.95), 10)
    return Start(Limits(max_sequences=128, max_step_tokens=32768, memory_share=0.82), poll)


def _sglang_experts(role: Role) -> str:
    """Return the experts' kernels that a start command without its own choice gets.

    ``--moe-runner-backend auto`` promotes listed architectures to FlashInfer's, and takes Triton's
    for others, Qwen3.5 among them [3]_.  That commands name none before 0.5.10, and FlashInfer's
    from then on, is an assumption.
    """
    if not role.run.model.startswith("qwen3.5") or not role.blackwell:
        return ""
    version = str(role.run.framework.version)
    return "triton" if version.startswith(("0.5.9", "nightly-dev-202602")) else "trtllm-gen"


def _sglang_apart(role: Role) -> Start:
    """Prefill and decode apart: chunks are divided among attention ranks."""
    prompt, alone = role.run.workload.input_tokens_max, role.workers.attention_dp == 1
    tokens, most = max(32768 if alone else 16384, prompt), 4096
    if alone and role.rack and prompt <= 2048:
        tokens = 8192
    fp8 = role.run.precision.weights == "fp8"
    nodes = role.blackwell and not role.rack and not alone  # without --moe-a2a-backend
    if role.name == "prefill" and nodes and fp8 and prompt > 2048:
        tokens, most = max(8192, prompt), 1  # --max-running-requests: one a rank
    poll = 10 if role.rack and role.name == "decode" and alone else 1
    limits = Limits(max_sequences=most, max_step_tokens=tokens, memory_share=0.85)
    gathers = nodes and role.workers.moe_ep > 1
    return Start(limits, poll, exchange=ALL_GATHER if gathers else "")


NOT_DATA_PARALLEL = (
    "parallelism: labelled attention-data-parallel, but its start command has no such option: "
    "taken as tensor-parallel attention with expert parallelism"
)
TWIN_LABELS = (
    "parallelism: labelled with tensor-parallel experts; of this engine's rows, those labelled "
    "either way are alike: taken as expert-parallel"
)
RACK_LABELS = (
    "parallelism: labelled attention-data-parallel without expert parallelism, which no recipe of "
    "this engine has on these racks: taken as tensor-parallel where a decode replica has 4 devices "
    "or fewer, else as data-parallel attention with expert parallelism in both pools"
)


class Divided(NamedTuple):
    """How a run was divided, and why that is not what it states."""

    deployment: Aggregated | Disaggregated
    note: str | None = None


def as_run(run: Run) -> Divided:
    """Return how a run was divided: as stated, but where its start command contradicts its label.

    InferenceX's start commands for FP8 weights on vLLM pass no ``--data-parallel-size``: rows that
    its table labels attention-data-parallel ran tensor-parallel attention with expert parallelism.
    Its first rows of SGLang on racks (GB200, GB300) do not say whether experts were divided
    tensor- or expert-parallel: recipes [2]_ start replicas of a few devices without data
    parallelism, and the others with expert parallelism among all attention ranks.  Its rows of
    TensorRT-LLM are labelled with tensor- or expert-parallel experts in aggregated replicas and
    where prompts are computed; of runs labelled either way times are within 2 %, so one of both is
    wrong: expert parallelism is what its disaggregated configurations start and what runs left out
    of a fit bear out.
    """
    deployment = run.deployment
    if "InferenceX" not in run.source.title:
        return Divided(deployment)
    engine = run.framework.name.lower()
    if isinstance(deployment, Aggregated):
        labelled = deployment.attention_dp > 1 and engine == "vllm"
        if labelled and run.precision.weights == "fp8":
            return Divided(_without_ranks(deployment), NOT_DATA_PARALLEL)
        if engine in TENSORRT_LLM and deployment.moe_ep == 1 and deployment.moe_tp > 1:
            return Divided(_with_experts(deployment), TWIN_LABELS)
        return Divided(deployment)
    if any(map(_odd, (deployment.prefill, deployment.decode))):
        return _relabelled(deployment, engine, run.accelerator)
    return Divided(deployment)


def _relabelled(deployment: Disaggregated, engine: str, part: str) -> Divided:
    """Pools of which one is labelled data-parallel in attention, and not expert-parallel."""
    prefill, decode = deployment.prefill, deployment.decode
    if engine in TENSORRT_LLM and _odd(prefill):
        other = {"prefill": _with_experts(prefill)}
        return Divided(deployment.model_copy(update=other), TWIN_LABELS)
    if engine != "sglang" or not part.startswith("gb"):
        return Divided(deployment)
    few = decode.gpus // decode.replicas <= FEW_DEVICES
    change = _without_ranks if few else _with_experts
    both = {
        name: change(pool) if _odd(pool) else pool
        for name, pool in (("prefill", prefill), ("decode", decode))
    }
    return Divided(deployment.model_copy(update=both), RACK_LABELS)


TENSORRT_LLM = ("tensorrt-llm", "trtllm", "trt-llm")
FEW_DEVICES = 4
"""Devices up to which recipes start SGLang's decode replicas without data parallelism."""

W = TypeVar("W", bound=Workers)


def _odd(workers: Workers) -> bool:
    """Labelled data-parallel in attention, and not expert-parallel."""
    return workers.attention_dp > 1 and workers.moe_ep == 1


def _without_ranks(workers: W) -> W:
    ranks = workers.attention_tp * workers.attention_dp
    return workers.model_copy(update={"attention_tp": ranks, "attention_dp": 1})


def _with_experts(workers: W) -> W:
    ranks = workers.moe_tp * workers.moe_ep
    return workers.model_copy(update={"moe_tp": 1, "moe_ep": ranks})
