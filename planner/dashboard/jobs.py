"""Heavy work in a process of its own: shared by all who ask the same, cancelled at once."""

import logging
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import streamlit as st

from planner.dashboard.desk import Desk, said
from planner.errors import InputError, PlannerError

log = logging.getLogger(__name__)
MOST_RUNNING = 4
"""Jobs that work at the same time; a fifth is asked to wait."""
MOST_KEPT = 32
GONE = "the work ended without an answer; ask again"


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
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._folder = tempfile.TemporaryDirectory(prefix="moe-planner-job-") if desk else None
        self.folder = Path(self._folder.name) if self._folder else None
        self._process = context.Process(
            target=_work, args=(sender, function, args, self.folder), daemon=True
        )
        self._process.start()
        sender.close()
        self._looking = threading.Lock()
        self._outcome: tuple[Any, PlannerError | None] | None = None
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
            ended, content = True, (None, InputError("", "", GONE))
        if not ended:
            self.told = content
            return
        self._outcome = content
        self._process.join(timeout=1.0)

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
        fault = InputError("", "", "a fault of the program; the server's log has the details")
        send(True, (None, fault))


@st.cache_resource
def board() -> dict[str, Job]:
    """Every job of this server by its digest, oldest first."""
    return {}


def begin(key: str, work: Work) -> bool:
    """Put a job on the board, unless too many work; an old answer makes room."""
    jobs = board()
    if sum(not job.done() for job in list(jobs.values())) >= MOST_RUNNING:
        st.warning("Others are being served; ask again in a moment.")
        return False
    answered = [k for k, job in list(jobs.items()) if job.done()]
    for old in answered[: max(0, len(jobs) - MOST_KEPT + 1)]:
        gone = jobs.pop(old, None)
        if gone is not None:
            gone.forget()
    jobs[key] = Job(work.function, work.args, work.desk)
    return True


def ask(
    key: str, label: str, work: Work, *, at_once: bool = False,
    show: Callable[[Any], None] | None = None,
) -> Any:  # fmt: skip
    """Offer a button, then a clock with a way out, then the answer; None until there is one.

    Parameters
    ----------
    key : digest of the question; who asks the same gets the same job.
    at_once : begin without a button.
    show : draws what the work tells of itself, where that is more than a progress.

    Raises
    ------
    PlannerError
        What the work was refused with.
    """
    jobs = board()
    if key not in jobs:
        stopped = st.session_state.get("jobs:stopped") == key
        wanted = at_once and not stopped
        if not wanted and not st.button(label, type="primary", key=f"ask:{key}"):
            return None
        if not begin(key, work):
            return None
    job = jobs.get(key)
    if job is None:
        return None
    if not job.done():
        _wait(key)
        if show is not None and job.told is not None:
            show(job.told)
        return None
    return job.result()


@st.fragment(run_every=0.4)
def _wait(key: str) -> None:
    job = board().get(key)
    shown = f"jobs:told:{key}"
    if job is None or job.done():
        st.session_state.pop(shown, None)
        st.rerun()
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    share, words = said(job.told, job.elapsed_s)
    with left:
        if share is None:
            st.info(words, icon=":material/hourglass_top:")
        else:
            st.progress(share, text=words)
    if right.button("Cancel", key=f"cancel:{key}", width="stretch"):
        st.session_state["jobs:stopped"] = key
        board().pop(key, job).cancel()
        st.rerun()
    kind = type(job.told).__name__
    if share is None and job.told is not None and st.session_state.get(shown) != kind:
        st.session_state[shown] = kind
        st.rerun()
