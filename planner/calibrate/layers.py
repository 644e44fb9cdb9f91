"""MoE layers of measured rows as work: what their kernels do for the tokens they are given."""

from dataclasses import replace

import numpy as np

from planner.calibrate.calls import (
    ACTIVATION_BYTES,
    QUANTISED,
    WEIGHT_BYTES,
    Peaks,
    Work,
    elementwise,
    grouped_gemm,
)
from planner.calibrate.rows import FloatArray, Table
from planner.errors import InputError
from planner.ops.laws import rounds, uncached_s, untuned_rows


def touched(table: Table) -> FloatArray:
    """Experts of the busiest device that get a token, of the row's own routing.

    Balanced routing spreads tokens before it repeats an expert: ``min(local experts, pairs)``.
    """
    if "touched" in table.columns:
        return table["touched"]
    if table.labels.get("distribution", "balanced") != "balanced":
        raise InputError("", "distribution", f"{table.name}: rows do not say the experts touched")
    return np.minimum(table["local_experts"], pairs(table))


def pairs(table: Table) -> FloatArray:
    """(token, expert) pairs on one device."""
    if "pairs" in table.columns:
        return table["pairs"]
    share = table["local_experts"] / table["experts"]
    return np.maximum(1.0, table["group_tokens"] * table["top_k"] * share)


BY_RULE = ("planned", "powers", "marlin")
"""Ways of choosing the height of tiles that are a rule, the same for every shape."""


def planned_rows(table: Table) -> FloatArray:
    """Rows an expert that tiles are made for.

    Where a library chooses them before it knows what tokens chose, by rule (:data:`BY_RULE`) or
    from measured lists (``tiles: tuned``): pairs of all tokens it is given over the experts held;
    where it has no list for the shape (``tiles: untuned``) 16 or 64; else the rows that experts
    have.
    """
    rows = pairs(table) / np.maximum(touched(table), 1e-30)
    if "tiles" not in table.labels:
        return rows
    if table.labels["tiles"] == "untuned":
        return np.asarray(untuned_rows(table["group_tokens"], table["local_experts"]))
    return np.maximum(rows, table["group_tokens"] * table["top_k"] / table["local_experts"])


def _product(table: Table, k: FloatArray, n: FloatArray, peaks: Peaks) -> Work:
    """One of a layer's products, with what its kernel does for the tokens it is given."""
    rows, held, labels = pairs(table), touched(table), table.labels
    tokens, top_k = table["group_tokens"], table["top_k"]
    work = replace(
        grouped_gemm(rows, held, k, n, table.dtype, peaks),
        planned=planned_rows(table),
        tiles=labels.get("tiles", ""),
    )
    if labels.get("includes") == "layer":
        work = replace(work, tokens=tokens * table["hidden"])
    if labels.get("foreign") == "passed":
        work = replace(work, foreign=np.maximum(tokens * top_k - rows, 0) * n)
    if labels.get("tiles") == "planned":
        weights = k * n * WEIGHT_BYTES[table.dtype]
        again_s = uncached_s(held, weights, peaks.cache_bytes, peaks.bytes_per_s)
        work = replace(work, uncached_s=np.asarray(again_s))
    if "routing" in labels and peaks.units:
        looks = np.asarray(rounds(tokens, top_k, table["experts"], peaks.units))
        work = replace(work, rounds=looks * (labels["routing"] == "inside"))
    return work


INDEX_BYTES = 4.0
"""Read and written for every pair where they are sorted by expert."""


def moe_layer(table: Table, peaks: Peaks) -> list[Work]:
    """What ``planner.ops.layer.expert_ops`` lists: two products, permutation, gate, sum.

    Rows that time a whole layer on every token of the group (``includes: layer``) choose the
    experts, convert the input of all tokens and write the result of all tokens besides; where
    routing is a step of its own (``routing: apart``), a kernel sorts what it chose.
    """
    rows = pairs(table)
    hidden, width = table["hidden"], table["intermediate"]
    act = ACTIVATION_BYTES[table.dtype]
    whole = table.labels.get("includes") == "layer"
    written = table["group_tokens"] if whole else rows
    found = [
        _product(table, hidden, 2 * width, peaks),
        _product(table, width, hidden, peaks),
    ]
    found += [
        elementwise(rows * hidden * 2 * act, peaks),
        elementwise(5.0 * width * rows, peaks),
        elementwise((rows + written) * hidden * 2.0, peaks),
    ]
    if whole:
        found.append(elementwise(4.0 * table["experts"] * written, peaks))
    if table.labels.get("routing") == "apart":
        found.append(elementwise(2 * INDEX_BYTES * rows, peaks))
    if whole and table.dtype in QUANTISED:
        found.append(elementwise((2 + act) * hidden * written, peaks))
    return found
