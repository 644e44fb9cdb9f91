"""SGLang.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml (prefill and decode apart).
.. [3] SGLang, github.com/sgl-project/sglang/pull/38374 (Qwen3.5 FP8 lands on Triton's experts where
   no backend is named).
.. [4] SGLang, python/sglang/srt/server_args.py (chunk sizes by memory).
"""

from dataclasses import replace

from planner.specs.deployment import ALL_GATHER, KvFormat, Limits
from planner.validation.starts.role import Role, Start

CONTINUOUS_STEPS = 4
"""``--num-continuous-decode-steps`` for DeepSeek on AMD's parts; half of them for Qwen."""

CHUNK, LARGE_CHUNK = 8192, 16384
"""``--chunked-prefill-size`` where commands give none: below 160 GB, and from there on [4]_."""

NO_LIMIT = 2048
"""Sequences where commands give none: more than there are clients a rank."""


def sglang(role: Role) -> Start:
    """Return what SGLang is started with."""
    if role.name != "mixed":
        return _apart(role)
    if role.amd:
        return _on_amd(role)
    return replace(_together(role), experts_kernel=_experts(role))


def _on_amd(role: Role) -> Start:
    """AITER's attention and a cache of 8 bits for DeepSeek and for Qwen's 8-bit weights."""
    run, most, tokens, share = role.run, NO_LIMIT, LARGE_CHUNK, 0.8
    kv: KvFormat = "bf16"
    poll = 1
    if run.model.startswith("deepseek"):
        newest = role.hardware.accelerator.name == "mi355x"
        tokens = 196608 if newest else 131072
        long = run.workload.input_tokens_max > 2048 and role.clients > 32
        if newest and run.precision.weights == "fp4" and long:
            tokens = 32768
        poll, kv = CONTINUOUS_STEPS, "fp8"
    elif run.model.startswith("glm-5"):
        share = 0.85
    elif run.precision.weights != "bf16":
        most, tokens, poll, kv = role.clients, 32768, CONTINUOUS_STEPS // 2, "fp8"
    limits = Limits(max_sequences=most, max_step_tokens=tokens, memory_share=share)
    return Start(limits, poll, kv=kv)


def _together(role: Role) -> Start:
    """Prompts and answers in one pool."""
    if role.run.model.startswith("glm-5"):
        return _glm(role)
    if role.run.model.startswith("deepseek"):
        return _deepseek(role) if role.blackwell else _hopper(role)
    return _qwen(role) if role.blackwell or role.run.model.startswith("qwen3.5") else _hopper(role)


def _hopper(role: Role) -> Start:
    most = 256 if role.run.workload.input_tokens_max > 2048 else 512
    return Start(Limits(max_sequences=most, max_step_tokens=32768, memory_share=0.82))


def _poll_steps(role: Role) -> int:
    """``--scheduler-recv-interval``."""
    return 10 if role.clients < 16 else 30


def _deepseek(role: Role) -> Start:
    most, tokens, share, poll = 128, 32768, 0.82, _poll_steps(role)
    if role.run.precision.weights == "fp4":
        most, tokens, share = 256, 16384, 0.85
    elif role.workers.attention_tp * role.workers.attention_dp < 8:
        most, tokens, share, poll = 32, 8192, 0.95, 10
    return Start(Limits(max_sequences=most, max_step_tokens=tokens, memory_share=share), poll)


def _qwen(role: Role) -> Start:
    weights, most, tokens, poll = role.run.precision.weights, 128, 32768, _poll_steps(role)
    share = 0.85 if weights == "fp4" else 0.82
    if not role.blackwell:
        limits = Limits(max_sequences=most, max_step_tokens=16384, memory_share=0.8)
        return Start(limits, kv="fp8")
    if weights == "fp8" and role.hardware.accelerator.name.startswith("b300"):
        most, tokens, share, poll = role.clients, 16384, 0.8, 10
    return Start(Limits(max_sequences=most, max_step_tokens=tokens, memory_share=share), poll)


def _glm(role: Role) -> Start:
    """GLM-5: chunks of 32,768 tokens on Blackwell, the engine's of 8,192 on Hopper."""
    if not role.blackwell:
        limits = Limits(max_sequences=NO_LIMIT, max_step_tokens=CHUNK, memory_share=0.85)
        return Start(limits, kv="bf16")
    if role.run.precision.weights == "fp4":
        return Start(Limits(max_sequences=NO_LIMIT, max_step_tokens=32768, memory_share=0.9), 10)
    return Start(Limits(max_sequences=role.clients, max_step_tokens=32768, memory_share=0.85))


def _experts(role: Role) -> str:
    """Return the experts' kernels that a start command without its own choice gets.

    ``--moe-runner-backend auto`` promotes listed architectures to FlashInfer's, and takes Triton's
    for others, Qwen3.5 among them [3]_.  That commands name none before 0.5.10, and FlashInfer's
    from then on, is an assumption.
    """
    if not role.run.model.startswith("qwen3.5") or not role.blackwell:
        return ""
    version = str(role.run.framework.version)
    return "triton" if version.startswith(("0.5.9", "nightly-dev-202602")) else "trtllm-gen"


def _apart(role: Role) -> Start:
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
