"""Traces as CSV: Azure, BurstGPT, and tables of one's own; read in blocks of rows.

References
----------
.. [1] Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md: TIMESTAMP (invocation
       time), ContextTokens, GeneratedTokens.
.. [2] HPMLL/BurstGPT, README: Timestamp (seconds from 0:00 of the first day), Request tokens,
       Response tokens; failed requests have 0 response tokens.
"""

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats
from planner.workloads.raw import RawRows, column_names

BLOCK_ROWS = 65_536
ORIGIN = np.datetime64("2020-01-01", "ns")
"""Dates count from here: near enough to today that a double keeps 0.1 us."""

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


def recognised(header: Sequence[str]) -> str:
    """Format of a CSV file by its column names."""
    if set(AZURE) <= set(header):
        return "azure"
    return "burstgpt" if set(BURSTGPT) <= set(header) else "table"


def read_csv(
    path: Path, text: TextIO, format_name: str, columns: Mapping[str, str]
) -> tuple[RawRows, str, tuple[str, str, str]]:
    """Read a CSV trace; return rows, format and column names."""
    reader = csv.reader(text)
    raw = RawRows(path)
    try:
        header = [name.strip().lstrip("\ufeff") for name in next(reader, [])]
        if format_name == "auto":
            format_name = recognised(header)
        published = {"azure": AZURE, "burstgpt": BURSTGPT}.get(format_name, ())
        names = column_names(path, header, columns, published)
        wanted = [*names]
        if (own := columns.get("priority", "priority")) in header:
            wanted.append(own)
        places = [header.index(name) for name in wanted]
        line = 2
        while block := list(itertools.islice(reader, BLOCK_ROWS)):
            numbers = np.arange(line, line + len(block))
            line += len(block)
            if not all(block):  # empty lines
                numbers = numbers[[bool(row) for row in block]]
                block = [row for row in block if row]
            if block:
                _take(raw, block, numbers, wanted, places, len(header))
    except csv.Error as error:
        raise InputError(raw.at(reader.line_num), "", f"is not CSV: {error}") from None
    return raw, format_name, names


def _take(
    raw: RawRows, block: list[list[str]], numbers: np.ndarray, names: Sequence[str],
    places: Sequence[int], width: int,
) -> None:  # fmt: skip
    try:
        texts = [[row[place] for row in block] for place in places]
    except IndexError:
        short = next(i for i, row in enumerate(block) if len(row) <= max(places))
        raise InputError(
            raw.at(int(numbers[short])), "",
            f"has {len(block[short])} values, the header {width}",
        ) from None  # fmt: skip
    for into, name, values, convert in (
        (raw.time, names[0], texts[0], seconds),
        (raw.inputs, names[1], texts[1], _numbers),
        (raw.outputs, names[2], texts[2], _numbers),
        *((raw.priority, name, texts[3], _numbers) for name in names[3:]),
    ):
        try:
            into.append(convert(values))
        except ValueError:
            bad = _first_bad(values, convert)
            what = "a time" if into is raw.time else "a number"
            raise InputError(
                raw.at(int(numbers[bad])), name, f"is not {what}, got {values[bad]!r}"
            ) from None
    raw.lines.append(numbers)


def _numbers(values: Sequence[str]) -> Floats:
    return np.array(values, np.float64)


def seconds(values: Sequence[str]) -> Floats:
    """Times as numbers [s], or as ISO dates; a date counts from 2020. [s]

    A UTC offset at the end is dropped where all rows have the same one.
    """
    try:
        return np.array(values, np.float64)
    except ValueError:
        zone = values[0][19:].lstrip(".0123456789").strip()
        if zone:
            values = [v.removesuffix(zone).rstrip() for v in values]
        stamps = np.array([v.strip() for v in values], "datetime64[ns]")
        if np.isnat(stamps).any():
            raise ValueError("not a time") from None
        return (stamps - ORIGIN).astype(np.int64) / 1e9


def _first_bad(values: Sequence[str], convert: Callable[[Sequence[str]], Floats]) -> int:
    """Index of the first value that does not read as the first one does."""
    for i, value in enumerate(values):
        try:
            convert([values[0], value])
        except ValueError:
            return i
    return 0
