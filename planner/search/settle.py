"""Whether a promise is kept beyond chance: more runs with other seeds until that is clear."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.search.layout import Counts
from planner.serving import Metrics

if TYPE_CHECKING:
    from planner.search.fleet import Fleet

MOST_RUNS = 5
"""Runs after which a promise is left as too close to call."""
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantiles of Student's t, by the number of runs."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One promise over all runs of a fleet: the half-width is the simulation's chance alone."""

    name: str
    limit_s: float
    value_s: float
    """Mean over the runs."""
    half_width_s: float | None
    """Of the 95 % interval; None where the run is too short to tell."""
    runs: int

    @property
    def kept(self) -> bool:
        """Whether the mean is within the limit."""
        return not self.value_s > self.limit_s

    @property
    def sure(self) -> bool:
        """Whether the limit lies outside the interval."""
        return self.half_width_s is not None and (
            abs(self.limit_s - self.value_s) > self.half_width_s
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sure": self.sure}


def settle(fleet: "Fleet", counts: Counts) -> tuple[Kept, ...]:
    """Run a fleet with other seeds while some promise is within chance of its limit.

    References
    ----------
    .. [1] A. M. Law, "Simulation Modeling and Analysis", 5th ed., section 9.5.2 (independent
       replications; the sequential procedure of section 9.4.1).
    """
    if counts in fleet.settled:
        return fleet.settled[counts]
    first = fleet.runs[counts][1]
    found = tuple(
        Kept(p.name, p.limit_s, p.value_s, _half_width(first, p.name), 1) for p in first.promises
    )
    runs, seed = [first], fleet.scenario.run.seed
    # a run too short for an interval is taken at its word: it has no warm-up to spare
    while any(_close(k) for k in found) and len(runs) < MOST_RUNS:
        runs.append(fleet.run(counts, seed + 1000 * len(runs))[1])
        found = tuple(_over(runs, i) for i in range(len(first.promises)))
    fleet.settled[counts] = found
    return found


def _close(kept: Kept) -> bool:
    return kept.half_width_s is not None and math.isfinite(kept.value_s) and not kept.sure


def _over(runs: list[Metrics], index: int) -> Kept:
    promises = [run.promises[index] for run in runs]
    values = np.array([p.value_s for p in promises])
    width = STUDENT_T[len(runs)] * float(values.std(ddof=1)) / math.sqrt(len(runs))
    own = [w for w in (_half_width(run, promises[0].name) for run in runs) if w is not None]
    # two runs alone say little: what each says of itself holds too
    pooled = math.sqrt(sum(w * w for w in own)) / len(own) if len(own) == len(runs) else width
    return Kept(
        promises[0].name, promises[0].limit_s, float(values.mean()), min(width, pooled), len(runs)
    )


def _half_width(metrics: Metrics, name: str) -> float | None:
    metric, which = name.removesuffix("_s").split("_")
    width: float | None = getattr(getattr(metrics, f"{metric}_s").half_width, which)
    return width
