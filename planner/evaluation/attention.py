"""Decode attention as the event loop reads it: coefficients taken off the ops once."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from planner.evaluation.lines import UNITS, Line, coefficients, dot
from planner.ops import AttentionDecode
from planner.ops.call import Shaping
from planner.ops.laws import BETWEEN, LINES, doubling_line, line_of
from planner.ops.splits import parts_line, uneven
from planner.roofline import achieved, call_of
from planner.serving.timing import overtaking_steps
from planner.specs.calibration import Achieved
from planner.specs.tilings import RowWaves, Splits
from planner.step import StepModel

NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class DecodeCore:
    """Decode attention of one group of layers: piecewise a line in the context.

    ``floor + blend(compute . x, moved(cache . x)) + rows + query * sequences + depth *
    doubled(mean)`` with ``moved`` straight between the knots of the memory share's curve, ``mean``
    what a sequence reads, ``read . x / sequences``, and ``rows = row * parts(mean) * sequences``,
    which are with the products where the blend is a root of squares; the last, the chain, is added
    or joined as such a root, too.
    """

    floor_s: float
    compute: Line
    """At the achieved share. [s]"""
    cache: Line
    """Bytes of cache. [bytes]"""
    query_s: float
    """Of one sequence's query and result. [s]"""
    row_s: float
    """Of one sequence's rows, each of one part. [s]"""
    heads: float
    """Rows of one sequence in one call."""
    splits: Splits | None
    row_waves: RowWaves | None
    read: Line
    """Entries of the cache that sequences read, in all. [tokens]"""
    depth_s: float
    """Of an entry of their mean. [s]"""
    least: tuple[float, float]
    """Mean context and capped context that shorter ones cost as much as. [tokens]"""
    doubling: float
    """Mean of which each doubling costs as much; infinite: every entry does. [tokens]"""
    knots: tuple[float, ...]
    """Bytes at which the line of ``moved`` changes."""
    pieces: tuple[tuple[float, float], ...]
    """(seconds at no bytes, seconds a byte) of each line of ``moved``."""
    blend: str
    chain: str
    """How the chain joins the rest: after it, or as a root of squares."""
    ideal_compute: Line
    ideal_memory: Line

    def at(
        self, sequences: float, context: float, capped: float, growing: float
    ) -> tuple[float, float, int]:
        """Time, its growth a step, and steps for which that holds.

        Sequences gain one token a step, ``growing`` of them one capped token.
        """
        a, b, c = self.compute
        d, e, f = self.cache
        lengthening, valid = sequences, NO_LIMIT
        if context < self.least[0] * sequences or capped < self.least[1] * sequences:
            context, capped, lengthening, growing, valid = self._padded(
                sequences, context, capped, growing
            )
        compute = a * sequences + b * context + c * capped
        moved = d * sequences + e * context + f * capped
        up_compute, up_moved = b * lengthening + c * growing, e * lengthening + f * growing
        piece = bisect_right(self.knots, moved)
        start, slope = self.pieces[piece]
        memory, up_memory = start + slope * moved, slope * up_moved
        query_s = self.query_s * sequences
        if self.row_waves is not None:
            longer = float(uneven(self.heads * sequences, self.row_waves))
            memory, up_memory, query_s = memory * longer, up_memory * longer, query_s * longer
        if piece < len(self.knots) and up_moved > 0:
            until = overtaking_steps(self.knots[piece] - moved, up_moved)
            valid = until if until < valid else valid
        load = sequences, context, capped
        rows_s, up_rows, until = self._rows(load, lengthening, growing)
        valid = until if until < valid else valid
        beside, up_beside = rows_s + query_s, up_rows
        if self.blend == "max":
            busy, up, until = _larger(compute, memory, up_compute, up_memory)
        elif self.blend == "sum":
            busy, up, until = compute + memory, up_compute + up_memory, valid
        else:
            busy, up, until = _rounded(compute + rows_s, memory, up_compute + up_rows, up_memory)
            beside, up_beside = beside - rows_s, 0.0
        busy, up, valid = busy + beside, up + up_beside, until if until < valid else valid
        chain_s, up_chain, until = self._chain(load, lengthening, growing)
        valid = until if until < valid else valid
        if self.chain == "sum":
            return self.floor_s + busy + chain_s, up + up_chain, valid
        busy, up, until = _rounded(busy, chain_s, up, up_chain)
        return self.floor_s + busy, up, until if until < valid else valid

    def _padded(
        self, sequences: float, context: float, capped: float, growing: float
    ) -> tuple[float, float, float, float, int]:
        """Contexts of whole tiles, how they grow a step, and steps for which that holds."""
        lengthening, until = sequences, NO_LIMIT
        least, least_capped = (each * sequences for each in self.least)
        if context < least:
            until = overtaking_steps(least - context, lengthening)
            context, lengthening = least, 0.0
        if capped < least_capped:
            if growing > 0:
                until = min(until, overtaking_steps(least_capped - capped, growing))
            capped, growing = least_capped, 0.0
        return context, capped, lengthening, growing, until

    def _rows(self, load: Line, lengthening: float, growing: float) -> tuple[float, float, int]:
        """Time by the rows' parts, its growth a step, and steps for which that holds."""
        sequences = load[0]
        if self.splits is None or sequences <= 0:
            return self.row_s * sequences, 0.0, NO_LIMIT
        mean = dot(self.read, load) / sequences
        up = (self.read[1] * lengthening + self.read[2] * growing) / sequences
        many, slope, end = parts_line(mean, self.heads * sequences, self.splits)
        until = overtaking_steps(end - mean, up) if up > 0 and end < math.inf else NO_LIMIT
        each_s = self.row_s * sequences
        return each_s * many, each_s * slope * up, until

    def _chain(self, load: Line, lengthening: float, growing: float) -> tuple[float, float, int]:
        """Time by the mean context, its growth a step, and steps for which that holds."""
        sequences = load[0]
        if sequences <= 0 or self.depth_s == 0:
            return 0.0, 0.0, NO_LIMIT
        mean = dot(self.read, load) / sequences
        up = (self.read[1] * lengthening + self.read[2] * growing) / sequences
        if math.isinf(self.doubling):
            return self.depth_s * mean, self.depth_s * up, NO_LIMIT
        steps, slope, end = doubling_line(mean, self.doubling)
        until = overtaking_steps(end - mean, up) if up > 0 else NO_LIMIT
        return self.depth_s * steps, self.depth_s * slope * up, until


def _larger(
    compute: float, memory: float, up_compute: float, up_memory: float
) -> tuple[float, float, int]:
    """The larger of two times, its growth a step, and steps for which that holds."""
    if compute < memory or (compute == memory and up_compute < up_memory):
        compute, memory, up_compute, up_memory = memory, compute, up_memory, up_compute
    if up_memory <= up_compute:
        return compute, up_compute, NO_LIMIT
    return compute, up_compute, overtaking_steps(compute - memory, up_memory - up_compute)


def _rounded(
    compute: float, memory: float, up_compute: float, up_memory: float
) -> tuple[float, float, int]:
    """Root of squares in straight lines, its growth a step, and steps for which that holds."""
    line = line_of(compute, memory)
    along, across = LINES[line]
    valid = NO_LIMIT
    if line < len(BETWEEN) and (closing := up_memory - BETWEEN[line] * up_compute) > 0:
        valid = overtaking_steps(BETWEEN[line] * compute - memory, closing)
    elif line > 0 and (closing := BETWEEN[line - 1] * up_compute - up_memory) > 0:
        valid = overtaking_steps(memory - BETWEEN[line - 1] * compute, closing)
    return along * compute + across * memory, along * up_compute + across * up_memory, valid


def decode_cores(model: StepModel) -> list[DecodeCore]:
    """Decode attention of a replica, one core a group of layers."""
    found = []
    for ops in zip(*(model.decode_attention_ops(*unit) for unit in UNITS), strict=True):
        law = achieved(ops[0], model.calibration)
        rounds = model.shard.pp * ops[0].count
        calls = [call_of(op, model.part, law) for op in ops]
        tiled = [call.shaped(Shaping(tile_queries=law.tile_queries)) for call in calls]
        moved, query = (
            coefficients(calls, "moved_bytes", 1.0),
            coefficients(calls, "query_s", rounds),
        )
        whole = law.query_share is None
        bytes_per_s = float(model.part.memory_bytes_per_s)
        cache = moved
        if whole:
            cache = (moved[0] + query[0] / rounds * bytes_per_s, moved[1], moved[2])
        apart_s = 0.0 if whole else query[0] / float(law.query_share or 1.0)
        tiles = coefficients(calls, "head_rows", 1.0)
        knots, pieces = _pieces(law, bytes_per_s, rounds)
        memory, again = coefficients(calls, "memory_s", rounds), ops[0].readings
        x, y, z = (model.shard.pp * float(op.capped_tokens) for op in ops)
        found.append(
            DecodeCore(
                floor_s=rounds * float(law.floor_s),
                compute=coefficients(tiled, "compute_s", rounds / law.compute_share),
                cache=cache,
                query_s=apart_s,
                row_s=rounds * tiles[0] * float(law.row_s or 0.0),
                heads=tiles[0],
                splits=law.splits,
                row_waves=law.row_waves,
                read=(x, y, z),
                depth_s=rounds * float(law.depth_s or 0.0),
                least=_least(law, ops),
                doubling=float(law.doubling_depth or math.inf),
                knots=knots,
                pieces=pieces,
                blend=law.blend,
                chain=law.chain,
                ideal_compute=coefficients(calls, "compute_s", rounds),
                ideal_memory=(memory[0] / again + query[0], memory[1] / again, memory[2] / again),
            )
        )
    return found


def _least(law: Achieved, ops: Sequence[AttentionDecode]) -> tuple[float, float]:
    """Means of context and capped context that fill the smallest tile of one call. [tokens]"""
    keys, (one, of, capped) = float(law.tile_keys or 0.0), ops
    own = float(one.sequences)
    lengths = float(of.context_tokens), float(capped.capped_tokens)
    return keys * own / lengths[0], keys * own / lengths[1] if lengths[1] else 0.0


def _pieces(
    law: Achieved, bytes_per_s: float, rounds: float
) -> tuple[tuple[float, ...], tuple[tuple[float, float], ...]]:
    """Lines of the time to move bytes, of all rounds, and the knots between them."""
    curve = law.memory_curve
    if curve is None:
        return (), ((0.0, rounds / (float(law.memory_share) * bytes_per_s)),)
    times = [
        rounds * size / (share * bytes_per_s)
        for size, share in zip(curve.sizes, curve.shares, strict=True)
    ]
    pieces = [(0.0, times[0] / curve.sizes[0])]
    for i in range(1, len(times)):
        slope = (times[i] - times[i - 1]) / (curve.sizes[i] - curve.sizes[i - 1])
        pieces.append((times[i] - slope * curve.sizes[i], slope))
    pieces.append((0.0, times[-1] / curve.sizes[-1]))
    return tuple(curve.sizes), tuple(pieces)
