"""What processes do: the dashboard's heavy questions.  Nothing here imports Streamlit."""

from planner import api, search
from planner.calibrate.check import Record, check_rows
from planner.dashboard.desk import Desk
from planner.dashboard.uploads import stored
from planner.errors import InputError
from planner.files.benchmarks import Tool, read_benchmarks
from planner.files.overheads import load_overheads
from planner.files.runs import read_runs
from planner.report.accounted import Accounted, accounted
from planner.report.benchmarks_checked import BenchmarksChecked, benchmarks_checked
from planner.report.html import page
from planner.report.planned import Planned, planned, screened
from planner.report.request_log import best_formats, write_requests
from planner.report.runs_checked import RunsChecked, runs_checked
from planner.report.simulated import Simulated, simulated
from planner.specs.scenario import Scenario
from planner.study import break_even
from planner.validation.own import beside
from planner.validation.predict import predict_runs
from planner.validation.published import Verdict, check_published

LARGEST_ROWS_BYTES = 32 * 2**20
MOST_RUNS = 500
MOST_BENCHMARKS = 50


def simulate(desk: Desk, question: Scenario, replications: int) -> Simulated:
    """Simulate; leave every request and the report as files on the desk."""
    report = api.simulate(question, replications=replications, watch=desk.watching(replications))
    for name in best_formats(len(report.records.arrival_s)):
        write_requests(report.records, desk.folder / name)
    (desk.folder / "report.html").write_text(page(report), "utf-8")
    return simulated(report)


def plan(desk: Desk, question: Scenario) -> Planned:
    """Screen, tell what the closed form says, simulate the best."""
    desk.tell(screened(search.plan(question, effort=search.SCREEN_ALONE)))
    report = api.plan(question)
    (desk.folder / "report.html").write_text(page(report), "utf-8")
    return planned(report)


def pay(question: Scenario, region: str, utilisation: float) -> Accounted:
    """Simulate the fleet and draw up its bill."""
    return accounted(break_even(question, region=region, utilisation=utilisation))


def published() -> list[Verdict]:
    """Predict every published figure anew."""
    return check_published(())


def fit_rows(content: bytes) -> list[Record]:
    """Fit uploaded rows and hold the fit to those it did not see.

    Raises
    ------
    InputError
        The file is too large, not sound, or holds too little.
    """
    with stored(content, ".jsonl", LARGEST_ROWS_BYTES, "your rows") as path:
        return check_rows(path)


def check_runs(content: bytes) -> RunsChecked:
    """Predict uploaded benchmark runs and set both side by side.

    Raises
    ------
    InputError
        The file is too large, holds no run, or too many.
    """
    with stored(content, ".jsonl", LARGEST_ROWS_BYTES, "your runs") as path:
        runs, refused = read_runs(path)
    if not runs:
        bad = refused[0]
        raise InputError(f"your runs:{bad.line}", bad.id, bad.problem)
    if len(runs) > MOST_RUNS:
        raise InputError("your runs", "", f"{len(runs):,} runs; at most {MOST_RUNS} here")
    return runs_checked(runs, predict_runs(runs, load_overheads(), workers=1), refused)


def check_benchmarks(content: bytes, tool: Tool, question: Scenario) -> BenchmarksChecked:
    """Predict the load of uploaded benchmark results on a deployment and set both side by side.

    Raises
    ------
    InputError
        The file is too large, not what the tool writes, or holds too many runs.
    """
    with stored(content, ".json", LARGEST_ROWS_BYTES, "your results") as path:
        runs = read_benchmarks(path, tool)
    if len(runs) > MOST_BENCHMARKS:
        raise InputError("your results", "", f"{len(runs):,} runs; at most {MOST_BENCHMARKS} here")
    return benchmarks_checked([beside(run, question) for run in runs])
