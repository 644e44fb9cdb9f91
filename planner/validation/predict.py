"""Predictions of measured runs, with the interval that 90 % of such runs fall in."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlannerError
from planner.evaluation.fitted import PARAMETERS, theta_for, theta_of
from planner.evaluation.spread import CONFIDENCE_LOG_SD, Z
from planner.evaluation.widths import width_of
from planner.files import load_accelerator, load_model
from planner.specs.overheads import OverheadsFit
from planner.specs.runs import Run
from planner.validation.engine_model import case_of, combination_of, labels_of, predict
from planner.validation.exposure import COMPONENTS
from planner.validation.look import Look, look_at_all

Floats = NDArray[np.float64]

LITTLE = 0.30
"""Measured throughput may differ by this share from what Little's law makes of TTFT and TPOT."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One run; as :meth:`to_dict`, a line of a predictions file."""

    id: str
    predicted: dict[str, float] | None
    interval90: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None
    seen: bool = False
    """Whether engine version, part and model were among the fitted ones."""
    tpot_parts_s: dict[str, float] = field(default_factory=dict)
    """Component -> its part of the predicted TPOT, work of prompts apart. [s]"""
    sensitivity: dict[str, float] = field(default_factory=dict)
    """Parameter -> relative change of the predicted TPOT per relative change of it."""
    ttft_parts_s: dict[str, float] = field(default_factory=dict)
    """The same of the predicted TTFT, ``request_host`` beside. [s]"""
    ttft_sensitivity: dict[str, float] = field(default_factory=dict)
    """The same of the predicted TTFT."""
    notes: tuple[str, ...] = ()
    padding: float = 1.0
    """Sequences computed over sequences there, mean over decode steps: captured graphs."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; keys end in their unit."""
        return asdict(self)


def predict_runs(runs: list[Run], stored: OverheadsFit, workers: int = 2) -> list[Prediction]:
    """Predict every run by simulating its protocol."""
    thetas = [theta_of_run(run, stored) for run in runs]
    looks = look_at_all(runs, thetas, workers)
    return [
        Prediction(run.id, None, error=found)
        if isinstance(found, str)
        else _prediction(run, found, theta, stored)
        for run, found, theta in zip(runs, looks, thetas, strict=True)
    ]


def theta_of_run(run: Run, stored: OverheadsFit) -> Floats:
    """Parameters that a fit gives a run; of an unknown model those of any."""
    try:
        model = load_model(run.model)
    except PlannerError:  # listed with its reason when the run is simulated
        return theta_of(stored, labels_of(run))
    return theta_for(stored, labels_of(run), model)


def _prediction(run: Run, found: Look, theta: Any, stored: OverheadsFit) -> Prediction:
    tpot, ttft = (float(x) for x in found.means_s)
    seen = combination_of(run) in stored.combinations and run.speculative is None
    means = {"mean_ttft_s": ttft, "mean_tpot_s": tpot, **throughput(run, ttft, tpot)}
    intervals = {}
    vendor, case = load_accelerator(run.accelerator).vendor, case_of(run, ttft)
    for name, value in means.items():
        width = width_of(stored, name, vendor, run.model, seen, case)
        if width is not None:
            low, high = _with_drafts(width, run)
            intervals[name] = [value * math.exp(low), value * math.exp(high)]
    sight = found.sight
    _, slopes = predict(sight.decode[None], sight.prefill[None], sight.apart_s[None], theta[None])
    moves = slopes[0] / np.maximum([[tpot], [ttft]], 1e-12)  # an answer of one token has no TPOT
    each = [
        {name: float(row[i]) for i, name in enumerate(PARAMETERS) if abs(row[i]) > 1e-3}
        for row in moves
    ]
    first = _parts(found, theta, 1) | {
        "request_host": float(theta[PARAMETERS.index("request_host")])
    }
    return Prediction(
        run.id, means, intervals, None, seen, _parts(found, theta, 0), each[0], first, each[1],
        (*flags(run), *found.notes), found.padding,
    )  # fmt: skip


def _with_drafts(width: tuple[float, float], run: Run) -> tuple[float, float]:
    """Ends of an interval, wider where draft tokens are accepted as the text has it. [log]"""
    if run.speculative is None:
        return width
    low, high = width
    more = Z * CONFIDENCE_LOG_SD["estimate"]
    return -math.hypot(min(low, 0.0), more), math.hypot(max(high, 0.0), more)


def _parts(found: Look, theta: Any, of: int) -> dict[str, float]:
    """Where the predicted TPOT (``of`` 0) or TTFT (1) goes. [s]"""
    sight, none = found.sight, np.zeros((1, 2))

    def mean(decode: Any, prefill: Any) -> float:
        made = predict(decode[None], prefill[None], none, without_request)[0]
        return float(made[0, of])

    without_request = theta[None].copy()
    without_request[0, PARAMETERS.index("request_host")] = 0.0
    nothing = np.zeros_like(sight.decode)
    parts: dict[str, float] = {}
    for i, name in enumerate(COMPONENTS):
        kept = nothing.copy()
        kept[of, i] = sight.decode[of, i]
        value = mean(kept, nothing)
        if value > 0:
            parts[name] = value
    parts["prompts"] = mean(nothing, sight.prefill) + parts.pop("prefill_steps", 0.0)
    return parts


def throughput(run: Run, ttft_s: float, tpot_s: float) -> dict[str, float]:
    """Tokens a second and device of a closed loop, by Little's law."""
    load = run.workload
    prompt, answer = load.mean_tokens()
    requests_per_s = load.concurrency / (ttft_s + tpot_s * (answer - 1)) / run.gpus
    return {
        "output_tokens_per_s_per_device": requests_per_s * answer,
        "total_tokens_per_s_per_device": requests_per_s * (prompt + answer),
    }


def flags(run: Run) -> list[str]:
    """What is odd about a measured run; a flagged one is not used in fits."""
    found: list[str] = []
    measured = run.measured
    if measured is None:
        return found
    law = throughput(run, measured.mean_ttft_s, measured.mean_tpot_s)
    for name, value in law.items():
        given = getattr(measured, name)
        if given is not None and abs(given / value - 1) > LITTLE:
            found.append(
                f"measured.{name}: {given:g} differs by more than 30 % from {value:g}, "
                "which Little's law makes of concurrency, TTFT and TPOT"
            )
    return found
