"""Errors of predictions by model, part, engine and mode."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from planner.specs.runs import Run
from planner.validation.family import family_of
from planner.validation.predict import Prediction, flags, throughput

GROUPS: dict[str, Callable[[Run], str]] = {
    "overall": lambda run: "all",
    "model": lambda run: run.model,
    "part": lambda run: run.accelerator,
    "engine": family_of,
    "mode": lambda run: run.deployment.kind,
}

QUANTITIES = ("mean_tpot_s", "mean_ttft_s", "total_tokens_per_s_per_device")


def truth(run: Run) -> dict[str, float]:
    """Measured quantities that are to be scored; throughput by Little's law."""
    measured = run.measured
    if measured is None or run.scored_apart:
        return {}
    values = {"mean_tpot_s": measured.mean_tpot_s, "mean_ttft_s": measured.mean_ttft_s}
    if not run.unusable:
        law = throughput(run, measured.mean_ttft_s, measured.mean_tpot_s)
        values[QUANTITIES[2]] = law[QUANTITIES[2]]
    return {name: value for name, value in values.items() if name not in run.unusable}


def summarise(
    runs: Sequence[Run],
    predictions: Sequence[Prediction],
    groupings: Mapping[str, Callable[[Run], str]] = GROUPS,
) -> list[dict[str, Any]]:
    """Return a row for every group of every grouping and quantity.

    Each has ``by``, ``group``, ``quantity``, ``n``, ``coverage_share`` (predicted of all),
    ``median_abs_error``, ``mean_abs_error``, ``p90_abs_error``, ``bias`` (median of predicted /
    measured - 1) and ``inside_share`` (measured within the 90 % interval).  Flagged runs are left
    out.
    """
    made = {each.id: each for each in predictions}
    rows = []
    for by, group_of in groupings.items():
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(group_of(run), []).append(run)
        for group, members in sorted(groups.items()):
            rows += [
                {"by": by, "group": group, "quantity": name, **_row(members, made, name)}
                for name in QUANTITIES
            ]
    return rows


def _row(members: list[Run], made: dict[str, Prediction], name: str) -> dict[str, Any]:
    covered, off, inside = 0, [], []
    for run in members:
        prediction = made.get(run.id)
        if prediction is None or prediction.predicted is None:
            continue
        covered += 1
        value = truth(run).get(name)
        if value is None or flags(run):
            continue
        off.append(prediction.predicted[name] / value - 1)
        if name in prediction.interval90:
            low, high = prediction.interval90[name]
            inside.append(low <= value <= high)
    size = np.abs(off) if off else np.array([np.nan])
    return {
        "n": len(off),
        "coverage_share": covered / len(members),
        "median_abs_error": float(np.median(size)),
        "mean_abs_error": float(np.mean(size)),
        "p90_abs_error": float(np.quantile(size, 0.9)),
        "bias": float(np.median(off)) if off else float("nan"),
        "inside_share": float(np.mean(inside)) if inside else float("nan"),
    }
