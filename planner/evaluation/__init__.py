"""From a scenario to a result: the functions that join everything."""

from planner.evaluation.assumptions import Assumption
from planner.evaluation.evaluate import evaluate, need_workload, run, serve
from planner.evaluation.replica import Replica, build
from planner.evaluation.result import Day, Energy, Result

__all__ = [
    "Assumption",
    "Day",
    "Energy",
    "Replica",
    "Result",
    "build",
    "evaluate",
    "need_workload",
    "run",
    "serve",
]
