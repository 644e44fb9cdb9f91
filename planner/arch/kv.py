"""Bytes of context: the cache that grows with it, and the state that does not."""

from planner.arch.core import AttentionCore, attention_core
from planner.specs.deployment import KvFormat
from planner.specs.model import ModelSpec


def kv_entry_bytes(core: AttentionCore, kv: KvFormat) -> float:
    """Bytes of one cache entry of one layer, without the indexer's key. [bytes]

    Parameters
    ----------
    core : one layer.
    kv : cache format.  ``fp8`` is the layout kernels use: 656 bytes for MLA's 512 + 64.

    References
    ----------
    .. [1] github deepseek-ai/FlashMLA README, "FP8 KV cache".
    .. [2] sglang, deepseek_v4_memory_pool.py.
    """
    return 2.0 * core.kv_elements if kv == "bf16" else core.kv_fp8_bytes


def kv_bytes_per_token_layer(core: AttentionCore, kv: KvFormat) -> float:
    """Bytes one layer keeps for one cached context token, its indexer key included. [bytes]

    Parameters
    ----------
    core : one layer; for a sliding window the figure holds for the tokens inside it.
    kv : cache format.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3.2-Exp" inference code (132-byte indexer key).
    """
    return kv_entry_bytes(core, kv) / core.context_per_entry + core.indexer_bytes_per_token


def kv_bytes_per_token(model: ModelSpec, kv: KvFormat) -> float:
    """Cache bytes each further context token costs, whole model, unsharded. [bytes]

    Layers with a sliding window and linear attention do not grow and are not in it.

    Parameters
    ----------
    model : the whole model.
    kv : cache format.

    References
    ----------
    .. [1] DeepSeek-AI, arXiv:2505.09343, table 1 (70.272 KB a token for V3, 516.096 for
       Llama-3.1 405B, 327.680 for Qwen2.5 72B).
    """
    cores = (attention_core(group) for group in model.attention)
    return sum(
        core.layers * kv_bytes_per_token_layer(core, kv)
        for core in cores
        if core.cache_tokens is None
    )


def kv_bytes_per_sequence(model: ModelSpec, kv: KvFormat) -> float:
    """Bytes one sequence holds whatever its length, whole model, unsharded. [bytes]

    Full sliding windows, raw windows of compressed attention, linear attention's states.

    Parameters
    ----------
    model : the whole model.
    kv : cache format; states keep their own (fp32, convolution bf16).

    References
    ----------
    .. [1] transformers 5.23.0, models/{gpt_oss, qwen3_next, deepseek_v4} (cache classes).
    """
    total = 0.0
    for group in model.attention:
        core = attention_core(group)
        window = (core.cache_tokens or 0) + core.raw_window_tokens
        total += core.layers * (window * kv_entry_bytes(core, kv) + core.state_bytes_per_sequence)
    return total
