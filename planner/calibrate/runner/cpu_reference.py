"""What the embedded backend's kernels are checked against: plain loops in float64."""

import numpy as np

from .cpu_kernels import Array, Doubles, Ints

GROUPS, TOP_GROUPS = 8, 4
"""Of DeepSeek's router."""


def softmax(score: Doubles) -> Doubles:
    """Softmax over the last axis."""
    share = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(share / share.sum(axis=-1, keepdims=True), dtype=np.float64)


def moe_layer(
    x: Array, ids: Ints, weights: Array, up: Array, down: Array
) -> Doubles:  # fmt: skip
    """Token by token, expert by expert, in float64."""
    out = np.zeros(x.shape)
    for token, row in enumerate(x.astype(np.float64)):
        for expert, weight in zip(ids[token], weights[token], strict=True):
            if expert >= 0:
                gate, linear = np.split(up[expert].astype(np.float64) @ row, 2)
                mixed = gate / (1 + np.exp(-gate)) * linear
                out[token] += weight * (down[expert].astype(np.float64) @ mixed)
    return out


def router(logits: Array, bias: Array | None, top_k: int) -> Doubles:
    """Weights ``[tokens, experts]`` by full sorts in float64; a bias means DeepSeek's router."""
    out = np.zeros(logits.shape)
    for token, logit in enumerate(logits.astype(np.float64)):
        score = np.exp(logit) if bias is None else 1 / (1 + np.exp(-logit))
        choice = score if bias is None else score + bias
        if bias is not None:
            groups = np.sort(choice.reshape(GROUPS, -1), axis=1)[:, -2:].sum(axis=1)
            kept = np.isin(np.arange(GROUPS), np.argsort(groups)[-TOP_GROUPS:])
            choice = np.where(kept.repeat(len(logit) // GROUPS), choice, -np.inf)
        best = np.argsort(choice)[-top_k:]
        out[token, best] = score[best] / score[best].sum()
    return out
