"""Cost and performance of Mixture-of-Experts inference, predicted before the hardware is bought.

>>> import planner
>>> scenario = planner.load_scenario("deepseek-r1-day")
>>> scenario.model.moe.experts, scenario.hardware[0].system.title
(256, 'HGX H200, 8 GPUs')

Everything is imported when it is first used, so ``import planner`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.api import (
        FootprintReport,
        compare,
        describe_workload,
        evaluate,
        expert_load,
        footprint,
        load_scenario,
        plan,
        simulate,
        steady,
        timeline,
        with_overrides,
    )
    from planner.errors import InfeasibleError, InputError, PlannerError
    from planner.files import load_model, load_system
    from planner.report import PlanReport, Report
    from planner.specs.model import ModelSpec
    from planner.specs.scenario import Scenario

__version__ = "0.1.0"

_WHERE = {
    "planner.api": (
        "FootprintReport", "compare", "describe_workload", "evaluate", "expert_load", "footprint",
        "load_scenario", "plan", "simulate", "steady", "timeline", "with_overrides",
    ),
    "planner.errors": ("InfeasibleError", "InputError", "PlannerError"),
    "planner.files": ("load_model", "load_system"),
    "planner.report": ("PlanReport", "Report"),
    "planner.specs.model": ("ModelSpec",),
    "planner.specs.scenario": ("Scenario",),
}  # fmt: skip
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "FootprintReport",
    "InfeasibleError",
    "InputError",
    "ModelSpec",
    "PlanReport",
    "PlannerError",
    "Report",
    "Scenario",
    "compare",
    "describe_workload",
    "evaluate",
    "expert_load",
    "footprint",
    "load_model",
    "load_scenario",
    "load_system",
    "plan",
    "simulate",
    "steady",
    "timeline",
    "with_overrides",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
