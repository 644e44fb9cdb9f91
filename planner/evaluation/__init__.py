"""From a scenario to a result: the functions that join everything."""

from planner.evaluation.assumptions import Assumption, assumptions, sources
from planner.evaluation.evaluate import Served, evaluate, need_workload, result, serve
from planner.evaluation.replica import Replica, build
from planner.evaluation.result import Day, Energy, Result
from planner.evaluation.steady import Capacity, SteadyResult, steady
from planner.evaluation.timeline import TimelineResult, timeline

__all__ = [
    "Assumption",
    "Capacity",
    "Day",
    "Energy",
    "Replica",
    "Result",
    "Served",
    "SteadyResult",
    "TimelineResult",
    "assumptions",
    "build",
    "evaluate",
    "need_workload",
    "result",
    "serve",
    "sources",
    "steady",
    "timeline",
]
