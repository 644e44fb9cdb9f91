"""Candidates -> closed-form screen -> simulation of the best -> plan, with reasons."""

from planner.search.claims import Verdict, claims
from planner.search.compare import Comparison, Row, compare
from planner.search.plan import Plan, Rejection, plan

__all__ = ["Comparison", "Plan", "Rejection", "Row", "Verdict", "claims", "compare", "plan"]
