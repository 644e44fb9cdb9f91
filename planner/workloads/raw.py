"""Rows on their way in: collected by column, checked with their line numbers, made one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats, Integers, PrefixBlocks, RequestTable

OWN = {
    "arrival_s": ("arrival_s", "timestamp_s", "time_s"),
    "input_tokens": ("input_tokens", "prompt_tokens", "input_length"),
    "output_tokens": ("output_tokens", "completion_tokens", "output_length"),
}
"""Names taken without being told, in a table of one's own."""

MOST_TOKENS = 10**9
"""A longer prompt or answer is a damaged file."""


MOST_CLASSES = 1000
"""A higher class is a mistake: the columns are mixed up."""


@dataclass
class RawRows:
    """Columns as a file has them, in its own order; appended to in blocks."""

    path: Path
    time: list[Floats] = field(default_factory=list)
    """[s], from any origin; empty where the file has no times."""
    inputs: list[Floats] = field(default_factory=list)
    outputs: list[Floats] = field(default_factory=list)
    lines: list[Integers] = field(default_factory=list)
    """Line (or row, in files without lines) each request stands on."""
    hash_ids: list[Integers] = field(default_factory=list)
    hash_counts: list[Integers] = field(default_factory=list)
    priority: list[Floats] = field(default_factory=list)
    """Class of each request; empty where the file has none."""
    notes: list[str] = field(default_factory=list)

    def at(self, line: int) -> str:
        """``file:line``."""
        return f"{self.path}:{line}"


def finish(
    raw: RawRows, format_name: str, block_tokens: int | None, names: tuple[str, str, str]
) -> RequestTable:
    """Check, sort and join what was read.

    Parameters
    ----------
    block_tokens : tokens of one hash id; needed where the file has any.
    names : the file's own names of time, input and output, for messages.

    Raises
    ------
    InputError
        No rows, a negative or absurd length, a time that is no number; names the line.
    """
    if not raw.inputs or not sum(map(len, raw.inputs)):
        raise InputError(str(raw.path), "", "has no requests")
    line = np.concatenate(raw.lines)
    columns = [np.concatenate(parts) for parts in (raw.inputs, raw.outputs)]
    timed = bool(raw.time)
    time_s = np.concatenate(raw.time) if timed else np.zeros(len(line))
    _refuse(raw, line, ~np.isfinite(time_s), names[0], "is not a time", time_s)
    for name, column in zip(names[1:], columns, strict=True):
        _refuse(raw, line, ~np.isfinite(column), name, "is not a number", column)
        _refuse(raw, line, column < 0, name, "must not be negative", column)
        _refuse(raw, line, column != np.rint(column), name, "must be whole", column)
        _refuse(raw, line, column > MOST_TOKENS, name, f"is over {MOST_TOKENS:,} tokens", column)
    classes = np.concatenate(raw.priority) if raw.priority else None
    if classes is not None:
        fault = ~np.isfinite(classes) | (classes < 0) | (classes != np.rint(classes))
        fault |= classes > MOST_CLASSES
        _refuse(raw, line, fault, "priority", f"must be a whole number, 0 to {MOST_CLASSES}",
                classes)  # fmt: skip
    table = RequestTable(
        time_s, columns[0].astype(np.int64), columns[1].astype(np.int64),
        _prefixes(raw, block_tokens), timed, format_name,
        priority=None if classes is None else classes.astype(np.int64),
    )  # fmt: skip
    return _ordered(raw, table)


def _refuse(
    raw: RawRows, line: Integers, bad: np.ndarray, name: str, problem: str, values: Floats
) -> None:
    if not bad.any():
        return
    first = int(np.argmax(bad))
    more = f" (and {int(bad.sum()) - 1:,} more rows)" if bad.sum() > 1 else ""
    raise InputError(raw.at(int(line[first])), name, f"{problem}, got {values[first]:g}{more}")


def _prefixes(raw: RawRows, block_tokens: int | None) -> PrefixBlocks | None:
    if not raw.hash_counts or not sum(map(len, raw.hash_ids)):
        return None
    if block_tokens is None:
        raise InputError(
            str(raw.path), "block_tokens",
            "is missing; the file has hash ids: say how many tokens one stands for",
        )  # fmt: skip
    ids = np.unique(np.concatenate(raw.hash_ids), return_inverse=True)[1].astype(np.int64)
    counts = np.concatenate(raw.hash_counts)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    before = np.concatenate(([-1], ids[:-1]))
    before[offsets[:-1][counts > 0]] = -1
    first, name = np.unique(ids, return_index=True, return_inverse=True)[1:]
    if (before[first][name] != before).any():
        raw.notes.append("hash ids name single blocks; joined with all that leads to each")
        ids = _chained(ids, offsets)
    asked = -(-np.concatenate(raw.inputs) // block_tokens)
    return PrefixBlocks(block_tokens, ids, offsets, bool((counts > asked).any()))


def _chained(ids: Integers, offsets: Integers) -> Integers:
    """Name each block by itself and all before it in its request."""
    names: dict[tuple[int, int], int] = {}
    chained = []
    starts = set(offsets.tolist())
    before = -1
    for place, block in enumerate(ids.tolist()):
        before = names.setdefault((-1 if place in starts else before, block), len(names))
        chained.append(before)
    return np.array(chained, np.int64)


def _ordered(raw: RawRows, table: RequestTable) -> RequestTable:
    """Leave out rows without a prompt or an answer, sort by time, count time from the first."""
    notes = list(raw.notes)
    keep = (table.input_tokens > 0) & (table.output_tokens > 0)
    if not keep.any():
        raise InputError(str(raw.path), "", "no request has both a prompt and an answer")
    if not keep.all():
        notes.append(f"{int((~keep).sum()):,} requests without a prompt or an answer left out")
    rows = np.flatnonzero(keep)
    times = table.arrival_s[rows]
    if (np.diff(times) < 0).any():
        notes.append(f"{int((np.diff(times) < 0).sum()):,} times fell; sorted by time")
        rows = rows[np.argsort(times, kind="stable")]
    if len(rows) != len(table) or len(notes) > len(raw.notes):
        table = table.take(rows)
    first_s = float(table.arrival_s[0])
    return RequestTable(
        table.arrival_s - first_s, table.input_tokens, table.output_tokens,
        table.prefixes, table.timed, table.format, (), tuple(notes), table.priority,
    )  # fmt: skip


def column_names(
    path: Path, have: Sequence[str], chosen: Mapping[str, str], published: Sequence[str] = ()
) -> tuple[str, str, str]:
    """The file's names of time, input and output tokens.

    Parameters
    ----------
    have : columns of the file.
    chosen : names given by the user, by our own.
    published : names of a published format; without one the usual names are tried.

    Raises
    ------
    InputError
        A column is not there; lists what is.
    """
    found = []
    for i, (want, usual) in enumerate(OWN.items()):
        known = (chosen[want],) if want in chosen else (published[i : i + 1] or usual)
        name = next((name for name in known if name in have), None)
        if name is None:
            raise InputError(
                str(path), want,
                f"no such column ({' or '.join(known)}); the file has "
                f"{', '.join(have) or 'none'}; name it with columns: {{{want}: …}}",
            )  # fmt: skip
        found.append(name)
    return found[0], found[1], found[2]
