"""A process for each piece of heavy work: warm from the start, told of, cancelled at once.

Nothing here imports Streamlit: a process begins in milliseconds, from a server that has imported
everything it will need.
"""

import logging
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import spawn
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from planner.dashboard.desk import Desk
from planner.errors import InputError, PlannerError

log = logging.getLogger(__name__)
GONE = "the work ended without an answer; ask again"
FAULT = "a fault of the program; the server's log has the details"
TOLD_EVERY_S = 0.05
NEEDED = ("planner.dashboard.work", "planner.report.figures", "plotly.graph_objects")


@lru_cache(maxsize=1)
def _context() -> Any:
    """Processes that fork from a clean server with everything imported, where there are such."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(NEEDED))
    return context


def warm_up() -> None:
    """Start the server that processes fork from, so that the first question need not wait."""
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


_STARTING = threading.Lock()


def _start(process: Any) -> None:
    """Start a process that does not run the page again as its own main module.

    Streamlit puts the page in the place of ``__main__``, which a new process would import.
    """
    with _STARTING:
        whole = spawn.get_preparation_data
        spawn.get_preparation_data = lambda name: {
            key: value for key, value in whole(name).items() if not key.startswith("init_main")
        }
        try:
            process.start()
        finally:
            spawn.get_preparation_data = whole


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done elsewhere."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    desk: bool = False
    """The function takes a :class:`Desk` first, to tell how far it is and to leave files."""


class Job:
    """One question being answered elsewhere; pages of several people may look at it at once."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], desk: bool = False
    ) -> None:
        context = _context()
        self._receiver, sender = context.Pipe(duplex=False)
        self._folder = tempfile.TemporaryDirectory(prefix="moe-planner-job-") if desk else None
        self.folder = Path(self._folder.name) if self._folder else None
        self._process = context.Process(
            target=_work, args=(sender, function, args, self.folder), daemon=True
        )
        _start(self._process)
        sender.close()
        self._looking = threading.Lock()
        self._outcome: tuple[Any, PlannerError | None] | None = None
        self.broken = False
        """Whether it ended by a fault, so that asking again may help."""
        self.prepared = False
        """Whether the server asked it by itself."""
        self.watchers: set[str] = set()
        """Sessions of the browsers that asked."""
        self.alone_since_s: float | None = None
        """When the last of them was found closed. [s, monotonic]"""
        self.told: Any = None
        """What the work last told of itself; None before it did."""
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Time since it was asked. [s]"""
        return time.monotonic() - self._started_s

    def done(self) -> bool:
        """Whether there is an answer or a refusal."""
        with self._looking:
            while self._outcome is None and self._receiver.poll():
                self._hear()
            return self._outcome is not None

    def _hear(self) -> None:
        """Take one message: how far the work is, or how it ended."""
        try:
            ended, content = self._receiver.recv()
        except (EOFError, OSError):
            ended, content = True, (None, GONE)
        if not ended:
            self.told = content
            return
        value, refusal = content
        self.broken = isinstance(refusal, str)
        self._outcome = (value, InputError("", "", refusal) if self.broken else refusal)
        self._process.join(timeout=1.0)

    def wait_told(self, patience_s: float) -> None:
        """Wait until the work tells something of itself or ends, at most so long. [s]"""
        until_s = time.monotonic() + patience_s
        while not self.done() and self.told is None and time.monotonic() < until_s:
            time.sleep(TOLD_EVERY_S)

    def result(self) -> Any:
        """The answer of a job that is done; raises what it was refused with."""
        if self._outcome is None:
            raise InputError("", "", "the work is not done")
        value, refusal = self._outcome
        if refusal is not None:
            raise refusal
        return value

    def cancel(self) -> None:
        """End the process now, and remove what it wrote."""
        self._process.kill()
        self._process.join(timeout=1.0)
        self.forget()

    def forget(self) -> None:
        """Remove the files the work left."""
        if self._folder is not None:
            self._folder.cleanup()


def _work(
    sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], folder: Path | None
) -> None:
    sending = threading.Lock()

    def send(ended: bool, content: Any) -> None:
        with sending:
            sender.send((ended, content))

    desk = (Desk(folder, lambda told: send(False, told)),) if folder else ()
    try:
        send(True, (function(*desk, *args), None))
    except PlannerError as error:
        send(True, (None, error))
    except Exception:
        log.exception("job %s", function.__name__)
        send(True, (None, FAULT))
