"""Read a trace file: which format it is, by its content, and its rows as one table."""

import gzip
import io
import lzma
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from planner.errors import InputError
from planner.specs.arrivals import TraceArrivals
from planner.specs.requests import RequestTable
from planner.workloads.csv_trace import read_csv
from planner.workloads.json_trace import MOONCAKE_BLOCK_TOKENS, read_jsonl, read_sharegpt
from planner.workloads.raw import RawRows, column_names, finish

LARGEST_BYTES = 8 * 2**30
"""A larger file is refused: its rows would not fit the memory of a small machine."""
LARGEST_TEXT_BYTES = 2 * 2**30
"""One JSON document is read as a whole, at several times its size."""

Rows = tuple[RawRows, str, tuple[str, str, str]]


def read_trace(
    path: Path,
    format_name: str = "auto",
    *,
    columns: Mapping[str, str] | None = None,
    block_tokens: int | None = None,
    chars_per_token: float | None = None,
) -> RequestTable:
    """Read the requests of a trace, plain or compressed (gzip, xz).

    Parameters
    ----------
    path : a CSV (Azure, BurstGPT, own), JSON lines (Mooncake, own), JSON (ShareGPT) or Parquet
        file.
    format_name : ``azure``, ``burstgpt``, ``mooncake``, ``sharegpt``, ``table``, or ``auto``:
        decided by the first bytes and the names of the columns, never by the file's name.
    columns : ``arrival_s``, ``input_tokens``, ``output_tokens``, ``hash_ids``, ``priority`` -> the
        file's own name, where it differs.
    block_tokens : tokens one hash id stands for; Mooncake's are 512.
    chars_per_token : for files of text.

    Returns
    -------
    Requests sorted by time, counted from the first one; ``notes`` say what was done to them.

    Raises
    ------
    InputError
        File, line, column and value of the first fault.
    """
    wanted = dict(columns or {})
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise InputError(
                str(path), "", f"has {size / 1e9:.3g} GB; at most {LARGEST_BYTES / 1e9:.3g} GB "
                "are read: cut it into parts, or write it as Parquet with three columns",
            )  # fmt: skip
        with _opened(path) as stream:
            rows = _rows(path, stream, format_name, wanted, chars_per_token)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), "", f"cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise InputError(str(path), "", "is neither text (UTF-8) nor Parquet") from None
    raw, format_name, names = rows
    if format_name == "mooncake" and block_tokens is None:
        block_tokens = MOONCAKE_BLOCK_TOKENS
    return finish(raw, format_name, block_tokens, names)


def read_arrivals(arrivals: TraceArrivals, path: Path) -> TraceArrivals:
    """Fill in the rows of a trace from the file it names, unless they are there already."""
    if arrivals.is_read():
        return arrivals
    table = read_trace(
        path, arrivals.format, columns={str(k): v for k, v in arrivals.columns.items()},
        block_tokens=arrivals.block_tokens, chars_per_token=arrivals.chars_per_token,
    )  # fmt: skip
    return arrivals.model_copy(update={"table": replace(table, read_from=arrivals.reading())})


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    if start == b"\xfd7zXZ\x00":
        return lzma.open(path)
    return path.open("rb")


def _rows(
    path: Path, stream: IO[bytes], format_name: str, columns: dict[str, str],
    chars_per_token: float | None,
) -> Rows:  # fmt: skip
    start = stream.read(4096)
    if not start.strip():
        raise InputError(str(path), "", "is empty")
    stream.seek(0)
    if start.startswith(b"PAR1"):
        return _parquet(path, columns)
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        if first == b"[" or format_name == "sharegpt":
            if path.stat().st_size > LARGEST_TEXT_BYTES:
                raise InputError(
                    str(path), "", "is too large for one JSON document; use JSON lines"
                )
            raw = read_sharegpt(path, text, chars_per_token)
            return raw, "sharegpt", ("", "prompt", "answer")
        if first == b"{":
            return read_jsonl(path, text, format_name, columns)
        return read_csv(path, text, format_name, columns)


def _parquet(path: Path, columns: dict[str, str]) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            str(path), "", "is Parquet, which needs pyarrow: pip install 'moe-planner[tables]'"
        ) from None
    try:
        have = pq.read_schema(path).names
        names = column_names(path, have, columns)
        ids_name = columns.get("hash_ids", "hash_ids")
        class_name = columns.get("priority", "priority")
        optional = [name for name in (ids_name, class_name) if name in have]
        table = pq.read_table(path, columns=[*names, *optional])
        raw = RawRows(path)
        time = table.column(names[0])
        if pa.types.is_timestamp(time.type):
            raw.time = [time.cast(pa.timestamp("ns")).to_numpy().astype("datetime64[ns]")
                        .astype(np.int64) / 1e9]  # fmt: skip
        else:
            raw.time = [time.cast(pa.float64()).to_numpy()]
        raw.inputs, raw.outputs = (
            [table.column(name).cast(pa.float64()).to_numpy()] for name in names[1:]
        )
        if class_name in have:
            raw.priority = [table.column(class_name).cast(pa.float64()).to_numpy()]
        if ids_name in have:
            lists = table.column(ids_name).combine_chunks()
            raw.hash_ids = [lists.flatten().cast(pa.int64()).to_numpy()]
            raw.hash_counts = [np.diff(lists.offsets.to_numpy().astype(np.int64))]
    except pa.ArrowException as error:
        raise InputError(str(path), "", f"cannot be read: {str(error).splitlines()[0]}") from None
    raw.lines = [np.arange(1, len(table) + 1)]
    return raw, "table", names
