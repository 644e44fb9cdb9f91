"""Which measured tables a part's calibration is fitted to, by rule."""

from dataclasses import dataclass

from planner.calibrate import tables as aic
from planner.calibrate.features import variant_of
from planner.calibrate.published import published_tables
from planner.calibrate.rows import Table

Key = tuple[str, str]

FORMATS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",), "fp8": ("fp8_block", "fp8_tensor"), "fp4": ("nvfp4", "mxfp4"),
    "int8": ("int8",),
}  # fmt: skip
"""Precision -> formats of rows, best first: block scales are what large MoE models ship in."""

SERVED = {"fp8_block": "deepgemm"}
"""Format -> kernel that models of it are served with; preferred where its rows are."""
AVOIDED = ("min_latency", "flashinfer")
"""Kernels that run at small batches or on request only, or (FlashInfer's tables) whose rows beat
the bound of their own routing so often that the rest is not believed either."""
ENGINES = ("trtllm", "sglang", "vllm")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tables for one set of shares."""

    key: Key
    tables: tuple[Table, ...]


def candidates(part: str) -> list[Table]:
    """Carried rows of a part first, then the tables of TensorRT-LLM where they are installed."""
    found = published_tables(part)
    if aic.installed() and part in aic.PARTS:
        found += aic.aic_tables(part)
        found += [t for t in aic.aic_tables(part, ("gemm",), "sglang") if _served(t, "fp8_block")]
    return [t for t in found if not any(word in t.kernel for word in AVOIDED)]


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
        if table.op in ("attention_decode", "attention_prefill"):
            groups.setdefault((table.op, variant_of(table)), []).append(table)
    return found + [Chosen(key, _same_source(group)) for key, group in groups.items()]


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


ENOUGH = 40
"""Rows from which a carried source is preferred to the tables (they name kernel and shape)."""


def _same_source(tables: list[Table]) -> tuple[Table, ...]:
    """Tables of one origin: a carried one with rows enough, else the first that is not small."""
    origins = list(dict.fromkeys(t.origin for t in tables))
    if not origins:
        return ()
    rows = {o: sum(len(t) for t in tables if t.origin == o) for o in origins}
    carried = [o for o in origins if not o.version.startswith(ENGINES) and rows[o] >= ENOUGH]
    order = carried or origins
    first = next(o for o in order if rows[o] >= max(rows[x] for x in order) / 2)
    return tuple(t for t in tables if t.origin == first)
