"""Offers that are asked for: who rents, and where."""

from collections.abc import Callable

from planner.errors import InputError
from planner.specs.prices import Price
from planner.specs.scenario import Scenario


def offered(scenario: Scenario) -> Scenario:
    """Take away the offers of providers and regions that are not asked for.

    An offer that names no region may be in any: it stays.

    Raises
    ------
    InputError
        Nobody asked for offers any of the systems, or nobody where it is asked for; names those
        that do.  Devices owned of a system that is not asked for.
    """
    asked = {hardware.system.name for hardware in scenario.hardware}
    if strange := sorted(set(scenario.space.owned) - asked):
        raise InputError(
            scenario.name, "space.owned",
            f"{', '.join(strange)}: none of the systems asked for ({', '.join(sorted(asked))}); "
            "add it to systems, or leave it out",
        )  # fmt: skip
    providers = {name.lower() for name in scenario.space.providers}
    regions = {name.lower() for name in scenario.space.regions}
    if providers:
        scenario = _kept(scenario, "providers", lambda p: p.provider.lower() in providers)
    if regions:
        scenario = _kept(scenario, "regions", lambda p: (p.region or "").lower() in {"", *regions})
    return scenario


def _kept(scenario: Scenario, wish: str, wanted: Callable[[Price], bool]) -> Scenario:
    known = [p for h in scenario.hardware for p in h.prices]
    hardware = tuple(
        h.model_copy(update={"prices": tuple(filter(wanted, h.prices))}) for h in scenario.hardware
    )
    if not any(h.prices for h in hardware):
        named = {p.provider if wish == "providers" else f"{p.provider} ({p.region})" for p in known}
        asked = ", ".join(getattr(scenario.space, wish))
        raise InputError(
            scenario.name,
            f"space.{wish}",
            f"{asked}: no offer of any system asked for; these have one: "
            f"{', '.join(sorted(named)) or 'nobody'}",
        )
    return scenario.model_copy(update={"hardware": hardware})
