"""Which measured rows are refused, by rule, and how many by each."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.calibrate.calls import ROWS_DECIDE, Peaks
from planner.calibrate.features import BESIDE, bound_s, works
from planner.calibrate.layers import BY_RULE, pairs, planned_rows, touched
from planner.calibrate.rows import FloatArray, Mask, Table

BAD_SHARE = 0.05
"""Share of a table's rows faster than the part allows, above which none of it is believed."""
CACHE_BYTES = (32e6, 64e6, 128e6, 256e6)
"""On-chip caches of accelerators end between these sizes. [bytes]"""
FEWEST_LARGE = 0.15
"""Share of a table's rows that must be larger than the cache for those to be believed."""
FEW_LARGE = 0.005
"""Share of those that may beat the roofline."""
FEWEST_MISROUTED = 5
"""Rows of a model faster than the part allows, from which its routing is doubted."""
FEWEST_SOUND = 0.3
"""Share of a table's rows that must be of other models for those to be believed."""
SLOW_RANKS = 1.5
"""An expert rank may take this much longer than its part of one device's time."""
PASSED_BYTES = 4.0
"""Of an element that is written and read once in 16 bits."""
CLEAR_OF_FLOOR = 6.0
"""Times a table's shortest: where launch and routing no longer decide."""
BEHIND = 1.15
"""A row may take this much longer than one with more work."""
PIECES = (2, 4, 8)
"""Calls that a layer's experts could be divided over."""
FROM_CHIP = 0.1
"""Share of a row's time that reading its operands from memory would take at least, from which it
matters that they stayed on chip: calls that small reach a third of the bandwidth."""
CHUNK_ROWS = 256
"""Rows compared at once with all others."""
FAR_FROM_BOUND = {"attention_decode": 0.2, "attention_prefill": 0.2, "moe_layer": 0.35}
"""Share of the bound that a group's best rows must reach to be a kernel at work."""


@dataclass(frozen=True, slots=True)
class Screened:
    """Rows that may be fitted, and what was refused of the table."""

    table: Table
    refused: Mapping[str, int]


def screen(table: Table, peaks: Peaks) -> Screened:
    """Drop what cannot be true.

    * ``beats_roofline``: a row faster than its own products and transfers at the stated peaks.
    * ``cache_resident``: more than 5 % of a kernel's rows are, all of them small: operands that
      were not rotated past the cache; then all rows that size.
    * ``table_beats_roofline``: more than 5 % are whatever their size; then all of it.
    * ``shape_beats_roofline``: more than 5 % are, all of them of some models' shapes, or more than
      5 % of a model's that no cache holds: routing that did not touch the experts it should have;
      then those models' rows.
    * ``ranks_repeat_one_device``: rows of an expert-parallel degree that take far longer than
      that part of the whole layer on one device does (routing that collapses onto few experts).
    * ``slower_than_more_work``: a MoE layer or a product that takes over 15 % longer than one of
      the same kernel with at least as many pairs, experts, rows and columns, planned for as many
      rows an expert, or attention of the
      same sequences and contexts that takes over 15 % longer than with at least as many heads, of
      at least that width: not the kernel's best tiling.
    * ``slower_than_its_parts``: a MoE layer over 15 % slower than two, four or eight calls of the
      same layer, each on that part of its experts, would be.
    * ``far_from_roofline``: a shape whose best rows stay far below the bound.
    """
    refused: Counter[str] = Counter()
    share = bound_s(table, peaks) / table.time_s
    keep: Mask = share <= 1.0
    if len(table) and (np.mean(~keep) > BAD_SHARE or _held_too_fast(table, share, peaks)):
        rule, bad = _explained(table, share, peaks)
        if np.all(bad):
            return Screened(table.take(~bad), {rule: len(table)})
        refused[rule] = int(np.sum(bad))
        keep = keep & ~bad
        refused["beats_roofline"] = int(np.sum(~keep & ~bad))
    else:
        refused["beats_roofline"] = int(np.sum(~keep))
    bad = _misrouted(table, share, peaks)
    refused["shape_beats_roofline"] += int(np.sum(bad & keep))
    keep = keep & ~bad
    for rule, find in RULES:
        bad = find(table, peaks, keep) & keep
        refused[rule] += int(np.sum(bad))
        keep = keep & ~bad
    return Screened(table.take(keep), {rule: n for rule, n in refused.items() if n})


def _explained(table: Table, share: FloatArray, peaks: Peaks) -> tuple[str, Mask]:
    """Why so many rows are too fast, and which may not be believed for it."""
    cached = _cached(table, share, peaks)
    if cached is not None:
        return "cache_resident", cached
    if table.op == "moe_layer":
        bad = _of_models(table, np.unique(_models(table)[share > 1], axis=0))
        if np.mean(~bad) >= FEWEST_SOUND:
            return "shape_beats_roofline", bad
    return "table_beats_roofline", np.ones(len(table), bool)


def _held_too_fast(table: Table, share: FloatArray, peaks: Peaks) -> bool:
    """Whether over 5 % of the products that the last cache holds are, and size explains it."""
    if not peaks.cache_bytes or _cached(table, share, peaks) is None:
        return False
    held = _moved(table, peaks) <= peaks.cache_bytes
    return bool(np.any(held) and np.mean(share[held] > 1) > BAD_SHARE)


def _models(table: Table) -> FloatArray:
    return np.stack([table[name] for name in ("hidden", "experts", "top_k")], axis=1)


def _of_models(table: Table, models: FloatArray) -> Mask:
    """Rows of ``models``."""
    same = _models(table)[:, None, :] == models
    return np.asarray(np.any(np.all(same, axis=2), axis=1))


def _misrouted(table: Table, share: FloatArray, peaks: Peaks) -> Mask:
    """Rows of the models of which over 5 % are too fast, few as those are in the whole table.

    Of rows too large for any cache, at least :data:`FEWEST_MISROUTED`.
    """
    if table.op != "moe_layer" or not len(table):
        return np.zeros(len(table), bool)
    models, which = np.unique(_models(table), axis=0, return_inverse=True)
    large = _moved(table, peaks) > CACHE_BYTES[-1]
    which = which.reshape(-1)
    fast = np.bincount(which, large & (share > 1))
    over = fast > np.maximum(BAD_SHARE * np.bincount(which, large), FEWEST_MISROUTED)
    return _of_models(table, models[over])


def _moved(table: Table, peaks: Peaks) -> FloatArray:
    """Traffic of a row's products. [bytes]"""
    return np.asarray(sum(w.call_bytes for w in works(table, peaks) if w.family not in BESIDE))


def _cached(table: Table, share: FloatArray, peaks: Peaks) -> Mask | None:
    """Rows small enough to have stayed on chip between repeats; None where size explains nothing.

    The smallest of some sizes from which on hardly a row is too fast.
    """
    if table.op not in ("gemm", "moe_layer"):
        return None
    moved = _moved(table, peaks)
    for limit in CACHE_BYTES:
        large = moved > limit
        if large.mean() >= FEWEST_LARGE and np.mean(share[large] > 1) <= FEW_LARGE:
            return np.asarray(~large)
    return None


def _resident(table: Table, peaks: Peaks, _: Mask) -> Mask:
    """Rows of decode attention that read one cache again from the chip: serving never does."""
    if table.labels.get("operands") != "again":
        return np.zeros(len(table), bool)
    work = works(table, peaks)[0]
    fits = work.call_bytes <= peaks.cache_bytes
    return np.asarray(fits & (work.memory_s > FROM_CHIP * table.time_s))


def _slow_ranks(table: Table, peaks: Peaks, _: Mask) -> Mask:
    """Rows of the degrees whose ranks take longer than their part of one device's time.

    Beside what kernels take that pass over the pairs of other ranks, written and read once.
    """
    bad = np.zeros(len(table), bool)
    if table.op != "moe_layer":
        return bad
    degree = table["experts"] / table["local_experts"]
    names = ("group_tokens", "experts", "top_k", "hidden", "intermediate")
    keys = list(zip(*(table[name].tolist() for name in names), strict=True))
    whole = {key: t for key, t, d in zip(keys, table.time_s, degree, strict=True) if d == 1}
    least = CLEAR_OF_FLOOR * float(np.min(table.time_s, initial=np.inf))
    part = np.array([whole.get(key, np.nan) for key in keys]) / degree
    own_s = table.time_s - _passed_s(table, peaks)
    for each in np.unique(degree[degree > 1]):
        rows = (degree == each) & (part > least)
        if rows.sum() >= 3 and np.median(own_s[rows] / part[rows]) > SLOW_RANKS:
            bad |= degree == each
    return bad


def _passed_s(table: Table, peaks: Peaks) -> FloatArray:
    """Least time in which the pairs of experts held elsewhere are passed over. [s]"""
    passed = [w.foreign for w in works(table, peaks) if w.foreign is not None]
    return np.asarray(PASSED_BYTES * sum(passed, np.zeros(len(table))) / peaks.bytes_per_s)


def _behind(table: Table, _: Peaks, keep: Mask) -> Mask:
    """Rows that a believed row of more work, whatever way it is counted, leaves behind."""
    table = replace(table, time_s=np.where(keep, table.time_s, np.inf))
    if table.op == "moe_layer":
        return _behind_layer(table)
    if table.op == "gemm" and table.dtype not in ROWS_DECIDE:
        return _behind_product(table)
    if table.op in ALIKE:
        return _behind_heads(table)
    return np.zeros(len(table), bool)


def _behind_product(table: Table) -> Mask:
    """The same of products, over the grid of their sides."""
    at, grid = [], []
    for name in ("m", "k", "n"):
        values, place = np.unique(table[name], return_inverse=True)
        at.append(place)
        grid.append(len(values))
    best = np.full(grid, np.inf)
    np.minimum.at(best, tuple(at), table.time_s)
    for axis in range(3):
        best = np.flip(np.minimum.accumulate(np.flip(best, axis), axis), axis)
    return np.asarray(table.time_s > BEHIND * best[tuple(at)])


def _behind_heads(table: Table) -> Mask:
    """Rows of attention that more or wider heads on the same sequences leave behind.

    Not longer contexts: where kernels switch, measured time falls, and that is residual.
    """
    loads = [
        table[name] for name in ("sequences", "context_tokens", "tokens") if name in table.columns
    ]
    heads = np.stack([table[n] for n in ("heads", "kv_heads", "head_dim") if n in table.columns])
    _, load = np.unique(np.stack(loads), axis=1, return_inverse=True)
    bad = np.zeros(len(table), bool)
    order = np.argsort(load, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(load[order])) + 1):
        own, times = heads[:, rows], table.time_s[rows]
        larger = np.all(own[:, None, :] >= own[:, :, None], axis=0)
        bad[rows] = times > BEHIND * np.min(np.where(larger, times, np.inf), axis=1)
    return bad


def _behind_layer(table: Table) -> Mask:
    """The same of MoE layers."""
    counts = [pairs(table), touched(table)]
    if table.labels.get("tiles") in BY_RULE:  # what was tuned badly is behind all the same
        counts.append(planned_rows(table))
    sizes = np.stack([*counts, table["hidden"], table["intermediate"]])
    bad = np.zeros(len(table), bool)
    for start in range(0, len(table), CHUNK_ROWS):
        own = slice(start, start + CHUNK_ROWS)
        larger = np.all(sizes[:, None, :] >= sizes[:, own, None], axis=0)
        best = np.min(np.where(larger, table.time_s, np.inf), axis=1, initial=np.inf)
        bad[own] = table.time_s[own] > BEHIND * best
    return bad


def _pieces(table: Table, _: Peaks, keep: Mask) -> Mask:
    """Layers that several calls of the same layer, each on a part of its experts, leave behind."""
    bad = np.zeros(len(table), bool)
    if table.op != "moe_layer":
        return bad
    names = ("group_tokens", "experts", "top_k", "hidden", "intermediate", "local_experts")
    keys = list(zip(*(table[name].tolist() for name in names), strict=True))
    times = np.where(keep, table.time_s, np.inf).tolist()
    known = dict(zip(keys, times, strict=True))
    for calls in PIECES:
        part = [known.get((*key[:-1], key[-1] / calls), np.inf) for key in keys]
        bad |= table.time_s > BEHIND * calls * np.array(part)
    return bad


ALIKE = {
    "attention_decode": ("heads", "kv_heads", "head_dim"),
    "attention_prefill": ("heads",),
    "moe_layer": ("hidden", "intermediate", "experts", "top_k"),
}
"""Columns whose values together tell a group of rows that some size should bring near the bound."""


def _far(table: Table, peaks: Peaks, _: Mask) -> Mask:
    """Rows of the groups that never come near the bound."""
    share = bound_s(table, replace(peaks, cache_bytes=0.0)) / table.time_s
    bad = np.zeros(len(table), bool)
    names = [name for name in ALIKE.get(table.op, ()) if name in table.columns]
    if not names:
        return bad
    groups = np.stack([table[name] for name in names], axis=1)
    for group in np.unique(groups, axis=0):
        rows = np.all(groups == group, axis=1)
        if rows.sum() >= 20 and np.quantile(share[rows], 0.95) < FAR_FROM_BOUND[table.op]:
            bad |= rows
    return bad


RULES: tuple[tuple[str, Callable[[Table, Peaks, Mask], Mask]], ...] = (
    ("cache_resident", _resident),
    ("ranks_repeat_one_device", _slow_ranks),
    ("far_from_roofline", _far),
    ("slower_than_more_work", _behind),
    ("slower_than_its_parts", _pieces),
)
"""Rules for rows that do not beat the roofline, each of what those before it left."""
