"""From measured rows to the work that was timed: what each call multiplies and moves.

The same formulas as ``planner.ops``, on columns, and with the formats of other devices; a test
holds both to each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from planner.calibrate.rows import FloatArray, Mask, Table
from planner.errors import InputError
from planner.ops.laws import rounds, untuned_rows
from planner.roofline import Call, Shaping
from planner.specs.calibration import Achieved, AttentionVariant, CalibrationSpec, standing_in
from planner.specs.hardware import AcceleratorSpec, Precision

PRECISION: dict[str, Precision] = {
    "bf16": "bf16", "fp16": "bf16", "fp8_block": "fp8", "fp8_tensor": "fp8", "fp8_row": "fp8",
    "nvfp4": "fp4", "mxfp4": "fp4", "int8": "int8",
    "mxfp4_w4a16": "bf16", "mxfp4_w4a8": "fp8", "int4": "bf16",
}  # fmt: skip
"""Format of a row -> format the matrix units multiply in."""

ACTIVATION_BYTES = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8_block": 1.0, "fp8_tensor": 1.0, "fp8_row": 1.0,
    "nvfp4": 0.5, "mxfp4": 0.5, "int8": 1.0,
    "mxfp4_w4a16": 2.0, "mxfp4_w4a8": 2.0, "int4": 2.0,
}  # fmt: skip
WEIGHT_BYTES = {
    **ACTIVATION_BYTES, "fp8_block": 1 + 4 / 128**2, "nvfp4": 0.5625, "mxfp4": 0.53125,
    "mxfp4_w4a16": 0.53125, "mxfp4_w4a8": 0.53125, "int4": 0.5625,
}  # fmt: skip
"""With their scales. [bytes an element]"""
STORED = {"mxfp4_w4a16": "mxfp4", "mxfp4_w4a8": "mxfp4", "int4": "int4"}
"""Format of a row -> how its weights are stored, where a kernel expands them or converts
activations for them itself: activations come and go in 16 bits."""
RESULT_BYTES = {"fp32": 4.0}
ROWS_DECIDE = ("fp32",)
"""Formats of processors: no tiles to spread over many units, so that rows alone decide."""
QUANTISED = ("fp8_block", "fp8_tensor", "fp8_row", "nvfp4", "mxfp4")
"""Formats whose activations a serving engine converts from bf16 before it multiplies."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Stated peaks of a part, or the best seen where nobody states them."""

    flop_per_s: Mapping[str, float]
    bytes_per_s: float
    cache_bytes: float = 0.0
    """Last cache on the chip; 0: not stated."""
    units: int | None = None
    """Multiprocessors; None: not stated."""

    def rate(self, dtype: str) -> float:
        """Peak for rows of ``dtype``. [FLOP/s]"""
        name = PRECISION.get(dtype, dtype)
        if name not in self.flop_per_s:
            has = ", ".join(self.flop_per_s)
            raise InputError("", "dtype", f"no {dtype} matrix units; this part multiplies in {has}")
        return self.flop_per_s[name]


def stated_peaks(part: AcceleratorSpec) -> Peaks:
    """Datasheet peaks of an accelerator."""
    rates = {name: float(value) for name, value in part.dense_flop_per_s if value is not None}
    units = round(part.multiprocessors) if part.multiprocessors else None
    return Peaks(rates, float(part.memory_bytes_per_s), float(part.cache_bytes or 0.0), units)


MORE = (
    "rows", "columns", "step_s", "scores_s", "head_rows", "tokens", "planned", "touched", "foreign",
    "rounds",
)  # fmt: skip
"""What only some kernels have."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kernel of each row: seconds at the peaks, and the sizes its shares depend on."""

    family: str
    """Family whose achieved shares apply: ``gemm``, ``grouped_gemm``, ``attention_decode`` …"""
    precision: str
    compute_s: FloatArray
    memory_s: FloatArray
    size: FloatArray
    """Result elements (gemm), rows a group (grouped_gemm)."""
    call_bytes: FloatArray
    depth: FloatArray
    """Inner dimension, or length of a prompt. [elements, tokens]"""
    query_s: FloatArray
    """Queries and results of attention at the peak. [s]"""
    variant: str = ""
    """Kernel of attention (``AttentionVariant``); empty: MLA on a 16-bit cache."""
    multiplies: Precision | None = None
    """Format of the products where it is not the row's."""
    rows: FloatArray | None = None
    """Rows of a product's result."""
    step_s: FloatArray | None = None
    """Operands of one step of a product's inner dimension at the peak. [s]"""
    scores_s: FloatArray | None = None
    """One FLOP a score of prefill attention at the peak. [s]"""
    head_rows: FloatArray | None = None
    """Queries of all heads in prefill attention, cached heads of all sequences in decode."""
    tokens: FloatArray | None = None
    """Tokens of prefill attention; elements of the tokens that a grouped product is given."""
    columns: FloatArray | None = None
    """Columns of a dense product's result."""
    units: int | None = None
    """Multiprocessors of the part; None: not stated."""
    planned: FloatArray | None = None
    """Rows an expert that the tiles of a grouped product are planned for."""
    touched: FloatArray | None = None
    """Experts of a grouped product with a row."""
    foreign: FloatArray | None = None
    """Elements of its result for pairs of experts held elsewhere, where they are passed over."""
    rounds: FloatArray | None = None
    """Looks at experts until all tokens have chosen theirs, where the rows' kernel lets them."""
    untuned: bool = False
    """Whether tiles are those of shapes that nobody tuned."""

    @property
    def key(self) -> tuple[str, str]:
        """What one set of shares is fitted for."""
        products = ("gemm", "grouped_gemm")
        return (self.family, self.precision if self.family in products else self.variant)

    def time_s(self, law: Achieved) -> FloatArray:
        """Seconds by ``law``: the formula of ``planner.roofline``. [s]"""
        return np.asarray(self.call.time_s(law))

    @property
    def call(self) -> Call:
        """The calls as the roofline sees them."""
        lines = self.family == "attention_decode"
        work = self.compute_s, self.memory_s, self.size, self.call_bytes, self.depth
        more = {n: v for n in MORE if (v := getattr(self, n)) is not None}
        return Call(*work, self.query_s, lines, **more)

    def shaped(self, how: Shaping) -> "Work":
        """The work with what tiles, pipelines and exponentials add to it."""
        call = self.call.shaped(how)
        return replace(
            self,
            compute_s=np.asarray(call.compute_s),
            memory_s=np.asarray(call.memory_s),
            size=np.asarray(call.size),
            depth=np.asarray(call.depth),
        )

    def take(self, keep: Mask) -> "Work":
        """Rows where ``keep``."""
        names = ("compute_s", "memory_s", "size", "call_bytes", "depth", "query_s", *MORE)
        kept = {n: v[keep] for n in names if (v := getattr(self, n)) is not None}
        return replace(self, **kept)


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Work, traffic and sizes of one kernel of each row."""

    flop: FloatArray
    moved: FloatArray
    size: FloatArray
    depth: FloatArray


def _work(family: str, dtype: str, peaks: Peaks, of: _Amounts) -> Work:
    rate = peaks.rate(dtype) if np.any(of.flop) else 1.0
    multiplied = PRECISION.get(dtype)
    return Work(
        family, STORED.get(dtype, multiplied or dtype),
        of.flop / rate, of.moved / peaks.bytes_per_s,
        of.size, of.moved, of.depth, np.zeros_like(of.moved),
        multiplies=multiplied if dtype in STORED and multiplied != "bf16" else None,
    )  # fmt: skip


def elementwise(moved: FloatArray, peaks: Peaks) -> Work:
    """A kernel that only moves bytes."""
    zero = np.zeros_like(moved)
    return _work("elementwise", "bf16", peaks, _Amounts(zero, moved, zero + 1, zero))


CONVERSION_BYTES = 3.0
"""Read bf16, write one byte. [bytes an element]"""


def conversion(elements: FloatArray, peaks: Peaks) -> Work:
    """Quantisation that a row's time includes; its share is found beside the product's."""
    moved = CONVERSION_BYTES * elements
    return replace(elementwise(moved, peaks), family="conversion")


def gemm(m: FloatArray, k: FloatArray, n: FloatArray, dtype: str, peaks: Peaks) -> Work:
    """``[m, k]`` times ``[k, n]``; as :class:`planner.ops.Gemm`."""
    out = RESULT_BYTES.get(dtype, 2.0)
    moved = m * k * ACTIVATION_BYTES[dtype] + out * m * n + k * n * WEIGHT_BYTES[dtype]
    size = m if dtype in ROWS_DECIDE else m * n
    work = _work("gemm", dtype, peaks, _Amounts(2 * m * k * n, moved, size, k))
    return replace(work, rows=m, columns=n, units=peaks.units)


def grouped_gemm(
    pairs: FloatArray, touched: FloatArray, k: FloatArray, n: FloatArray, dtype: str, peaks: Peaks
) -> Work:
    """One product an expert; as :class:`planner.ops.GroupedGemm`."""
    out = RESULT_BYTES.get(dtype, 2.0)
    moved = pairs * (k * ACTIVATION_BYTES[dtype] + out * n) + touched * k * n * WEIGHT_BYTES[dtype]
    rows = pairs / np.maximum(touched, 1e-30)
    work = _work("grouped_gemm", dtype, peaks, _Amounts(2 * pairs * k * n, moved, rows, k))
    step_s = (moved - out * pairs * n) / k / peaks.bytes_per_s
    return replace(work, step_s=step_s, head_rows=pairs * n, planned=rows, touched=touched)


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


def planned_rows(table: Table) -> FloatArray:
    """Rows an expert that tiles are made for.

    Where a library chooses them before it knows what tokens chose, by rule (``tiles: planned``) or
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


INDEX_BYTES = 4.0
"""Read and written for every pair where they are sorted by expert."""


def moe_layer(table: Table, peaks: Peaks) -> list[Work]:
    """What ``planner.ops.layer.expert_ops`` lists: two products, permutation, gate, sum.

    Rows that time a whole layer on every token of the group (``includes: layer``) choose the
    experts, convert the input of all tokens and write the result of all tokens besides; where
    routing is a step of its own (``routing: apart``), a kernel sorts what it chose.
    """
    rows, experts = pairs(table), touched(table)
    hidden, width = table["hidden"], table["intermediate"]
    act = ACTIVATION_BYTES[table.dtype]
    whole = table.labels.get("includes") == "layer"
    written = table["group_tokens"] if whole else rows
    planned, given = planned_rows(table), table["group_tokens"] * hidden if whole else None
    untuned = table.labels.get("tiles") == "untuned"
    others = table["group_tokens"] * table["top_k"] - rows
    looks = None
    if "routing" in table.labels and peaks.units:
        every = table["group_tokens"], table["top_k"], table["experts"]
        looks = np.asarray(rounds(*every, peaks.units)) * (table.labels["routing"] == "inside")
    found = [
        replace(
            grouped_gemm(rows, experts, k, n, table.dtype, peaks),
            planned=planned,
            tokens=given,
            untuned=untuned,
            rounds=looks,
            foreign=np.maximum(others, 0) * n if table.labels.get("foreign") == "passed" else None,
        )
        for k, n in ((hidden, 2 * width), (width, hidden))
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
    of = _Amounts(flop, moved, np.ones_like(flop), context / sequences)
    query_s = size * sequences * asked / peaks.bytes_per_s
    eight = kv_size == 1.0 and "fp8" in peaks.flop_per_s
    work = _work("attention_decode", "fp8_tensor" if eight else table.dtype, peaks, of)
    return replace(
        work,
        query_s=query_s,
        variant=variant_of(table),
        multiplies="fp8" if eight else None,
        head_rows=None if latent_cache else sequences * table["kv_heads"],
    )


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
    of = _Amounts(flop, size * tokens * keys * (qk + v), np.ones_like(flop), each)
    eight = table.labels.get("kv_dtype") == "fp8" and "fp8" in peaks.flop_per_s
    dtype = "fp8_tensor" if eight else table.dtype
    work = _work("attention_prefill", dtype, peaks, of)
    return replace(
        work,
        variant=variant_of(table),
        multiplies="fp8" if eight else None,
        query_s=size * tokens * heads * (qk + v) / peaks.bytes_per_s,
        scores_s=pair_count * heads / peaks.rate(dtype),
        head_rows=tokens * heads,
        tokens=tokens,
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
        if table.labels.get("includes") == "quantise":
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
    return np.asarray(sum(np.maximum(w.compute_s, w.memory_s + w.query_s) for w in main))


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
