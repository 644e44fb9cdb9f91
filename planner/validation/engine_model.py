"""Predicted means of a run as a function of an engine's overheads, the schedule held."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.fitted import FACTORS, PARAMETERS
from planner.specs.runs import Run
from planner.validation.exposure import COMPONENTS
from planner.validation.setup import family_of

Floats = NDArray[np.float64]

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


_SELECT = np.array(
    [[float(_OF_COMPONENT.get(c) == name) for c in COMPONENTS] for name in PARAMETERS]
)
"""``[parameters, components]``: which parameter multiplies which component."""


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


def predict(
    decode: Floats, prefill: Floats, apart_s: Floats, theta: Floats
) -> tuple[Floats, Floats]:
    """Means of runs, and their derivative by the logarithm of each parameter.

    Parameters
    ----------
    decode, prefill : ``[runs, 2, components]``; see :class:`Sight`.
    apart_s : ``[runs, 2]``. [s]
    theta : ``[runs, parameters]``, values of :data:`PARAMETERS`.

    Returns
    -------
    means ``[runs, 2]`` [s], derivatives ``[runs, 2, parameters]`` [s].
    """
    value = theta @ _SELECT
    without = value[:, None, :] * decode
    because = value[:, None, :] * theta[:, None, None, _PLACE["prefill"]] * prefill
    slopes = (without + because) @ _SELECT.T
    slopes[:, :, _PLACE["prefill"]] += because.sum(axis=2)
    slopes[:, 1, _PLACE["request_host"]] = theta[:, _PLACE["request_host"]]
    means = apart_s + (without + because).sum(axis=2)
    means[:, 1] += theta[:, _PLACE["request_host"]]
    return means, slopes


def labels_of(run: Run) -> dict[str, str]:
    """Return the group of a run at every level."""
    family = family_of(run)
    return {
        "family": family,
        "precision": f"{family} {run.precision.weights}",
        "version": f"{family} {run.framework.version}",
        "part": run.accelerator,
        "mode": f"{family} {run.deployment.kind}",
    }


def combination_of(run: Run) -> str:
    """Engine version, part and model: what a fit has or has not seen."""
    return f"{family_of(run)} {run.framework.version} | {run.accelerator} | {run.model}"
