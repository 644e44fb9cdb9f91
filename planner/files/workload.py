"""Workloads from files: described in YAML, or recorded in a trace that they name."""

from collections.abc import Sequence
from pathlib import Path

from planner.errors import InputError
from planner.files.profiles import data_root
from planner.files.yaml_io import Document, read_yaml, validate
from planner.specs.arrivals import TraceArrivals
from planner.specs.workload import Workload
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
