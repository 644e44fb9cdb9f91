"""Files of rows as they are kept: plain, or gzipped."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from planner.calibrate.rows import RowsFile, read_rows
from planner.errors import InputError

ENDS = (".jsonl", ".jsonl.gz")
"""How the name of a file of rows ends."""


def is_rows(name: str) -> bool:
    """Whether ``name`` is one of a file of rows."""
    return name.endswith(ENDS)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Path at which the rows are plain for as long as the context lasts.

    Raises
    ------
    InputError
        The file cannot be read; errors on its lines name the file itself.
    """
    if path.suffix != ".gz":
        yield path
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        try:
            plain.write_bytes(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or f"it is no whole gzip file ({error})"
            raise InputError(str(path), "", f"cannot be read: {reason}") from None
        try:
            yield plain
        except InputError as error:
            where = error.where.replace(str(plain), str(path))
            raise InputError(where, error.field, error.problem) from None


def read_packed(path: Path) -> RowsFile:
    """Read a file of rows, plain or gzipped.

    Raises
    ------
    InputError
        As :func:`planner.calibrate.rows.read_rows`.
    """
    with unpacked(path) as plain:
        return read_rows(plain)
