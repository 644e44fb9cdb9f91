"""How public benchmarks started engines, where a run does not say; else the engine's defaults."""

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
    return Start(role.limits(), role.engine.poll_steps)
