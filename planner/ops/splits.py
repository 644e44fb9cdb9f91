"""Decode attention that divides a context over units: into how many parts, and in what lines."""

import math

import numpy as np

from planner.ops.op import Real, larger, smaller
from planner.specs.calibration import Splits


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
