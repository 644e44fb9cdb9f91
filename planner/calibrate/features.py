"""From measured rows to the work that was timed: what each call multiplies and moves."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from planner.calibrate.calls import (
    Amounts,
    Peaks,
    Work,
    conversion,
    elementwise,
    gemm,
    grouped_gemm,
    work_of,
)
from planner.calibrate.layers import moe_layer, pairs, touched
from planner.calibrate.rows import FloatArray, Table
from planner.calibrate.tables import TRTLLM_GEN
from planner.errors import InputError
from planner.specs.calibration import Achieved, AttentionVariant, CalibrationSpec, standing_in


def variant_of(table: Table) -> str:
    """Kernel of attention rows, as calibrations name it; empty: MLA on a 16-bit cache."""
    kind = table.labels.get("variant", "gqa")
    if table.labels.get("kv_dtype") == "fp8":
        return f"{kind}_fp8_cache"
    return "" if kind == "mla" else kind


def attention_decode(table: Table, peaks: Peaks) -> Work:
    """Scores and weighted values of one query a sequence."""
    sequences, context, heads = table["sequences"], table["context_tokens"], table["heads"]
    size = 4.0 if table.dtype == "fp32" else 2.0
    kv_size = {"fp8": 1.0}.get(table.labels.get("kv_dtype", ""), size)
    latent_cache = table.labels.get("variant", "").startswith("mla")
    if latent_cache:
        latent, rope = table["kv_lora_rank"], table["rope_dim"]
        flop = 2 * context * heads * (2 * latent + rope)
        moved, asked = kv_size * context * (latent + rope), heads * (2 * latent + rope)
    else:
        kv, dim = table["kv_heads"], table["head_dim"]
        flop = 4 * context * heads * dim
        moved, asked = kv_size * 2 * context * kv * dim, 2 * heads * dim
    of = Amounts(flop, moved, np.ones_like(flop), context / sequences)
    query_s = size * sequences * asked / peaks.bytes_per_s
    eight = kv_size == 1.0 and "fp8" in peaks.flop_per_s
    work = work_of("attention_decode", "fp8_tensor" if eight else table.dtype, peaks, of)
    return replace(
        work,
        query_s=query_s,
        variant=variant_of(table),
        multiplies="fp8" if eight else None,
        units=peaks.units,
        tiles="keys" if table.origin.part in TRTLLM_GEN else table.labels.get("splits", ""),
        head_rows=None if latent_cache else sequences * table["kv_heads"],
        queries=heads if latent_cache else heads / table["kv_heads"],
    )


WRITES_APART = "vllm"
"""Library whose rows of prompts include a kernel that writes keys and values to the cache."""


def attention_prefill(table: Table, peaks: Peaks) -> Work:
    """Causal attention of whole prompts; as :class:`planner.ops.AttentionPrefill`."""
    sequences, tokens = table["sequences"], table["tokens"]
    heads, qk, v = table["heads"], table["head_dim"], table["v_head_dim"]
    size = 4.0 if table.dtype == "fp32" else 2.0
    each = tokens / sequences
    pair_count = sequences * each * (each + 1) / 2
    flop = 2 * pair_count * heads * (qk + v)
    own = table.labels.get("variant", "gqa").startswith("gqa") and "kv_heads" in table.columns
    keys = table["kv_heads"] if own else heads
    of = Amounts(flop, size * tokens * keys * (qk + v), flop, each)
    eight = table.labels.get("kv_dtype") == "fp8" and "fp8" in peaks.flop_per_s
    dtype = "fp8_tensor" if eight else table.dtype
    work, asked = work_of("attention_prefill", dtype, peaks, of), size * tokens * heads * (qk + v)
    kinds = {
        "written": own and table.labels.get("library") == WRITES_APART,
        "paired": table.origin.part in TRTLLM_GEN,
    }
    return replace(
        work,
        variant=variant_of(table),
        multiplies="fp8" if eight else None,
        query_s=asked / peaks.bytes_per_s,
        call_bytes=of.moved + asked,
        rows=2 * pair_count / tokens,
        scores_s=pair_count * heads / peaks.rate(dtype),
        head_rows=tokens * heads,
        tokens=tokens,
        cache_bytes=np.full_like(tokens, peaks.cache_bytes),
        key_width=keys * (qk + v) / 2,
        keys=tokens * keys * (qk + v) / 2,
        tiles=" ".join(word for word, holds in kinds.items() if holds),
    )


def works(table: Table, peaks: Peaks) -> list[Work]:
    """Kernels whose times add up to the rows' times.

    Raises
    ------
    InputError
        For an operation that no family of the calibration describes.
    """
    if table.op == "gemm":
        found = [gemm(table["m"], table["k"], table["n"], table.dtype, peaks)]
        found = [replace(found[0], tiles=table.labels.get("tiles", ""))]
        if table.labels.get("includes") == "quantise":
            found = [replace(found[0], tokens=table["m"])]
            found.append(conversion(table["m"] * table["k"], peaks))
    elif table.op == "grouped_gemm":
        sizes = pairs(table), touched(table), table["k"], table["n"]
        found = [grouped_gemm(*sizes, table.dtype, peaks)]
    elif table.op == "moe_layer":
        found = moe_layer(table, peaks)
    elif table.op == "attention_decode":
        found = [attention_decode(table, peaks)]
    elif table.op == "attention_prefill":
        found = [attention_prefill(table, peaks)]
    elif table.op == "elementwise":
        found = [elementwise(table["bytes"], peaks)]
    else:
        raise InputError("", "op", f"{table.op} rows are not fitted as work of one device")
    return found


BESIDE = ("elementwise", "conversion")
"""Families beside a row's products, which an engine may fuse away."""


def bound_s(table: Table, peaks: Peaks) -> FloatArray:
    """Least time the stated peaks allow for the rows' matrix products and transfers. [s]"""
    main = [w for w in works(table, peaks) if w.family not in BESIDE or table.op == w.family]
    return np.asarray(sum(np.maximum(w.compute_s, w.call.crossing_s) for w in main))


def law_of(calibration: CalibrationSpec, key: tuple[str, str]) -> Achieved:
    """Achieved shares of one family and precision."""
    family, precision = key
    if family in ("gemm", "grouped_gemm"):
        laws = calibration.gemm if family == "gemm" else calibration.grouped_gemm
        known = {str(name): law for name, law in laws.items()}
        if family == "grouped_gemm":
            known |= {str(name): law for name, law in calibration.stored_experts.items()}
        found = known.get(precision)
        if found is None:
            raise InputError(
                f"calibration {calibration.name}", family, f"no shares for {precision}"
            )
        return found
    variants: dict[str, Achieved] = getattr(calibration, f"{family}_variants", {})
    kernel = standing_in(variants, cast(AttentionVariant, precision))
    law: Achieved = variants[kernel] if kernel else getattr(calibration, family)
    return law


def predict_s(parts: list[Work], laws: Mapping[tuple[str, str], Achieved]) -> FloatArray:
    """Predicted time of each row: its kernels one after another. [s]"""
    return np.asarray(sum(work.time_s(laws[work.key]) for work in parts))
