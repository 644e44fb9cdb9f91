"""Published kernel times that travel with the package, in the same format as the runner's rows."""

from functools import lru_cache

from planner import files
from planner.calibrate.rows import RowsFile, Table, read_rows


@lru_cache(maxsize=1)
def published_files() -> tuple[RowsFile, ...]:
    """Every carried file, each of one part and one source."""
    folder = files.profile_root() / "measurements"
    return tuple(read_rows(path) for path in sorted(folder.glob("*.jsonl")))


def published_tables(part: str | None = None) -> list[Table]:
    """Carried times of ``part``, or of all parts."""
    found = [table for file in published_files() for table in file.tables]
    return [table for table in found if part in (None, table.origin.part)]
