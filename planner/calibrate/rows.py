"""Measured times as columns, and the files of rows they are read from."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.runner.points import KEYS
from planner.calibrate.runner.sound import SIZES, fault
from planner.errors import InputError
from planner.specs.calibration import width_suffix

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

OPS = frozenset(KEYS) | {"reduce_scatter"}
"""Operations a row may be of."""
FRAME = ("header", "section", "error", "end")
"""Lines that are no measurement."""

NUMBERS = SIZES
"""Fields of a row that are columns of a table; ``variant``, ``distribution``, ``phase`` and
``kv_dtype`` tell tables apart."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows are from."""

    part: str
    """Accelerator profile, or the device's own name where there is none."""
    source: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Times of one operation in one format by one kernel on one part."""

    op: str
    dtype: str
    kernel: str
    origin: Origin
    columns: Mapping[str, FloatArray]
    time_s: FloatArray
    labels: Mapping[str, str] = field(default_factory=dict)
    """What all rows share: ``variant``, ``distribution``, ``phase``, ``kv_dtype``."""
    place: str = ""
    """File and line of the first row, where they are from a file."""
    repeated: int = 0
    """Lines of the file that say a row again, and are not taken."""

    def __len__(self) -> int:
        return len(self.time_s)

    def __getitem__(self, column: str) -> FloatArray:
        return self.columns[column]

    def take(self, keep: Mask) -> Self:
        """Rows where ``keep``."""
        columns = {name: values[keep] for name, values in self.columns.items()}
        return replace(self, columns=columns, time_s=self.time_s[keep])

    @property
    def name(self) -> str:
        """What to call this table in a report."""
        parts = (self.op, self.dtype, self.kernel, *self.labels.values())
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class RowsFile:
    """One file of rows, read and found sound."""

    header: Mapping[str, Any]
    tables: tuple[Table, ...]
    errors: tuple[str, ...] = ()
    """Points that could not be measured, as the file says."""
    complete: bool = False
    """Whether the run said that it had ended."""

    @property
    def rows(self) -> int:
        """Measurements in all."""
        return sum(map(len, self.tables))


def read_rows(path: Path) -> RowsFile:
    """Read a file of rows: JSON lines under one header.

    Raises
    ------
    InputError
        Naming file and line: no JSON (cut short, edited), no header, two devices in one file, an
        unknown operation or format, a missing size or one that is none, a time that is no time.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(str(path), "", f"cannot be read: {reason}") from None
    header: dict[str, Any] | None = None
    groups: dict[tuple[str, ...], _Group] = defaultdict(_Group)
    errors: list[str] = []
    complete = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _parse(line, where)
        if header is None:
            header = _header(row, where)
        elif row["op"] == "header":
            raise InputError(where, "op", "a second header: rows of two runs in one file")
        elif row["op"] == "error":
            errors.append(str(row.get("error") or row.get("message") or row.get("point") or ""))
        elif row["op"] == "end":
            complete = True
        elif row["op"] in OPS:
            _same_device(row, header, where)
            row = _of_kernel(_checked(row, where))
            groups[_group(row)].add(row, where)
    if header is None:
        raise InputError(str(path), "", "is empty; expected a header line and rows")
    origin = Origin(
        str(header.get("part") or header["device"]),
        str(header.get("source") or path.stem),
        str(header.get("version") or header.get("date") or ""),
    )
    tables = tuple(_table(group, origin) for group in groups.values())
    return RowsFile(header, tables, tuple(errors), complete)


@dataclass(slots=True)
class _Group:
    """Rows of one table; a line that says one of them again is counted, not added."""

    place: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    repeated: int = 0

    def add(self, row: dict[str, Any], where: str) -> None:
        said = json.dumps(row, sort_keys=True)
        if said in self.known:
            self.repeated += 1
            return
        self.place = self.place or where
        self.known.add(said)
        self.rows.append(row)


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise InputError(
            where, "", f"is not JSON ({reason}): cut short or edited; delete this line"
        ) from None
    if not isinstance(row, dict) or "op" not in row:
        raise InputError(where, "op", "is missing: every line names its operation")
    if not isinstance(row["op"], str) or row["op"] not in (*OPS, *FRAME):
        raise InputError(
            where, "op", f"{row['op']!r} is not known; known: {', '.join(sorted(OPS))}"
        )
    return row


def _header(row: dict[str, Any], where: str) -> dict[str, Any]:
    if row["op"] != "header" or not row.get("device"):
        raise InputError(
            where, "op", f"expected the header line with its device, got {row['op']!r}"
        )
    return row


def _same_device(row: Mapping[str, Any], header: Mapping[str, Any], where: str) -> None:
    for name in ("device", "part", "backend"):
        if name in row and row[name] != header.get(name, row[name]):
            raise InputError(
                where, name, f"{row[name]!r} among rows of {header[name]!r}: one device a file"
            )


COUNTED = ("pairs", "touched")
"""What a row says of its own routing; without both, balanced routing gives them."""


def _group(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("op", "dtype", "kernel", "variant", "distribution", "phase", "kv_dtype")
    counted = "counted" if COUNTED[0] in row else ""
    return (*(str(row.get(name) or "") for name in names), counted)


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the row, its format known, its time and sizes what they can be."""
    wrong = fault(row)
    if wrong:
        raise InputError(where, wrong[0], f"{wrong[1]}; mend or delete this line")
    if any(row.get(name) is None for name in COUNTED):
        return {name: value for name, value in row.items() if name not in COUNTED}
    return row


def _of_kernel(row: dict[str, Any]) -> dict[str, Any]:
    """Row of grouped queries, its variant named with the width of heads its kernel is for."""
    if row.get("variant") != "gqa" or not row.get("head_dim"):
        return row
    return {**row, "variant": f"gqa{width_suffix(row['head_dim'])}"}


def _table(group: _Group, origin: Origin) -> Table:
    rows, first = group.rows, group.rows[0]
    names = {name for row in rows for name in row.keys() & NUMBERS if row[name] is not None}
    columns = {
        name: np.array([_number(row.get(name)) for row in rows], dtype=float)
        for name in sorted(names)
    }
    labels = {
        name: str(first[name])
        for name in ("variant", "distribution", "phase", "kv_dtype")
        if first.get(name) is not None
    }
    times = np.array([row["time_s"] for row in rows], dtype=float)
    dtype, kernel = str(first.get("dtype") or "none"), str(first.get("kernel") or "")
    return Table(
        first["op"], dtype, kernel, origin, columns, times, labels, group.place, group.repeated
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def of(tables: Iterable[Table], *ops: str) -> list[Table]:
    """Tables of the operations named."""
    return [table for table in tables if table.op in ops]
