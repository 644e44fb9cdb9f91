"""How popular each expert of each layer is, and how that becomes a token's choice of ``k``."""

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.specs.routing import (
    Balanced,
    DirichletPopularity,
    Drift,
    HistogramPopularity,
    LayerProfile,
    LognormalPopularity,
    Popularity,
    UniformPopularity,
    ZipfPopularity,
)

Floats = NDArray[np.float64]

LARGEST_INCLUSION = 1.0 - 1e-9
"""A probability of being chosen that still has a finite logit."""


def popularity(
    spec: Popularity, experts: int, layers: int, seed: int, profile: LayerProfile | None = None
) -> Floats:
    """Share of a layer's (token, expert) pairs that goes to each expert.

    Parameters
    ----------
    experts, layers : size of the model's MoE part.
    seed : decides which experts are the popular ones, and the skew of each layer.
    profile : how the skew differs between layers; not for histograms.

    Returns
    -------
    Shares ``[layers, experts]``; each row sums to 1.

    Raises
    ------
    InputError
        When a histogram is not of this model.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025:
       imbalance differs between layers and is stable for hundreds of steps.
    .. [2] DeepEP pull request 393 (github.com/deepseek-ai/DeepEP): per-rank load of DeepSeek-V3
       on MMLU-Pro is closest to log-normal.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    if isinstance(spec, HistogramPopularity):
        recorded: Floats = histogram_shares(spec, experts, layers)[-1]
        return recorded
    skew = _layer_skew(profile or LayerProfile(), layers, rng)[:, None]
    shape = (layers, experts)
    match spec:
        case Balanced() | UniformPopularity():
            weights: Floats = np.ones(shape)
        case ZipfPopularity():
            ranks = np.broadcast_to(np.arange(1.0, experts + 1), shape)
            weights = rng.permuted(ranks, axis=1) ** (-spec.exponent * skew)
        case LognormalPopularity():
            weights = np.exp(spec.sigma * skew * rng.standard_normal(shape))
        case DirichletPopularity():
            gamma = rng.standard_gamma(np.broadcast_to(spec.alpha / skew**2, shape))
            weights = gamma + 1e-30  # a draw of a tiny alpha may be 0
        case _:
            assert_never(spec)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _layer_skew(profile: LayerProfile, layers: int, rng: np.random.Generator) -> Floats:
    """Factor on the family's parameter by layer, ``[layers]``."""
    ramp = 1.0 - (1.0 - profile.first_share) * np.exp(-np.arange(layers) / profile.ramp_layers)
    return np.asarray(ramp * np.exp(profile.spread * rng.standard_normal(layers)))


def histogram_shares(spec: HistogramPopularity, experts: int, layers: int) -> Floats:
    """Shares ``[windows, layers, experts]`` of a recorded histogram, each row summing to 1.

    A histogram of one layer stands for all.  Raises InputError when it is not of this model.

    References
    ----------
    .. [1] DeepSeek-AI, EPLB (github.com/deepseek-ai/EPLB): placement from recorded load.
    """
    where = spec.path or "routing"
    if not spec.windows:
        raise InputError(where, "popularity.path", "the histogram has not been read yet")
    counts = np.asarray(spec.windows, dtype=float)
    if counts.shape[2] != experts:
        raise InputError(
            where,
            "popularity",
            f"has {counts.shape[2]} experts a layer, the model has {experts}; "
            "record it on the same model",
        )
    if counts.shape[1] not in (1, layers):
        raise InputError(
            where,
            "popularity",
            f"has {counts.shape[1]} layers, the model has {layers} MoE layers; "
            "give all of them, or one to stand for all",
        )
    shares = counts / counts.sum(axis=2, keepdims=True)
    return np.asarray(np.broadcast_to(shares, (len(counts), layers, experts)))


def drifting(shares: Floats, drift: Drift, windows: int, rng: np.random.Generator) -> Floats:
    r"""Popularity in successive windows around a base.

    .. math:: p_{w,e} \propto p_e\, e^{\sigma z_{w,e}}, \qquad
       z_w = \rho z_{w-1} + \sqrt{1-\rho^2}\, \epsilon_w

    Parameters
    ----------
    shares : base popularity ``[layers, experts]``.
    windows : how many windows.

    Returns
    -------
    Shares ``[windows, layers, experts]``.

    References
    ----------
    .. [1] First-order autoregression of the log share: an assumption of this project.  Its
       size is fitted to what is left of published imbalance after rebalancing.
    """
    result = np.empty((windows, *shares.shape))
    z = rng.standard_normal(shares.shape)
    for window in range(windows):
        if window:
            fresh = rng.standard_normal(shares.shape)
            z = drift.memory * z + np.sqrt(1.0 - drift.memory**2) * fresh
        weights = shares * np.exp(drift.sigma * z)
        result[window] = weights / weights.sum(axis=1, keepdims=True)
    return result


def inclusion(shares: Floats, top_k: int) -> Floats:
    r"""Probability that one token chooses each expert: ``k`` times the share, at most 1.

    A token chooses an expert at most once, so no expert can have more than ``1 / k`` of the
    pairs; what a family gives above that goes to the other experts in proportion.

    Parameters
    ----------
    shares : ``[..., experts]``, rows summing to 1.
    top_k : experts a token chooses.

    Returns
    -------
    Probabilities ``[..., experts]``, rows summing to ``top_k``.

    Raises
    ------
    InputError
        When ``top_k`` exceeds the experts (or those that any token chooses).

    References
    ----------
    .. [1] Y. Tillé, "Sampling Algorithms", Springer, 2006, section 2.10 (inclusion
       probabilities proportional to size).
    """
    experts = shares.shape[-1]
    if not 1 <= top_k <= experts:
        raise InputError("", "top_k", f"must be 1 to the {experts} experts, got {top_k}")
    used = int(np.min(np.count_nonzero(shares, axis=-1)))
    if top_k > used:
        raise InputError(
            "", "popularity", f"only {used} experts of a layer are ever used, top_k is {top_k}"
        )
    result = np.asarray(shares * float(top_k))
    while True:
        full = result >= LARGEST_INCLUSION
        left = top_k - full.sum(axis=-1, keepdims=True)
        free = np.where(full, 0.0, result)
        total = free.sum(axis=-1, keepdims=True)
        scale = np.divide(left, total, out=np.ones_like(total), where=total > 0)
        result = np.where(full, 1.0, free * scale)
        if not (result > 1.0).any():
            return result
