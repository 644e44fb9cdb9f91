"""Which rows of a device that nobody states peaks of are too fast beside its other rows."""

from collections.abc import Sequence

import numpy as np

from planner.calibrate.calls import PRECISION, Peaks
from planner.calibrate.features import works
from planner.calibrate.rows import FloatArray, Mask, Table

TOO_FAST = 10.0
"""Times faster than rows beside it, from which a row is not believed: the shares of the peaks that
kernels of one operation reach differ by less."""
FEWEST_BESIDE = 2
"""Rows to compare with, below which one is believed."""
LARGE_BYTES = 32e6
"""Copies larger than this show memory, not a cache. [bytes]"""
MEMORY = ("hbm_read", "hbm_copy", "hbm_write")
PRODUCTS = ("gemm", "grouped_gemm", "moe_layer", "attention_decode", "attention_prefill")


def amounts(table: Table) -> tuple[FloatArray, FloatArray]:
    """Work and traffic of a table's products. [FLOP, bytes]"""
    one = Peaks({PRECISION.get(table.dtype, table.dtype): 1.0, "fp8": 1.0}, 1.0)
    parts = works(table, one)
    done = sum(w.compute_s for w in parts)
    return np.asarray(done), np.asarray(sum(w.call_bytes for w in parts))


def believed(tables: Sequence[Table]) -> list[Table]:
    """Each table without the rows that :func:`too_fast` finds among those of its kind."""
    kinds: dict[tuple[str, str, str], list[int]] = {}
    for place, table in enumerate(tables):
        if table.op in PRODUCTS:
            kind = (table.op, table.dtype, table.labels.get("variant", ""))
            kinds.setdefault(kind, []).append(place)
        elif table.op in MEMORY:
            kinds.setdefault(("memory", "", ""), []).append(place)
    kept = list(tables)
    for kind, places in kinds.items():
        sizes = [_memory(tables[i]) if kind[0] == "memory" else amounts(tables[i]) for i in places]
        done, moved = (np.concatenate(part) for part in zip(*sizes, strict=True))
        bad = too_fast(done, moved, np.concatenate([tables[i].time_s for i in places]))
        ends = np.cumsum([len(tables[i]) for i in places])
        for i, some in zip(places, np.split(bad, ends[:-1]), strict=True):
            kept[i] = tables[i].take(~some)
    return kept


def _memory(table: Table) -> tuple[FloatArray, FloatArray]:
    """Bytes as work too; none of what a cache holds, which may be as fast as it likes."""
    moved = np.where(table["bytes"] >= LARGE_BYTES, table["bytes"], np.nan)
    return moved, moved


def too_fast(done: FloatArray, moved: FloatArray, time_s: FloatArray) -> Mask:
    """Rows that most rows beside them say are over ten times too fast.

    A row of less work and less traffic takes no longer, and one of more work, more traffic and no
    less work a byte reaches no lower a rate; either may be off by noise, most of them are not.

    Parameters
    ----------
    done, moved : work and traffic of each row; NaN: compared with none. [FLOP, bytes]

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009: the rate that can
       be reached grows with the work a byte.
    """
    other = ~np.eye(len(time_s), dtype=bool)
    less = (done[:, None] >= done) & (moved[:, None] >= moved) & other
    dense = done / moved
    more = (done[:, None] <= done) & (moved[:, None] <= moved) & (dense[:, None] <= dense) & other
    rate = done / time_s
    against = less & (TOO_FAST * time_s[:, None] < time_s)
    against |= more & (rate[:, None] > TOO_FAST * rate)
    beside = np.sum(less | more, axis=1)
    return np.asarray((beside >= FEWEST_BESIDE) & (np.sum(against, axis=1) > beside / 2))
