"""Answers to many cases, worked out when they are looked at, and kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.specs.scenario import Scenario
from planner.study.cache import Cache
from planner.study.digest import digest, package_digest, plain
from planner.study.grid import Case, Grid, Vary
from planner.study.row import Ask, Row, what_to_ask
from planner.study.run import run
from planner.study.store import Store, manifest
from planner.study.workers import Workers, workers_of

Progress = Callable[[int, int], None]
"""Called with how many cases are answered, and how many there are."""


@dataclass
class Table:
    """One row a case; nothing is worked out before it is looked at."""

    base: Scenario
    cases: tuple[Case, ...]
    varied: tuple[str, ...]
    """Columns that say what a case changes."""
    ask: Ask
    executor: Executor | None = None
    workers: int | None = None
    cache: Path | bool = True
    """Folder of kept answers; True: the user's; False: none."""
    progress: Progress | None = None
    _rows: tuple[Row, ...] | None = field(default=None, repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the cases."""
        if self._rows is None:
            self._rows = tuple(self._answers())
        return self._rows

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """One column."""
        return [row[name] for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.base.name,
            "ask": self.ask,
            "varied": list(self.varied),
            "rows": list(self.rows),
        }

    def _answers(self) -> list[Row]:
        if self.cache is False:
            return self._worked_out(self.cases, 0)
        base = digest(package_digest(), self.ask, plain(self.base))
        names = {case.index: digest(base, case.overrides) for case in self.cases}
        with Cache(None if self.cache is True else self.cache) as cache:
            kept = cache.get(names.values())
            todo = tuple(case for case in self.cases if names[case.index] not in kept)
            new = {row["index"]: row for row in self._worked_out(todo, len(kept))}
            cache.put({names[index]: row for index, row in new.items()})
        rows = []
        for case in self.cases:
            row = new.get(case.index) or kept[names[case.index]]
            rows.append({**row, "index": case.index})
        return rows

    def _worked_out(self, cases: tuple[Case, ...], before: int) -> list[Row]:
        if not cases:
            return []
        few = self.executor is None and self.workers is None and len(cases) == 1
        workers = workers_of(self.executor, 1 if few else self.workers)
        found = []
        for row in run(self.base, self.ask, cases, len(cases), workers):
            found.append(row)
            if self.progress:
                self.progress(before + len(found), len(self.cases))
        return sorted(found, key=lambda row: int(row["index"]))


def what_if(  # noqa: PLR0913
    base: Scenario, vary: Vary, *, ask: Ask | None = None, executor: Executor | None = None,
    workers: int | None = None, cache: Path | bool = True, progress: Progress | None = None,
) -> Table:  # fmt: skip
    """Ask a scenario again with values changed: every combination of ``vary``, one row each.

    Parameters
    ----------
    vary : dotted path -> values; ``path*`` -> factors; ``system``, ``model``, ``routing`` -> names.
        The base itself is not among the rows unless its values are.
    ask : ``simulate``, ``plan`` or ``step``; what the scenario is made for where not given.
    executor, workers : any ``concurrent.futures.Executor``, or a number of local processes.
    cache : a folder, or whether to keep answers between runs at all.
    progress : is told how far it is while the rows are worked out.

    Raises
    ------
    InputError
        Nothing to vary, or nothing to ask.  A case that fails is a row with its reason.
    """
    grid = Grid.of(vary)
    return Table(
        base, tuple(grid), grid.paths, ask or what_to_ask(base), executor, workers, cache, progress
    )


def sweep(  # noqa: PLR0913
    base: Scenario,
    vary: Vary,
    out: Path,
    *,
    ask: Ask | None = None,
    executor: Executor | None = None,
    workers: int | Workers | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> int:
    """Answer every combination of ``vary`` into a file, however many there are.

    Rows go to disk as they come; a sweep that was ended goes on with ``resume`` and gives the
    same file as one that was not.

    Parameters
    ----------
    out : ``.parquet`` or ``.jsonl``, one row a case in the order of the cases.
    executor, workers : any ``concurrent.futures.Executor``, or a number of local processes.

    Returns
    -------
    Cases that were worked out now (the others were answered before).

    Raises
    ------
    InputError
        The file is there; an unfinished sweep is there and ``resume`` is not given, or it asked
        something else; the disk is full.
    """
    grid, question = Grid.of(vary), ask or what_to_ask(base)
    store = Store(out, manifest(base, question, grid), grid, resume=resume)
    todo = (case for case in grid if case.index not in store.done)
    before = len(store.done)
    try:
        for row in run(base, question, todo, len(grid) - before, workers_of(executor, workers)):
            store.add(row)
            if progress:
                progress(len(store.done), len(grid))
    finally:
        store.flush()
    store.finish()
    return len(store.done) - before
