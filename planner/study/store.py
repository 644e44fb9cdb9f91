"""Rows of a sweep on disk, as they come: parts while it runs, one file when it is done.

``out.parquet`` is written by way of ``out.parquet.parts/``: a manifest that says what was asked,
and parts that are each complete.  Whatever ends a sweep, the parts stay and can be read.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner.errors import InputError
from planner.specs.scenario import Scenario
from planner.study.digest import differences, package_digest, plain
from planner.study.grid import Grid
from planner.study.row import COLUMNS, Ask, Row

FLUSH_ROWS = 2000
FLUSH_S = 2.0
"""Rows are on disk after at most so many, or so long."""

SUFFIXES = (".parquet", ".jsonl")


def manifest(base: Scenario, ask: Ask, grid: Grid) -> dict[str, Any]:
    """What a sweep asks: two sweeps with the same one give the same rows."""
    vary = {path: list(values) for path, values in zip(grid.paths, grid.values, strict=True)}
    written = {"package": package_digest(), "ask": ask, "vary": vary, "scenario": plain(base)}
    return dict(json.loads(json.dumps(written, default=str)))


class Store:
    """Rows of one sweep."""

    def __init__(self, out: Path, asked: dict[str, Any], grid: Grid, *, resume: bool) -> None:
        self.out, self.grid = out, grid
        self.folder = out.with_name(out.name + ".parts")
        self._rows: list[Row] = []
        self._flushed_s = time.monotonic()
        if out.suffix not in SUFFIXES:
            raise InputError("--out", str(out), f"must end in {' or '.join(SUFFIXES)}")
        if out.suffix == ".parquet":
            _arrow()
        with self.placed():
            self.done = self._open(asked, resume=resume)

    def _open(self, asked: dict[str, Any], *, resume: bool) -> set[int]:
        """Numbers of the cases that are answered already."""
        note = self.folder / "manifest.json"
        if self.out.exists():
            raise InputError(
                "--out", str(self.out), "is there already, complete; name another file"
            )
        if note.exists():
            if not resume:
                raise InputError(
                    "--out", str(self.out),
                    f"an unfinished sweep lies in {self.folder}; go on with --resume, or delete it",
                )  # fmt: skip
            changes = differences(json.loads(note.read_text("utf-8")), asked)
            if changes:
                more = f" (and {len(changes) - 4} more)" if len(changes) > 4 else ""
                raise InputError(
                    "--resume", str(self.folder),
                    "the unfinished sweep asked something else: " + "; ".join(changes[:4]) + more
                    + "; ask that again, or start anew with another --out",
                )  # fmt: skip
            return {int(row["index"]) for part in self._parts() for row in _read(part)}
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(note, lambda path: path.write_text(json.dumps(asked), "utf-8"))
        return set()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"part-*{self.out.suffix}"))

    def add(self, row: Row) -> None:
        """Keep one row; on disk soon."""
        self._rows.append(row)
        self.done.add(row["index"])
        late = time.monotonic() - self._flushed_s >= FLUSH_S
        if late or len(self._rows) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Put what is kept in memory on disk, as one complete part."""
        self._flushed_s = time.monotonic()
        if not self._rows:
            return
        part = self.folder / f"part-{len(self._parts()):06d}{self.out.suffix}"
        with self.placed():
            _replace(part, lambda path: _write(path, self._rows, self.grid))
        self._rows = []

    def finish(self) -> None:
        """Put all parts together in the order of the cases; the parts go."""
        self.flush()
        with self.placed():
            rows = {row["index"]: row for part in self._parts() for row in _read(part)}
            ordered = [rows[index] for index in sorted(rows)]
            _replace(self.out, lambda path: _write(path, ordered, self.grid))
            shutil.rmtree(self.folder)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Say where writing failed, and that nothing is lost."""
        try:
            yield
        except OSError as error:
            kept = f"; what is in {self.folder} stays: make room and run again with --resume"
            raise InputError(
                "--out", str(self.out), f"cannot be written: {error.strerror or error}{kept}"
            ) from None


def read_rows(path: Path) -> list[Row]:
    """Rows of a finished sweep.

    Raises
    ------
    InputError
        The file is missing or no sweep's.
    """
    try:
        return list(_read(path))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(str(path), "", f"is not a file of rows: {error}") from None


def _replace(path: Path, write: Any) -> None:
    """Write beside, then put in place: what stands there is whole, or not there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "--out", "", "Parquet needs pyarrow: pip install 'moe-planner[tables]', "
            "or write .jsonl instead",
        ) from None  # fmt: skip
    return pyarrow


def _write(path: Path, rows: Sequence[Row], grid: Grid) -> None:
    if ".jsonl" in path.suffixes or path.name.removeprefix(".").split(".")[1] == "jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), "utf-8")
        return
    arrow = _arrow()
    types = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
    kinds = {"index": int, **_varied(grid), **COLUMNS}
    schema = arrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    columns = {name: [_cell(row.get(name), kind) for row in rows] for name, kind in kinds.items()}
    arrow.parquet.write_table(arrow.table(columns, schema=schema), path)


def _varied(grid: Grid) -> Mapping[str, type]:
    """Types of the columns a sweep varies: numbers where all values are, else text."""
    found: dict[str, type] = {}
    for path, values in zip(grid.paths, grid.values, strict=True):
        kinds = {type(value) for value in values}
        if kinds in ({int}, {bool}):
            found[path] = kinds.pop()
        else:
            found[path] = float if kinds <= {int, float} else str
    return found


def _cell(value: Any, kind: type) -> Any:
    if value is None or isinstance(value, kind):
        return value
    return kind(value) if kind is not str else json.dumps(value, default=str)


def _read(path: Path) -> Iterator[Row]:
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines)
        return
    yield from _arrow().parquet.read_table(path).to_pylist()
