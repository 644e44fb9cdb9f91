"""vLLM: the commands differ by model; what they leave out is the engine's default."""

from planner.specs.deployment import KvFormat, Limits
from planner.validation.starts.role import Role, Start, rising

DEFAULT_TOKENS, DEFAULT_SEQUENCES = 8192, 1024
"""``max_num_batched_tokens`` and ``max_num_seqs`` of its API server on parts of 70 GiB and more."""

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
    return _start(DEFAULT_SEQUENCES, 0.9)


def _start(
    sequences: int, share: float, kv: KvFormat | None = None, captured: tuple[int, ...] = ()
) -> Start:
    limits = Limits(max_sequences=sequences, max_step_tokens=DEFAULT_TOKENS, memory_share=share)
    return Start(limits, captured=captured, kv=kv)


def _captured(largest: int) -> tuple[int, ...]:
    return rising([1, 2, 4, *range(8, 256, 8), *range(256, largest, 16)], largest)


def _minimax(role: Role) -> Start:
    """On Blackwell two prompts a step, on H200 16,384 or 32,768 tokens; on H100 the default."""
    load, fp8 = role.run.workload, role.run.precision.weights == "fp8"
    if role.hardware.accelerator.name.startswith("h100"):
        return _start(256, 0.9, "bf16")
    tokens, share, largest = max(2 * load.input_tokens_max, 2048), 0.9, LARGEST
    if not role.blackwell:
        tokens, share, largest = 16384 if load.concurrency <= 32 else 32768, 0.95, 512
    limits = Limits(max_sequences=load.concurrency, max_step_tokens=tokens, memory_share=share)
    # --max-cudagraph-capture-size, or 512 sequences
    return Start(limits, captured=_captured(largest) if fp8 else ())


def _minimax_on_amd(role: Role) -> Start:
    newest = role.hardware.accelerator.name == "mi355x"
    return _start(DEFAULT_SEQUENCES, 0.8 if newest else 0.95, "fp8" if newest else "bf16")


def _gpt_oss(role: Role) -> Start:
    if role.amd:
        return _start(DEFAULT_SEQUENCES, 0.95, "bf16")
    if role.blackwell:
        return _start(512, 0.9, "fp8", _captured(LARGEST))
    return _start(role.clients, 0.9, "bf16", _captured(LARGEST))


def _kimi(role: Role) -> Start:
    if role.amd:
        newest = role.hardware.accelerator.name == "mi355x"
        return _start(DEFAULT_SEQUENCES if newest else 256, 0.95, "bf16")
    return _start(role.clients, 0.95 if role.run.precision.weights == "int4" else 0.9)
