"""Recorded tokens per expert (CSV, JSON, NPZ), and fitted routing profiles by name."""

import csv
import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.files.profiles import names_in, profile_root
from planner.files.yaml_io import load_spec, suggestion
from planner.specs.routing import HistogramPopularity, RoutingProfile

Counts = NDArray[np.float64]

LARGEST_BYTES = 256 * 2**20
"""A histogram of 61 layers x 512 experts x 100 windows is 25 MB; larger files are a mistake."""

COLUMNS = ("layer", "expert", "tokens")

MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")
"""First bytes of an NPZ file, which is a zip (or an empty one), and of an NPY file."""

NOT_PLAIN = "is not a plain NPZ or NPY file:"

BROKEN = (ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or foreign NPZ or NPY file raises."""


def read_histogram(
    path: Path, experts: int | None = None, layers: int | None = None
) -> HistogramPopularity:
    """Read tokens per expert, ``[windows, layers, experts]`` (windows may be left out).

    * CSV: columns ``layer, expert, tokens`` and optionally ``window``, in any order; or bare
      numbers, a line a layer, a blank line between windows.
    * JSON: nested lists, bare or under ``counts``.
    * NPZ or NPY: one array, or the one called ``counts``.  Pickled objects are not read.

    Parameters
    ----------
    experts, layers : sizes of the model, where known; a file that differs is refused.

    Raises
    ------
    InputError
        With file, line or field, value and remedy.
    """
    readers = {".csv": _csv, ".json": _json, ".npz": _npz, ".npy": _npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            str(path), "", f"a histogram is one of {', '.join(readers)}, got {path.suffix!r}"
        )
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(str(path), "", "is larger than 256 MB; sum its windows first")
        counts, lines = reader(path, experts)
    except OSError as error:
        raise InputError(str(path), "", f"cannot be read: {error.strerror}") from None
    _check(path, counts, lines, experts, layers)
    rows = tuple(tuple(tuple(map(float, layer)) for layer in window) for window in counts)
    return HistogramPopularity(path=str(path), windows=rows)


Lines = Sequence[Sequence[int]]
"""Line of each window's layers in the file; empty where a file has no lines."""


def _check(
    path: Path, counts: Counts, lines: Lines, experts: int | None, layers: int | None
) -> None:
    def where(window: int, layer: int) -> str:
        return f"{path}:{lines[window][layer]}" if lines else str(path)

    for index in np.argwhere(~np.isfinite(counts) | (counts < 0)):
        window, layer, expert = (int(i) for i in index)
        raise InputError(
            where(window, layer),
            f"counts[{window}][{layer}][{expert}]",
            f"must be a number of tokens, 0 or more, got {counts[window, layer, expert]:g}",
        )
    for window, layer in np.argwhere(counts.sum(axis=2) == 0):
        raise InputError(
            where(window, layer),
            f"counts[{window}][{layer}]",
            "every count is 0; leave out a layer or window without traffic",
        )
    if experts is not None and counts.shape[2] != experts:
        raise InputError(
            where(0, 0),
            "experts",
            f"has {counts.shape[2]} experts a layer, the model has {experts}; "
            "record it on the same model",
        )
    if layers is not None and counts.shape[1] not in (1, layers):
        raise InputError(
            str(path),
            "layers",
            f"has {counts.shape[1]} layers, the model has {layers} MoE layers; "
            "give all of them, or one to stand for all",
        )


def _shaped(path: Path, field: str, data: Any) -> Counts:
    """Nested lists or an array as ``[windows, layers, experts]``."""
    try:
        found = np.asarray(data)
    except ValueError:
        found = np.empty(0, dtype=object)
    kind = found.dtype.kind
    if kind not in "iuf" or found.ndim not in (2, 3) or 0 in found.shape:
        other = {"b": "boolean, not counts", "c": "complex, not counts"}
        what = f"{found.ndim}-d" if kind in "iuf" else other.get(kind, "ragged or not numbers")
        raise InputError(
            str(path),
            field,
            f"is {what}; give layers x experts or windows x layers x experts, none empty",
        )
    return np.asarray(found if found.ndim == 3 else found[None], dtype=float)


def _npz(path: Path, _: int | None) -> tuple[Counts, Lines]:
    with path.open("rb") as stream:
        if not stream.read(6).startswith(MAGIC):
            raise InputError(str(path), "", f"{NOT_PLAIN} its first bytes are of neither")
        stream.seek(0)
        try:
            name, array = _array(path, np.load(stream, allow_pickle=False))
        except BROKEN as error:
            objects = "allow_pickle" in str(error)
            reason = "holds Python objects, save numbers" if objects else "is damaged or cut short"
            raise InputError(str(path), "", f"{NOT_PLAIN} it {reason}") from None
    return _shaped(path, name, array), ()


def _array(path: Path, stored: Any) -> tuple[str, Any]:
    """Name and array of what numpy read: one array, or an archive with one called ``counts``."""
    if isinstance(stored, np.ndarray):
        return "", stored
    names = list(stored.files)
    name = "counts" if "counts" in names else names[0] if len(names) == 1 else ""
    if not name:
        raise InputError(
            str(path), "counts", f"is missing; the file holds {', '.join(names) or 'none'}"
        )
    return name, stored[name]


def _json(path: Path, _: int | None) -> tuple[Counts, Lines]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}", "", f"malformed JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(str(path), "", f"cannot be read: {error}") from None
    if isinstance(data, dict):
        if "counts" not in data:
            known = ", ".join(map(str, data)) or "none"
            raise InputError(str(path), "counts", f"is missing; the file has {known}")
        data = data["counts"]
    return _shaped(path, "counts", data), ()


def _csv(path: Path, experts: int | None) -> tuple[Counts, Lines]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), "", f"is not CSV text: {error}") from None
    first = next((row for _, row in rows if any(row)), [])
    if not first:
        raise InputError(str(path), "", "is empty")
    if any(cell and not _is_number(cell) for cell in first):
        return _long_csv(path, rows, experts)
    return _wide_csv(path, rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, field: str, text: str) -> float:
    if not _is_number(text) or not math.isfinite(float(text)):
        raise InputError(f"{path}:{line}", field, f"must be a number, got {text!r}")
    return float(text)


def _wide_csv(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[Counts, Lines]:
    """Bare numbers: a line a layer, blank lines between windows."""
    windows: list[list[list[float]]] = [[]]
    lines: list[list[int]] = [[]]
    width = 0
    for line, row in rows:
        if not any(row):
            if windows[-1]:
                windows.append([])
                lines.append([])
            continue
        width = width or len(row)
        if len(row) != width:
            raise InputError(
                f"{path}:{line}", "", f"has {len(row)} experts, the first line has {width}"
            )
        windows[-1].append([_number(path, line, f"expert {i}", c) for i, c in enumerate(row)])
        lines[-1].append(line)
    if not windows[-1]:
        del windows[-1], lines[-1]
    for window, its in zip(windows, lines, strict=True):
        if len(window) != len(windows[0]):
            raise InputError(
                f"{path}:{its[0]}",
                "",
                f"this window has {len(window)} layers, the first has {len(windows[0])}",
            )
    return np.array(windows), lines


def _long_csv(
    path: Path, rows: list[tuple[int, list[str]]], experts: int | None
) -> tuple[Counts, Lines]:
    """One line a window, layer and expert; layers and windows in the order of their numbers."""
    filled = [(line, row) for line, row in rows if any(row)]
    line, head = filled[0]
    names = [cell.lower() for cell in head]
    for name in COLUMNS:
        if name not in names:
            raise InputError(
                f"{path}:{line}",
                name,
                "column is missing; give layer, expert, tokens and optionally window"
                + suggestion(name, names),
            )
    columns = ("window", *COLUMNS) if "window" in names else COLUMNS
    found: dict[tuple[int, int, int], tuple[int, float]] = {}
    for line, row in filled[1:]:
        if len(row) != len(head):
            raise InputError(
                f"{path}:{line}", "", f"has {len(row)} values, the header has {len(head)}"
            )
        value = {name: _number(path, line, name, row[names.index(name)]) for name in columns}
        key = (_index(path, line, "window", value.get("window", 0.0)),
               _index(path, line, "layer", value["layer"]),
               _index(path, line, "expert", value["expert"]))  # fmt: skip
        if experts is not None and key[2] >= experts:
            raise InputError(
                f"{path}:{line}", "expert", f"{key[2]} is not one of the model's {experts}, from 0"
            )
        if key in found:
            raise InputError(f"{path}:{line}", "", f"was given already in line {found[key][0]}")
        if value["tokens"] < 0:
            raise InputError(
                f"{path}:{line}", "tokens", f"must be 0 or more, got {value['tokens']:g}"
            )
        found[key] = (line, value["tokens"])
    if not found:
        raise InputError(f"{path}:{line}", "", "has a header but no counts")
    window_at = {w: i for i, w in enumerate(sorted({key[0] for key in found}))}
    layer_at = {n: i for i, n in enumerate(sorted({key[1] for key in found}))}
    size = experts or 1 + max(key[2] for key in found)
    counts = np.zeros((len(window_at), len(layer_at), size))
    for (window, layer, expert), (_, tokens) in found.items():
        counts[window_at[window], layer_at[layer], expert] = tokens
    return counts, ()


def _index(path: Path, line: int, field: str, value: float) -> int:
    if value < 0 or value != int(value):
        raise InputError(f"{path}:{line}", field, f"must be a whole number from 0, got {value:g}")
    return int(value)


def routing_names() -> list[str]:
    """Names of the shipped routing profiles."""
    return names_in(profile_root() / "routing")


def load_routing_profile(name: str) -> RoutingProfile:
    """Read a fitted routing profile by name, or from the YAML file that ``name`` is the path of.

    Raises
    ------
    InputError
        Names the known profiles.
    """
    if name.endswith((".yaml", ".yml")):
        return load_spec(Path(name), RoutingProfile)
    known = routing_names()
    if name not in known:
        raise InputError("", "routing.profile", f"{name!r} is not known" + suggestion(name, known))
    return load_spec(profile_root() / "routing" / f"{name}.yaml", RoutingProfile)
