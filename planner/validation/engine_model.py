"""Predicted means of a run as a function of an engine's overheads, the schedule held."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.fitted import FACTORS, PARAMETERS, groups, release_of
from planner.specs.runs import Aggregated, Run
from planner.validation.exposure import COMPONENTS
from planner.validation.family import family_of
from planner.validation.starts import as_run

Floats = NDArray[np.float64]

START = {
    **dict.fromkeys(FACTORS, 1.0),
    "step_host": 5e-4, "prefill_step_host": 5e-3, "row_host": 5e-6, "request_host": 0.05,
}  # fmt: skip
"""Where every engine starts from: the kernels as they are, host times of the usual size.

Of a step with prompts: scheduling, and launches (some 1,500 of 60 layers) that run ahead of long
kernels."""

QUEUED_S = 2.0
"""Mean time to first token above which prompts are taken to queue. [s]"""

_PLACE = {name: i for i, name in enumerate(PARAMETERS)}
_OF_COMPONENT = {
    "gemm": "gemm", "moe": "moe", "attention": "attention", "floor": "floor", "comm": "comm",
    "steps": "step_host", "prefill_steps": "prefill_step_host", "rows": "row_host",
}  # fmt: skip


_OF_PROMPT = {**_OF_COMPONENT, "attention": "prefill_attention"}


def _select(chosen: dict[str, str]) -> Floats:
    return np.array([[float(chosen.get(c) == name) for c in COMPONENTS] for name in PARAMETERS])


_SELECT, _SELECT_PROMPT = _select(_OF_COMPONENT), _select(_OF_PROMPT)
"""``[parameters, components]``: which parameter multiplies which component, of decoding and of
prompts."""


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
    without = (theta @ _SELECT)[:, None, :] * decode
    value = (theta @ _SELECT_PROMPT)[:, None, :]
    because = value * theta[:, None, None, _PLACE["prefill"]] * prefill
    slopes = without @ _SELECT.T + because @ _SELECT_PROMPT.T
    slopes[:, :, _PLACE["prefill"]] += because.sum(axis=2)
    slopes[:, 1, _PLACE["request_host"]] = theta[:, _PLACE["request_host"]]
    means = apart_s + (without + because).sum(axis=2)
    means[:, 1] += theta[:, _PLACE["request_host"]]
    return means, slopes


def labels_of(run: Run) -> dict[str, str]:
    """Return the group of a run at every level."""
    deployment = as_run(run).deployment
    first = deployment if isinstance(deployment, Aggregated) else deployment.prefill
    version = f"{family_of(run)} {run.framework.version}"
    return groups(
        version, run.precision.weights, run.accelerator, run.deployment.kind,
        first.attention_dp, first.moe_ep,
    )  # fmt: skip


def case_of(run: Run, ttft_s: float) -> str:
    """Return the kind of run that an interval's width depends on; see ``Width.case``.

    Parameters
    ----------
    ttft_s : predicted mean time to first token. [s]
    """
    return "queued" if ttft_s > QUEUED_S else run.deployment.kind


def combination_of(run: Run) -> str:
    """Engine release, part and model: what a fit has or has not seen."""
    release = release_of(str(run.framework.version))
    return f"{family_of(run)} {release} | {run.accelerator} | {run.model}"
