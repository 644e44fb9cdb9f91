"""Candidates -> closed-form screen -> simulation of the best -> plan, with reasons."""

from planner.search.plan import Plan, Rejection, plan

__all__ = ["Plan", "Rejection", "plan"]
