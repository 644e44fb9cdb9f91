"""Traces as JSON: Mooncake, tables of one's own (JSON lines), conversations (ShareGPT).

References
----------
.. [1] kvcache-ai/Mooncake, FAST25-release: one request a line with timestamp [ms], input_length,
       output_length and hash_ids; an id names 512 tokens and all before them.
.. [2] vLLM, benchmarks: of a ShareGPT conversation the first message is the prompt and the
       second the answer.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from planner.errors import InputError
from planner.workloads.csv_trace import BLOCK_ROWS, seconds
from planner.workloads.raw import RawRows, column_names

MOONCAKE = ("timestamp", "input_length", "output_length")
MOONCAKE_BLOCK_TOKENS = 512


def read_jsonl(
    path: Path, text: TextIO, format_name: str, columns: Mapping[str, str]
) -> tuple[RawRows, str, tuple[str, str, str]]:
    """Read JSON lines; return rows, format and field names."""
    raw = RawRows(path)
    names: tuple[str, str, str] | None = None
    ids_name = columns.get("hash_ids", "hash_ids")
    class_name: str | None = columns.get("priority", "priority")
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        rows.append(_object(raw, number, line))
        numbers.append(number)
        if names is None:
            format_name, names = _names(path, format_name, rows[0], columns)
            class_name = class_name if class_name in rows[0] else None
        if len(rows) == BLOCK_ROWS:
            _take(raw, rows, numbers, names, (ids_name, class_name))
            rows, numbers = [], []
    if names is None:
        raise InputError(str(path), "", "has no requests")
    if rows:
        _take(raw, rows, numbers, names, (ids_name, class_name))
    if format_name == "mooncake":
        raw.time = [part / 1e3 for part in raw.time]
    return raw, format_name, names


def _object(raw: RawRows, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", "nested too deeply")
        raise InputError(raw.at(number), "", f"is not JSON: {problem}") from None
    if not isinstance(row, dict):
        raise InputError(raw.at(number), "", f"must be one object a line, got {line.strip()[:40]}")
    return row


def _names(
    path: Path, format_name: str, first: dict[str, Any], columns: Mapping[str, str]
) -> tuple[str, tuple[str, str, str]]:
    if format_name == "auto":
        format_name = "mooncake" if set(MOONCAKE) <= set(first) else "table"
    published = MOONCAKE if format_name == "mooncake" else ()
    return format_name, column_names(path, list(first), columns, published)


def _take(
    raw: RawRows, rows: list[dict[str, Any]], numbers: list[int], names: tuple[str, str, str],
    optional: tuple[str, str | None],
) -> None:  # fmt: skip
    def column(name: str, convert: Callable[[Any], float]) -> "np.ndarray[Any, Any]":
        try:
            return np.array([convert(row[name]) for row in rows], np.float64)
        except (KeyError, TypeError, ValueError):
            for row, number in zip(rows, numbers, strict=True):
                try:
                    convert(row[name])
                except KeyError:
                    raise InputError(raw.at(number), name, "is missing") from None
                except (TypeError, ValueError):
                    shown = json.dumps(row[name])[:40]
                    raise InputError(raw.at(number), name, f"is no number: {shown}") from None
            raise

    raw.time.append(column(names[0], _time))
    raw.inputs.append(column(names[1], _number))
    raw.outputs.append(column(names[2], _number))
    raw.lines.append(np.array(numbers))
    ids_name, class_name = optional
    if class_name is not None:
        raw.priority.append(column(class_name, _number))
    ids = [row.get(ids_name) or [] for row in rows]
    try:
        flat = [int(i) for each in ids for i in each]
        raw.hash_ids.append(np.array(flat, np.int64))
    except (TypeError, ValueError, OverflowError):
        number = next(n for n, each in zip(numbers, ids, strict=True) if not _is_ids(each))
        raise InputError(
            raw.at(number), ids_name, "must be a list of whole numbers below 2^63"
        ) from None
    raw.hash_counts.append(np.array([len(each) for each in ids], np.int64))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _time(value: Any) -> float:
    return float(seconds([value])[0]) if isinstance(value, str) else _number(value)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(i, int) and not isinstance(i, bool) and -(2**63) <= i < 2**63 for i in value
    )


def read_sharegpt(path: Path, text: TextIO, chars_per_token: float | None) -> RawRows:
    """Read conversations; lengths are characters over ``chars_per_token``, without times."""
    if chars_per_token is None:
        raise InputError(
            str(path), "chars_per_token",
            "is missing; the file holds text: say how many characters count as one token "
            "(about 4 for English text)",
        )  # fmt: skip
    try:
        conversations = json.load(text)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), "", f"is not JSON: {error}") from None
    raw, lengths, numbers, passed_over = RawRows(path), [], [], 0
    for number, one in enumerate(conversations, start=1):
        turns = one.get("conversations") if isinstance(one, dict) else None
        if not isinstance(turns, list):
            raise InputError(str(path), f"[{number - 1}]", "has no list `conversations`")
        values = [turn.get("value") for turn in turns[:2] if isinstance(turn, dict)]
        said = [value for value in values if isinstance(value, str) and value]
        if len(said) < 2:
            passed_over += 1
            continue
        lengths.append([max(1, round(len(each) / chars_per_token)) for each in said])
        numbers.append(number)
    if lengths:
        pairs = np.array(lengths, np.float64)
        raw.inputs, raw.outputs = [pairs[:, 0]], [pairs[:, 1]]
        raw.lines = [np.array(numbers)]
    raw.notes.append(f"tokens counted as {chars_per_token:g} characters each (assumed)")
    if passed_over:
        raw.notes.append(f"{passed_over:,} conversations without a prompt and an answer left out")
    return raw
