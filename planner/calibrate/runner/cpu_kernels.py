"""Operations of MoE inference in numpy: the embedded backend.  fp32, products by BLAS."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]


def silu_mul(gate_up: Array) -> Array:
    """``silu(gate) * up`` of ``[rows, 2 width]``."""
    gate, up = np.split(gate_up, 2, axis=-1)
    return np.asarray(gate / (1 + np.exp(-gate)) * up, dtype=gate_up.dtype)


def rms_norm(x: Array, weight: Array) -> Array:
    """Divide each row by its root mean square and scale."""
    scale = 1 / np.sqrt(np.einsum("th,th->t", x, x) / x.shape[1] + 1e-6)
    return np.asarray(x * scale[:, None].astype(x.dtype) * weight, dtype=x.dtype)


def rope(x: Array, cosine: Array, sine: Array) -> Array:
    """Rotate the two halves of each row by its position's angles."""
    first, second = np.split(x, 2, axis=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return np.concatenate(turned, axis=-1)


def softmax(score: Array) -> Array:
    """Softmax over the last axis."""
    shifted = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=score.dtype)


def route_softmax(logits: Array, top_k: int) -> tuple[Ints, Array]:
    """Softmax over the chosen ``top_k`` logits."""
    ids = np.argpartition(logits, logits.shape[1] - top_k, axis=1)[:, -top_k:]
    return ids.astype(np.int32), softmax(np.take_along_axis(logits, ids, axis=1))


def route_sigmoid_grouped(
    logits: Array, bias: Array, top_k: int, groups: int, top_groups: int
) -> tuple[Ints, Array]:
    """Route as DeepSeek-V3 does [1]_: sigmoid scores, best groups first, then the best experts.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    tokens, experts = logits.shape
    score = 1 / (1 + np.exp(-logits))
    biased = (score + bias).reshape(tokens, groups, experts // groups)
    best = np.partition(biased, -2, axis=2)[:, :, -2:].sum(axis=2)
    dropped = np.argpartition(best, groups - top_groups, axis=1)[:, : groups - top_groups]
    np.put_along_axis(biased, dropped[:, :, None], -np.inf, axis=1)
    flat = biased.reshape(tokens, experts)
    ids = np.argpartition(flat, experts - top_k, axis=1)[:, -top_k:]
    weight = np.take_along_axis(score, ids, axis=1)
    return ids.astype(np.int32), (weight / weight.sum(axis=1, keepdims=True)).astype(logits.dtype)


def permute(ids: Ints, experts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort the local picks by expert: their places in ``ids.ravel()`` and where experts begin."""
    flat = ids.ravel()
    order = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat[order], np.arange(-1, experts), side="right")
    return order[ends[0] :], ends - ends[0]


def grouped_gemm(x: Array, weights: Array, starts: NDArray[np.int64], out: Array) -> Array:
    """Rows ``starts[e]:starts[e + 1]`` of ``x`` times the transpose of ``weights[e]``."""
    for expert in np.flatnonzero(np.diff(starts)):
        low, high = starts[expert], starts[expert + 1]
        np.matmul(x[low:high], weights[expert].T, out=out[low:high])
    return out


def combine(rows: Array, order: NDArray[np.int64], weights: Array, tokens: int) -> Array:
    """Sum each token's expert outputs by weight; ``rows`` are in sorted order."""
    top_k = weights.shape[1]
    out = np.zeros((tokens * top_k, rows.shape[1]), dtype=rows.dtype)
    out[order] = rows * weights.ravel()[order, None]
    return np.asarray(out.reshape(tokens, top_k, -1).sum(axis=1), dtype=rows.dtype)


def moe_layer(x: Array, ids: Ints, weights: Array, up: Array, down: Array) -> Array:
    """Permute, gate/up product, SiLU, down product, weighted sum."""
    order, starts = permute(ids, len(up))
    gathered = x[order // ids.shape[1]]
    hidden = np.empty((len(order), up.shape[1]), dtype=x.dtype)
    activated = silu_mul(grouped_gemm(gathered, up, starts, hidden))
    result = np.empty((len(order), down.shape[1]), dtype=x.dtype)
    return combine(grouped_gemm(activated, down, starts, result), order, weights, len(x))


def mla_decode(query: Array, cache: Array, latent: int, scale: float) -> Array:
    """Latent attention, absorbed: ``[S, H, D]`` over ``[S, C, D]``, of which ``latent`` values."""
    score = softmax(np.matmul(query, cache.transpose(0, 2, 1)) * np.float32(scale))
    out: Array = np.matmul(score, cache[..., :latent])
    return out


def gqa_decode(query: Array, keys: Array, values: Array) -> Array:
    """``[S, kv, G, D]`` over keys and values ``[S, kv, C, D]``."""
    scale = np.float32(query.shape[-1] ** -0.5)
    share = softmax(np.matmul(query, keys.transpose(0, 1, 3, 2)) * scale)
    out: Array = np.matmul(share, values)
    return out


def prefill(query: Array, keys: Array, values: Array, block: int = 128) -> Array:
    """Causal attention ``[S, kv, G, L, D]`` over ``[S, kv, 1, L, D]``, in blocks of queries."""
    length, scale = query.shape[-2], np.float32(query.shape[-1] ** -0.5)
    out = np.empty((*query.shape[:-1], values.shape[-1]), dtype=query.dtype)
    for low in range(0, length, block):
        high = min(low + block, length)
        seen = keys[..., :high, :].swapaxes(-1, -2)
        score = np.matmul(query[..., low:high, :], seen) * scale
        score[..., low:high][..., ~np.tri(high - low, dtype=bool)] = -np.inf
        out[..., low:high, :] = np.matmul(softmax(score), values[..., :high, :])
    return out
