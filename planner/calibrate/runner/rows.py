"""A file of rows: written as the run goes, read back so that a run can go on where it stopped."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .points import KEYS, Key, Point, key_of

FRAME = ("header", "error", "end")
"""Kinds of line that are no measurement."""


MOST_DEATHS = 2


class RunnerError(Exception):
    """The run cannot start or go on; the message says what would do."""


class RowsFile:
    """Rows of one run on one device.

    An existing file is taken up: points in it (measured or failed) are in ``done``, a last line
    cut short is dropped, and so is the line that said the run had ended.  ``notes`` says so.

    Raises
    ------
    RunnerError
        If the file is no file of rows, or is of another device.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], retry: bool = False) -> None:
        self.path = path
        self.done: set[Key] = set()
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._marker = path.with_name(path.name + ".now")
        self._died: dict[Key, int] = {}
        kept: list[str] = []
        if path.exists() and path.stat().st_size:
            kept = self._take_up(header, retry)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kept:
            whole = "".join(kept).encode()
            if whole != path.read_bytes():
                _replace(path, whole)
        self._file = path.open("a", encoding="utf-8")
        if not kept:
            self._file.truncate(0)
            self.write(dict(header))
        self._read_marker()

    def _take_up(self, header: Mapping[str, Any], retry: bool) -> list[str]:
        kept, lines = [], self.path.read_text("utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            if number == len(lines) and not line.endswith("\n"):
                self.notes.append(f"line {number} was cut short and is dropped")
                break
            row = parse(line, f"{self.path}:{number}")
            if number == 1:
                _same_device(self.path, row, header)
            elif row["op"] == "header":
                raise RunnerError(f"{self.path}:{number}: a second header: two runs in one file")
            if row["op"] == "end" or (retry and row["op"] == "error"):
                continue
            self._remember(row)
            kept.append(line)
        return kept

    def _remember(self, row: dict[str, Any]) -> None:
        if row["op"] == "header":
            return
        if row["op"] not in FRAME:
            self.rows.append(row)
            self.done.add(key_of(row))
        elif row["op"] == "error" and row["point"].get("op") in KEYS:
            self.done.add(key_of(row["point"]))

    def begin(self, point: Point) -> None:
        """Note beside the file what is being measured: if the process dies, this is where."""
        now = {"point": point.as_dict(), "tries": 1 + self._died.get(point.key, 0)}
        self._marker.write_text(json.dumps(now), "utf-8")

    def settle(self) -> None:
        """Nothing is being measured."""
        self._marker.unlink(missing_ok=True)

    def _read_marker(self) -> None:
        """Give a point up at which the process died twice."""
        try:
            now = json.loads(self._marker.read_text("utf-8"))
            key, tries = key_of(now["point"]), int(now["tries"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if key in self.done:
            return
        self._died[key] = tries
        self.notes.append(f"the last run died at {now['point']}")
        if tries >= MOST_DEATHS:
            died = f"the process died {tries} times at this point"
            self.write({"op": "error", "point": now["point"], "error": died})

    def write(self, row: dict[str, Any]) -> None:
        """Append one line; it is on disk when this returns."""
        self._file.write(json.dumps(_finite(row)) + "\n")
        self._file.flush()
        self._remember(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.settle()


def parse(line: str, place: str) -> dict[str, Any]:
    """Read one line.

    Raises
    ------
    RunnerError
        If it is no row, naming the place and what is wrong.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise RunnerError(f"{place}: not JSON ({error}): no file of rows, or edited") from None
    op = row.get("op") if isinstance(row, dict) else None
    if op not in KEYS and op not in FRAME:
        raise RunnerError(f"{place}: op is {op!r}; expected one of {', '.join([*FRAME, *KEYS])}")
    if op == "error" and not isinstance(row.get("point"), dict):
        raise RunnerError(f"{place}: an error without the point it happened at")
    if op in KEYS:
        time_s = row.get("time_s")
        if not isinstance(time_s, int | float) or not (math.isfinite(time_s) and time_s > 0):
            raise RunnerError(f"{place}: time_s must be a time > 0, got {time_s!r}")
    return dict(row)


def _same_device(path: Path, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    if found["op"] != "header":
        raise RunnerError(f"{path}:1: op is {found['op']!r}, expected the header; no file of rows")
    for name in ("device", "backend"):
        if found.get(name) != header[name]:
            raise RunnerError(
                f"{path}:1: rows of {name} {found.get(name)!r}, this is {header[name]!r}: "
                "give another --out"
            )


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def _finite(value: Any) -> Any:
    """JSON has no NaN: write null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
