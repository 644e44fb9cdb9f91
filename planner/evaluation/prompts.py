"""Prefill attention as the event loop reads it: coefficients taken off the ops once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.evaluation.lines import UNITS, Line, coefficients, dot, plus, scaled
from planner.ops import AttentionPrefill
from planner.ops.laws import chained, crossing, share_at
from planner.roofline import achieved, call_of
from planner.specs.calibration import Curve
from planner.step import StepModel


@dataclass(frozen=True, slots=True)
class PrefillCore:
    """Prefill attention of one group of layers.

    ``floor + (products (+ or max) bytes + rows . x, joined with depth * chain)``: the products are
    ``compute . x`` with the half-seen keys of each ``tile``, over the ``products`` share of the
    peak; the bytes are ``memory . x`` for what crosses beyond ``kept``, over the ``curve`` share of
    the bandwidth; the chain is the longest context or, where not known, ``sqrt(pairs . x)``.
    """

    floor_s: float
    compute: Line
    """With ``products`` at the stated peak."""
    flop: Line
    products: Curve | None
    """Achieved share of the peak over the FLOP of one call; None: it is in ``compute``."""
    tile: float
    """Queries of the smallest tile, whose keys half of them see; 0: none."""
    memory: Line
    """With ``curve`` at the stated bandwidth."""
    moved: Line
    """Queries, keys and results. [bytes]"""
    curve: Curve | None
    """Achieved share of the bandwidth over those bytes; None: it is in ``memory``."""
    kept: float
    """Bytes of them that the last cache serves (:func:`planner.ops.laws.crossing`)."""
    cached: float
    """Bytes of them that it can at most. [bytes]"""
    rows: Line
    """Rows of heads, tokens, queries and results. [s]"""
    depth_s: float
    pairs: Line
    """Twice the (capped) pairs of one call."""
    reach: tuple[float, float, float]
    """Entries read of the longest context: most, by a token of it, and beside them."""
    chain: str
    """How the chain joins the rest (:func:`planner.ops.laws.chained`)."""
    additive: bool
    ideal_compute: Line
    ideal_memory: Line

    def crossing_s(self, load: Line) -> float:
        """Least time for what crosses the memory's edge, at the stated bandwidth. [s]"""
        moved = dot(self.moved, load)
        return dot(self.ideal_memory, load) * max(0.0, 1.0 - self.cached / max(moved, 1e-30))

    def at(self, tokens: float, pairs: float, capped: float, longest: float | None = None) -> float:
        """Time of the prompts. [s]

        Parameters
        ----------
        longest : longest context that one of their tokens sees; None: not known. [tokens]
        """
        load = tokens, pairs, capped
        padded = max(1.0, self.tile * tokens / max(2 * pairs, 1e-30))
        compute, memory = padded * dot(self.compute, load), dot(self.memory, load)
        if self.products is not None:
            compute /= float(share_at(self.products, padded * dot(self.flop, load)))
        if self.curve is not None:
            memory /= float(share_at(self.curve, dot(self.moved, load)))
        if self.kept:
            memory *= float(crossing(dot(self.moved, load), self.kept))
        busy = compute + memory if self.additive else max(compute, memory)
        busy += dot(self.rows, load)
        if longest is None:
            depth = math.sqrt(dot(self.pairs, load))
        else:
            most, each, more = self.reach
            depth = min(longest, most) * each + more
        return self.floor_s + float(chained(busy, self.depth_s * depth, self.chain))


def prefill_cores(model: StepModel) -> list[tuple[PrefillCore, ...]]:
    """Ways to attend to a prompt of each group of layers, of which the fastest runs."""
    forms = [
        [
            _prefill(ops, model, _reach(model, group, sparse))
            for group, ops in enumerate(
                zip(*(model.prefill_attention_ops(*u, sparse) for u in UNITS), strict=True)
            )
        ]
        for sparse in (True, False)
    ]
    return [tuple(dict.fromkeys(both)) for both in zip(*forms, strict=True)]


FARTHEST = 1e15
"""Longer than any context. [tokens]"""


def _reach(model: StepModel, group: int, sparse: bool) -> tuple[float, float, float]:
    """``most``, ``each`` and ``more`` of :attr:`PrefillCore.reach`."""
    none, one, most = (
        float(model.prefill_attention_ops(*UNITS[0], sparse, far)[group].longest_tokens or 0.0)
        for far in (0.0, 1.0, FARTHEST)
    )
    return (most - none) / (one - none), one - none, none


WHOLE = {"kept_part": None, "tile_rows": None}
"""Parts of a law that are of whole loads, not of their units."""


def _prefill(
    ops: Sequence[AttentionPrefill], model: StepModel, reach: tuple[float, float, float]
) -> PrefillCore:
    law = achieved(ops[0], model.calibration)
    rounds = model.shard.pp * ops[0].count
    plain = [call_of(op, model.part, law) for op in ops]
    calls = [call.shaped(law.model_copy(update=WHOLE)) for call in plain]
    cached = float(model.part.cache_bytes or 0.0)
    x, y, z = (2 * float(op.capped_pairs) for op in ops)
    memory, query = coefficients(calls, "memory_s", rounds), coefficients(calls, "query_s", rounds)
    moved, apart = plus(memory, query), law.query_share is not None
    beside = coefficients(calls, "head_rows", rounds * float(law.row_s or 0.0))
    beside = plus(beside, coefficients(calls, "tokens", rounds * float(law.token_s or 0.0)))
    beside = plus(beside, coefficients(calls, "keys", rounds * float(law.key_s or 0.0)))
    if apart:
        beside = plus(beside, scaled(query, 1 / float(law.query_share or 1.0)))
    share = 1.0 if law.memory_curve else 1 / float(law.memory_share)
    peak = 1.0 if law.compute_curve else 1 / float(law.compute_share)
    return PrefillCore(
        floor_s=rounds * float(law.floor_s),
        compute=coefficients(calls, "compute_s", rounds * peak),
        flop=coefficients(calls, "size", 1.0),
        products=law.compute_curve,
        tile=float(law.tile_rows or 0.0),
        memory=scaled(memory if apart else moved, share),
        moved=coefficients(calls, "moved_bytes", 1.0),
        curve=law.memory_curve,
        kept=(law.kept_part or 0.0) * cached,
        cached=cached,
        rows=beside,
        depth_s=rounds * float(law.depth_s or 0.0),
        pairs=(x, y, z),
        reach=reach,
        chain=law.chain,
        additive=law.blend == "sum",
        ideal_compute=coefficients(plain, "compute_s", rounds),
        ideal_memory=moved,
    )
