"""How public benchmarks started the engines they measured, where a run does not say.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml (prefill and decode apart).
.. [3] SGLang, github.com/sgl-project/sglang/pull/38374 (Qwen3.5 FP8 lands on Triton's experts where
   no backend is named).
"""

from planner.specs.deployment import Limits
from planner.validation.starts.divided import (
    NOT_DATA_PARALLEL,
    RACK_LABELS,
    TWIN_LABELS,
    Divided,
    as_run,
)
from planner.validation.starts.role import Role, Start
from planner.validation.starts.sglang import sglang
from planner.validation.starts.trtllm import BALANCE_STEPS, BATCH_WAIT_STEPS, trtllm
from planner.validation.starts.vllm import vllm

__all__ = [
    "BALANCE_STEPS", "BATCH_WAIT_STEPS", "NOT_DATA_PARALLEL", "RACK_LABELS", "TWIN_LABELS",
    "Divided", "Role", "Start", "as_run", "usual_start",
]  # fmt: skip


def usual_start(role: Role) -> Start:
    """Return what public benchmarks start such an engine with."""
    by_engine = {"sglang": sglang, "tensorrt-llm": trtllm, "vllm": vllm}
    if role.engine.name in by_engine:
        return by_engine[role.engine.name](role)
    limits = role.engine.limits
    return Start(
        Limits(
            max_sequences=limits.max_sequences or 512,
            max_step_tokens=limits.max_step_tokens or 8192,
            memory_share=limits.memory_share or 0.9,
        ),
        role.engine.poll_steps,
    )
