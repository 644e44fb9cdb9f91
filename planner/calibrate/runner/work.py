"""FLOP and least HBM traffic of one call of each operation: every operand crosses once."""

from typing import NamedTuple

ELEMENT_BYTES = {
    "fp32": 4, "bf16": 2, "fp16": 2, "fp8_block": 1, "fp8_row": 1, "fp8_tensor": 1,
}  # fmt: skip
"""Size of one stored element of activations and weights. [bytes]"""


class Work(NamedTuple):
    """What one call does."""

    flop: float
    traffic_bytes: float


def out_bytes(dtype: str) -> int:
    """Size of one element of a matrix product's result. [bytes]"""
    return 4 if dtype == "fp32" else 2


def gemm(m: int, k: int, n: int, dtype: str) -> Work:
    """``[m, k]`` times ``[k, n]``.

    >>> gemm(1, 4096, 4096, "bf16").flop
    33554432
    """
    size = ELEMENT_BYTES[dtype]
    return Work(2 * m * k * n, size * (m * k + k * n) + out_bytes(dtype) * m * n)


def grouped_gemm(rows: int, pairs: int, touched: int, k: int, n: int, dtype: str) -> Work:
    """``pairs`` products over ``touched`` experts; ``rows`` distinct activations are read."""
    size = ELEMENT_BYTES[dtype]
    moved = size * (rows * k + touched * k * n) + out_bytes(dtype) * pairs * n
    return Work(2 * pairs * k * n, moved)


def silu_mul(rows: int, width: int, dtype: str) -> Work:
    """Gate times up, ``[rows, 2 width]`` to ``[rows, width]`` in the format of the next product."""
    scales = 4 * rows * width // 128 if dtype == "fp8_block" else 0
    return Work(0, rows * width * (2 * out_bytes(dtype) + ELEMENT_BYTES[dtype]) + scales)


def quantise(rows: int, width: int) -> Work:
    """bf16 to FP8 with one fp32 scale for 128 elements."""
    return Work(0, rows * width * 3 + 4 * rows * width // 128)


def permute(picks: int, experts: int) -> Work:
    """Sort ``picks`` expert ids: read them twice, write their places."""
    return Work(0, 4 * (3 * picks + 3 * experts))


def combine(tokens: int, pairs: int, hidden: int, dtype: str) -> Work:
    """Weighted sum of each token's expert outputs."""
    size = out_bytes(dtype)
    return Work(0, size * hidden * (pairs + tokens) + 4 * pairs)


def router(tokens: int, experts: int, top_k: int) -> Work:
    """Scores in fp32, ids and weights out."""
    return Work(0, 4 * tokens * (experts + 2 * top_k))


def moe_layer(
    tokens: int, pairs: int, touched: int, hidden: int, intermediate: int, dtype: str
) -> Work:
    """Gate/up product, SiLU, down product and weighted sum."""
    parts = (
        grouped_gemm(tokens, pairs, touched, hidden, 2 * intermediate, dtype),
        silu_mul(pairs, intermediate, dtype),
        grouped_gemm(pairs, pairs, touched, intermediate, hidden, dtype),
        combine(tokens, pairs, hidden, dtype),
    )
    return Work(sum(p.flop for p in parts), sum(p.traffic_bytes for p in parts))


def mla_decode(
    sequences: int, context_tokens: int, heads: int, latent: int, rope: int, dtype: str
) -> Work:
    """Absorbed latent attention: all heads share one cached row of ``latent + rope``."""
    size = ELEMENT_BYTES[dtype]
    query = sequences * heads * (2 * latent + rope)
    return Work(
        2 * context_tokens * heads * (2 * latent + rope),
        size * (context_tokens * (latent + rope) + query),
    )


def gqa_decode(
    sequences: int, context_tokens: int, heads: int, kv_heads: int, head_dim: int, dtype: str
) -> Work:
    """One query a sequence against its keys and values."""
    size = ELEMENT_BYTES[dtype]
    moved = 2 * context_tokens * kv_heads * head_dim + 2 * sequences * heads * head_dim
    return Work(4 * context_tokens * heads * head_dim, size * moved)


def prefill(
    tokens: int, pairs: int, heads: int, kv_heads: int, dims: tuple[int, int], dtype: str
) -> Work:
    """Causal attention over ``pairs`` (query, key) pairs; ``dims`` of keys and of values."""
    both = sum(dims)
    return Work(2 * pairs * heads * both, ELEMENT_BYTES[dtype] * tokens * (heads + kv_heads) * both)


def causal_pairs(sequences: int, length: int) -> int:
    """(query, key) pairs of fresh prompts of one length.

    >>> causal_pairs(2, 3)
    12
    """
    return sequences * length * (length + 1) // 2
