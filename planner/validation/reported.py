"""Serving runs that others reported in public: a test set, never fitted.

``reported/*.jsonl`` holds runs as makers of engines, operators and users wrote them down in
documentation, issues and pull requests; each names its source. :func:`refuse_reported` keeps them
out of every fit.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from planner.errors import InputError
from planner.files import load_accelerator
from planner.files.runs import read_runs
from planner.specs.runs import Run
from planner.validation.family import family_of

FOLDER = Path(__file__).parent / "reported"

GROUPS: dict[str, Callable[[Run], str]] = {
    "overall": lambda run: "all",
    "maker": lambda run: load_accelerator(run.accelerator).vendor,
    "engine": family_of,
    "part": lambda run: run.accelerator,
    "model": lambda run: run.model,
}
"""By what their errors are summed up."""


@lru_cache(maxsize=1)
def reported_runs() -> tuple[Run, ...]:
    """Return every reported run.

    Raises
    ------
    InputError
        A line is no run.
    """
    runs: list[Run] = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        found, bad = read_runs(path)
        if bad:
            raise InputError(f"{path.name}:{bad[0].line}", bad[0].id, bad[0].problem)
        runs += found
    return tuple(runs)


def refuse_reported(runs: Sequence[Run]) -> None:
    """Refuse a fit to runs that are kept as a test.

    Raises
    ------
    InputError
        A reported run is among ``runs``, by its id.
    """
    kept = {run.id for run in reported_runs()}
    found = [run.id for run in runs if run.id in kept]
    if found:
        raise InputError(
            "", "RUNS", f"{found[0]} is one of {len(found)} reported runs, which are a test of the "
            "fit: they are never fitted; leave them out",
        )  # fmt: skip
