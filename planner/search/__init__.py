"""Candidates -> closed-form screen -> simulation of the best -> plan, with reasons."""

from planner.search.claims import Verdict, claims
from planner.search.compare import Comparison, Row, compare
from planner.search.frontier import Point
from planner.search.intervals import plan_intervals
from planner.search.plan import Plan, plan
from planner.search.rejection import Change, Rejection

__all__ = [
    "Change",
    "Comparison",
    "Plan",
    "Point",
    "Rejection",
    "Row",
    "Verdict",
    "claims",
    "compare",
    "plan",
    "plan_intervals",
]
