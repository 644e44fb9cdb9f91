"""Products in whole waves of whole tiles."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.ops.op import Real, smaller
from planner.specs.tilings import Waves

Counted = list[tuple[Real, float, float, int]]
"""Waves, rows and columns of the tile that makes them, and parts of the inner dimension."""


def wave_counts(rows: Real, columns: Real, waves: Waves) -> Counted:
    """Waves that a result's tiles run in, for every tile and split it may have.

    Parameters
    ----------
    rows, columns : of the result. [elements]

    References
    ----------
    .. [1] NVIDIA, "Matrix Multiplication Background User's Guide", 2023 (tile and wave
       quantisation: the last tiles cost as much as full ones, and so does the last wave).
    """
    if isinstance(rows, float) and isinstance(columns, float | int):  # one case, a third as long
        ceil, units = math.ceil, waves.units
        wides = [(wide, ceil(columns / wide)) for wide in _telling(waves.columns, columns)]
        return [
            (max(1.0, float(ceil(ceil(rows / high) * across * parts / units))), high, wide, parts)
            for high in _telling(waves.rows, rows)
            for wide, across in wides
            for parts in waves.splits
        ]
    found: Counted = []
    for high in waves.rows:
        down = np.ceil(rows / high)
        for wide in waves.columns:
            tiles = down * np.ceil(columns / wide)
            for parts in waves.splits:
                count = np.maximum(1.0, np.ceil(tiles * parts / waves.units))
                found.append((count, float(high), float(wide), parts))
    return found


def _telling(sides: Sequence[int], length: float) -> Iterator[float]:
    """Rising ``sides`` up to the first that holds ``length``: longer ones only waste more."""
    for side in sides:
        yield float(side)
        if side >= length:
            return


@dataclass(frozen=True, slots=True)
class TileTimes:
    """What a tile takes. [s]"""

    element_s: Real
    """An element of the result, its whole inner dimension, by one unit."""
    step_s: Real
    """Steps of the inner dimension beside the products, all of a tile."""
    edge_s: Real
    """The same for every row and column of the tile."""
    cell_s: float
    """An element of the result, once: scaled, converted and written."""
    join_s: float = 0.0
    """Of the whole product, where parts of the inner dimension are joined."""


def waves_s(counted: Counted, of: TileTimes) -> Real:
    r"""Computation of a product by the best of the tiles it may have. [s]

    .. math:: t = \min_{r, c} \left\lceil
       \frac{\lceil m / r \rceil \lceil n / c \rceil}{U} \right\rceil
       \left( k \left( \frac{2 r c\, U}{\eta P} + (r + c)\,\epsilon + \sigma \right)
       + r c\,\gamma \right)

    with ``U`` units of ``P / U`` each, ``epsilon`` the time a step of the inner dimension takes a
    row or column of the tile to be loaded, ``sigma`` a step's own (barriers, scales), and
    ``gamma`` an element's end.  Where the inner dimension is split over more units there are as
    many times more tiles, each of that part of the steps, and a time to join them.  More rows,
    columns or depth never take less: no tile's time falls, so the least of them does not.

    Parameters
    ----------
    counted : of :func:`wave_counts`.
    of : times of a tile.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepGEMM", github.com/deepseek-ai/DeepGEMM, README (a tile is chosen by
       the waves it makes; scales are applied on CUDA cores between steps of 128).
    """
    times: list[Real] = []
    for count, high, wide, parts in counted:
        area = high * wide
        steps_s = of.element_s * area + of.edge_s * (high + wide) + of.step_s
        if parts > 1:
            times.append(count * (steps_s / parts + of.cell_s * area) + of.join_s)
        else:
            times.append(count * (steps_s + of.cell_s * area))
    if isinstance(times[0], float):
        return min(times)
    best: Real = times[0]
    for time_s in times[1:]:
        best = smaller(best, time_s)
    return best
