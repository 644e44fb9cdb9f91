"""Time of one forward step: stages, overlap policies, speculation."""

from planner.step.draft import Draft
from planner.step.graphs import CapturedGraphs
from planner.step.layout import ideal
from planner.step.model import StepModel
from planner.step.parts import Duration, Part, Step

__all__ = ["CapturedGraphs", "Draft", "Duration", "Part", "Step", "StepModel", "ideal"]
