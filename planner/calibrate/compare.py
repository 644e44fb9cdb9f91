"""Two sources of measured times of the same part, side by side."""

from pathlib import Path
from typing import Any

import numpy as np

from planner.calibrate import tables as aic
from planner.calibrate.own_rows import part_of
from planner.calibrate.packed import is_rows, read_packed
from planner.calibrate.published import published_tables
from planner.calibrate.rows import Table
from planner.calibrate.splits import SIZES
from planner.errors import InputError

SAME = (
    "k", "n", "hidden", "intermediate", "experts", "local_experts", "top_k", "heads", "kv_heads",
    "head_dim", "ranks", "nodes",
)  # fmt: skip
"""Columns that points of two sources must have alike beside their sizes."""
USUAL = {"kv_dtype": "bf16"}
"""What rows are that do not say: a cache is in 16 bits unless it is said to be in 8."""


def source_tables(source: str, part: str) -> list[Table]:
    """Tables that a word names: a rows file, ``published``, or ``ENGINE[:VERSION]`` of the tables.

    Raises
    ------
    InputError
        Nothing of that name has rows of the part.
    """
    if is_rows(source):
        file = read_packed(Path(source))
        device = str(file.header["device"])
        if part not in (known := part_of(file), device):
            named = f"{known} ({device})" if known and known != device else device
            raise InputError("--part", part, f"{source} holds rows of {named}")
        return list(file.tables)
    if source == "published":
        found = published_tables(part)
    else:
        engine, _, version = source.partition(":")
        found = aic.aic_tables(part, engine=engine, version=version or None)
    if not found:
        raise InputError("", "source", f"no rows of {part} in {source!r}")
    return found


def compare(a: str, b: str, part: str) -> list[dict[str, Any]]:
    """Two sources of the same part side by side, on points both have.

    Parameters
    ----------
    part : accelerator; of two files also their device's own name.

    Returns
    -------
    list of {part, family, dtype, a, b, n, median_ratio, p10_ratio, p90_ratio}; ratios are time by
    ``b`` over time by ``a``.

    Raises
    ------
    InputError
        A source has no rows of the part.
    """
    found = []
    others = source_tables(b, part)
    for one in source_tables(a, part):
        for two in others:
            if one.op != two.op or one.dtype != two.dtype or _kind(one) != _kind(two):
                continue
            ratio = _ratios(one, two)
            if len(ratio):
                low, mid, high = np.quantile(ratio, (0.1, 0.5, 0.9))
                found.append({
                    "part": part, "family": one.op, "dtype": one.dtype,
                    "a": f"{a} {one.kernel}".strip(), "b": f"{b} {two.kernel}".strip(),
                    "n": len(ratio), "median_ratio": round(float(mid), 4),
                    "p10_ratio": round(float(low), 4), "p90_ratio": round(float(high), 4),
                })  # fmt: skip
    return found


def _kind(table: Table) -> tuple[str, ...]:
    """What rows of two sources must say alike; heads tell MLA of few heads apart anyway."""
    labels = {**USUAL, **table.labels}
    labels["variant"] = labels.get("variant", "").replace("mla_narrow", "mla")
    names = ("variant", "kv_dtype", "distribution", "phase")
    return tuple(labels.get(name, "") for name in names)


def _ratios(one: Table, two: Table) -> np.ndarray:
    names = (*SIZES.get(one.op, ("bytes",)), *SAME)
    names = tuple(n for n in names if n in one.columns and n in two.columns)
    if not names:
        return np.zeros(0)
    known = dict(zip(_keys(one, names), one.time_s, strict=True))
    pairs = [
        (known[key], t)
        for key, t in zip(_keys(two, names), two.time_s, strict=True)
        if key in known
    ]
    return np.array([t / s for s, t in pairs])


def _keys(table: Table, names: tuple[str, ...]) -> list[tuple[float, ...]]:
    return list(zip(*(table[n].tolist() for n in names), strict=True))
