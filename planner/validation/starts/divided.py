"""How a run was divided among devices, where its label and its start command differ.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml (prefill and decode apart).
"""

from typing import NamedTuple, TypeVar

from planner.specs.runs import Aggregated, Disaggregated, Run, Workers
from planner.validation.family import family_of

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
    engine = family_of(run)
    if isinstance(deployment, Aggregated):
        labelled = deployment.attention_dp > 1 and engine == "vllm"
        if labelled and run.precision.weights == "fp8":
            return Divided(_without_ranks(deployment), NOT_DATA_PARALLEL)
        if engine == "tensorrt-llm" and deployment.moe_ep == 1 and deployment.moe_tp > 1:
            return Divided(_with_experts(deployment), TWIN_LABELS)
        return Divided(deployment)
    if any(map(_odd, (deployment.prefill, deployment.decode))):
        return _relabelled(deployment, engine, run.accelerator)
    return Divided(deployment)


def _relabelled(deployment: Disaggregated, engine: str, part: str) -> Divided:
    """Pools of which one is labelled data-parallel in attention, and not expert-parallel."""
    prefill, decode = deployment.prefill, deployment.decode
    if engine == "tensorrt-llm" and _odd(prefill):
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
