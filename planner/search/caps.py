"""Caps on money and power that a plan must keep."""

import math
from collections.abc import Callable, Iterator

from planner.errors import InputError
from planner.evaluation import Replica, Result
from planner.search.rejection import Rejection
from planner.specs.scenario import Scenario

Caps = list[tuple[str, float, str, Callable[[Replica, float], float]]]
"""Field, cap, unit, and what a number of devices of a replica's kind comes to."""


def usd_per_hour(replica: Replica, devices: float) -> float:
    """Headline price of devices; infinite without one. [USD/h]"""
    prices = replica.hardware.prices
    return devices * float(prices[0].usd_per_device_hour) if prices else math.inf


def rated_w(replica: Replica, devices: float) -> float:
    """Server power of devices as rated; infinite where none is stated. [W]"""
    hardware = replica.hardware
    watts = hardware.system.server_power_w_per_device or hardware.accelerator.max_power_w
    return devices * float(watts) if watts else math.inf


def caps(scenario: Scenario) -> Caps:
    """The caps that are set."""
    space = scenario.space
    found: Caps = []
    if space.max_usd_per_hour is not None:
        found.append(("space.max_usd_per_hour", space.max_usd_per_hour, "usd", usd_per_hour))
    if space.max_rated_w is not None:
        found.append(("space.max_rated_w", space.max_rated_w, "w", rated_w))
    return found


def contradiction(scenario: Scenario, least: list[tuple[Replica, str, float]]) -> InputError | None:
    """The two wishes that cannot both come true, where the closed form already shows it.

    Parameters
    ----------
    least : replica, its label, and the fewest devices of its kind that any run could do with.
    """
    for field, cap, unit, total in caps(scenario):
        replica, label, devices = min(least, key=lambda each: total(each[0], each[2]))
        need = total(replica, devices)
        if need > cap:
            promises = ", ".join(f"slo.{n} {v:g}" for n, v in scenario.slo if v is not None)
            return InputError(
                scenario.name, field,
                f"{cap:g} and {promises} cannot both be kept: the nearest needs at least "
                f"{need:,.6g} {unit} ({replica.hardware.system.name}, {label}, {devices:g} "
                "devices); raise the cap or loosen the promises",
            )  # fmt: skip
    return None


def above(scenario: Scenario, result: Result, label: str) -> Iterator[Rejection]:
    """Why a fleet that keeps its promises is refused all the same."""
    for field, cap, unit, total in caps(scenario):
        need = total(result.replica, result.devices)
        if need > cap:
            yield Rejection(
                label, "simulation", field, need, cap, unit,
                "keeps every promise, above the cap", result.replica.hardware.system.name,
            )  # fmt: skip
