"""vLLM: the commands differ by model; what they leave out is the engine's default.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] vLLM, github.com/vllm-project/vllm/pull/27370 (on Hopper gpt-oss runs on Triton's kernels
   where they are installed, else on Marlin's; they come with vLLM from 0.11.1 on).
"""

from dataclasses import replace

from planner.specs.deployment import KvFormat, Limits
from planner.validation.starts.role import Role, Start, rising

LARGEST = 2048
"""``--max-cudagraph-capture-size``, where commands give it."""


def vllm(role: Role) -> Start:
    """Return what vLLM is started with."""
    model = role.run.model
    if model.startswith("minimax"):
        return _minimax_on_amd(role) if role.amd else _minimax(role)
    if model.startswith("gpt-oss"):
        return _gpt_oss(role)
    if model.startswith("kimi"):
        return _kimi(role)
    return _start(role)


def _start(
    role: Role,
    sequences: int | None = None,
    share: float | None = None,
    kv: KvFormat | None = None,
    captured: tuple[int, ...] = (),
) -> Start:
    """What the engine does by default, but for what a command states."""
    limits = role.limits(max_sequences=sequences, memory_share=share)
    return Start(limits, captured=captured, kv=kv)


def _captured(largest: int) -> tuple[int, ...]:
    return rising([1, 2, 4, *range(8, 256, 8), *range(256, largest, 16)], largest)


def _minimax(role: Role) -> Start:
    """On Blackwell two prompts a step, on H200 16,384 or 32,768 tokens; on H100 the default."""
    load, fp8 = role.run.workload, role.run.precision.weights == "fp8"
    if role.hardware.accelerator.name.startswith("h100"):
        return _start(role, 256, kv="bf16")
    tokens, share, largest = max(2 * load.input_tokens_max, 2048), 0.9, LARGEST
    if not role.blackwell:
        tokens, share, largest = 16384 if load.concurrency <= 32 else 32768, 0.95, 512
    limits = Limits(max_sequences=load.concurrency, max_step_tokens=tokens, memory_share=share)
    # --max-cudagraph-capture-size, or 512 sequences
    return Start(limits, captured=_captured(largest) if fp8 else ())


def _minimax_on_amd(role: Role) -> Start:
    newest = role.hardware.accelerator.name == "mi355x"
    return _start(role, share=0.8 if newest else 0.95, kv="fp8" if newest else "bf16")


def _gpt_oss(role: Role) -> Start:
    """On Hopper releases before 0.11.1 multiply experts with Marlin's kernels [2]_."""
    if role.amd:
        return _start(role, share=0.95, kv="bf16")
    if role.blackwell:
        return _start(role, 512, kv="fp8", captured=_captured(LARGEST))
    start = _start(role, role.clients, kv="bf16", captured=_captured(LARGEST))
    return replace(start, experts_kernel="marlin") if role.older_than(0, 11, 1) else start


def _kimi(role: Role) -> Start:
    if role.amd:
        newest = role.hardware.accelerator.name == "mi355x"
        return _start(role, None if newest else 256, 0.95, "bf16")
    return _start(role, role.clients, 0.95 if role.run.precision.weights == "int4" else 0.9)
