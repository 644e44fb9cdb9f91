"""The cheapest of several models that are good enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError, PlannerError
from planner.search.plan import Plan, plan
from planner.specs.model import ModelSpec
from planner.specs.scenario import Scenario


@dataclass(frozen=True)
class ModelAnswer:
    """One model: its plan, or why it has none."""

    model: ModelSpec
    quality: float
    plan: Plan | None
    refusal: str

    @property
    def usd_per_hour(self) -> float | None:
        """Headline cost of its best fleet; None without one, or without a price."""
        best = self.plan.best if self.plan else None
        return best.costs[0].usd_per_hour if best and best.costs else None


@dataclass(frozen=True)
class ModelPlans:
    """Models side by side, the cheapest that is good enough first."""

    scenario: Scenario
    min_quality: float
    answers: tuple[ModelAnswer, ...]

    @property
    def best(self) -> ModelAnswer | None:
        """The cheapest model that is good enough and has a fleet."""
        return next((a for a in self.answers if a.plan and a.plan.best), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.scenario.name,
            "min_quality": self.min_quality,
            "best_model": self.best.model.name if self.best else None,
            "models": [
                {
                    "model": a.model.name, "quality": a.quality, "refusal": a.refusal or None,
                    "usd_per_hour": a.usd_per_hour,
                    "best": a.plan.best.to_dict() if a.plan and a.plan.best else None,
                }
                for a in self.answers
            ],
        }  # fmt: skip


def plan_models(
    scenario: Scenario, models: Mapping[str, tuple[ModelSpec, float]], min_quality: float
) -> ModelPlans:
    """Plan every model that is good enough, with the same traffic; cheapest first.

    Parameters
    ----------
    models : name -> model and its quality, on whatever scale the reader trusts: a score of a
        benchmark of the work to be done.  Answers are taken as equally long.
    min_quality : the floor, on the same scale.

    Raises
    ------
    InputError
        No model reaches the floor; names the nearest.
    """
    good = {name: found for name, found in models.items() if found[1] >= min_quality}
    if not good:
        name, (_, quality) = max(models.items(), key=lambda item: item[1][1])
        raise InputError(
            scenario.name, "--min-quality",
            f"{min_quality:g} is reached by no model; the nearest is {name} with {quality:g}",
        )  # fmt: skip
    answers = [_answer(scenario, *found, min_quality) for _, found in sorted(models.items())]
    return ModelPlans(scenario, min_quality, tuple(sorted(answers, key=_order)))


def _answer(scenario: Scenario, model: ModelSpec, quality: float, floor: float) -> ModelAnswer:
    if quality < floor:
        return ModelAnswer(model, quality, None, f"quality {quality:g} is below {floor:g}")
    routing = scenario.routing if model.name == scenario.model.name else None
    try:
        found = plan(scenario.model_copy(update={"model": model, "routing": routing}))
    except PlannerError as error:
        return ModelAnswer(model, quality, None, str(error))
    last = found.rejections[-1] if found.rejections else None
    refusal = "" if found.best or not last else f"{last.label}: {last.limit}; {last.advice}"
    return ModelAnswer(model, quality, found, refusal)


def _order(answer: ModelAnswer) -> tuple[bool, float]:
    best = answer.plan.best if answer.plan else None
    if best is None:
        return True, -answer.quality
    return False, best.costs[0].usd_per_hour if best.costs else float(best.devices) * 1e6
