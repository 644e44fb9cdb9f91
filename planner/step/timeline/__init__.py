"""One forward step over ranks and streams, simulated: every rank with its own load."""

from planner.step.timeline.loads import (
    Load,
    RankWork,
    StepWork,
    decode_load,
    drawn,
    even,
    hottest,
    prefill_load,
    step_work,
)
from planner.step.timeline.simulate import Bar, Stream, Timeline, simulate_step

__all__ = [
    "Bar",
    "Load",
    "RankWork",
    "StepWork",
    "Stream",
    "Timeline",
    "decode_load",
    "drawn",
    "even",
    "hottest",
    "prefill_load",
    "simulate_step",
    "step_work",
]
