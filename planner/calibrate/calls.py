"""Measured calls as work: seconds at a part's peaks, and the sizes its shares depend on.

The same formulas as ``planner.ops``, on columns, and with the formats of other devices; a test
holds both to each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.calibrate.rows import FloatArray, Mask
from planner.errors import InputError
from planner.ops.call import Call, Shaping
from planner.specs.calibration import Achieved
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
    "uncached_s", "key_width", "keys", "cache_bytes", "queries",
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
    """Result elements (gemm), rows a group (grouped_gemm), FLOP (prefill attention)."""
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
    """Rows of a product's result; twice the keys that a prompt's query sees in the mean."""
    step_s: FloatArray | None = None
    """Operands of one step of a product's inner dimension at the peak. [s]"""
    scores_s: FloatArray | None = None
    """One FLOP a score of prefill attention at the peak. [s]"""
    head_rows: FloatArray | None = None
    """Queries of all heads in prefill attention, cached heads of all sequences in decode."""
    tokens: FloatArray | None = None
    """Tokens of prefill attention; rows of a dense product that are converted before it; elements
    of the tokens that a grouped product is given."""
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
    uncached_s: FloatArray | None = None
    """Weights of a grouped product that the last cache does not hold, at the peak. [s]"""
    key_width: FloatArray | None = None
    """Elements of a prompt token's keys."""
    keys: FloatArray | None = None
    """Elements of the keys of all tokens of a prompt."""
    cache_bytes: FloatArray | None = None
    """Last cache of the part, in which operands of prefill attention may have stayed."""
    queries: FloatArray | None = None
    """Queries that share a cached head in decode attention."""
    tiles: str = ""
    """How the heights of a grouped product's tiles are chosen (``tiles`` of a table's labels);
    ``keys``: decode attention in whole tiles of keys; ``xqa``: in parts by XQA's rule;
    ``written``: prompts whose keys a kernel of its own writes to the cache, ``paired``: whose
    queries are multiplied in two tiles in turn; format of a product
    whose tiles are known by it alone."""

    @property
    def key(self) -> tuple[str, str]:
        """What one set of shares is fitted for."""
        products = ("gemm", "grouped_gemm")
        return (self.family, self.precision if self.family in products else self.variant)

    def time_s(self, law: Achieved) -> FloatArray:
        """Seconds by ``law``: the formula of ``planner.ops.call``. [s]"""
        return np.asarray(self.call.time_s(law))

    @property
    def call(self) -> Call:
        """The calls as the roofline sees them."""
        lines = self.family == "attention_decode"
        work = self.compute_s, self.memory_s, self.size, self.call_bytes, self.depth
        more = {n: v for n in MORE if (v := getattr(self, n)) is not None}
        return Call(*work, self.query_s, lines, alike=True, **more)

    def shaped(self, how: Shaping) -> "Work":
        """The work with what tiles, pipelines and exponentials add to it."""
        call = self.call.shaped(how)
        return replace(
            self,
            compute_s=np.asarray(call.compute_s),
            memory_s=np.asarray(call.memory_s),
            size=np.asarray(call.size),
            call_bytes=np.asarray(call.moved_bytes),
            depth=np.asarray(call.depth),
            query_s=np.asarray(call.query_s),
            head_rows=None if self.head_rows is None else np.asarray(call.head_rows),
            tokens=None if self.tokens is None else np.asarray(call.tokens),
            planned=None if self.planned is None else np.asarray(call.planned),
        )

    def take(self, keep: Mask) -> "Work":
        """Rows where ``keep``."""
        names = ("compute_s", "memory_s", "size", "call_bytes", "depth", "query_s", *MORE)
        kept = {n: v[keep] for n in names if (v := getattr(self, n)) is not None}
        return replace(self, **kept)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Work, traffic and sizes of one kernel of each row."""

    flop: FloatArray
    moved: FloatArray
    size: FloatArray
    depth: FloatArray


def work_of(family: str, dtype: str, peaks: Peaks, of: Amounts) -> Work:
    """Amounts of one kernel of each row at the peaks of its format."""
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
    return work_of("elementwise", "bf16", peaks, Amounts(zero, moved, zero + 1, zero))


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
    work = work_of("gemm", dtype, peaks, Amounts(2 * m * k * n, moved, size, k))
    return replace(work, rows=m, columns=n, units=peaks.units)


def grouped_gemm(
    pairs: FloatArray, touched: FloatArray, k: FloatArray, n: FloatArray, dtype: str, peaks: Peaks
) -> Work:
    """One product an expert; as :class:`planner.ops.GroupedGemm`."""
    out = RESULT_BYTES.get(dtype, 2.0)
    moved = pairs * (k * ACTIVATION_BYTES[dtype] + out * n) + touched * k * n * WEIGHT_BYTES[dtype]
    rows = pairs / np.maximum(touched, 1e-30)
    work = work_of("grouped_gemm", dtype, peaks, Amounts(2 * pairs * k * n, moved, rows, k))
    step_s = (moved - out * pairs * n) / k / peaks.bytes_per_s
    return replace(work, step_s=step_s, head_rows=pairs * n, planned=rows, touched=touched)
