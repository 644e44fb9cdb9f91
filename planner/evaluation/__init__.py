"""From a scenario to a result: the functions that join everything."""

from planner.evaluation.assumptions import Assumption, assumptions, sources
from planner.evaluation.evaluate import (
    Served,
    evaluate,
    need_workload,
    result,
    result_of,
    serve,
    serve_apart,
)
from planner.evaluation.expert_setting import (
    Question,
    Setting,
    experts_in,
    experts_of,
    recorded_experts,
)
from planner.evaluation.experts import ExpertReport, expert_report
from planner.evaluation.intervals import Intervals, with_intervals
from planner.evaluation.pools import FleetPool, PoolUse
from planner.evaluation.replica import Replica, build
from planner.evaluation.replications import Interval, Replications
from planner.evaluation.result import Day, Energy, Result
from planner.evaluation.steady import Capacity, SteadyResult, steady
from planner.evaluation.timeline import TimelineResult, timeline

__all__ = [
    "Assumption",
    "Capacity",
    "Day",
    "Energy",
    "ExpertReport",
    "FleetPool",
    "Interval",
    "Intervals",
    "PoolUse",
    "Question",
    "Replica",
    "Replications",
    "Result",
    "Served",
    "Setting",
    "SteadyResult",
    "TimelineResult",
    "assumptions",
    "build",
    "evaluate",
    "expert_report",
    "experts_in",
    "experts_of",
    "need_workload",
    "recorded_experts",
    "result",
    "result_of",
    "serve",
    "serve_apart",
    "sources",
    "steady",
    "timeline",
    "with_intervals",
]
