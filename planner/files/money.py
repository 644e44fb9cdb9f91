"""Regions, terms of ownership, published days: what the money questions read."""

from functools import lru_cache
from pathlib import Path

from planner.errors import InputError
from planner.files.profiles import profile_root
from planner.files.yaml_io import load_spec, suggestion
from planner.specs.money import MoneyFile, Ownership, Region, ServiceDay


@lru_cache(maxsize=1)
def _shipped() -> tuple[MoneyFile, ...]:
    paths = sorted((profile_root() / "money").glob("*.yaml"))
    return tuple(load_spec(path, MoneyFile) for path in paths)


def regions() -> dict[str, Region]:
    """Every shipped region by name."""
    return {region.name: region for each in _shipped() for region in each.regions}


def load_region(name: str) -> Region:
    """Read a shipped region by name, or the first region of a YAML file by path."""
    if name.endswith((".yaml", ".yml")):
        found = load_spec(Path(name), MoneyFile).regions
        if not found:
            raise InputError(name, "regions", "is missing; give at least one region")
        return found[0]
    known = regions()
    if name not in known:
        raise InputError("", "region", f"{name!r} is not known" + suggestion(name, sorted(known)))
    return known[name]


def load_ownership(path: str | None = None) -> Ownership:
    """Read the terms of ownership: the shipped ones, or those of a YAML file."""
    files = (load_spec(Path(path), MoneyFile),) if path else _shipped()
    for each in files:
        if each.ownership is not None:
            return each.ownership
    raise InputError(path or "", "ownership", "is missing")


def service_days() -> dict[str, ServiceDay]:
    """Published days of services by name."""
    return {day.name: day for each in _shipped() for day in each.days}
