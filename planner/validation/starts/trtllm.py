"""TensorRT-LLM.

References
----------
.. [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh and
   benchmarks/single_node/*.sh (start commands by model, format, part and engine).
.. [2] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml (prefill and decode apart).
"""

from dataclasses import replace

from planner.specs.deployment import DEFAULT_KERNELS, Limits
from planner.validation.starts.role import Role, Start, rising

BALANCE_STEPS = 60
"""Steps that TensorRT-LLM's attention ranks wait for each other's prompts when balancing is on
(``attention_dp_config: {enable_balance: true, timeout_iters: 60}``)."""

BATCH_WAIT_STEPS = 40
"""Steps that TensorRT-LLM lets prompts wait for each other (``batch_wait_timeout_iters``)."""


def trtllm(role: Role) -> Start:
    """Return what TensorRT-LLM is started with."""
    if role.run.model.startswith("gpt-oss") and role.name == "mixed":
        return _gpt_oss(role)
    return replace(_deepseek(role), experts_kernel=_experts(role))


def _gpt_oss(role: Role) -> Start:
    """``--max_num_tokens 20000``; 512 sequences on Blackwell."""
    most = 512 if role.blackwell else role.clients
    limits = Limits(max_sequences=most, max_step_tokens=20000, memory_share=0.85)
    balance = BALANCE_STEPS if role.workers.attention_dp > 1 else 0
    return Start(limits, balance_steps=balance, kv="fp8" if role.blackwell else "bf16")


def _deepseek(role: Role) -> Start:
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
        return Start(limits, captured=_graphs(most, role))
    if role.workers.attention_dp > 1:
        return Start(limits, balance_steps=BALANCE_STEPS)
    waits = role.blackwell and role.run.precision.weights == "fp8" and prompt <= 1024
    return Start(limits, BATCH_WAIT_STEPS if waits and 64 <= clients < 256 else 1)


def _experts(role: Role) -> str:
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


def _graphs(most: int, role: Role) -> tuple[int, ...]:
    """Return what decode recipes capture: on racks every 8, else powers of two up to the most.

    On other Blackwell parts they add sizes close below the most, where a full replica runs: three
    to seven, of which two stand in for all.
    """
    if role.rack:
        return rising([1, 2, 4, *range(8, most, 8)], most)
    near = [most * 7 // 8, most * 15 // 16] if role.blackwell else []
    return rising([*(1 << i for i in range(most.bit_length())), *near], most)
