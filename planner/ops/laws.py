"""Laws of achieved shares: what is reached at a size, and how two times of one call join."""

import math
from bisect import bisect

import numpy as np

from planner.ops.op import Real, larger, smaller
from planner.specs.calibration import Curve


def share_at(curve: Curve, size: Real) -> Real:
    """Share of the peak at ``size``: interpolated between knots in logarithms, flat outside.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (ceilings).
    """
    sizes, shares = curve.sizes, curve.shares
    if isinstance(size, float):  # one case: fifteen times faster than through arrays
        if not sizes[0] < size < sizes[-1]:
            return shares[0] if size <= sizes[0] else shares[-1]
        i = bisect(sizes, size)
        low, first = math.log(sizes[i - 1]), math.log(shares[i - 1])
        reach = (math.log(size) - low) / (math.log(sizes[i]) - low)
        return math.exp(first + reach * (math.log(shares[i]) - first))
    logs = np.log(np.maximum(size, 1e-30))
    found: Real = np.exp(np.interp(logs, np.log(sizes), np.log(shares)))
    return found


def streamed_share(curve: Curve, size_bytes: Real) -> Real:
    """Share of the bandwidth at ``size_bytes``, time being straight between the knots.

    References
    ----------
    .. [1] Linear interpolation of time: attention cores are affine in the context they read.
    """
    if isinstance(size_bytes, float):  # one case, as in share_at
        sizes, own = curve.sizes, curve.shares
        at = min(max(size_bytes, sizes[0]), sizes[-1])
        i = min(max(bisect(sizes, at), 1), len(sizes) - 1)
        low_s, high_s = sizes[i - 1] / own[i - 1], sizes[i] / own[i]
        share = (at - sizes[i - 1]) / (sizes[i] - sizes[i - 1])
        return at / (low_s + share * (high_s - low_s))
    knots, shares = np.asarray(curve.sizes), np.asarray(curve.shares)
    inside = np.clip(size_bytes, knots[0], knots[-1])
    found: Real = inside / np.interp(inside, knots, knots / shares)
    return found


def doubling_line(context: float, first: float) -> tuple[float, float, float]:
    """Line of :func:`doubled` at ``context``: value there, slope, and where it ends. [tokens]"""
    _, exponent = math.frexp(1.0 + context / first)
    times = 2.0 ** (exponent - 1)
    start = first * (times - 1.0)
    return first * (exponent - 1) + (context - start) / times, 1.0 / times, start + first * times


def doubled(context: Real, first: float) -> Real:
    r"""Steps of decode attention one after another, of which each doubling adds as many. [tokens]

    .. math:: g(c) = a\,i + \frac{c - a\,(2^i - 1)}{2^i}, \qquad
       i = \left\lfloor \log_2 (1 + c / a) \right\rfloor

    the logarithm :math:`a \log_2(1 + c / a)` in straight lines, along which the event loop walks,
    with ``a`` = ``first``.  It never falls, and is the context itself up to ``first``.

    References
    ----------
    .. [1] T. Dao et al., "Flash-Decoding for long-context inference", 2023 (a longer context is
       split over more units, and a second step reduces over the splits).
    """
    if isinstance(context, float):
        return doubling_line(context, first)[0]
    exponents = np.frexp(1.0 + np.asarray(context) / first)[1] - 1
    times = 2.0**exponents
    found: Real = first * exponents + (context - first * (times - 1.0)) / times
    return found


def chained(busy_s: Real, chain_s: Real, how: str, lines: bool = False) -> Real:
    """Work of all units, and the chain of one of them: after it (``sum``) or beside it. [s]

    Beside it, as a root of powers: units that share much work evenly hide the longest of its
    tiles; where there are few, that one decides.  ``lines``: squares as :func:`rounded`.

    References
    ----------
    .. [1] R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17(2),
       1969 (a schedule takes no longer than mean work and longest task together).
    """
    if how == "sum":
        return busy_s + chain_s
    if lines:
        return rounded(busy_s, chain_s)
    power = 2.0 if how == "root2" else 1.5
    joined: Real = (busy_s**power + chain_s**power) ** (1 / power)
    return joined


def blended(compute_s: Real, memory_s: Real, blend: str, lines: bool = False) -> Real:
    """Time of computation and transfer together, from full overlap (``max``) to none (``sum``).

    ``lines``: squares as :func:`rounded`.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (perfect overlap
       is the bound; kernels fall short of it most where both times are alike).
    """
    if blend == "max":
        return larger(compute_s, memory_s)
    if blend == "sum":
        return compute_s + memory_s
    if lines:
        return rounded(compute_s, memory_s)
    a, b = compute_s * compute_s, memory_s * memory_s
    return (a + b) ** 0.5 if blend == "root2" else (a * a + b * b) ** 0.25


_TURN = math.pi / 12
LINES = tuple((math.cos(i * _TURN), math.sin(i * _TURN)) for i in range(7))
"""Directions of the lines that :func:`rounded` is made of, from one time to the other."""
BETWEEN = tuple(math.tan((i + 0.5) * _TURN) for i in range(6))
"""Ratios of the other time to the one at which one line passes the next."""


def line_of(compute_s: float, memory_s: float) -> int:
    """Which of :data:`LINES` is the highest: the direction closest to that of both times."""
    return bisect(BETWEEN, memory_s / compute_s) if compute_s > 0 else len(BETWEEN)


def rounded(compute_s: Real, memory_s: Real) -> Real:
    r"""Root of the squares of two times in straight lines, along which the event loop walks. [s]

    .. math:: \max_i \left( t_c \cos \theta_i + t_m \sin \theta_i \right),
       \qquad \theta_i = 0, 15^\circ, \dots, 90^\circ

    exact where one is nothing, and at most 0.9 % low.

    References
    ----------
    .. [1] The largest projection of a vector on given directions: the norm of its length whose
       unit ball is a polygon around the circle.
    """
    if isinstance(compute_s, float) and isinstance(memory_s, float):
        along, across = LINES[line_of(compute_s, memory_s)]
        return along * compute_s + across * memory_s
    found: Real = 0.0
    for along, across in LINES:
        found = larger(found, along * compute_s + across * memory_s)
    return found


def crossing(moved: Real, kept: Real) -> Real:
    r"""Share of ``moved`` bytes that a cache of ``kept`` bytes does not serve when they come again.

    .. math:: m = 1 - \min(1, k / b)^2

    All of it is served up to the size of the cache, little of it from twice that on.

    References
    ----------
    .. [1] J. E. Smith, J. R. Goodman, "Instruction Cache Replacement Policies and Organizations",
       IEEE Trans. Computers C-34(3), 1985 (a loop through a cache with random replacement); the
       share that misses there solves :math:`1 - m = e^{-m b / k}`, which the square is within
       0.06 of.
    """
    served = smaller(1.0, kept / larger(moved, 1e-30))
    return 1.0 - served * served


LANES = 32
"""Threads of a warp, which look at as many experts at a time."""
CHOOSERS = 4
"""Warps of a multiprocessor that choose at a time, each for one token: an assumption, after B200's
rows of 896 experts, where 500 tokens take twice as long to choose as one."""


def rounds(tokens: Real, picks: Real, among: Real, units: float) -> Real:
    """Looks at a warp's width of experts, one after the other, until all tokens have chosen.

    Each pick of a token looks at all experts again for the next best.

    Parameters
    ----------
    tokens : tokens that choose.
    picks : experts a token chooses.
    among : experts it chooses among.
    units : multiprocessors.

    References
    ----------
    .. [1] Selection by repeated arg-max over a warp's lanes, counted; how it is spread over
       multiprocessors: :data:`CHOOSERS`.
    """
    found: Real = picks * np.ceil(among / LANES) * (1 + tokens / (CHOOSERS * units))
    return found


UNTUNED_ROWS = (16.0, 64.0)
"""Rows of an untuned tile where there are few tokens, and where there are more than experts."""


def untuned_rows(tokens: Real, experts: Real) -> Real:
    """Rows of the tiles of a grouped product that nobody tuned for its shape.

    Parameters
    ----------
    tokens : tokens it is given.
    experts : experts held.

    References
    ----------
    .. [1] SGLang, python/sglang/srt/layers/moe (``get_default_config``: in 16 bits, where no file
       has tiles for the shape, 16 rows up to as many tokens as experts held, else 64).
    """
    few, many = UNTUNED_ROWS
    if isinstance(tokens, float):
        return many if tokens > experts else few
    rows: Real = np.where(tokens > experts, many, few)
    return rows


def uncached_s(touched: Real, weights: Real, cache_bytes: float, bandwidth: float) -> Real:
    """Time of the experts' weights that the last cache does not hold, at the stated bandwidth. [s]

    Of a cache in two halves, each of which keeps what its own units read, one.

    Parameters
    ----------
    weights : bytes of one expert's.

    References
    ----------
    .. [1] NVIDIA, "NVIDIA A100 Tensor Core GPU Architecture", 2020, L2 cache (two partitions,
       each caching for the units connected to it).
    """
    missed = larger(0.0, 1.0 - cache_bytes / 2 / weights)
    return touched * weights * missed / bandwidth
