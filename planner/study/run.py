"""Work through cases on any workers: chunks, answers as they come, dead workers replaced."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field
from itertools import islice

from planner.errors import InputError
from planner.specs.scenario import Scenario
from planner.study.grid import Case
from planner.study.row import Ask, Row, answer, empty_row
from planner.study.workers import Given, Workers

LARGEST_CHUNK = 2048
AHEAD = 2
"""Chunks a worker has at once, one of them waiting; no chunk is more of what is left than leaves
every worker as many."""
TRIES = 2
"""Times a case may be alone on a worker that dies before it is given up."""

Chunk = tuple[Case, ...]


def work(base: Scenario, ask: Ask, chunk: Chunk) -> tuple[list[Row], float]:
    """Answer a chunk, on whichever machine: rows, and the seconds it took."""
    start_s = time.perf_counter()
    return [answer(base, ask, case) for case in chunk], time.perf_counter() - start_s


@dataclass
class _Pace:
    """How long a case takes, learnt as answers come."""

    left: int
    """Cases not given to any worker yet."""
    cases: int = 0
    seconds: float = 0.0

    def learn(self, cases: int, seconds: float) -> None:
        self.cases += cases
        self.seconds += seconds

    def chunk(self, workers: Workers) -> int:
        """Cases to give next: as many as take the workers' time of a chunk, fewer at the end."""
        if not self.cases:
            return 1
        each = self.seconds / self.cases
        fair = math.ceil(self.left / (AHEAD * workers.count))
        timely = math.ceil(workers.chunk_s / max(each, 1e-6))
        return max(1, min(LARGEST_CHUNK, fair, timely))


@dataclass
class _Job:
    base: Scenario
    ask: Ask
    workers: Workers
    pace: _Pace
    running: dict["Future[tuple[list[Row], float]]", Chunk] = field(default_factory=dict)
    suspects: deque[tuple[Case, int]] = field(default_factory=deque)
    """Cases that were under way when a worker died, and their deaths alone."""


def run(
    base: Scenario, ask: Ask, cases: Iterable[Case], count: int, workers: Workers
) -> Iterator[Row]:
    """Yield a row a case, of ``count`` cases, in the order they are done.

    When a worker dies, every case under way is asked again, one at a time, so that the one that
    kills its worker is found; it becomes a row with that reason, and nothing else is lost.

    Raises
    ------
    InputError
        A given executor broke, and cannot be replaced.
    """
    job = _Job(base, ask, workers, _Pace(count))
    waiting = iter(cases)
    try:
        while True:
            while not job.suspects and len(job.running) < _in_flight(workers):
                chunk = tuple(islice(waiting, job.pace.chunk(workers)))
                if not chunk:
                    break
                job.pace.left -= len(chunk)
                _submit(job, chunk)
            if job.running:
                yield from _collect(job)
            elif job.suspects:
                yield _alone(job)
            else:
                return
    finally:
        for future in job.running:
            future.cancel()


def _in_flight(workers: Workers) -> int:
    return 1 if workers.count == 1 else AHEAD * workers.count


def _submit(job: _Job, chunk: Chunk) -> None:
    try:
        future = job.workers.executor().submit(work, job.base, job.ask, chunk)
    except BrokenExecutor as error:
        if isinstance(job.workers, Given):
            raise _broken(error) from None
        future = job.workers.executor().submit(work, job.base, job.ask, chunk)
    job.running[future] = chunk


def _collect(job: _Job) -> Iterator[Row]:
    done, _ = wait(job.running, return_when=FIRST_COMPLETED)
    for future in done:
        chunk = job.running.pop(future)
        try:
            rows, seconds = future.result()
        except Exception as error:
            if not _worker_died(error):
                raise
            job.suspects.extend((case, 0) for case in chunk)
            continue
        job.pace.learn(len(rows), seconds)
        yield from rows


def _alone(job: _Job) -> Row:
    """Ask one suspect with nothing else under way."""
    case, deaths = job.suspects.popleft()
    while deaths < TRIES:
        _submit(job, (case,))
        (future,) = job.running
        del job.running[future]
        try:
            return future.result()[0][0]
        except Exception as error:
            if not _worker_died(error):
                raise
            deaths += 1
    reason = f"the worker died {TRIES} times on this case (memory, or a crash of native code)"
    return {**empty_row(case), "error": reason}


def _worker_died(error: Exception) -> bool:
    """Loky and the standard pool break as a whole; Dask kills the task, or cancels it."""
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__name__ in (
        "KilledWorker", "FutureCancelledError",
    )  # fmt: skip


def _broken(error: BrokenExecutor) -> InputError:
    return InputError(
        "executor", "", f"a worker died and the pool given cannot be replaced ({error}); "
        "leave executor out and give workers=N, or run again with resume",
    )  # fmt: skip
