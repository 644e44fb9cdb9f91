"""Serving engines by name, and their defaults put into a deployment."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from planner.errors import InputError
from planner.files.overheads import fit_of
from planner.files.profiles import names_in, profile_root
from planner.files.yaml_io import load_spec, suggestion
from planner.specs.engine import EngineSpec

POOLS = ("prefill", "decode")


@lru_cache(maxsize=64)
def load_engine(name: str) -> EngineSpec:
    """Read a shipped engine by name."""
    folder = profile_root() / "engines"
    if name not in engine_names():
        raise InputError("", "engine", f"{name!r} is not known" + suggestion(name, engine_names()))
    return load_spec(folder / f"{name}.yaml", EngineSpec)


def engine_names() -> list[str]:
    """Names of the shipped engines."""
    return names_in(profile_root() / "engines")


def with_engine(deployment: Any, field: str = "deployment") -> Any:
    """Replace names of engines in a deployment as written, and fill in what they bring.

    That is limits, and overheads fitted to measured runs.  ``{base: NAME, …}`` is that engine with
    what is written beside.

    Parameters
    ----------
    deployment : plain data: a pool, or a pair of pools whose ``engine`` is both's; whatever is not
        sound is left for validation to refuse.
    field : its dotted path, for errors.

    Raises
    ------
    InputError
        An engine that is not shipped.
    """
    if not isinstance(deployment, Mapping):
        return deployment
    pool = dict(deployment)
    roles = [name for name in POOLS if isinstance(pool.get(name), Mapping)]
    if roles:
        common = {"engine": pool.pop("engine")} if "engine" in pool else {}
        return pool | {name: with_engine(common | pool[name], f"{field}.{name}") for name in roles}
    if _names_one(pool.get("engine")):
        engine = _written_out(pool["engine"], f"{field}.engine")
        own = {name: value for name, value in engine["limits"].items() if value is not None}
        limits = pool.get("limits") or {}
        if isinstance(limits, Mapping):
            pool["limits"] = own | dict(limits)
        pool["engine"] = engine
    return pool


def with_engines(space: Any) -> Any:
    """Replace names of engines in a space as written; its limits stay as they are.

    Raises
    ------
    InputError
        An engine that is not shipped.
    """
    if not isinstance(space, Mapping) or not isinstance(space.get("engines"), list | tuple):
        return space
    engines = [_written_out(e, "space.engines") if _names_one(e) else e for e in space["engines"]]
    return {**space, "engines": engines}


def _names_one(engine: Any) -> bool:
    """Whether an engine is a shipped one: its name, or ``base:`` and what is otherwise."""
    return isinstance(engine, str) or (isinstance(engine, Mapping) and "base" in engine)


def _written_out(engine: Any, field: str) -> dict[str, Any]:
    """A shipped engine as plain data, with what is otherwise; parts of a part one by one."""
    changed = {} if isinstance(engine, str) else dict(engine)
    name = engine if isinstance(engine, str) else changed.pop("base")
    found = _fitted(str(name), field).model_dump(mode="json")
    for key, value in changed.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = {**found[key], **value} if both else value
    return found


def _fitted(name: str, field: str) -> EngineSpec:
    """A shipped engine with what is fitted of it."""
    try:
        engine = load_engine(name)
    except InputError as error:
        raise InputError("", field, error.problem) from None
    return engine.model_copy(update={"fit": fit_of(engine.name)})
