"""Workloads from files: described in YAML, or recorded in a trace that they name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import InputError
from planner.files.profiles import data_root
from planner.files.yaml_io import Document, input_error, read_yaml, validate
from planner.specs.arrivals import TraceArrivals
from planner.specs.base import Spec
from planner.specs.workload import Run, Workload
from planner.workloads import read_arrivals

YAML = (".yaml", ".yml")


def load_workload(written: object, document: Document) -> Workload:
    """Workload of a scenario: written out, or the path of a workload file or of a trace."""
    folders = (document.path.parent, data_root("scenarios"))
    if not isinstance(written, str):
        workload = validate(written, Workload, document, ("workload",))
        line = document.where(("workload", "arrivals", "file"))
        return with_rows(workload, folders, line)
    path = find_file(written, folders)
    if path is None:
        raise InputError(
            document.where(("workload",)), "workload", f"file {written!r} does not exist"
        )
    return read_workload(path)


def read_workload(path: Path) -> Workload:
    """Workload of a YAML file; of any other file, the requests recorded there."""
    if path.suffix.lower() not in YAML:
        arrivals = read_arrivals(TraceArrivals(file=str(path)), path)
        return Workload(title=path.name, arrivals=arrivals)
    file = read_yaml(path)
    workload = validate(file.data, Workload, file)
    folders = (path.parent, data_root("scenarios"))
    return with_rows(workload, folders, file.where(("arrivals", "file")))


def with_rows(
    workload: Workload, folders: Sequence[Path], where: str, known: Workload | None = None
) -> Workload:
    """Read the trace a workload names, unless ``known`` has the same one."""
    arrivals = workload.arrivals
    file = arrivals.file if isinstance(arrivals, TraceArrivals) else None
    if not isinstance(arrivals, TraceArrivals) or file is None:
        return workload
    if known is not None and isinstance(known.arrivals, TraceArrivals):
        arrivals = arrivals.model_copy(update={"table": known.arrivals.table})
        if arrivals.is_read():
            return workload.model_copy(update={"arrivals": arrivals})
    path = find_file(file, folders)
    if path is None:
        raise InputError(where, "workload.arrivals.file", f"{file!r} does not exist")
    return workload.model_copy(update={"arrivals": read_arrivals(arrivals, path)})


def find_file(name: str, folders: Sequence[Path]) -> Path | None:
    """First of the folders that has the file."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


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
    from planner.files.scenario import find_scenario, load_scenario, put

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
