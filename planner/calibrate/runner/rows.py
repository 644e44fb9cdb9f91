"""A file of rows: written as the run goes, read back so that a run can go on where it stopped."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .points import KEYS, Key, Point, key_of
from .sound import fault, point_fault

FRAME = ("header", "section", "error", "end")
"""Kinds of line that are no measurement."""
DECIDES = {
    "cpu": ("device", "backend", "numpy", "blas_threads"),
    "cuda": ("device", "backend", "driver", "cuda", "torch", "triton"),
}
"""Facts of the header that decide times: rows of a file share them."""
NOTED = ("driver", "python", "git", "seed", "blas_threads", "cores", "counts")
"""Facts that may change, or become known, within a file: a ``section`` line says so."""
BEGINS = b'{"op": "header"'

MOST_DEATHS = 2


class RunnerError(Exception):
    """The run cannot start or go on; the message says what would do."""


class RowsFile:
    """Rows of one run on one device.

    An existing file is taken up: points in it (measured or failed) are in ``done``, a last line
    cut short is dropped, and so is the line that said the run had ended.  ``notes`` says so.
    Where the revision or the seed is another, a ``section`` line before the next row gives it.

    Raises
    ------
    RunnerError
        If the file is no file of rows, or is of another device or other versions.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], retry: bool = False) -> None:
        self.path = path
        self.done: set[Key] = set()
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._marker = path.with_name(path.name + ".now")
        self._died: dict[Key, int] = {}
        self._facts: dict[str, Any] = {}
        self._section: dict[str, Any] | None = None
        kept: list[bytes] = []
        if path.exists() and path.stat().st_size:
            kept = self._take_up(retry)
            if kept:
                _same_run(path, self._facts, header)
                self._section = _section(self._facts, header)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kept:
            whole = b"".join(kept)
            if whole != path.read_bytes():
                _replace(path, whole)
        self._file = path.open("a", encoding="utf-8")
        if not kept:
            self._file.truncate(0)
            self.write(dict(header))
        self._read_marker()

    def _take_up(self, retry: bool) -> list[bytes]:
        kept, lines = [], self.path.read_bytes().split(b"\n")
        whole = lines[:-1]
        if lines[-1]:
            if not whole and not lines[-1].startswith(BEGINS):
                raise RunnerError(f"{self.path}:1: not a header of rows; give another --out")
            if _is_whole(lines[-1]):
                whole = lines
            else:
                self.notes.append(f"line {len(lines)} was cut short and is dropped")
        for number, line in enumerate(whole, 1):
            place = f"{self.path}:{number}"
            row = parse(line, place)
            if number == 1 and row["op"] != "header":
                raise RunnerError(
                    f"{place}: op is {row['op']!r}, expected the header; no file of rows"
                )
            if number > 1 and row["op"] == "header":
                raise RunnerError(f"{place}: a second header: two runs in one file")
            _check(row, place)
            if row["op"] == "end" or (retry and row["op"] == "error"):
                continue
            self._remember(row)
            kept.append(line + b"\n")
        return kept

    def _remember(self, row: dict[str, Any]) -> None:
        if row["op"] in ("header", "section"):
            self._facts |= row
        elif row["op"] not in FRAME:
            self.rows.append(row)
            self.done.add(key_of(row))
        elif row["op"] == "error" and row["point"]["op"] in KEYS:
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
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
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
        section, self._section = self._section, None
        if section and row["op"] != "end":
            self.write(section)
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


def parse(line: bytes, place: str) -> dict[str, Any]:
    """Read one line and what it is of.

    Raises
    ------
    RunnerError
        If it is no line of such a file, naming the place and what is wrong.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RunnerError(f"{place}: not JSON ({error}): no file of rows, or edited") from None
    op = row.get("op") if isinstance(row, dict) else None
    if not _known(op, (*FRAME, *KEYS)):
        raise RunnerError(f"{place}: op is {op!r}; expected one of {', '.join([*FRAME, *KEYS])}")
    return dict(row)


def _check(row: dict[str, Any], place: str) -> None:
    """Refuse a row that does not say what was measured, or how long it took."""
    op, wrong = row["op"], None
    if op == "error":
        point = row.get("point")
        if not isinstance(point, dict) or not isinstance(point.get("op"), str):
            raise RunnerError(f"{place}: an error without the point it happened at")
        wrong = point_fault(point) if point["op"] in KEYS else None
    elif op in KEYS:
        wrong = fault(row)
    if wrong:
        raise RunnerError(f"{place}: {wrong[0]}: {wrong[1]}; mend or delete this line")


def _known(op: object, known: tuple[str, ...]) -> bool:
    return isinstance(op, str) and op in known


def _is_whole(line: bytes) -> bool:
    """Whether a last line only lacks its end."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _same_run(path: Path, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Refuse to add rows whose times something else decides; what is not known is no difference."""
    for name in DECIDES.get(str(header["backend"]), ("device", "backend")):
        before, now = found.get(name), header.get(name)
        always = name in ("device", "backend")
        if before != now and (always or (before is not None and now is not None)):
            raise RunnerError(
                f"{path}:1: rows of {name} {before!r}, this is {now!r}: give another --out"
            )
    before, now = found.get("counts"), header.get("counts")
    if before and now and before != now:
        raise RunnerError(
            f"{path}: rows of --counts {before!r}, this is {now!r}: give another --out"
        )


def _section(found: Mapping[str, Any], header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Line that says which facts are others from here on; None where none is."""
    names = [n for n in NOTED if header.get(n) is not None and header[n] != found.get(n)]
    if not names:
        return None
    return {"op": "section", "date": header.get("date"), **{n: header[n] for n in names}}


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
