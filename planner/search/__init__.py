"""Candidates -> closed-form screen -> simulation of the best -> plan, with reasons."""

from planner.search.claims import Verdict, claims
from planner.search.compare import Comparison, Row, compare
from planner.search.effort import SCREEN_ALONE, Effort
from planner.search.evidence import Evidence, evidence
from planner.search.frontier import Point
from planner.search.intervals import plan_intervals
from planner.search.models import ModelAnswer, ModelPlans, plan_models
from planner.search.moves import Move, moves
from planner.search.plan import Plan, plan
from planner.search.rejection import Change, Rejection
from planner.search.rests import Rests
from planner.search.settle import Kept

__all__ = [
    "SCREEN_ALONE",
    "Change",
    "Comparison",
    "Effort",
    "Evidence",
    "Kept",
    "ModelAnswer",
    "ModelPlans",
    "Move",
    "Plan",
    "Point",
    "Rejection",
    "Rests",
    "Row",
    "Verdict",
    "claims",
    "compare",
    "evidence",
    "moves",
    "plan",
    "plan_intervals",
    "plan_models",
]
