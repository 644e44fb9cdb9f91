"""What heavy work has beside its question: a way to say how far it is, a folder for its files."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.evaluation.intervals import MOST_RUNS
from planner.report.words import plural, seconds
from planner.serving import Progress
from planner.serving.progress import Ask

EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a run is."""

    progress: Progress
    run: int
    """Replication in progress, from 0."""
    runs: int
    """Replications in all; runs beyond them are for the 90 % intervals."""
    requests_per_s: float
    """Requests done in the last stretch, a second of wall time."""

    @property
    def share(self) -> float:
        """Of all replications, or of one run for the intervals, 0 to 1."""
        if self.run >= self.runs:
            return self.progress.share
        return min(1.0, (self.run + self.progress.share) / self.runs)


@dataclass(frozen=True)
class Desk:
    """Handed to a function that works in a process of its own."""

    folder: Path
    tell: Callable[[Any], None]

    def watching(self, runs: int) -> Callable[[Ask], None]:
        """What ``simulate(watch=...)`` takes: a thread tells the progress, the loop pays nothing.

        Parameters
        ----------
        runs : replications that will be run one after the other, before those for intervals.
        """
        state = {"run": -1}

        def watch(ask: Ask) -> None:
            state["run"] = run = state["run"] + 1

            def follow() -> None:
                before, at_s = 0, time.monotonic()
                while state["run"] == run:
                    time.sleep(EVERY_S)
                    now, now_s = ask(), time.monotonic()
                    if state["run"] != run:
                        return
                    rate = (now.done - before) / (now_s - at_s)
                    before, at_s = now.done, now_s
                    self.tell(Stage(now, run, runs, rate))
                    if now.share >= 1.0:
                        return

            threading.Thread(target=follow, daemon=True).start()

        return watch


def said(told: Any, elapsed_s: float) -> tuple[float | None, str]:
    """Share that is done, if it is known, and the words for it.

    >>> said(None, 3.2)
    (None, 'Working, 3 s so far.')
    >>> said(Stage(Progress(250, 260, 1000, 0.25, 9.0), 0, 1, 500.0), 2.0)
    (0.25, '250 of 1,000 requests done, 500 a second, about 1.5 s left')
    >>> said(Stage(Progress(250, 260, 1000, 0.25, 9.0), 1, 1, 500.0), 2.0)[1]
    '90 % intervals, run 1 of at most 3: 250 of 1,000 requests done, 500 a second, about 1.5 s left'
    """
    if not isinstance(told, Stage):
        return None, f"Working, {elapsed_s:.0f} s so far."
    now = told.progress
    if now.total is None:
        words = f"{plural(now.done, 'request')} done"
    else:
        words = f"{now.done:,} of {plural(now.total, 'request')} done"
    for_intervals = told.run >= told.runs
    if for_intervals:
        words = f"90 % intervals, run {told.run - told.runs + 1} of at most {MOST_RUNS}: {words}"
    elif told.runs > 1:
        words = f"run {told.run + 1} of {told.runs}: {words}"
    if now.share >= 1.0 and told.run + 1 == told.runs:
        return 1.0, f"{words}; then again for the 90 % intervals"
    words += f", {told.requests_per_s:,.0f} a second"
    if now.total is not None and told.requests_per_s > 0:
        runs_left = 1 if for_intervals else told.runs - told.run
        left_s = (now.total * runs_left - now.done) / told.requests_per_s
        words += f", about {seconds(left_s)} left"
    return told.share, words
