"""Controls of the plan and simulation pages as changes of a scenario; work beside the pages."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest
from scipy.stats import t as student_t

import planner
from planner.dashboard import run_knobs, wishes
from planner.dashboard.process import FAULT, GONE, Job
from planner.evaluation.risk import miss_risk

NAMES = ("r1-chat-ep16", "r1-distill-7b-rtx5090", "deepseek-r1-day-fleet", "prefix-caching")


@pytest.mark.parametrize("name", NAMES)
def test_controls_left_alone_change_nothing(name):
    scenario = planner.load_scenario(name)
    assert run_knobs.overrides(scenario, run_knobs.defaults(scenario)) == {}
    assert wishes.overrides(scenario, wishes.wished(scenario)) == {}
    assert wishes.link(scenario, wishes.wished(scenario)) == {}


@pytest.mark.parametrize("name", [*NAMES, "deepseek-production-day"])
def test_every_control_reaches_its_field(name):
    scenario = planner.load_scenario(name)
    own = run_knobs.defaults(scenario)
    wanted = dataclasses.replace(
        own, load=2.0, requests=1000, replicas=own.replicas + 1, seed=own.seed + 1
    )
    if own.prefill_replicas:
        wanted = dataclasses.replace(wanted, prefill_replicas=own.prefill_replicas + 2)
    changed = planner.load_scenario(name, run_knobs.overrides(scenario, wanted))
    assert changed.run.requests == 1000
    assert changed.run.warmup_requests == 100
    assert changed.run.seed == own.seed + 1
    assert changed.decoding.replicas == own.replicas + 1
    assert run_knobs.defaults(changed).prefill_replicas == wanted.prefill_replicas
    field = run_knobs.rate_field(scenario.workload)
    if field is not None:
        assert run_knobs.rate_field(changed.workload)[1] == pytest.approx(2 * field[1])


def test_a_whole_day_is_every_window_of_it():
    scenario = planner.load_scenario("deepseek-r1-day-fleet")
    wanted = dataclasses.replace(run_knobs.defaults(scenario), part=run_knobs.DAY)
    changed = planner.load_scenario(scenario.name, run_knobs.overrides(scenario, wanted))
    report = planner.describe_workload(
        scenario.name, {"run.window": changed.run.window, "run.warmup_s": changed.run.warmup_s}
    )
    assert report.summary.requests == pytest.approx(1.38e6, rel=0.01)


def test_a_wish_on_another_percentile_takes_the_place_of_the_old_one():
    scenario = planner.load_scenario("r1-chat")
    own = wishes.wished(scenario)
    wanted = dataclasses.replace(own, tpot=("p99", 0.08), ttft=None, max_usd_per_hour=90.0)
    changed = planner.load_scenario("r1-chat", wishes.overrides(scenario, wanted))
    assert changed.slo.tpot_p99_s == 0.08
    assert changed.slo.tpot_p95_s is None
    assert changed.slo.ttft_p95_s is None
    assert changed.space.max_usd_per_hour == 90.0
    link = wishes.link(scenario, wanted)
    assert link == {"tpot": "p99:0.08", "ttft": "none", "max_usd_per_hour": "90"}
    assert wishes.promise(link["tpot"], "tpot") == wanted.tpot


@pytest.mark.parametrize("text", ["p95", "p42:1", "p95:0", "p95:nan", "p95:-1", "<b>:1", ""])
def test_no_promise_is_read_from_anything_else(text):
    with pytest.raises(ValueError):  # noqa: PT011
        wishes.promise(text, "ttft")


def test_the_risk_is_students_t_beyond_the_limit():
    scenario = planner.load_scenario("r1-chat-ep16", {"run.duration_s": 60, "run.warmup_s": 10})
    p = planner.simulate(scenario).metrics.ttft_s
    error = p.half_width.p95 / student_t.ppf(0.975, 19)
    for distance in (-1.0, 0.0, 2.5):
        limit = {"slo": {"ttft_p95_s": p.p95 + distance * error}}
        metrics = planner.simulate(planner.with_overrides(scenario, limit)).metrics
        assert miss_risk(metrics) == pytest.approx(student_t.sf(distance, 19), abs=2e-4)


def test_work_that_breaks_says_so_and_may_be_asked_again():
    for function, args, said in ((os._exit, (3,), GONE), (divmod, (1, 0), FAULT)):
        job = Job(function, args)
        for _ in range(300):
            if job.done():
                break
            time.sleep(0.05)
        assert job.broken
        with pytest.raises(planner.InputError, match=said[:20]):
            job.result()


def test_a_cancelled_job_leaves_no_file():
    job = Job(_waits, (), desk=True)
    for _ in range(300):
        if not job.done() and job.told == "begun":
            break
        time.sleep(0.05)
    folder = job.folder
    assert (folder / "left").read_text() == "something"
    job.cancel()
    assert not folder.exists()


def _waits(desk):
    (desk.folder / "left").write_text("something")
    desk.tell("begun")
    time.sleep(600)


def test_processes_begin_without_streamlit():
    words = "import sys, planner.dashboard.work, planner.dashboard.process\n"
    words += "print('streamlit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_server_opens_once_its_first_answer_is_there():
    code = (
        "from planner.dashboard import ready\n"
        "import streamlit.web.cli as cli\n"
        "def opened():\n"
        "    from planner.dashboard.jobs import board\n"
        "    (job,) = board().values()\n"
        "    print(type(job.told).__name__)\n"
        "    job.cancel()\n"
        "cli.main = opened\n"
        "ready.PATIENCE_S = 120.0\n"
        "ready.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    assert done.stdout.split() == ["Planned"]
