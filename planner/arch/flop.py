"""Floating-point operations a token costs, whole model; two for a multiply-accumulate."""

from dataclasses import dataclass

from planner.arch.attention import attention_matrices
from planner.arch.core import attention_core
from planner.arch.parameters import (
    expert_matrices,
    hyper_connection_matrices,
    latent_matrices,
    router_matrix,
    shared_expert_matrices,
)
from planner.specs.model import ModelSpec


@dataclass(frozen=True, slots=True)
class TokenFlop:
    """FLOP of one token through the whole main model."""

    linear: float
    """All matrices it passes, without the output head. [FLOP]"""
    lm_head: float
    """Output head; in prefill only the last token needs it. [FLOP]"""
    prefill_pair: float
    """Per (query, context token) pair, the layers that keep the whole context, uncapped."""
    decode_pair: float
    """As ``prefill_pair``, in the form decode uses."""
    indexer_pair: float
    """Per (query, context token) pair, the indexers. [FLOP]"""
    recurrent: float
    """State updates of linear attention. [FLOP]"""


def flop_per_token(model: ModelSpec) -> TokenFlop:
    """FLOP of one token: constant part and part per context token.

    Parameters
    ----------
    model : the whole model.

    Returns
    -------
    TokenFlop
        Pair terms leave sliding-window layers out (their work does not grow with the context)
        and hold below the cap of sparse attention.

    References
    ----------
    .. [1] J. Kaplan et al., "Scaling laws", arXiv:2001.08361, section 2.1.
    .. [2] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1 (absorbed form).
    """
    cores = [attention_core(group) for group in model.attention]
    growing = [core for core in cores if core.cache_tokens is None]
    return TokenFlop(
        linear=2 * _linear_weights(model),
        lm_head=2 * model.vocab_size * model.hidden_size,
        prefill_pair=sum(c.layers * c.prefill_pair_flop / c.context_per_entry for c in growing),
        decode_pair=sum(c.layers * c.decode_pair_flop / c.context_per_entry for c in growing),
        indexer_pair=sum(c.layers * c.indexer_pair_flop for c in cores),
        recurrent=sum(c.layers * c.token_flop for c in cores),
    )


def training_flop_per_token(model: ModelSpec, sequence_tokens: int) -> float:
    r"""FLOP to train on one token: forward and twice as much backward. [FLOP]

    .. math:: 3 \, (F_{linear} + F_{head} + F_{pair} S / 2)

    Parameters
    ----------
    model : the whole model.
    sequence_tokens : training sequence length ``S``; a token sees half of it. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437 (671B at 4096 tokens: 250 GFLOP a token,
       restated in arXiv:2505.09343, table 2).
    """
    flop = flop_per_token(model)
    forward = flop.linear + flop.lm_head + flop.prefill_pair * sequence_tokens / 2
    return 3 * (forward + flop.indexer_pair * sequence_tokens / 2 + flop.recurrent)


def _linear_weights(model: ModelSpec) -> int:
    h, moe, dense = model.hidden_size, model.moe, model.dense_mlp
    weights = sum(
        group.layers * matrix.parameters
        for group in model.attention
        for matrix in attention_matrices(group, h)
    )
    weights += model.layers * sum(m.parameters for m in hyper_connection_matrices(model))
    if dense is not None:
        weights += dense.layers * 3 * h * dense.intermediate_size
    if moe is not None:
        experts = moe.top_k * sum(m.parameters for m in expert_matrices(moe, h))
        others = (
            *shared_expert_matrices(moe, h),
            *latent_matrices(moe, h),
            router_matrix(moe, h),
        )
        weights += moe.layers * (experts + sum(m.parameters for m in others))
    return weights
