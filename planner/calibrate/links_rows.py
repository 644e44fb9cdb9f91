"""Measured collectives and expert exchanges as the collectives of a step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.calibrate import tables as aic
from planner.calibrate.published import published_tables
from planner.calibrate.rows import FloatArray, Mask, Origin, Table
from planner.ops import Comm, collectives

HIDDEN_BYTES = {"bf16": 2.0, "fp8_block": 1.0 + 4 / 128, "nvfp4": 0.5 + 1 / 16}
"""Bytes of one element of a message with its scales, by format of the rows."""
RINGS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
NCCL = ("nccl", "library")
"""What rows of NCCL's collectives call it, best first; the second is the kernel runner's word."""
FEWEST_EXPERTS = 128
"""Low-latency kernels give each expert its own SMs: with fewer experts SMs bind, not links."""
MOST_TOKENS = 16384
"""Tokens a rank from which rows are left out: no step is that long."""
SMALLEST_BYTES, LARGEST_BYTES = 2048.0, 600e6
"""Messages outside are left out: nothing of a step is that small or that large."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a benchmark chose experts."""

    top_k: int
    groups: int
    top_k_groups: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one library's collective among the same ranks."""

    comm: Comm
    """Its bytes are arrays, one entry a row."""
    size: FloatArray
    """What grows with the batch: tokens a rank, or bytes."""
    time_s: FloatArray
    origin: Origin
    dtype: str = "none"
    shape: tuple[float, ...] = ()
    """What belongs to a model: hidden size, experts, top-k."""
    sms: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, keep: Mask) -> "Rows":
        """Rows where ``keep``."""
        c = self.comm
        comm = replace(
            c,
            bytes_per_rank=np.asarray(c.bytes_per_rank)[keep],
            scale_out_bytes_per_rank=(np.zeros(len(keep)) + c.scale_out_bytes_per_rank)[keep],
        )
        sms = None if self.sms is None else self.sms[keep]
        return replace(self, comm=comm, size=self.size[keep], time_s=self.time_s[keep], sms=sms)


def exchange_rows(table: Table, library: str) -> list[Rows]:
    """Dispatch or combine rows of ``table``, a list entry for each group of ranks and shape.

    ``deepep-low-latency`` sends a copy an expert; ``deepep-normal`` a copy a node, experts drawn
    from at most four nodes, as its benchmark does; ``one-sided`` was measured with a router that
    gives every expert of a token another rank.

    References
    ----------
    .. [1] DeepSeek-AI, DeepEP, tests/test_internode.py (groups are the nodes, at most four).
    .. [2] NVIDIA, TensorRT-LLM technical blog 18 (perfect router).
    """
    names = ("ranks", "nodes", "hidden", "experts", "top_k")
    shapes = np.stack([table[name] for name in names], axis=1)
    phase: Literal["dispatch", "combine"] = (
        "combine" if table.labels["phase"] == "combine" else "dispatch"
    )
    found = []
    for shape in np.unique(shapes, axis=0):
        keep = np.all(shapes == shape, axis=1) & (table["tokens"] < MOST_TOKENS)
        ranks, nodes, hidden, experts, top_k = (int(x) for x in shape)
        rows = table.take(keep)
        inner, outer, share = _copies(library, ranks, nodes, top_k)
        sent = rows["tokens"] * hidden * HIDDEN_BYTES[table.dtype]
        comm = Comm(
            f"{library}/{phase}", "all_to_all", ranks, ranks // nodes, sent * inner, sent * outer,
            phase=phase, mode="normal" if "normal" in library else "low_latency",
            one_copy_share=share, experts=experts, message_bytes=hidden * HIDDEN_BYTES[table.dtype],
        )  # fmt: skip
        sms = rows["sms"] if "sms" in rows.columns else None
        origin, times = table.origin, rows.time_s
        at = (float(hidden), float(experts), float(top_k))
        found.append(Rows(comm, rows["tokens"], times, origin, table.dtype, at, sms))
    return [rows for rows in found if len(rows)]


def _copies(library: str, ranks: int, nodes: int, top_k: int) -> tuple[float, float, float]:
    inside = ranks // nodes
    if library == "one-sided":
        distinct = min(top_k, ranks)
        return distinct * (ranks - 1) / ranks, 0.0, 1.0
    dedup = "normal" in library
    choice = Choice(top_k, nodes, min(nodes, 4))
    inner, outer = collectives.copies(choice, ranks, inside, ranks, dedup)
    return inner, outer, 1.0


def carried(part: str, library: str, version: str = "") -> list[Rows]:
    """Rows of one library that travel with the package."""
    found = []
    for table in published_tables(part):
        if table.op == "all_to_all" and table.kernel == library:
            if version and table.origin.version != version:
                continue
            found += exchange_rows(table, library)
    return found


def ring_rows(part: str) -> list[Rows]:
    """NCCL's collectives inside one node: installed tables, else carried rows."""
    rings = [t for t in published_tables(part) if t.op in RINGS and "ranks" in t.columns]
    named = [[table for table in rings if table.kernel == name] for name in NCCL]
    tables = next((tables for tables in named if tables), [])
    if aic.installed() and part in aic.PARTS:
        tables = aic.aic_tables(part, ("collective",), engine="nccl") or tables
    return [rows for table in tables for rows in _by_ranks(table, per_rank=True)]


def _by_ranks(table: Table, per_rank: bool) -> Iterator[Rows]:
    for ranks in np.unique(table["ranks"]):
        rows = table.take(table["ranks"] == ranks)
        size = rows["bytes"]
        if per_rank and table.op == "all_to_all":
            size = size * (ranks - 1) / ranks
        total = rows["bytes"] * (ranks if table.op in ("all_gather", "reduce_scatter") else 1)
        comm = Comm(f"nccl/{table.op}", table.op, int(ranks), int(ranks), size)  # type: ignore[arg-type]
        keep = (total >= SMALLEST_BYTES) & (total <= LARGEST_BYTES)
        yield Rows(comm, total, rows.time_s, table.origin, table.dtype).take(keep)


def stated(rows: Rows, up_bytes_per_s: float, out_bytes_per_s: float) -> FloatArray:
    """The least time at the stated rates; no algorithm, in-switch ones included, is faster. [s]"""
    c = rows.comm
    size = np.asarray(c.bytes_per_rank, float)
    if c.kind in ("all_gather", "reduce_scatter"):
        size = size * (c.ranks - 1)
    return np.asarray(
        np.maximum(size / up_bytes_per_s, np.asarray(c.scale_out_bytes_per_rank) / out_bytes_per_s)
    )
