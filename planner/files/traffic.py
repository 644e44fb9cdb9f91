"""Traffic by any name: a trace, a workload file, or the part of a scenario that says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import InputError
from planner.files.profiles import data_root
from planner.files.scenario import find_scenario, load_scenario, put
from planner.files.workload import YAML, with_rows
from planner.files.yaml_io import Document, input_error, read_yaml, validate
from planner.specs.base import Spec
from planner.specs.workload import Run, Workload


def load_traffic(
    name: str | Path, overrides: Mapping[str, Any] | None = None
) -> tuple[Workload, Run]:
    """Workload and run of a scenario, of a workload file, or of a trace (then: all of it).

    Parameters
    ----------
    name : path of a trace, a workload YAML or a scenario; or the name of a shipped scenario.
    overrides : dotted path -> value, leading into ``workload`` or ``run``.

    Raises
    ------
    InputError
        No such file, or a fault in it, with line, field and value.
    """
    changes = dict(overrides or {})
    path = Path(name)
    path = path if path.is_file() else find_scenario(name)
    if path.suffix.lower() in YAML and "model" in read_yaml(path).data:
        scenario = load_scenario(path, changes)
        if scenario.workload is None:
            raise InputError(str(path), "workload", "is missing; this command needs traffic")
        return scenario.workload, scenario.run
    if path.suffix.lower() in YAML:
        document = read_yaml(path)
        data = {"workload": document.data, "run": {}}
        folders: tuple[Path, ...] = (path.parent, data_root("scenarios"))
    else:
        document = Document(path, {}, None)
        data = {"workload": {"title": path.name, "arrivals": {"kind": "trace", "file": str(path)}},
                "run": {}}  # fmt: skip
        folders = (Path(),)
    both = validate(data, _Traffic, document)
    if changes:
        plain = both.model_dump(mode="json")
        for field, value in changes.items():
            put(plain, field, value)
        try:
            both = _Traffic.model_validate(plain)
        except ValidationError as error:
            raise input_error(error, _Traffic, lambda loc: "--set", plain) from None
    return with_rows(both.workload, folders, str(path)), both.run


class _Traffic(Spec):
    workload: Workload
    run: Run
