"""Parameters, FLOP and KV bytes of the whole model, unsharded.

Vocabulary used by everything above: an attention layer is a list of weight matrices
(:class:`Matrix`) plus what its core does with the context (:class:`AttentionCore`).
"""

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class AttentionCore:
    """What one attention layer does with its context, per token, all heads, unsharded.

    Everything linear in (query, context) pairs.  ``cap_tokens`` bounds the context the main
    attention sees (window or top-k); the indexer, where there is one, scores every token.
    """

    layers: int
    heads: int
    prefill_pair_flop: float
    """FLOP per (query, context) pair in prefill (MLA: not absorbed)."""
    decode_pair_flop: float
    """FLOP per (query, context) pair in decode (MLA: absorbed)."""
    kv_elements: int
    """Cache elements a token, one layer. [elements]"""
    kv_split: int
    """Heads the cache can be divided by (1: every tensor-parallel rank holds all of it)."""
    cap_tokens: int | None
    """Context tokens attended at most. [tokens]"""
    cache_tokens: int | None
    """Context tokens *kept* at most (a sliding window forgets, a sparse one does not). [tokens]"""
    context_per_entry: float
    """Context tokens that share one cache entry (1 without compression)."""
    indexer_pair_flop: float
    """FLOP per (query, context) pair of the indexer (8-bit)."""
    indexer_bytes_per_token: float
    """Indexer key bytes a token, one layer. [bytes]"""
    token_flop: float
    """FLOP per token that do not depend on the context (linear attention's state update)."""
    state_bytes_per_sequence: float
    """Constant state a sequence, one layer (recurrent state, convolution). [bytes]"""
