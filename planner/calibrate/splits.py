"""Which points are held out of a fit, and how far predictions are from them."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from planner.calibrate.calls import Work
from planner.calibrate.features import predict_s
from planner.calibrate.rows import FloatArray, Mask, Table
from planner.specs.calibration import Achieved
from planner.specs.provenance import CheckFamily, HeldOut, Split

SIZES = {
    "gemm": ("m",),
    "grouped_gemm": ("pairs",),
    "moe_layer": ("group_tokens",),
    "attention_decode": ("context_tokens", "sequences"),
    "attention_prefill": ("tokens", "sequences"),
    "elementwise": ("bytes",),
    "all_to_all": ("tokens", "bytes"),
}
"""What grows with the batch."""
SHAPES = {
    "gemm": ("k", "n"),
    "grouped_gemm": ("k", "n"),
    "moe_layer": ("hidden", "experts", "top_k"),
    "attention_decode": ("heads",),
    "attention_prefill": ("heads",),
    "all_to_all": ("ranks", "nodes", "hidden", "experts", "top_k"),
}
"""What belongs to a model; a layer of experts is one model's however it is sliced."""
GRID = 0.5
"""Part of all pairs of sides from which products are a grid: nearly every pair held out would have
both its sides in the fit, so that inner dimensions and columns are held out each for itself."""
FEWEST_SHAPES = 4
"""Below which none is held out."""
HELD_DEGREES = (4, 16, 64)
"""Expert-parallel degrees never fitted in the ``ep_degree`` split."""
FEWEST = 5
"""Held-out points below which nothing is said."""


def held_out(table: Table, split: Split) -> Mask | None:
    """Rows held out by ``split``; None where the table does not vary that way."""
    if split == "interpolation":
        return _every_third(table, SIZES.get(table.op, ()))
    keep = np.zeros(len(table), bool)
    if split == "shape":
        for names in _drawn_by(table):
            keep |= _one_in_four(table, names)
    if split == "ep_degree" and table.op == "moe_layer":
        keep = np.isin(table["experts"] / table["local_experts"], HELD_DEGREES)
    return keep if FEWEST <= keep.sum() < len(table) else None


def _every_third(table: Table, names: tuple[str, ...]) -> Mask | None:
    """Every third value of the size, neighbours on both sides staying in the fit."""
    if not names or names[0] not in table.columns:
        return None
    size = table[names[0]]
    for name in names[1:]:
        size = size / table[name]
    values = np.unique(size)
    keep = np.isin(size, values[1:-1:3]) if len(values) > 3 else np.zeros(len(table), bool)
    return keep if keep.sum() >= FEWEST else None


def _drawn_by(table: Table) -> list[tuple[str, ...]]:
    """Columns whose values are drawn, together or each for itself."""
    names = SHAPES.get(table.op, ())
    if not names or any(name not in table.columns for name in names):
        return []
    if table.op == "gemm":
        k, n = (table[name] for name in names)
        pairs = len(np.unique(np.stack([k, n]), axis=1).T)
        if pairs >= GRID * len(np.unique(k)) * len(np.unique(n)):
            return [("k",), ("n",)]
    return [names]


def _one_in_four(table: Table, names: tuple[str, ...]) -> Mask:
    """All rows of about a quarter of the shapes, drawn by what the shape is; none of few."""
    keep = np.zeros(len(table), bool)
    rows = np.stack([table[name] for name in names], axis=1)
    shapes = np.unique(rows, axis=0)
    if len(shapes) < FEWEST_SHAPES:
        return keep
    drawn = sorted(shapes, key=lambda s: zlib.crc32(repr([float(v) for v in s]).encode()))
    for shape in drawn[::4]:
        keep |= np.all(rows == shape, axis=1)
    return keep


def errors_of(
    table: Table,
    works: Callable[[Table], list[Work]],
    laws: Mapping[tuple[str, str], Achieved],
    split: Split,
) -> HeldOut | None:
    """Compare predictions with the rows of ``table``."""
    if len(table) < FEWEST:
        return None
    return summary(table, predict_s(works(table), laws), split)


def summary(table: Table, predicted_s: FloatArray, split: Split) -> HeldOut:
    """Median, 90th percentile and bias of the relative error."""
    ratio = predicted_s / table.time_s
    error = np.abs(ratio - 1)
    family: CheckFamily = _family(table.op)
    return HeldOut(
        family=family,
        dtype=_dtype(table),
        split=split,
        n=len(table),
        median_abs_error=round(float(np.median(error)), 4),
        p90_abs_error=round(float(np.quantile(error, 0.9)), 4),
        bias=round(float(np.exp(np.mean(np.log(ratio)))) - 1, 4),
        source=" ".join(x for x in (table.origin.source, table.origin.version) if x),
    )


def _dtype(table: Table) -> str:
    """Format, for attention with its kind and an 8-bit cache."""
    fp8 = table.labels.get("kv_dtype") == "fp8"
    kinds = (table.labels.get("variant", ""), table.labels.get("library", ""))
    words = (table.dtype, *kinds, "fp8-cache" if fp8 else "")
    return " ".join(word for word in words if word)


def _family(op: str) -> CheckFamily:
    if op in ("all_reduce", "all_gather", "reduce_scatter"):
        return "collective"
    return op  # type: ignore[return-value]
