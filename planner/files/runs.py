"""Reader of measured runs: a JSON object a line, each good or bad on its own."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from planner.errors import InputError
from planner.specs.runs import Run


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no run, and why."""

    id: str
    line: int
    problem: str


def read_runs(path: str | Path) -> tuple[list[Run], list[BadRow]]:
    """Read a runs file; a bad line is returned with its reason, the others go on.

    Raises
    ------
    InputError
        The file cannot be read, or holds no line at all.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(str(path), "RUNS", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(str(path), "RUNS", "is not UTF-8 text") from None
    runs: list[Run] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _row(line, number)
        if isinstance(found, Run) and found.id in seen:
            found = BadRow(found.id, number, f"id: {found.id!r} is there twice")
        if isinstance(found, Run):
            seen.add(found.id)
            runs.append(found)
        else:
            bad.append(found)
    if not runs and not bad:
        raise InputError(str(path), "RUNS", "holds no run; give one JSON object a line")
    return runs, bad


def _row(line: str, number: int) -> Run | BadRow:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow("", number, f"is not JSON: {error.msg} at column {error.colno}")
    if not isinstance(data, dict):
        return BadRow("", number, "is not a JSON object")
    try:
        return Run.model_validate(data)
    except ValidationError as error:
        return BadRow(str(data.get("id", "")), number, "; ".join(_problems(error)))


def _problems(error: ValidationError) -> list[str]:
    found = []
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        given = each.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float) else ""
        found.append(f"{place or 'row'}: {message}{shown}")
    return found
