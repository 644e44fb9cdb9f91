"""One prediction explained: where its time goes, what moves it most, what is measured beside it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from planner.evaluation.fitted import FACTORS
from planner.specs.overheads import OverheadsFit
from planner.specs.runs import Run
from planner.validation.family import family_of
from planner.validation.look import Look, look
from planner.validation.predict import Prediction, theta_of_run
from planner.validation.summary import truth

PARTS = {
    "gemm": "dense products", "moe": "experts", "attention": "attention",
    "prefill_attention": "attention among prompts", "floor": "kernels' fixed time",
    "comm": "communication", "prompts": "prompts of others",
    "fixed": "host", "steps": "host", "rows": "host", "request_host": "outside the engine",
}  # fmt: skip
"""Component -> what it is called; what shares a name is added up."""

OF_TTFT = {"prompts": "prompts, its own and others'"}
"""What is called otherwise before the first token."""

PARAMETERS = {
    "gemm": "time of dense products", "moe": "time of experts", "attention": "time of attention",
    "prefill_attention": "time of attention among prompts", "floor": "fixed time of kernels",
    "comm": "time of communication", "prefill": "time of prompts",
    "step_host": "host time a step", "prefill_step_host": "host time a step with prompts",
    "row_host": "host time a sequence", "request_host": "time outside the engine",
}  # fmt: skip

NAMES = {"mean_tpot_s": "TPOT", "mean_ttft_s": "TTFT"}


@dataclass(frozen=True, slots=True)
class Side:
    """One latency of a run."""

    quantity: str
    predicted_s: float
    measured_s: float | None
    interval90_s: tuple[float, float] | None
    parts: tuple[tuple[str, float], ...]
    """What it is made of, largest first: share of the predicted time."""
    moves: tuple[tuple[str, float], ...]
    """Parameters, the one that moves it most first: relative change per relative change."""

    @property
    def relative_error(self) -> float | None:
        """Predicted over measured, less one."""
        return None if not self.measured_s else self.predicted_s / self.measured_s - 1

    @property
    def factor_needed(self) -> float | None:
        """What the first parameter would have to be multiplied by to explain the whole error.

        Along the tangent; None where nothing is measured or more than a factor ten is wanted.
        """
        if not self.measured_s or not self.moves:
            return None
        log = math.log(self.measured_s / self.predicted_s) / self.moves[0][1]
        return math.exp(log) if abs(log) < math.log(10) else None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A run's prediction, taken apart."""

    run: Run
    seen: bool
    """Whether engine version, part and model were fitted."""
    sides: tuple[Side, ...]
    alone_ttft_s: float | None
    """Predicted time to first token of a single client: without anyone to wait for. [s]"""
    padding: float = 1.0
    """Sequences computed over sequences there, mean over decode steps."""

    @property
    def prefill_apart(self) -> bool:
        """Whether prompts have replicas of their own."""
        return self.run.deployment.kind == "disaggregated"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.run.id,
            "seen": self.seen,
            "alone_ttft_s": self.alone_ttft_s,
            "padding": self.padding,
            "sides": [
                asdict(side) | {
                    "relative_error": side.relative_error, "factor_needed": side.factor_needed,
                }
                for side in self.sides
            ],
            "text": lines(self),
        }  # fmt: skip


def explain(run: Run, prediction: Prediction, stored: OverheadsFit) -> Explanation:
    """Take a prediction apart; one more simulation, of a single client."""
    given = truth(run)
    sides = tuple(
        Side(
            name,
            (prediction.predicted or {})[name],
            given.get(name),
            _pair(prediction.interval90.get(name)),
            _shares(parts, PARTS | named),
            tuple(sorted(moves.items(), key=lambda item: -abs(item[1]))),
        )
        for name, parts, moves, named in (
            ("mean_tpot_s", prediction.tpot_parts_s, prediction.sensitivity, {}),
            ("mean_ttft_s", prediction.ttft_parts_s, prediction.ttft_sensitivity, OF_TTFT),
        )
    )
    alone_s = _alone(run, stored)
    return Explanation(run, prediction.seen, sides, alone_s, prediction.padding)


def _pair(ends: list[float] | None) -> tuple[float, float] | None:
    return None if ends is None else (ends[0], ends[1])


def _shares(parts: dict[str, float], named: dict[str, str]) -> tuple[tuple[str, float], ...]:
    sums: dict[str, float] = {}
    for name, value in parts.items():
        word = named.get(name, name.replace("_", " "))
        sums[word] = sums.get(word, 0.0) + value
    total = sum(sums.values())
    if not total:
        return ()
    return tuple(sorted(((n, v / total) for n, v in sums.items()), key=lambda item: -item[1]))


def _alone(run: Run, stored: OverheadsFit) -> float | None:
    load = run.workload.model_copy(update={"concurrency": 1, "requests": 10})
    found = look(run.model_copy(update={"workload": load}), theta_of_run(run, stored))
    return float(found.means_s[1]) if isinstance(found, Look) else None


def lines(found: Explanation) -> list[str]:
    """The explanation in sentences."""
    run, load = found.run, found.run.workload
    text = [
        f"{run.model}, {run.precision.weights} on {run.gpus} {run.accelerator}, {family_of(run)} "
        f"{run.framework.version or '(version not stated)'}, {run.deployment.kind}; "
        f"{load.concurrency} clients, {load.input_tokens_max} in, {load.output_tokens_max} out at "
        f"most; this version, part and model {'were' if found.seen else 'were not all'} fitted."
    ]
    for side in found.sides:
        text.append(_beside(side))
        text.append(_goes_to(side))
        if side.moves:
            text.append(_moved_by(side))
    if found.padding > 1:
        text.append(
            f"Decode steps compute {found.padding - 1:.1%} more sequences than they have: padding "
            "to captured graphs."
        )
    if found.alone_ttft_s is not None:
        ttft = found.sides[1].predicted_s
        waits = max(0.0, ttft - found.alone_ttft_s)
        text.append(
            f"A single client would see its first token after {_s(found.alone_ttft_s)}; the other "
            f"{_s(waits)} ({waits / ttft:.0%}) are waiting for others: queue and shared steps."
        )
    return text


def _beside(side: Side) -> str:
    text = f"{NAMES[side.quantity]} predicted {_s(side.predicted_s)}"
    if side.interval90_s is not None:
        text += f" (90 %: {_s(side.interval90_s[0])} to {_s(side.interval90_s[1])})"
    if side.relative_error is None:
        return text + "; nothing to compare it with."
    return text + f", measured {_s(side.measured_s or 0.0)} ({side.relative_error:+.0%})."


def _goes_to(side: Side) -> str:
    parts = ", ".join(f"{name} {share:.0%}" for name, share in side.parts if share >= 0.005)
    return f"It goes to: {parts}."


def _moved_by(side: Side) -> str:
    name, slope = side.moves[0]
    word = PARAMETERS.get(name, name.replace("_", " "))
    text = f"What moves it most: {word}: 10 % more make {10 * slope:+.1f} %"
    needed = side.factor_needed
    if needed is not None and side.relative_error is not None and abs(side.relative_error) > 0.02:
        kind = "factor" if name in FACTORS else "time"
        text += (
            f"; alone it would explain the error if that {kind} were {needed:.2g} times as large"
        )
    return text + "."


def _s(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def worst(
    runs: Sequence[Run], predictions: Sequence[Prediction], quantity: str, count: int
) -> list[tuple[Run, Prediction]]:
    """Runs whose prediction is furthest off, as a factor either way."""
    made = {each.id: each for each in predictions}
    found = []
    for run in runs:
        value, prediction = truth(run).get(quantity), made.get(run.id)
        if value and prediction and prediction.predicted:
            off = abs(math.log(prediction.predicted[quantity] / value))
            found.append((off, run, prediction))
    found.sort(key=lambda row: -row[0])
    return [(run, prediction) for _, run, prediction in found[:count]]


def worst_of_all(
    runs: Sequence[Run], predictions: Sequence[Prediction], count: int
) -> list[tuple[Run, Prediction]]:
    """Half of them by TPOT, half by TTFT, no run twice."""
    half = count // 2
    found = worst(runs, predictions, "mean_tpot_s", half)
    known = {run.id for run, _ in found}
    others = worst(runs, predictions, "mean_ttft_s", count)
    return found + [each for each in others if each[0].id not in known][: count - len(found)]


def one_of(runs: Sequence[Run], wanted: str) -> Run | None:
    """The run of this id, or the only one whose id contains it."""
    exact = [run for run in runs if run.id == wanted]
    near = exact or [run for run in runs if wanted in run.id]
    return near[0] if len(near) == 1 else None
