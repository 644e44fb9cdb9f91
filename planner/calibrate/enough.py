"""Whether measured runs determine an engine's overheads, and which runs would."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from planner.calibrate.engine_fit import prior_sd
from planner.evaluation.fitted import PARAMETERS
from planner.specs.overheads import OverheadsFit
from planner.specs.runs import Run
from planner.validation.family import family_of

State = Literal["fitted", "leaning", "not determined"]

WELL = 0.5
"""Standard error over the prior's, below which a parameter is said to be fitted."""

KINDS = {
    "gemm": "many clients and short prompts on few devices (dense products dominate)",
    "moe": "16 to 128 clients, where weights of experts are read for few tokens",
    "attention": "long prompts (8k and more) with many clients",
    "prefill_attention": "long prompts (8k and more) and short answers",
    "floor": "1 to 4 clients, where every kernel is short",
    "comm": "wide layouts (TP8 and more, or expert parallel) with few and with many clients",
    "prefill": "long prompts and short answers",
    "step_host": "1 to 4 clients and short prompts",
    "prefill_step_host": "short prompts and short answers",
    "row_host": "hundreds of clients",
    "request_host": "a single client: its time to first token",
}
"""Parameter -> runs that show it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the runs of one engine say of one parameter."""

    engine: str
    parameter: str
    state: State
    value: float | None
    """Of the engine family: a factor, or seconds; None where it stays at the start."""
    spread: float | None
    """One standard error, as a factor."""
    more_runs: int | None
    """Runs like those that are there which would do; None: they would never."""
    bring: str
    """Runs that show it, where it is not fitted."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def standings(stored: OverheadsFit, runs: Sequence[Run]) -> list[Standing]:
    """What is fitted of every engine in the runs, what leans on its prior, what is not determined.

    A parameter's standard error ``s`` and its prior's ``p`` leave :math:`1/s^2 - 1/p^2` to the
    runs; with as many runs of the kind there are, information grows with their number.

    References
    ----------
    .. [1] A. Gelman, J. Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models",
       Cambridge University Press, 2007 (information of prior and data add).
    """
    counts: dict[str, int] = {}
    for run in runs:
        counts[family_of(run)] = counts.get(family_of(run), 0) + 1
    return [
        _standing(stored, engine, name, count)
        for engine, count in sorted(counts.items())
        for name in PARAMETERS
    ]


def _standing(stored: OverheadsFit, engine: str, name: str, count: int) -> Standing:
    """What is best known of: the effect of all engines, or the engine's own."""
    own = {("all", "all"), ("family", engine)}
    found = [e for e in stored.effects if e.parameter == name and (e.level, e.group) in own]
    if not found:
        return Standing(engine, name, "not determined", None, None, None, KINDS[name])
    value = stored.start[name] * math.exp(sum(e.log_effect for e in found))
    best = min(found, key=lambda e: e.log_se / prior_sd(name, e.level))
    prior, spread = prior_sd(name, best.level), math.exp(best.log_se)
    if best.log_se <= WELL * prior:
        return Standing(engine, name, "fitted", value, spread, 0, "")
    data = 1 / best.log_se**2 - 1 / prior**2
    wanted = 1 / (WELL * prior) ** 2 - 1 / prior**2
    more = math.ceil(count * (wanted / data - 1)) if data > 0 else None
    return Standing(engine, name, "leaning", value, spread, more, KINDS[name])


def verdict(found: Sequence[Standing]) -> str:
    """Whether the data suffices, in a sentence."""
    fitted = sum(s.state == "fitted" for s in found)
    text = f"{fitted} of {len(found)} parameters are fitted by these runs"
    rest = len(found) - fitted
    if not rest:
        return f"The data suffices: {text}."
    return (
        f"{text}; {rest} lean on what is usual or stay at it. Predictions for this engine are as "
        "good as those parameters matter to them: `validate --explain` says which do."
    )
