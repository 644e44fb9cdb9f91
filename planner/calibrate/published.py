"""Measured kernel times that travel with the package: published ones, and rows of the runner."""

from dataclasses import replace
from functools import lru_cache

from planner import files
from planner.calibrate.packed import is_rows, read_packed
from planner.calibrate.rows import RowsFile, Table


@lru_cache(maxsize=1)
def published_files() -> tuple[RowsFile, ...]:
    """Every carried file, each of one part and one source."""
    folder = files.profile_root() / "measurements"
    paths = sorted(path for path in folder.iterdir() if is_rows(path.name))
    return tuple(_of_part(read_packed(path)) for path in paths)


def _of_part(file: RowsFile) -> RowsFile:
    """``file`` under the name of its part; the runner knows what the driver calls the device."""
    from planner.calibrate.own_rows import part_of  # which reads choices, and those this module

    name = part_of(file)
    if name is None or not file.tables:
        return file
    source = file.tables[0].origin.source
    tables = tuple(replace(t, origin=replace(t.origin, part=name)) for t in file.tables)
    return replace(file, header={"source": source, **file.header, "part": name}, tables=tables)


def published_tables(part: str | None = None) -> list[Table]:
    """Carried times of ``part``, or of all parts."""
    found = [table for file in published_files() for table in file.tables]
    return [table for table in found if part in (None, table.origin.part)]
