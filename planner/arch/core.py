"""What an attention layer does with its context: pairs, cache entries, state."""

from dataclasses import dataclass
from math import ceil
from typing import assert_never

import numpy as np
import numpy.typing as npt

from planner.arch.attention import gated_delta_net_channels
from planner.specs.model import (
    Attention,
    CompressedAttention,
    GatedDeltaNet,
    Gqa,
    Indexer,
    KimiDeltaAttention,
    Mla,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCore:
    """What one attention layer does with its context, per token, all heads, unsharded.

    Everything linear in (query, cache entry) pairs; an entry is one context token except where
    ``context_per_entry`` says otherwise.  ``cap_tokens`` bounds the context the main attention
    sees (window or top-k); the indexer, where there is one, scores every token.
    """

    layers: int
    heads: int
    prefill_pair_flop: float
    """FLOP per (query, entry) pair in prefill (MLA: not absorbed)."""
    decode_pair_flop: float
    """FLOP per (query, entry) pair in decode (MLA: absorbed)."""
    kv_elements: int
    """Elements of one cache entry, one layer. [elements]"""
    kv_fp8_bytes: float
    """Bytes of one cache entry in the 8-bit layout, scales and unquantised parts included."""
    kv_split: int
    """Heads the cache can be divided by (1: every tensor-parallel rank holds all of it)."""
    cap_tokens: int | None = None
    """Context tokens attended at most. [tokens]"""
    cache_tokens: int | None = None
    """Context tokens *kept* at most (a sliding window forgets, a sparse one does not). [tokens]"""
    context_per_entry: float = 1.0
    """Context tokens that share one cache entry (1 without compression)."""
    raw_window_tokens: int = 0
    """Newest tokens kept and attended uncompressed *beside* the compressed entries. [tokens]"""
    indexer_pair_flop: float = 0.0
    """FLOP per (query, context token) pair of the indexer (8-bit)."""
    indexer_bytes_per_token: float = 0.0
    """Indexer key bytes a context token, one layer. [bytes]"""
    token_flop: float = 0.0
    """FLOP per token that do not depend on the context (linear attention's state update)."""
    state_bytes_per_sequence: float = 0.0
    """Constant state a sequence, one layer (recurrent state, convolution). [bytes]"""


def attention_core(attention: Attention) -> AttentionCore:
    r"""Pair work, cache and state of one layer of ``attention``.

    .. math::

        F_{GQA} = 2 H (d + d_v), \quad F_{MLA,prefill} = 2 H (d_n + d_r + d_v), \quad
        F_{MLA,decode} = 2 H (2 c + d_r), \quad F_{indexer} = 2 H_i d_i

    Parameters
    ----------
    attention : one group of the model's layers.

    Returns
    -------
    AttentionCore
        Of one layer; ``layers`` says how many there are.

    Notes
    -----
    * A key of the indexer is ``head_dim`` bytes and an fp32 scale per 128 elements.
    * The 8-bit MLA entry is FlashMLA's: ``c`` bytes, an fp32 scale per 128 of them, and the
      rotary part in bf16 (656 bytes for 512 + 64).
    * The 8-bit entry of compressed attention: 448 fp8 elements, 64 bf16 ones, 8 bytes of scales.
    * Linear attention: about ``8 d_k d_v`` FLOP a value head and token (decay, readout of the old
      value, rank-one update, readout); the short convolution (under 2 % of that) is left out.
      The recurrent state is fp32, the convolution's window bf16.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    .. [2] github deepseek-ai/FlashMLA README, "FP8 KV cache".
    .. [3] sglang, deepseek_v4_memory_pool.py (584-byte entry).
    .. [4] S. Yang et al., "Gated Delta Networks", arXiv:2412.06464.
    .. [5] Kimi Team, "Kimi Linear", arXiv:2510.26692.
    """
    match attention:
        case Gqa():
            return _gqa_core(attention)
        case Mla():
            return _mla_core(attention)
        case GatedDeltaNet():
            return _gated_delta_net_core(attention)
        case KimiDeltaAttention():
            return _kda_core(attention)
        case CompressedAttention():
            return _compressed_core(attention)
        case _:
            assert_never(attention)


def attended_entries(core: AttentionCore, context_tokens: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Cache entries one query attends to after ``context_tokens`` tokens. [entries]

    Parameters
    ----------
    core : one layer.
    context_tokens : scalar or array of any shape. [tokens]

    Returns
    -------
    array of the same shape
        ``min(context, cap) / context_per_entry`` plus the raw window, where there is one.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3.2-Exp" (top-k); transformers 5.23.0, models/deepseek_v4.
    """
    context = np.asarray(context_tokens, dtype=np.float64)
    if core.kv_elements == 0:
        return np.zeros_like(context)
    seen = context if core.cap_tokens is None else np.minimum(context, core.cap_tokens)
    raw = np.minimum(context, core.raw_window_tokens)
    return np.asarray(seen / core.context_per_entry + raw)


def _indexer_bytes(indexer: Indexer) -> float:
    return indexer.head_dim + 4 * indexer.head_dim / 128


def _scoring(indexer: Indexer | None, compression: int = 1) -> tuple[float, float]:
    """FLOP per pair and key bytes per token of a layer's own indexer."""
    if indexer is None or indexer.shared:
        return 0.0, 0.0
    pair_flop = 2 * indexer.heads * indexer.head_dim
    return pair_flop / compression, _indexer_bytes(indexer) / compression


def _gqa_core(a: Gqa) -> AttentionCore:
    dims = a.head_dim + (a.v_head_dim or a.head_dim)
    cap = a.indexer.top_k_tokens if a.indexer else a.window_tokens
    pair_flop, key_bytes = _scoring(a.indexer)
    return AttentionCore(
        layers=a.layers,
        heads=a.heads,
        prefill_pair_flop=2 * a.heads * dims,
        decode_pair_flop=2 * a.heads * dims,
        kv_elements=a.kv_heads * dims,
        kv_fp8_bytes=a.kv_heads * dims,
        kv_split=a.kv_heads,
        cap_tokens=cap,
        cache_tokens=a.window_tokens,
        indexer_pair_flop=pair_flop,
        indexer_bytes_per_token=key_bytes,
    )


def _mla_core(a: Mla) -> AttentionCore:
    c, rope = a.kv_lora_rank, a.qk_rope_head_dim
    pair_flop, key_bytes = _scoring(a.indexer)
    return AttentionCore(
        layers=a.layers,
        heads=a.heads,
        prefill_pair_flop=2 * a.heads * (a.qk_nope_head_dim + rope + a.v_head_dim),
        decode_pair_flop=2 * a.heads * (2 * c + rope),
        kv_elements=c + rope,
        kv_fp8_bytes=c + 4 * c / 128 + 2 * rope,
        kv_split=1,
        cap_tokens=a.indexer.top_k_tokens if a.indexer else None,
        indexer_pair_flop=pair_flop,
        indexer_bytes_per_token=key_bytes,
    )


def _linear_core(layers: int, heads: int, state_elements: int, conv_elements: int) -> AttentionCore:
    return AttentionCore(
        layers=layers,
        heads=heads,
        prefill_pair_flop=0,
        decode_pair_flop=0,
        kv_elements=0,
        kv_fp8_bytes=0,
        kv_split=heads,
        token_flop=8 * state_elements,
        state_bytes_per_sequence=4 * state_elements + 2 * conv_elements,
    )


def _gated_delta_net_core(a: GatedDeltaNet) -> AttentionCore:
    state = a.value_heads * a.key_head_dim * a.value_head_dim
    conv = a.conv_kernel * gated_delta_net_channels(a)
    return _linear_core(a.layers, a.value_heads, state, conv)


def _kda_core(a: KimiDeltaAttention) -> AttentionCore:
    conv = a.conv_kernel * 3 * a.heads * a.head_dim
    return _linear_core(a.layers, a.heads, a.heads * a.head_dim**2, conv)


def _compressed_core(a: CompressedAttention) -> AttentionCore:
    quantised = a.head_dim - a.qk_rope_head_dim
    scales = 8 * ceil(quantised / 64 / 8)
    compression = a.compression or 1
    pair_flop, key_bytes = _scoring(a.indexer, compression)
    window_only = a.compression is None
    return AttentionCore(
        layers=a.layers,
        heads=a.heads,
        prefill_pair_flop=4 * a.heads * a.head_dim,
        decode_pair_flop=4 * a.heads * a.head_dim,
        kv_elements=a.head_dim,
        kv_fp8_bytes=quantised + 2 * a.qk_rope_head_dim + scales,
        kv_split=1,
        cap_tokens=_compressed_cap(a),
        cache_tokens=a.window_tokens if window_only else None,
        context_per_entry=compression,
        raw_window_tokens=0 if window_only else a.window_tokens,
        indexer_pair_flop=pair_flop,
        indexer_bytes_per_token=key_bytes,
    )


def _compressed_cap(a: CompressedAttention) -> int | None:
    if a.compression is None:
        return a.window_tokens
    return a.indexer.top_k_tokens if a.indexer else None
