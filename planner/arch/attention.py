"""Weights of one attention layer: its matrices and its small vectors.

All shapes are of the whole, unsharded layer.  Names: ``h`` hidden size, ``H`` query heads,
``K`` key-value heads, ``d`` head width, ``q`` and ``c`` ranks of the low-rank query and cache.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

from planner.specs.model import (
    Attention,
    CompressedAttention,
    GatedDeltaNet,
    Gqa,
    Indexer,
    KimiDeltaAttention,
    Mla,
)

Split = Literal["column", "row", "replicated"]
"""How tensor parallelism divides a matrix: by output columns, by input rows, or not at all."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix ``[k, n]`` of one layer, and how tensor parallelism may divide it."""

    name: str
    k: int
    n: int
    split: Split
    heads: int | None = None
    """Number of heads along the split side; the split cannot be finer than this."""

    @property
    def parameters(self) -> int:
        """Weights of the matrix. [parameters]"""
        return self.k * self.n


def attention_matrices(attention: Attention, hidden_size: int) -> tuple[Matrix, ...]:
    """GEMM weights of one attention layer, indexer and compressor included.

    Parameters
    ----------
    attention : one group of the model's layers; its ``layers`` is not used.
    hidden_size : width of the residual stream. [elements]

    Returns
    -------
    tuple of Matrix
        In the order of use.  A head-wise projection is split by heads; what every head needs
        (down-projections, indexer, compressor) is replicated.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1 (MLA).
    .. [2] DeepSeek-AI, "DeepSeek-V3.2-Exp", github deepseek-ai/DeepSeek-V3.2-Exp@3b99a53
       inference/model.py (indexer).
    .. [3] J. Ainslie et al., "GQA", arXiv:2305.13245.
    .. [4] S. Yang et al., "Gated Delta Networks", arXiv:2412.06464.
    .. [5] Kimi Team, "Kimi Linear", arXiv:2510.26692 (KDA).
    .. [6] transformers 5.23.0, models/deepseek_v4 (compressed attention).
    """
    match attention:
        case Gqa():
            return _gqa_matrices(attention, hidden_size)
        case Mla():
            return _mla_matrices(attention, hidden_size)
        case GatedDeltaNet():
            return _gated_delta_net_matrices(attention, hidden_size)
        case KimiDeltaAttention():
            return _kda_matrices(attention, hidden_size)
        case CompressedAttention():
            return _compressed_matrices(attention, hidden_size)
        case _:
            assert_never(attention)


def attention_other_parameters(attention: Attention, hidden_size: int) -> int:
    """Parameters of one attention layer that are no GEMM weights. [parameters]

    Biases, norms inside attention, sinks, convolutions, decay parameters.  The norms before and
    after a layer are not in it (``Parameters.norms_other``).

    Parameters
    ----------
    attention : one group of the model's layers; its ``layers`` is not used.
    hidden_size : width of the residual stream. [elements]

    References
    ----------
    .. [1] transformers 5.23.0, models/{deepseek_v3, qwen3_moe, qwen3_next, gpt_oss, glm4_moe,
       minimax_m2, deepseek_v4}/modeling_*.py.
    .. [2] sglang 0.5.23, models/kimi_k3.py (K3).
    """
    match attention:
        case Gqa():
            return _gqa_other(attention, hidden_size)
        case Mla():
            norms = (attention.q_lora_rank or 0) + attention.kv_lora_rank
            return norms + _indexer_norms(attention.indexer)
        case GatedDeltaNet():
            conv = attention.conv_kernel * gated_delta_net_channels(attention)
            return conv + 2 * attention.value_heads + attention.value_head_dim
        case KimiDeltaAttention():
            width = attention.heads * attention.head_dim
            conv = attention.conv_kernel * 3 * width
            return conv + width + attention.heads + attention.head_dim
        case CompressedAttention():
            return _compressed_other(attention)
        case _:
            assert_never(attention)


def gated_delta_net_channels(attention: GatedDeltaNet) -> int:
    """Channels that pass the short convolution: queries, keys and values. [elements]

    References
    ----------
    .. [1] transformers 5.23.0, models/qwen3_next/modeling_qwen3_next.py.
    """
    keys = attention.key_heads * attention.key_head_dim
    return 2 * keys + attention.value_heads * attention.value_head_dim


def _gqa_matrices(a: Gqa, h: int) -> tuple[Matrix, ...]:
    d, dv = a.head_dim, a.v_head_dim or a.head_dim
    gates = 2 if a.output_gate else 1
    matrices = (
        Matrix("q", h, gates * a.heads * d, "column", a.heads),
        Matrix("k", h, a.kv_heads * d, "column", a.kv_heads),
        Matrix("v", h, a.kv_heads * dv, "column", a.kv_heads),
        Matrix("o", a.heads * dv, h, "row", a.heads),
    )
    if a.indexer is None or a.indexer.shared:
        return matrices
    i = a.indexer
    return (
        *matrices,
        Matrix("indexer_q", h, i.heads * i.head_dim, "replicated"),
        Matrix("indexer_k", h, i.head_dim, "replicated"),
    )


def _gqa_other(a: Gqa, h: int) -> int:
    d, dv = a.head_dim, a.v_head_dim or a.head_dim
    count = _indexer_norms(a.indexer)
    if a.qkv_bias:
        count += a.heads * d + a.kv_heads * (d + dv)
    if a.output_bias:
        count += h
    if a.qk_norm == "per_head":
        count += 2 * d
    if a.qk_norm == "full":
        count += (a.heads + a.kv_heads) * d
    if a.sinks:
        count += a.heads
    return count


def _indexer_norms(indexer: Indexer | None) -> int:
    """Two vectors: weight and bias of a LayerNorm (DeepSeek), or two RMSNorms (MiniMax)."""
    return 0 if indexer is None or indexer.shared else 2 * indexer.head_dim


def _mla_matrices(a: Mla, h: int) -> tuple[Matrix, ...]:
    query = a.heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
    values = a.heads * a.v_head_dim
    if a.q_lora_rank is None:
        matrices = [Matrix("q", h, query, "column", a.heads)]
    else:
        matrices = [
            Matrix("q_a", h, a.q_lora_rank, "replicated"),
            Matrix("q_b", a.q_lora_rank, query, "column", a.heads),
        ]
    keys_values = a.heads * (a.qk_nope_head_dim + a.v_head_dim)
    matrices += [
        Matrix("kv_a", h, a.kv_lora_rank + a.qk_rope_head_dim, "replicated"),
        Matrix("kv_b", a.kv_lora_rank, keys_values, "column", a.heads),
        Matrix("o", values, h, "row", a.heads),
    ]
    if a.output_gate:
        matrices.append(Matrix("gate", h, values, "column", a.heads))
    if a.indexer is not None and not a.indexer.shared:
        i = a.indexer
        matrices += [
            Matrix("indexer_q", a.q_lora_rank or h, i.heads * i.head_dim, "replicated"),
            Matrix("indexer_k", h, i.head_dim, "replicated"),
            Matrix("indexer_weights", h, i.heads, "replicated"),
        ]
    return tuple(matrices)


def _gated_delta_net_matrices(a: GatedDeltaNet, h: int) -> tuple[Matrix, ...]:
    values = a.value_heads * a.value_head_dim
    projected = gated_delta_net_channels(a) + values
    return (
        Matrix("in_qkvz", h, projected, "column", a.key_heads),
        Matrix("in_ba", h, 2 * a.value_heads, "column", a.key_heads),
        Matrix("o", values, h, "row", a.value_heads),
    )


def _kda_matrices(a: KimiDeltaAttention, h: int) -> tuple[Matrix, ...]:
    width = a.heads * a.head_dim
    gate = (
        (Matrix("gate", h, width, "column", a.heads),)
        if a.full_rank_gate
        else (
            Matrix("gate_a", h, a.head_dim, "replicated"),
            Matrix("gate_b", a.head_dim, width, "column", a.heads),
        )
    )
    return (
        Matrix("qkv", h, 3 * width, "column", a.heads),
        *gate,
        Matrix("decay_a", h, a.head_dim, "replicated"),
        Matrix("decay_b", a.head_dim, width, "column", a.heads),
        Matrix("beta", h, a.heads, "column", a.heads),
        Matrix("o", width, h, "row", a.heads),
    )


def _compressed_matrices(a: CompressedAttention, h: int) -> tuple[Matrix, ...]:
    width = a.heads * a.head_dim
    matrices = [
        Matrix("q_a", h, a.q_lora_rank, "replicated"),
        Matrix("q_b", a.q_lora_rank, width, "column", a.heads),
        Matrix("kv", h, a.head_dim, "replicated"),
        Matrix("o_a", width // a.o_groups, a.o_groups * a.o_lora_rank, "column", a.o_groups),
        Matrix("o_b", a.o_groups * a.o_lora_rank, h, "row", a.o_groups),
    ]
    if a.compression is not None:
        matrices.append(Matrix("compressor", h, 2 * _compressed_width(a), "replicated"))
    if a.indexer is not None:
        i = a.indexer
        matrices += [
            Matrix("indexer_q", a.q_lora_rank, i.heads * i.head_dim, "replicated"),
            Matrix("indexer_compressor", h, 2 * 2 * i.head_dim, "replicated"),
            Matrix("indexer_weights", h, i.heads, "replicated"),
        ]
    return tuple(matrices)


def _compressed_width(a: CompressedAttention) -> int:
    """Compressor output: overlapping blocks (layers with an indexer) need two halves."""
    return a.head_dim if a.indexer is None else 2 * a.head_dim


def _compressed_other(a: CompressedAttention) -> int:
    count = a.q_lora_rank + a.head_dim + a.heads
    if a.compression is not None:
        count += a.compression * _compressed_width(a) + a.head_dim
        if a.indexer is not None:
            count += a.compression * 2 * a.indexer.head_dim + a.indexer.head_dim
    return count
