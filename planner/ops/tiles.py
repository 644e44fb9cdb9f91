"""Grouped products in whole tiles of rows."""

from bisect import bisect_left

import numpy as np

from planner.ops.op import Real, larger
from planner.specs.tilings import Heights

LOAD_SPREAD = 0.6
"""Spread of the logarithm of experts' loads, an assumption: R1's is 0.9 and of its first layers
half that (docs/routing.md).  Reports that rest on it say so."""
JOINED = 8.0
"""Power that joins one tile with the rows' own: within 2.5 % of draws of such loads."""


def tile_height(planned: Real, heights: Heights) -> Real:
    """Rows of the tile chosen: the lowest that holds those planned for, else the tallest.

    Parameters
    ----------
    planned : rows an expert that it plans for.

    References
    ----------
    .. [1] vLLM, fused_marlin_moe.py (the first of 8, 16, 32, 48, 64 rows of which the mean fills
       less than 0.9).
    .. [2] triton-lang/triton, triton_kernels, matmul_ogs opt_flags (the next power of two of the
       mean, 16 to 128).
    .. [3] FlashInfer and TensorRT-LLM, ``calculate_tile_tokens_dim`` (the next power of two of the
       mean, from 8).
    """
    asked, rows = planned / heights.fullness, heights.rows
    last = len(rows) - 1
    if isinstance(asked, float):
        return float(rows[min(bisect_left(rows, asked), last)])
    found: Real = np.asarray(rows, float)[np.minimum(np.searchsorted(rows, asked), last)]
    return found


def tiled_rows(rows: Real, high: Real, alike: bool) -> Real:
    r"""Rows that an expert's tiles compute.

    .. math:: h \max(1, \lceil r / h \rceil), \quad\text{in the mean}\quad
       \left( h^8 + (r + h / 2)^8 \right)^{1/8}

    The second where ``rows`` are the mean of experts whose loads differ (:data:`LOAD_SPREAD`):
    half of a tile is empty on average, and of few rows the one tile.  It never falls with rows or
    heights.

    Parameters
    ----------
    rows : an expert with any has.
    high : rows of a tile.
    alike : every expert has as many rows, as where kernels are timed alone.

    References
    ----------
    .. [1] NVIDIA, "Matrix Multiplication Background User's Guide", 2023 (tile quantisation).
    """
    if alike:
        return high * larger(1.0, np.ceil(rows / high))
    mean: Real = (high**JOINED + (rows + high / 2) ** JOINED) ** (1 / JOINED)
    return mean
