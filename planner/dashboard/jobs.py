"""Heavy work on the page: a button, a clock with a way out, an answer that all share."""

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from planner.dashboard.desk import said
from planner.dashboard.process import Job, Work

MOST_RUNNING = 4
"""Jobs that work at the same time; a fifth is asked to wait."""
MOST_KEPT = 32
GRACE_S = 10.0
"""What nobody has looked at for so long is ended: a browser that lost its line has come back."""
TEND_EVERY_S = 2.0
_BEGINNING = threading.Lock()


@lru_cache(maxsize=1)
def board() -> dict[str, Job]:
    """Every job of this server by its digest, oldest first; work of closed browsers is ended."""
    jobs: dict[str, Job] = {}

    def tend() -> None:
        while True:
            time.sleep(TEND_EVERY_S)
            if runtime.exists():
                end_abandoned(jobs, runtime.get_instance().is_active_session, time.monotonic())

    threading.Thread(target=tend, daemon=True).start()
    return jobs


def end_abandoned(jobs: dict[str, Job], active: Callable[[str], bool], now_s: float) -> None:
    """End work whose browsers were all closed more than :data:`GRACE_S` ago.

    Parameters
    ----------
    active : whether a browser's session is connected.
    now_s : monotonic clock. [s]
    """
    for key, job in list(jobs.items()):
        if job.done() or not job.watchers:
            continue
        if any(active(session) for session in list(job.watchers)):
            job.alone_since_s = None
        elif job.alone_since_s is None:
            job.alone_since_s = now_s
        elif now_s - job.alone_since_s > GRACE_S:
            jobs.pop(key, job).cancel()


def prepare(key: str, work: Work) -> Job:
    """Begin what the first visitor will ask; it belongs to nobody, so nobody leaves it."""
    with _BEGINNING:
        if key not in board():
            board()[key] = Job(work.function, work.args, work.desk)
            board()[key].prepared = True
        return board()[key]


def begin(key: str, work: Work) -> bool:
    """Put a job on the board, unless too many work; an old answer makes room."""
    jobs = board()
    with _BEGINNING:
        if key in jobs:
            return True
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
        # the same button whatever the question: a click while the page is drawn anew counts
        if not wanted and not st.button(label, type="primary", key=f"ask:{label}"):
            return None
        if not begin(key, work):
            return None
    job = jobs.get(key)
    if job is None:
        return None
    if not job.done():
        context = get_script_run_ctx(suppress_warning=True)
        if context is not None and not job.prepared:
            job.watchers.add(context.session_id)
        _wait(key)
        if show is not None and job.told is not None:
            show(job.told)
        return None
    if job.broken:
        st.session_state["jobs:stopped"] = key
        jobs.pop(key, None)
        job.forget()
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
