"""Skewed token counts as kernel benchmarks draw them: a bounded power law over experts."""

import numpy as np

from planner.errors import InputError
from planner.routing.popularity import Floats


def power_law_counts(
    tokens: int, experts: int, top_k: int, exponent: float, rng: np.random.Generator
) -> Floats:
    r"""Tokens per expert of one batch, ``[experts]``, summing to ``tokens * top_k``. [tokens]

    Weights are independent draws of a density :math:`x^{-\alpha}` on [1, 0.8 tokens] (on [0.01, 2]
    where there are fewer pairs than experts), scaled to the number of pairs and rounded.  No
    expert has more than ``tokens``: the rest goes to the least loaded.  Small weights are cut to
    zero by the rounding, so that skewed batches touch fewer experts.

    Raises
    ------
    InputError
        ``top_k`` above ``experts``.

    References
    ----------
    .. [1] NVIDIA aiconfigurator, collector/helper.py (Apache-2.0): the sampler of its ``power_law``
       rows (own implementation).
    """
    if not 1 <= top_k <= experts:
        raise InputError("", "top_k", f"must be 1 to the {experts} experts, got {top_k}")
    pairs = tokens * top_k
    low, high = (1.0, 0.8 * tokens) if pairs > experts else (0.01, 2.0)
    weight = bounded_power_law(rng.random(experts), exponent, low, max(high, low))
    counts = np.rint(weight / weight.sum() * pairs)
    return _add_up(np.minimum(counts, float(tokens)), pairs, tokens)


def bounded_power_law(u: Floats, exponent: float, low: float, high: float) -> Floats:
    r"""Quantiles of the density proportional to :math:`x^{-\alpha}` on ``[low, high]``.

    References
    ----------
    .. [1] A. Clauset, C. R. Shalizi, M. E. J. Newman, "Power-law distributions in empirical
       data", SIAM Review 51, 2009 (inverse transform).
    """
    if abs(exponent - 1.0) < 1e-9:
        return np.asarray(low * (high / low) ** u)
    power = 1.0 - exponent
    a, b = low**power, high**power
    return np.asarray((a + (b - a) * u) ** (1.0 / power))


def _add_up(counts: Floats, pairs: int, most: int) -> Floats:
    """Fill the least loaded experts first, one token each in turn, until all pairs are placed."""
    order = np.argsort(counts, kind="stable")
    missing = round(float(pairs - counts.sum()))
    while missing:
        room = [i for i in order if (counts[i] < most if missing > 0 else counts[i] > 0)]
        for i in room[: abs(missing)]:
            counts[i] += 1.0 if missing > 0 else -1.0
        missing -= int(np.sign(missing)) * min(len(room), abs(missing))
    return counts


def busiest_rank(counts: Floats, ep: int) -> tuple[float, float]:
    """Tokens, and experts with any, on the rank with the most tokens; experts in order of rank.

    References
    ----------
    .. [1] NVIDIA aiconfigurator, collector/helper.py (the busiest rank is the one timed).
    """
    by_rank = counts.reshape(ep, -1)
    hot = by_rank[int(by_rank.sum(axis=1).argmax())]
    return float(hot.sum()), float((hot > 0).sum())
