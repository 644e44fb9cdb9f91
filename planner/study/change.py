"""One scenario out of another: values replaced, multiplied, or whole things named anew."""

from collections.abc import Mapping
from typing import Any

from planner import files
from planner.errors import InputError
from planner.specs.prices import Price
from planner.specs.scenario import Hardware, Scenario

Overrides = Mapping[str, Any]
"""Dotted path -> value; a path that ends in ``*`` -> factor; ``system``, ``model``,
``baseline_model``, ``routing`` -> name of another one."""

NAMED = ("model", "baseline_model", "system", "routing")


def changed(base: Scenario, overrides: Overrides) -> Scenario:
    """Return ``base`` with ``overrides`` applied, validated as a whole.

    A factor multiplies a number, or every number of a list (a day's rates, a length's bins).

    Raises
    ------
    InputError
        An unknown path or name, a factor for something that is no number, a bad value.
    """
    scenario = base
    for path, value in overrides.items():
        if path in NAMED and isinstance(value, str):
            scenario = _renamed(scenario, path, value)
    plain = {
        path: value
        for path, value in overrides.items()
        if not (path in NAMED and isinstance(value, str)) and not path.endswith("*")
    }
    if plain:
        scenario = files.apply_overrides(scenario, plain)
    factors = {path: value for path, value in overrides.items() if path.endswith("*")}
    if factors:
        scenario = files.apply_overrides(scenario, _products(scenario, factors))
    return scenario


def _renamed(scenario: Scenario, field: str, name: str) -> Scenario:
    try:
        match field:
            case "system":
                hardware = _priced_alike(files.load_hardware(name), scenario.hardware[0])
                update: dict[str, Any] = {"hardware": (hardware,)}
            case "routing":
                from planner.files.histograms import load_routing_profile

                update = {"routing": load_routing_profile(name).routing}
            case _:
                update = {field: files.load_model(name)}
    except InputError as error:
        raise InputError(error.where or "--vary", field, error.problem) from None
    return scenario.model_copy(update=update)


def _priced_alike(hardware: Hardware, old: Hardware) -> Hardware:
    """Put prices of the old headline's provider and term first, where there are any."""
    if not old.prices:
        return hardware
    wish = old.prices[0]

    def rank(item: Price) -> int:
        return 2 * (item.provider != wish.provider) + (item.term != wish.term)

    return hardware.model_copy(update={"prices": tuple(sorted(hardware.prices, key=rank))})


def _products(scenario: Scenario, factors: Overrides) -> dict[str, Any]:
    data = scenario.model_dump(mode="json")
    return {
        path[:-1].strip(): _times(value_at(data, path[:-1].strip()), factor, path)
        for path, factor in factors.items()
    }


def value_at(data: Any, path: str) -> Any:
    """What a dumped scenario has at a dotted path; InputError where there is nothing."""
    steps = path.split(".")
    if steps[0] in ("system", "accelerator", "calibration"):
        steps = ["hardware", "0", *steps]
    here = data
    for step in steps:
        try:
            here = here[int(step)] if isinstance(here, list) else here[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise InputError("--vary", path, f"there is no {step!r} to multiply") from None
    return here


def _times(value: Any, factor: Any, path: str) -> Any:
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise InputError("--vary", path, f"a factor must be a number, got {factor!r}")
    if isinstance(value, Mapping) and "value" in value:
        return float(value["value"]) * factor
    if isinstance(value, list) and value:
        return [_times(each, factor, path) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("--vary", path, f"is {value!r}, which cannot be multiplied")
    product = float(value) * float(factor)
    return max(1, round(product)) if isinstance(value, int) else product
