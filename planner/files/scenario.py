"""Scenario files: names resolved, overrides applied, every error with its place."""

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import InputError
from planner.files import profiles
from planner.files.engines import with_engine, with_engines
from planner.files.speculation import with_acceptances, with_space_acceptances
from planner.files.workload import load_workload, with_rows
from planner.files.yaml_io import Document, input_error, read_yaml, suggestion, validate
from planner.specs.deployment import Disaggregated
from planner.specs.prices import ApiPrice, Price
from planner.specs.routing import HistogramPopularity, Routing
from planner.specs.scenario import Hardware, Scenario, ScenarioFile
from planner.specs.workload import Workload

RAW_FIELDS = (
    "model",
    "routing",
    "kernels",
    "baseline_model",
    "system",
    "systems",
    "prices",
    "api_prices",
    "workload",
)
"""Fields whose override replaces a name in the file; everything else changes resolved values."""


def scenario_root() -> Path:
    """Folder of the shipped scenarios."""
    return profiles.data_root("scenarios")


def find_scenario(name: str | Path) -> Path:
    """Path of a scenario: as given, or a shipped one by name or relative path."""
    given = Path(name)
    shipped = scenario_root()
    for path in (given, shipped / given.name, shipped / f"{name}.yaml"):
        if path.is_file():
            return path
    known = profiles.names_in(shipped)
    raise InputError("", "scenario", f"{str(name)!r} is not a file" + suggestion(given.stem, known))


def load_scenario(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario and everything it names.

    Parameters
    ----------
    name : path of a scenario file, or the name of a shipped one.
    overrides : dotted path -> value, as ``--set`` gives them.

    Raises
    ------
    InputError
        One message with file, line, field, value and what would do.
    """
    path = find_scenario(name)
    document = read_yaml(path)
    changes = dict(overrides or {})
    data = dict(document.data)
    for field in RAW_FIELDS:
        if field in changes:
            data[field] = changes.pop(field)
            if field in ("system", "systems"):
                data.pop("systems" if field == "system" else "system", None)
    if "deployment.engine" in changes and isinstance(data.get("deployment"), dict):
        data["deployment"] = {**data["deployment"], "engine": changes.pop("deployment.engine")}
    try:
        data["deployment"] = with_engine(data.get("deployment"))
        if "space" in data:
            data["space"] = with_engines(data["space"])
    except InputError as error:
        where = document.where(tuple(error.field.split(".")))
        raise InputError(where, error.field, error.problem) from None
    raw = validate(data, ScenarioFile, document)
    scenario = _resolve(raw, document)
    return apply_overrides(scenario, changes) if changes else scenario


def _resolve(raw: ScenarioFile, document: Document) -> Scenario:
    def located(field: str, load: Any, *args: Any) -> Any:
        """Run ``load``; an error without a place gets this field's line."""
        try:
            return load(*args)
        except InputError as error:
            if error.where:
                raise
            place = error.field if error.field.startswith(f"{field}.") else field
            raise InputError(document.where(place.split(".")), place, error.problem) from None

    names = (raw.system,) if raw.system else raw.systems
    if not names:
        raise InputError(
            document.where(()), "system", "is missing; name one, or several as systems"
        )
    hardware = tuple(
        _with_prices(
            located("system" if raw.system else "systems", load_hardware, n), raw, document
        )
        for n in names
    )
    if raw.kernels is not None:
        hardware = tuple(located("kernels", with_kernels, h, raw.kernels) for h in hardware)
    common = {name: getattr(raw, name) for name in Scenario.model_fields if name in _COMMON}
    if raw.deployment is not None:
        common["deployment"] = located("deployment", with_acceptances, raw.deployment)
    common["space"] = located("space", with_space_acceptances, raw.space)
    prefill = _prefill_system(raw.deployment)
    if prefill:
        other = located("deployment", _load_prefill, prefill)
        if raw.kernels is not None:
            other = with_kernels(other, raw.kernels)
        common["prefill_hardware"] = _with_prices(other, raw, document, other=True)
    return Scenario(
        **common,
        model=located("model", profiles.load_model, raw.model),
        baseline_model=raw.baseline_model
        and located("baseline_model", profiles.load_model, raw.baseline_model),
        routing=_routing(raw, document),
        hardware=hardware,
        workload=_workload(raw, document),
        api_prices=tuple(located("api_prices", _api_price, n) for n in raw.api_prices),
    )


def _prefill_system(deployment: object) -> str | None:
    """Name of the system that only computes prompts, where it is another one."""
    return deployment.prefill_system if isinstance(deployment, Disaggregated) else None


def _load_prefill(name: str) -> Hardware:
    try:
        return load_hardware(name)
    except InputError as error:
        raise InputError(error.where, "deployment.prefill_system", error.problem) from None


_COMMON = set(ScenarioFile.model_fields) - set(RAW_FIELDS)


def load_hardware(system_name: str) -> Hardware:
    """Everything known of a system: accelerator, achieved shares, shipped prices."""
    system = profiles.load_system(system_name)
    accelerator = profiles.load_accelerator(system.accelerator)
    return Hardware(
        system=system,
        accelerator=accelerator,
        calibration=profiles.load_calibration(accelerator.name),
        prices=profiles.device_prices(accelerator.name),
    )


def with_kernels(hardware: Hardware, part: str) -> Hardware:
    """The same hardware with products and attention cores as they were measured on ``part``.

    For engines older or newer than the kernels that this part's shares were fitted to.

    Raises
    ------
    InputError
        Nothing was fitted on ``part``.
    """
    found = profiles.load_calibration(part)
    if part not in found.accelerators:
        raise InputError("", "kernels", f"nothing was fitted on {part!r}")
    taken = {
        name: getattr(found, name)
        for name in type(found).model_fields
        if name.startswith(("gemm", "grouped_gemm", "expert", "stored", "attention", "provenance"))
    }
    calibration = hardware.calibration.model_copy(update=taken | {"kernels_of": part})
    return hardware.model_copy(update={"calibration": calibration})


def _with_prices(
    hardware: Hardware, raw: ScenarioFile, document: Document, other: bool = False
) -> Hardware:
    """Put the prices the scenario names first; a provider without this part is passed over.

    ``other``: of several systems, so that a price written out may be for another part.
    """
    other = other or len(raw.systems) > 1 or _prefill_system(raw.deployment) is not None
    part = hardware.accelerator.name
    chosen: list[Price] = []
    for i, wish in enumerate(raw.prices):
        where = document.where(("prices", i))
        if isinstance(wish, str):
            chosen += [p for p in hardware.prices if p.provider.lower() == wish.lower()]
            continue
        price = validate(wish, Price, document, ("prices", i))
        if price.accelerator == part:
            chosen.append(price)
        elif not other:
            raise InputError(
                where,
                f"prices.{i}.accelerator",
                f"this price is for {price.accelerator}; the scenario runs on {part}",
            )
    unknown = [w for w in raw.prices if isinstance(w, str) and w.lower() not in _providers()]
    if unknown:
        raise InputError(
            document.where(("prices",)),
            "prices",
            f"{unknown[0]!r} has no price in the shipped list"
            + suggestion(unknown[0].lower(), sorted(_providers())),
        )
    rest = tuple(p for p in hardware.prices if p not in chosen)
    return hardware.model_copy(update={"prices": (*chosen, *rest)})


@lru_cache(maxsize=1)
def _providers() -> frozenset[str]:
    """Every provider of the shipped price list, in lower case."""
    return frozenset(
        price.provider.lower()
        for part in profiles.accelerator_names()
        for price in profiles.device_prices(part)
    )


def locate(name: str | Path, field: str) -> str:
    """``file:line`` of a field of a scenario, or of the nearest part of it the file has."""
    path = find_scenario(name)
    return read_yaml(path).where(field.split("."))


def _workload(raw: ScenarioFile, document: Document) -> Workload | None:
    return None if raw.workload is None else load_workload(raw.workload, document)


def _routing(raw: ScenarioFile, document: Document) -> Routing | None:
    """A fitted profile by name, or routing written out with its histogram read."""
    from planner.files.histograms import load_routing_profile, read_histogram

    if raw.routing is None:
        return None
    if isinstance(raw.routing, str):
        try:
            return load_routing_profile(raw.routing).routing
        except InputError as error:
            raise InputError(document.where(("routing",)), "routing", error.problem) from None
    routing = validate(raw.routing, Routing, document, ("routing",))
    popularity = routing.popularity
    if isinstance(popularity, HistogramPopularity) and not popularity.windows:
        read = read_histogram(document.path.parent / popularity.path)
        routing = routing.model_copy(update={"popularity": read})
    return routing


def _api_price(name: str) -> ApiPrice:
    known = {price.name: price for price in profiles.api_prices()}
    if name not in known:
        raise InputError(
            "", "api_prices", f"{name!r} is not known" + suggestion(name, sorted(known))
        )
    return known[name]


def apply_overrides(scenario: Scenario, overrides: Mapping[str, Any]) -> Scenario:
    """Return ``scenario`` with values replaced, validated as a whole.

    Parameters
    ----------
    overrides : dotted path -> value.  ``system``, ``accelerator``, ``calibration`` lead into the
        first hardware; a bare number given for a sourced fact becomes an assumption.

    Raises
    ------
    InputError
        An unknown path, or a value that does not validate; names the path and the value.
    """
    data = scenario.model_dump(mode="json")
    for path, value in overrides.items():
        put(data, path, value)
    data["deployment"] = with_engine(data["deployment"])
    data["space"] = with_engines(data["space"])
    try:
        changed = Scenario.model_validate(data)
    except ValidationError as error:
        given = "".join(f" {path}={value}" for path, value in overrides.items())
        raise input_error(error, Scenario, lambda loc: f"--set{given}", data) from None
    update: dict[str, Any] = {"space": with_space_acceptances(changed.space)}
    prefill = _prefill_system(changed.deployment)
    known = changed.prefill_hardware
    if prefill != (known.system.name if known else None):
        update["prefill_hardware"] = _load_prefill(prefill) if prefill else None
    if changed.deployment is not None:
        update["deployment"] = with_acceptances(changed.deployment)
    if changed.workload is not None:
        folders = (Path(), scenario_root())
        update["workload"] = with_rows(changed.workload, folders, "--set", scenario.workload)
    return changed.model_copy(update=update)


def validate_scenario(data: Mapping[str, Any]) -> Scenario:
    """Build a scenario from values given as options; InputError names the option's field."""
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise input_error(error, Scenario, lambda loc: "", data) from None


def scenario_titles() -> dict[str, str]:
    """Names of the shipped scenarios and their titles."""
    return {
        name: str(read_yaml(scenario_root() / f"{name}.yaml").data.get("title", ""))
        for name in profiles.names_in(scenario_root())
    }


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """Set one value of plain data by its dotted path; InputError where nothing is there."""
    steps: list[str] = path.split(".")
    if steps[0] in ("system", "accelerator", "calibration"):
        steps = ["hardware", "0", *steps]
    here: Any = data
    for i, step in enumerate(steps):
        key = _key(here, step, steps[:i], path)
        if i == len(steps) - 1:
            old = here.get(key) if isinstance(here, dict) else here[key]
            is_fact = isinstance(old, Mapping) and "source" in old and "value" in old
            if is_fact and isinstance(value, int | float):
                value = {"value": value, "source": "override", "confidence": "assumed"}
            here[key] = copy.deepcopy(value)
        else:
            if isinstance(here, dict) and here.get(key) is None:
                here[key] = {}
            here = here[key]


def _key(here: Any, step: str, done: Sequence[str], path: str) -> Any:
    """The key or index that ``step`` means in ``here``."""
    if isinstance(here, dict):
        if step in here or not here:
            return step
        known = sorted(map(str, here))
    elif isinstance(here, list | tuple):
        if step.isdigit() and int(step) < len(here):
            return int(step)
        known = [str(i) for i in range(len(here))]
    else:
        known = []
    place = ".".join(done) or "the scenario"
    raise InputError("--set", path, f"{place} has no {step!r}" + suggestion(step, known))
