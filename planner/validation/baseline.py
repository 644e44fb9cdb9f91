"""Errors as they were when somebody last looked: what a change may not make worse.

A fixed sample of the measured runs (:func:`sample`) and the published figures that take seconds
are predicted; the median error of every group is held against ``baseline.json``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from planner.files.overheads import load_overheads
from planner.specs.runs import Run
from planner.validation.claims import Claim, load_published
from planner.validation.family import family_of
from planner.validation.look import Look, look, measured_of
from planner.validation.predict import flags, theta_of_run
from planner.validation.published import verdict_of
from planner.validation.shipped import shipped_runs

PATH = Path(__file__).with_name("baseline.json")

MOST_CLIENTS = 256
"""Runs with more clients take long and say little that others do not."""
EACH = 5
"""Runs of each engine, part, model and mode."""
LEAST_NOISE = 0.015
"""A median error may grow by so much before it counts; more where another seed moves it more."""
SLOW_TAGS = frozenset({"routing", "eplb", "mlperf", "trtllm-2026"})
"""Published figures that take seconds each, or that are many: ``scripts/write_published.py
--check`` has them."""

QUANTITIES = ("mean_tpot_s", "mean_ttft_s")


@dataclass(frozen=True, slots=True)
class Group:
    """Median error of one group of predictions."""

    name: str
    n: int
    median_abs_error: float
    noise: float = LEAST_NOISE


@dataclass(frozen=True, slots=True)
class Worse:
    """A group whose error grew beyond noise, or that is gone."""

    name: str
    stored: float
    now: float
    noise: float

    def __str__(self) -> str:
        return (
            f"{self.name}: median error {100 * self.now:.1f} %, stored {100 * self.stored:.1f} % "
            f"(noise {100 * self.noise:.1f} %)"
        )


def sample(runs: Sequence[Run]) -> list[Run]:
    """A few runs of each engine, part, model and mode, spread over the numbers of clients."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.workload.concurrency <= MOST_CLIENTS and not flags(run):
            key = (family_of(run), run.accelerator, run.model, run.deployment.kind)
            groups.setdefault(key, []).append(run)
    chosen = []
    for _, members in sorted(groups.items()):
        members.sort(key=lambda r: (r.workload.concurrency, r.id))
        at = np.unique(np.linspace(0, len(members) - 1, EACH).round().astype(int))
        chosen += [members[i] for i in at]
    return chosen


BY: dict[str, Callable[[Run], str]] = {
    "all": lambda run: "runs",
    "engine": lambda run: f"{family_of(run)} {run.deployment.kind}",
    "part": lambda run: run.accelerator,
    "model": lambda run: run.model,
}


def errors_of_runs(runs: Sequence[Run], seed: int = 1) -> dict[str, list[float]]:
    """Group and quantity -> absolute relative errors."""
    stored = load_overheads()
    found: dict[str, list[float]] = {}
    for run in runs:
        each = look(run, theta_of_run(run, stored), seed)
        if not isinstance(each, Look):
            raise AssertionError(f"{run.id} cannot be predicted any more: {each}")
        off = np.abs(each.means_s / measured_of(run) - 1)
        for by, group_of in BY.items():
            for name, error in zip(QUANTITIES, off, strict=True):
                if np.isfinite(error):
                    key = f"{by} {group_of(run)}, {name}"
                    found.setdefault(key, []).append(float(error))
    return found


def errors_of_figures() -> dict[str, list[float]]:
    """Kind of published figure -> absolute relative errors; what cannot be predicted is endless."""
    found: dict[str, list[float]] = {}
    for claim in load_published().claims:
        if SLOW_TAGS & set(claim.tags):
            continue
        for figure in claim.figures:
            error = verdict_of(load_published(), claim, figure).relative_error
            off = float("inf") if error is None else abs(error)
            found.setdefault(f"published {_kind(claim)}", []).append(off)
    return found


def _kind(claim: Claim) -> str:
    return claim.predictor(claim.figures[0]).kind


def now() -> list[Group]:
    """Errors of every group as the program predicts today."""
    found = errors_of_runs(sample(shipped_runs())) | errors_of_figures()
    return [Group(name, len(e), float(np.median(e))) for name, e in sorted(found.items())]


def refreshed() -> list[Group]:
    """The same with each group's noise: twice what other random draws change, at least 1.5 %."""
    other = errors_of_runs(sample(shipped_runs()), seed=2)
    groups = []
    for group in now():
        apart = 0.0
        if group.name in other:
            apart = abs(float(np.median(other[group.name])) - group.median_abs_error)
        noise = round(max(LEAST_NOISE, 2 * apart), 4)
        groups.append(Group(group.name, group.n, round(group.median_abs_error, 4), noise))
    return groups


def load_baseline() -> list[Group]:
    """What is stored."""
    return [Group(**row) for row in json.loads(PATH.read_text("utf-8"))]


def store(groups: Sequence[Group]) -> None:
    """Write the baseline, a group a line."""
    lines = ",\n".join(json.dumps(asdict(group)) for group in groups)
    PATH.write_text(f"[\n{lines}\n]\n", "utf-8")


def worse(found: Sequence[Group], stored: Sequence[Group]) -> list[Worse]:
    """Groups whose median error grew beyond noise, or that nobody predicts any more."""
    made = {group.name: group for group in found}
    bad = []
    for old in stored:
        error = made[old.name].median_abs_error if old.name in made else float("inf")
        if not error <= old.median_abs_error + old.noise:
            bad.append(Worse(old.name, old.median_abs_error, error, old.noise))
    return bad
