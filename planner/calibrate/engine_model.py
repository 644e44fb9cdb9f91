"""Predicted means of a run as a function of an engine's overheads, the schedule held."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.validation.exposure import COMPONENTS

Floats = NDArray[np.float64]

FACTORS = ("gemm", "moe", "attention", "floor", "comm", "prefill")
"""Measured over calibrated time."""
HOST = ("step_host", "prefill_step_host", "row_host", "request_host")
"""Times outside kernels. [s]"""
PARAMETERS = FACTORS + HOST

START = {
    **dict.fromkeys(FACTORS, 1.0),
    "step_host": 5e-4, "prefill_step_host": 5e-3, "row_host": 5e-6, "request_host": 0.05,
}  # fmt: skip
"""Where every engine starts from: the kernels as they are, host times of the usual size."""

_PLACE = {name: i for i, name in enumerate(PARAMETERS)}
_OF_COMPONENT = {
    "gemm": "gemm", "moe": "moe", "attention": "attention", "floor": "floor", "comm": "comm",
    "steps": "step_host", "prefill_steps": "prefill_step_host", "rows": "row_host",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sight:
    """One run as the fit sees it."""

    id: str
    labels: dict[str, str]
    """Level -> which group of that level the run belongs to."""
    decode: Floats
    """``[2, components]``: exposure of TPOT and TTFT, all pools."""
    prefill: Floats
    apart_s: Floats
    """``[2]``: what no component accounts for (cache transfer). [s]"""
    measured: Floats
    """``[2]``: TPOT and TTFT; nan where not to be used. [s]"""


def predict(sight: Sight, theta: Floats) -> tuple[Floats, Floats]:
    """Means of a run, and their derivative by the logarithm of each parameter.

    Parameters
    ----------
    theta : values of :data:`PARAMETERS`.

    Returns
    -------
    means ``[2]`` [s], derivatives ``[2, parameters]`` [s].
    """
    prefill = theta[_PLACE["prefill"]]
    means = sight.apart_s.copy()
    slopes = np.zeros((2, len(PARAMETERS)))
    for i, component in enumerate(COMPONENTS):
        name = _OF_COMPONENT.get(component)
        if name is None:
            continue
        value = theta[_PLACE[name]]
        without, because = value * sight.decode[:, i], value * prefill * sight.prefill[:, i]
        means += without + because
        slopes[:, _PLACE[name]] += without + because
        slopes[:, _PLACE["prefill"]] += because
    host = theta[_PLACE["request_host"]]
    means[1] += host
    slopes[1, _PLACE["request_host"]] = host
    return means, slopes


Grouping = Callable[[str, Sight], str | None]
"""Parameter and run -> the key of its group at one level, None: this level has no such effect."""
