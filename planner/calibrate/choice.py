"""Which measured tables a part's calibration is fitted to, by rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.calibrate import tables as aic
from planner.calibrate.calls import STORED
from planner.calibrate.features import variant_of
from planner.calibrate.published import published_tables
from planner.calibrate.rows import Table

Key = tuple[str, str]

FORMATS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",), "fp8": ("fp8_block", "fp8_tensor"), "fp4": ("nvfp4", "mxfp4"),
    "int8": ("int8",),
}  # fmt: skip
"""Precision -> formats of rows, best first: block scales are what large MoE models ship in."""

SERVED = {"fp8_block": "deepgemm", "nvfp4": "trtllmnvfp4experts"}
"""Format -> kernel that models of it are served with; preferred where its rows are."""
AVOIDED = ("min_latency", "sglang_flashinfer")
"""Kernels that run at small batches or on request only, or (SGLang's tables of FlashInfer) whose
rows beat the bound of their own routing so often that the rest is not believed either."""
ENGINES = ("trtllm", "sglang", "vllm")
RUNNER = ("own", "library")
"""What the kernel runner calls its own kernels and those of libraries."""
NARROWEST_UNSERVED = 512
"""Experts cut narrower than this are left out of rows of kernels that engines do not run on such
slices: they are the farthest from any law."""


@dataclass(frozen=True, slots=True)
class Library:
    """Grouped products that engines run in place of those the part's own shares are of."""

    engine: str
    """Whose tables have them."""
    kernel: str
    """What their kernels' names hold."""
    formats: tuple[str, ...]
    """Of rows."""
    tiles: str = ""
    """How their tiles are chosen, where a table's rows differ in that."""

    def has(self, table: Table) -> bool:
        """Whether rows of the engine are of this library."""
        named = self.kernel in table.kernel and table.dtype in self.formats
        how = table.labels.get("tiles", "")
        return named and (how == self.tiles if self.tiles else how != "untuned")


LIBRARIES = {
    "cutlass": Library("trtllm", "moe_torch_flow_cutlass", ("fp8_block", "nvfp4")),
    "triton": Library("sglang", "fused_moe_triton", ("bf16", "fp8_block")),
    "triton-untuned": Library("sglang", "fused_moe_triton", ("bf16",), "untuned"),
    "triton-vllm": Library("vllm", "_triton_tritonexperts", ("bf16", "fp8_block")),
    "trtllm-gen": Library("vllm", "_trtllm", ("bf16", "fp8_block")),
}
"""Libraries of grouped products with shares of their own, where a part has rows of them."""
EXPANDING = {
    "marlin": Library("vllm", "w4a4mxfp4moe_marlin", ("mxfp4_w4a16",)),
    "trtllm-triton": Library("trtllm", "moe_torch_flow", ("mxfp4_w4a16",)),
}
"""The same of experts stored in MXFP4, on parts without units for four bits: those that vLLM and
SGLang run unless experts have biases, and those of TensorRT-LLM."""


ATTENTION = ("attention_decode", "attention_prefill")
ATTENTION_ENGINES = ("vllm", "sglang")
"""Engines whose calls of attention have shares of their own where a part has rows of them."""

LATENT_PROMPTS = (("attention_prefill", ""), ("attention_prefill", "mla_fp8_cache"))
"""MLA of whole prompts, as a law of it is called."""

STORED_SOURCES = {
    "mxfp4": (
        Library("sglang", "flashinfer_trtllm_moe", ("mxfp4_w4a8",)),
        Library("vllm", "gptossmxfp4moe", ("mxfp4_w4a16",)),
    ),
    "int4": (
        Library("vllm", "marlin", ("int4",)),
        Library("sglang", "marlin", ("int4",)),
    ),
}
"""Storage of experts -> whose rows, best first: what gpt-oss, DeepSeek-V4 and Kimi-K2 are served
on."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tables for one set of shares."""

    key: Key
    tables: tuple[Table, ...]


def candidates(part: str) -> list[Table]:
    """Carried rows of a part first, then the tables of TensorRT-LLM where they are installed."""
    found = published_tables(part)
    if aic.installed() and part in aic.PARTS:
        found += [_wide(table) for table in aic.aic_tables(part)]
        found += [t for t in aic.aic_tables(part, ("gemm",), "sglang") if _served(t, "fp8_block")]
        found += [t for t in aic.aic_tables(part, ("moe_layer",), "vllm") if _served(t, "nvfp4")]
    return [t for t in found if len(t) and not any(word in t.kernel for word in AVOIDED)]


def libraries(part: str, part_precisions: tuple[str, ...]) -> dict[str, list[Chosen]]:
    """Tables of the libraries that a part's own shares are not fitted to, by library."""
    if not (aic.installed() and part in aic.PARTS):
        return {}
    own = [t for choice in chosen(candidates(part), part_precisions) for t in choice.tables]
    known = {(t.kernel, t.dtype) for t in own}
    found = {}
    for name, library in LIBRARIES.items():
        tables = [
            replace(table, labels={**table.labels, "library": name})
            for table in _rows_of(part, library)
            if (table.kernel, table.dtype) not in known
        ]
        found[name] = chosen(tables, part_precisions)
    if "fp4" not in part_precisions:
        found |= {name: _expanding(part, name, library) for name, library in EXPANDING.items()}
    return {name: choices for name, choices in found.items() if choices}


def attention_kernels(part: str, families: Sequence[str] = ()) -> dict[str, list[Chosen]]:
    """Tables of attention as engines call it beside TensorRT-LLM, whose the part's own are.

    Of each kernel the library that most rows are of.  MLA of whole prompts is left out: on Hopper
    SGLang's rows time it absorbed, which it does not run on them.
    """
    if not (aic.installed() and part in aic.PARTS):
        return {}
    found = {}
    wanted = tuple(family for family in ATTENTION if not families or family in families)
    for engine in ATTENTION_ENGINES if wanted else ():
        groups: dict[Key, list[Table]] = {}
        for table in aic.aic_tables(part, wanted, engine):
            key = (table.op, variant_of(table))
            if key not in LATENT_PROMPTS:
                named = replace(table, labels={**table.labels, "library": engine})
                groups.setdefault(key, []).append(named)
        found[engine] = [Chosen(key, _one_kernel(tuple(group))) for key, group in groups.items()]
    return {engine: choices for engine, choices in found.items() if choices}


def _expanding(part: str, name: str, library: Library) -> list[Chosen]:
    """Rows of a library that expands weights as they are stored."""
    tables = tuple(
        replace(table, labels={**table.labels, "library": name})
        for table in _rows_of(part, library)
    )
    return [Chosen(("grouped_gemm", STORED[tables[0].dtype]), tables)] if tables else []


def _rows_of(part: str, library: Library) -> list[Table]:
    return [
        table
        for table in aic.aic_tables(part, ("moe_layer",), library.engine)
        if library.has(table)
    ]


def stored_experts(part: str) -> list[Chosen]:
    """Tables of experts whose weights are expanded in the kernel: of each format the first."""
    if not (aic.installed() and part in aic.PARTS):
        return []
    found = []
    for storage, sources in STORED_SOURCES.items():
        for library in sources:
            if tables := _rows_of(part, library):
                found.append(Chosen(("grouped_gemm", storage), tuple(tables)))
                break
    return found


def _wide(table: Table) -> Table:
    """A table of MoE layers without the slices that its kernel is not served on."""
    if table.op != "moe_layer" or _served(table, table.dtype):
        return table
    return table.take(table["intermediate"] >= NARROWEST_UNSERVED)


def chosen(tables: list[Table], part_precisions: tuple[str, ...]) -> list[Chosen]:
    """One choice a family and precision: the first format, the first source that has rows."""
    found = []
    for precision in part_precisions:
        for family, ops in (("gemm", ("gemm",)), ("grouped_gemm", ("moe_layer", "grouped_gemm"))):
            picked = _first(tables, ops, FORMATS[precision])
            if picked:
                found.append(Chosen((family, precision), picked))
    groups: dict[Key, list[Table]] = {}
    for table in tables:
        if table.op in ATTENTION:
            groups.setdefault((table.op, variant_of(table)), []).append(table)
    found += elementwise_rows(tables)
    return found + [Chosen(key, _one_kernel(_same_source(group))) for key, group in groups.items()]


def elementwise_rows(tables: Sequence[Table]) -> list[Chosen]:
    """Choice of the kernels that only move bytes, whatever they compute."""
    own = [table for table in tables if table.op == "elementwise" and "bytes" in table.columns]
    groups: dict[tuple[object, str], list[Table]] = {}
    for table in _same_source(own):
        groups.setdefault((table.origin, table.dtype), []).append(table)
    joined = tuple(
        replace(
            group[0],
            columns={"bytes": np.concatenate([table["bytes"] for table in group])},
            time_s=np.concatenate([table.time_s for table in group]),
            labels={},
        )
        for group in groups.values()
    )
    return [Chosen(("elementwise", ""), joined)] if joined else []


def _one_kernel(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """The table of most rows where an engine's name several kernels; carried ones as they are."""
    if tables[0].origin.version.startswith(ENGINES):
        return (max(tables, key=len),)
    return tables


def _served(table: Table, dtype: str) -> bool:
    return table.dtype == dtype and SERVED.get(dtype, "?") in table.kernel


def _first(
    tables: list[Table], ops: tuple[str, ...], formats: tuple[str, ...]
) -> tuple[Table, ...]:
    for dtype in formats:
        usual = [t for t in tables if t.op in ops and t.dtype == dtype]
        picked = _same_source([t for t in usual if _served(t, dtype)] or usual)
        if picked:
            return picked
    return ()


def _unserved(table: Table) -> bool:
    """Whether rows are the runner's, but for dense products of a library: engines call the same."""
    return table.kernel in RUNNER and (table.kernel, table.op) != ("library", "gemm")


ENOUGH = 40
"""Rows from which a carried source is preferred to the tables (they name kernel and shape)."""


def _same_source(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Tables of one origin: a carried one with rows enough, else the first that is not small.

    Kernels of the runner that no engine serves give way to any other source; of its rows those of
    its own kernels or those of libraries, which more are of.
    """
    tables = [table for table in tables if not _unserved(table)] or tables
    origins = list(dict.fromkeys(t.origin for t in tables))
    if not origins:
        return ()
    rows = {o: sum(len(t) for t in tables if t.origin == o) for o in origins}
    carried = [o for o in origins if not o.version.startswith(ENGINES) and rows[o] >= ENOUGH]
    order = carried or origins
    first = next(o for o in order if rows[o] >= max(rows[x] for x in order) / 2)
    found = tuple(t for t in tables if t.origin == first)
    if any(t.kernel not in RUNNER for t in found):
        return found
    each = {name: tuple(t for t in found if t.kernel == name) for name in RUNNER}
    return max(each.values(), key=lambda of: sum(map(len, of)))
