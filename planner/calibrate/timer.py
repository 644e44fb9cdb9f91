"""Steps of the timer behind measured rows: how close the best law could come to them."""

import numpy as np

from planner.calibrate.rows import FloatArray

LEAST_S, MOST_S = 2e-7, 4e-6
"""Steps looked for. [s]"""
FINE = 1.001
"""Ratio of one step looked for to the next."""
STEPS = 40
"""Steps a time may have to tell them: 40 of a thousandth too long are a 25th of one."""
COHERENT = 0.3
"""Mean of the times' phases from which they are steps: of rows without it is 1 / sqrt(rows)."""
FEWEST, MOST = 100, 2000
"""Rows that tell a step, and how many of more are looked at."""


def step_of(time_s: FloatArray) -> float | None:
    r"""Step in which ``time_s`` were counted; None: none that shows. [s]

    .. math:: R(\tau) = \left| \frac{1}{n} \sum_i e^{2 \pi i\, t_i / \tau} \right|

    is 1 where all times are multiples of ``tau`` beside a constant.  Fractions of a step are
    coherent, too: the longest that is nearly as coherent as the best is taken.

    References
    ----------
    .. [1] K. V. Mardia, P. E. Jupp, "Directional Statistics", 2000, section 6.3 (Rayleigh test).
    """
    times = np.sort(time_s[time_s > 0])[:: max(1, len(time_s) // MOST)]
    count = int(np.log(MOST_S / LEAST_S) / np.log(FINE))
    found = [(_coherence(times, LEAST_S * FINE**i), LEAST_S * FINE**i) for i in range(count)]
    best, _ = max(found)
    if best < COHERENT:
        return None
    longest = max(tau for r, tau in found if r > 0.8 * best)
    return max(each for each in found if longest / 1.2 < each[1] <= longest)[1]


def _coherence(times: FloatArray, step_s: float) -> float:
    few = times[times < STEPS * step_s]
    return float(np.abs(np.mean(np.exp(2j * np.pi * few / step_s)))) if len(few) >= FEWEST else 0.0


def beyond(predicted_s: FloatArray, time_s: FloatArray, step_s: float) -> FloatArray:
    """Part of the relative error that the timer does not explain: beyond half a step."""
    return np.maximum(0.0, np.abs(predicted_s - time_s) - step_s / 2) / time_s
