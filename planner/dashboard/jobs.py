"""Heavy work in a process of its own: shared by all who ask the same, cancelled at once."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import streamlit as st

from planner.errors import InputError, PlannerError

log = logging.getLogger(__name__)
MOST_RUNNING = 4
"""Jobs that work at the same time; a fifth is asked to wait."""
MOST_KEPT = 32


class Job:
    """One question being answered elsewhere."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(sender, function, args), daemon=True)
        self._process.start()
        sender.close()
        self._outcome: tuple[Any, PlannerError | None] | None = None
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Time since it was asked. [s]"""
        return time.monotonic() - self._started_s

    def done(self) -> bool:
        """Whether there is an answer or a refusal."""
        if self._outcome is None and self._receiver.poll():
            try:
                self._outcome = self._receiver.recv()
            except EOFError:
                gone = InputError("", "", "the work ended without an answer; ask again")
                self._outcome = (None, gone)
            self._process.join(timeout=1.0)
        return self._outcome is not None

    def result(self) -> Any:
        """The answer of a job that is done; raises what it was refused with."""
        if self._outcome is None:
            raise InputError("", "", "the work is not done")
        value, refusal = self._outcome
        if refusal is not None:
            raise refusal
        return value

    def cancel(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.join(timeout=1.0)


def _work(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        sender.send((function(*args), None))
    except PlannerError as error:
        sender.send((None, error))
    except Exception:
        log.exception("job %s", function.__name__)
        fault = InputError("", "", "a fault of the program; the server's log has the details")
        sender.send((None, fault))


@st.cache_resource
def board() -> dict[str, Job]:
    """Every job of this server by its digest, oldest first."""
    return {}


def ask(key: str, label: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Offer a button, then a clock with a way out, then the answer; None until there is one.

    Parameters
    ----------
    key : digest of the question; who asks the same gets the same job.

    Raises
    ------
    PlannerError
        What the work was refused with.
    """
    jobs = board()
    if key not in jobs:
        if not st.button(label, type="primary", key=f"ask:{key}"):
            return None
        if sum(not job.done() for job in jobs.values()) >= MOST_RUNNING:
            st.warning("Others are being served; ask again in a moment.")
            return None
        for old in [k for k, job in jobs.items() if job.done()][: len(jobs) - MOST_KEPT + 1]:
            jobs.pop(old, None)
        jobs[key] = Job(function, args)
    if not jobs[key].done():
        _wait(key)
        return None
    return jobs[key].result()


@st.fragment(run_every=0.4)
def _wait(key: str) -> None:
    job = board().get(key)
    if job is None or job.done():
        st.rerun()
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.info(f"Working, {job.elapsed_s:.0f} s so far.", icon=":material/hourglass_top:")
    if right.button("Cancel", key=f"cancel:{key}", width="stretch"):
        board().pop(key, job).cancel()
        st.rerun()
