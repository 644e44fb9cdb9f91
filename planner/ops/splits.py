"""Decode attention over units: into how many parts contexts are divided, and rows in waves."""

import math

import numpy as np

from planner.ops.op import Real, larger, smaller
from planner.specs.tilings import RowWaves, Splits


def parts_line(context: float, rows: float, splits: Splits) -> tuple[float, float, float]:
    """Line of :func:`parts` at ``context``: value there, slope, and where it ends. [tokens]"""
    blocks, root = context / splits.keys, float(splits.root)
    most = max(1.0, splits.waves * splits.units / rows)
    if blocks < 1.0:
        value, slope, end = 1.0, 0.0, float(splits.keys)
    elif blocks < root:
        value, slope, end = blocks, 1.0 / splits.keys, root * splits.keys
    else:
        _, exponent = math.frexp(blocks / root)
        low = root * 2.0 ** (exponent - 1)
        first = math.sqrt(root * low)
        up = first * (math.sqrt(2.0) - 1.0) / low
        value, slope, end = first + up * (blocks - low), up / splits.keys, 2.0 * low * splits.keys
    if value >= most:
        return most, 0.0, math.inf
    if slope > 0:
        end = min(end, context + (most - value) / slope)
    return value, slope, end


def parts(context: Real, rows: Real, splits: Splits) -> Real:
    r"""Parts that each of ``rows`` contexts is divided into, a unit each.

    .. math:: s = \max\left(1, \min\left(b, \sqrt{r\,b}, \frac{w\,u}{n}\right)\right),
       \qquad b = c / k

    with context ``c``, ``k`` keys a block at least, ``r`` = ``root``, rows ``n`` and ``w`` waves
    of ``u`` units at most; the root in straight lines from doubling to doubling, along which the
    event loop walks (at most 1.5 % low), and fractions of a part as they are.

    Parameters
    ----------
    context : mean context of the rows. [tokens]
    rows : cached heads of all sequences.

    References
    ----------
    .. [1] NVIDIA TensorRT-LLM, cpp/tensorrt_llm/kernels/decoderMaskedMultiheadAttention,
       ``computeMultiBlockCount`` (128 keys, root 8, 8 waves).
    """
    if isinstance(context, float) and isinstance(rows, float):
        return parts_line(context, rows, splits)[0]
    blocks, root = np.asarray(context) / splits.keys, float(splits.root)
    exponents = np.frexp(np.maximum(blocks, root) / root)[1] - 1
    low = root * 2.0**exponents
    curved = np.sqrt(root * low) * (1 + (math.sqrt(2.0) - 1) * (blocks - low) / low)
    divided = np.where(blocks < root, np.maximum(blocks, 1.0), curved)
    found: Real = smaller(divided, larger(1.0, splits.waves * splits.units / np.asarray(rows)))
    return found


MARGIN = 1.1
"""Units that contexts are divided for, over those there are, where parts are rounded up:
FlashAttention, hopper/flash_prepare_scheduler.cu ("10% margin")."""


def uneven(rows: Real, waves: RowWaves) -> Real:
    r"""Time to read the cache over that of units which share it evenly.

    .. math:: \frac{u}{n\,s} \left( w + \sqrt{f^2 + \phi^2 (1 - f^2)} \right), \qquad
       w = \lceil n s / u \rceil - 1, \quad f = n s / u - w

    for ``n`` rows of ``s`` parts each on ``u`` units: ``w`` whole waves, and a last one of which a
    fraction ``f`` of the units has a part.  Where these are few, each reads no faster than one
    unit can, and ``phi`` = ``fill`` of them would be as fast as the memory; where they are many,
    the memory decides.  One wave, however few, counts as even: 1.

    Rows are whole where there are as many as units.  Fewer are divided into
    ``s = ceil(u / (1.1 n))`` parts where these are rounded up.  Time would then fall where one
    more row makes one part less: up to there it is no longer than it is from there on.

    Parameters
    ----------
    rows : cached heads of all sequences.

    References
    ----------
    .. [1] NVIDIA, "Matrix Multiplication Background User's Guide", 2023, wave quantization.
    .. [2] FlashAttention, hopper/flash_prepare_scheduler.cu (up); TensorRT-LLM, trtllmGenKernels/
       fmha/fmhaKernels.h (down: ``numCtasPerSeqKv``).
    """
    units = waves.units
    if isinstance(rows, float):
        rows = max(rows, 1e-30)
        margin = units / (MARGIN * rows)
        each = max(1, math.ceil(margin)) if waves.parts == "up" else 1
        full = rows * each / units
        if full <= 1.0:
            return 1.0
        before = math.ceil(full) - 1
        last = (full - before) ** 2
        longer = (before + math.sqrt(last + waves.fill**2 * (1.0 - last))) / full
        return longer if each == 1 else min(longer, margin / (each - 1))
    count = np.maximum(np.asarray(rows, float), 1e-30)
    margins = units / (MARGIN * count)
    ways = np.maximum(1.0, np.ceil(margins)) if waves.parts == "up" else np.ones_like(count)
    filled = np.maximum(1.0, count * ways / units)
    whole = np.ceil(filled) - 1.0
    rest = (filled - whole) ** 2
    longest = (whole + np.sqrt(rest + waves.fill**2 * (1.0 - rest))) / filled
    divided = np.where(ways > 1, margins / np.maximum(ways - 1, 1), np.inf)
    found: Real = np.where(filled <= 1.0, 1.0, np.minimum(longest, divided))
    return found
