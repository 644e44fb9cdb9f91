"""Work of closed browsers is ended, nobody else's is."""

import time

import pytest

pytest.importorskip("streamlit")

from planner.dashboard.jobs import GRACE_S, end_abandoned
from planner.dashboard.process import Job


@pytest.fixture
def slow():
    job = Job(time.sleep, (600,))
    yield job
    job.cancel()


def test_work_ends_once_every_browser_that_asked_is_closed_for_a_while(slow):
    jobs, open_ones = {"q": slow}, {"b"}
    slow.watchers = {"a", "b"}
    end_abandoned(jobs, open_ones.__contains__, 0.0)
    end_abandoned(jobs, open_ones.__contains__, 2 * GRACE_S)
    assert "q" in jobs
    open_ones.clear()
    end_abandoned(jobs, open_ones.__contains__, 3 * GRACE_S)
    assert "q" in jobs, "it may be a line that was lost for a moment"
    end_abandoned(jobs, open_ones.__contains__, 5 * GRACE_S)
    assert jobs == {}
    assert not slow._process.is_alive()


def test_a_browser_that_comes_back_in_time_keeps_its_work(slow):
    jobs = {"q": slow}
    slow.watchers = {"a"}
    end_abandoned(jobs, lambda _: False, 0.0)
    end_abandoned(jobs, lambda _: True, 0.9 * GRACE_S)
    end_abandoned(jobs, lambda _: False, 1.5 * GRACE_S)
    assert "q" in jobs


def test_what_the_server_asked_by_itself_is_nobodys_to_leave(slow):
    jobs = {"q": slow}
    end_abandoned(jobs, lambda _: False, 0.0)
    end_abandoned(jobs, lambda _: False, 9 * GRACE_S)
    assert "q" in jobs
