"""Every request of a run as columns, and as a CSV or Parquet file."""

import csv
import gzip
import importlib.util
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.serving import Records
from planner.serving.clock import SHED, TOO_LONG

FORMATS = (".csv", ".csv.gz", ".parquet")
LARGEST_CSV = 200_000
"""Rows up to which a plain CSV is offered."""
CHUNK = 20_000
"""Rows that are written at a time."""


def request_columns(records: Records) -> dict[str, NDArray[Any]]:
    """Columns of a run, a row a request in order of arrival.

    Times count from the start of the run, ``nan`` where they were not reached. [s]  ``outcome`` is
    ``finished``, ``running`` or ``queued`` (where a horizon stopped the run), ``too_long``,
    ``shed`` or ``lost``; ``counted`` is false in the warm-up; ``replica`` is the one that decodes
    and below 0 where there was none.
    """
    r = records
    gaps = np.where(r.output_tokens > 1, r.output_tokens - 1.0, np.nan)
    found: dict[str, NDArray[Any]] = {
        "request": np.arange(len(r.arrival_s)),
        "arrival_s": r.arrival_s,
        "admitted_s": r.admitted_s,
        "first_token_s": r.first_token_s,
        "finish_s": r.finish_s,
        "input_tokens": r.input_tokens,
        "output_tokens": r.output_tokens,
        "produced_tokens": r.produced_tokens,
        "queue_s": r.admitted_s - r.arrival_s,
        "ttft_s": r.first_token_s - r.arrival_s,
        "tpot_s": (r.finish_s - r.first_token_s) / gaps,
        "e2e_s": r.finish_s - r.arrival_s,
        "replica": r.replica,
        "outcome": outcomes(r),
        "counted": r.counted,
        "preemptions": r.preemptions,
        "retries": r.retries,
    }
    if r.prefill_replicas:
        sender, prompt_end_s = np.full(len(r.arrival_s), -1), np.full(len(r.arrival_s), np.nan)
        sender[r.handed], prompt_end_s[r.handed] = r.sender, r.prompt_end_s
        found |= {"prefill_replica": sender, "prompt_end_s": prompt_end_s}
    return found


def outcomes(records: Records) -> NDArray[np.str_]:
    """What became of each request."""
    words = np.full(len(records.arrival_s), "finished", "<U8")
    for word, which in (
        ("running", records.running), ("queued", records.queued), ("lost", records.lost),
        ("too_long", records.replica == TOO_LONG), ("shed", records.replica == SHED),
    ):  # fmt: skip
        words[which] = word
    return words


def write_requests(records: Records, path: str | Path) -> Path:
    """Write every request; the file appears whole or not at all.

    Parameters
    ----------
    path : ends in ``.csv``, ``.csv.gz`` or ``.parquet``; folders on the way are made.

    Raises
    ------
    InputError
        Another ending, or Parquet without pyarrow.
    OSError
        The file cannot be written.
    """
    target = Path(path)
    check_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    columns = request_columns(records)
    try:
        if target.suffix.lower() == ".parquet":
            _parquet(columns, draft)
        elif target.suffix.lower() == ".gz":
            with gzip.open(draft, "wt", encoding="utf-8", newline="", compresslevel=4) as packed:
                _csv(columns, packed)
        else:
            with draft.open("w", encoding="utf-8", newline="") as plain:
                _csv(columns, plain)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def best_formats(requests: int) -> tuple[str, ...]:
    """File names that a run of so many requests is offered as: CSV up to a size people open."""
    parquet = ("requests.parquet",) if importlib.util.find_spec("pyarrow") else ()
    if requests > LARGEST_CSV:
        return parquet or ("requests.csv.gz",)
    return ("requests.csv", *parquet)


def check_name(path: Path) -> None:
    """Refuse a file name that no format goes with, before anything is simulated."""
    if not path.name.lower().endswith(FORMATS):
        raise InputError("--records", str(path), f"must end in one of {', '.join(FORMATS)}")
    if path.suffix.lower() == ".parquet":
        _arrow()


def _arrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "--records", "pyarrow", "is missing: pip install 'moe-planner[tables]', or write .csv"
        ) from None
    return pa


def _parquet(columns: dict[str, NDArray[Any]], path: Path) -> None:
    pa = _arrow()
    table = pa.table({n: pa.array(c, from_pandas=c.dtype.kind == "f") for n, c in columns.items()})
    pa.parquet.write_table(table, path, compression="zstd")


def _csv(columns: dict[str, NDArray[Any]], out: IO[str]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_rows(columns))


def _rows(columns: dict[str, NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows as text: an empty cell where a time was not reached."""
    length = len(columns["request"])
    for at in range(0, length, CHUNK):
        part = [_cells(column[at : at + CHUNK]) for column in columns.values()]
        yield from zip(*part, strict=True)


def _cells(column: NDArray[Any]) -> list[Any]:
    if column.dtype.kind == "b":
        return ["true" if value else "false" for value in column.tolist()]
    if column.dtype.kind == "f":
        return ["" if math.isnan(value) else value for value in column.tolist()]
    return list(column.tolist())
