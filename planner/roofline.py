"""From work to time: the roofline with achieved shares."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.errors import InputError
from planner.ops import (
    AttentionDecode,
    AttentionPrefill,
    Elementwise,
    Gemm,
    GroupedGemm,
    Op,
    Real,
    larger,
)
from planner.ops.call import Call
from planner.ops.laws import rounds, uncached_s, untuned_rows
from planner.specs.calibration import (
    Achieved,
    AttentionVariant,
    CalibrationSpec,
    standing_in,
)
from planner.specs.hardware import AcceleratorSpec


@dataclass(frozen=True, slots=True)
class OpTime:
    """Time of all ``count`` calls of an op. [s]

    ``compute_s`` and ``memory_s`` are at the *stated* peaks (the speed of light);
    ``time_s`` is with achieved shares and the kernel floor.
    """

    time_s: Real
    compute_s: Real
    memory_s: Real


def achieved(op: Op, calibration: CalibrationSpec) -> Achieved:
    """Achieved shares of the op's family and precision; InputError when there are none."""
    if isinstance(op, GroupedGemm) and op.storage in calibration.stored_experts:
        return calibration.stored_experts[op.storage]
    if op.family in {"gemm", "grouped_gemm"}:
        table = calibration.gemm if op.family == "gemm" else calibration.grouped_gemm
        if op.precision not in table:
            raise InputError(
                f"calibration {calibration.name}",
                op.family,
                f"no shares for {op.precision}; it has {', '.join(table)}",
            )
        return table[op.precision]
    if isinstance(op, AttentionDecode):
        decode, law = calibration.attention_decode_variants, calibration.attention_decode
        return _of_variant(decode, op.variant, law)
    if isinstance(op, AttentionPrefill):
        prefill, law = calibration.attention_prefill_variants, calibration.attention_prefill
        return _of_variant(prefill, op.variant, law)
    return calibration.elementwise


def _of_variant(
    laws: Mapping[AttentionVariant, Achieved], variant: AttentionVariant | None, law: Achieved
) -> Achieved:
    """Shares of a kernel, else of the closest of its kin, else of the family."""
    if variant is None:
        return law
    found = standing_in(laws, variant)
    return laws[found] if found else law


def work_size(op: Op) -> Real:
    """What the compute share of an op depends on: result elements, or rows a group.

    References
    ----------
    .. [1] NVIDIA, "Matrix Multiplication Background User's Guide", 2023 (tile and wave
       quantisation: small results leave units idle).
    """
    if isinstance(op, Gemm):
        return op.m * op.n
    if isinstance(op, GroupedGemm):
        return op.pairs / larger(op.touched, 1e-30)
    return 1.0


def work_depth(op: Op) -> Real:
    """Length of what an op cannot spread over units.

    Inner dimension of a product; of prompts the longest context one of their tokens sees, or the
    length ``sqrt(2 pairs)`` of the one prompt that would have as many causal pairs; of decoding
    sequences the mean of the contexts they read. [elements, tokens]

    References
    ----------
    .. [1] T. Dao et al., "Flash-Decoding for long-context inference", 2023 (one sequence's keys
       are split over units, and a second step reduces over the splits).
    """
    if isinstance(op, Gemm | GroupedGemm):
        return op.k
    if isinstance(op, AttentionPrefill):
        if op.longest_tokens is not None:
            return op.longest_tokens
        pairs = op.capped_pairs
        return math.sqrt(2 * pairs) if isinstance(pairs, float) else np.sqrt(2 * pairs)
    if isinstance(op, AttentionDecode):
        return op.capped_tokens / larger(op.sequences, 1e-30)
    return 0.0


def call_of(op: Op, part: AcceleratorSpec, law: Achieved | None = None) -> Call:
    """One call of ``op`` on ``part``; a sparse indexer multiplies in fp8 where the part can.

    Raises
    ------
    InputError
        The part does not multiply in the op's precision.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    peak = part.peak_flop_per_s((law and law.multiplies) or op.precision)
    bandwidth = float(part.memory_bytes_per_s)
    match op:
        case Gemm() | GroupedGemm():
            rows, moved = op.m if isinstance(op, Gemm) else op.pairs, op.hbm_bytes
            step_s = (moved - 2 * rows * op.n) / op.k / bandwidth
            of = op.flop / peak, moved / bandwidth, work_size(op), moved, op.k
            if isinstance(op, Gemm):
                return Call(*of, rows=rows, step_s=step_s, columns=op.n, tokens=rows)
            planned, elements, foreign, chosen = _given(op, part, law)
            again_s: Real = 0.0
            if law is not None and law.reread_rows:
                weights, cache = op.k * op.n * op.weight_bytes, float(part.cache_bytes or 0.0)
                again_s = uncached_s(op.touched, weights, cache, bandwidth)
            return Call(
                *of, rows=rows, step_s=step_s, columns=op.n, head_rows=rows * op.n,
                tokens=elements, planned=planned, touched=op.touched, foreign=foreign,
                rounds=chosen, uncached_s=again_s, alike=op.alike,
            )  # fmt: skip
        case Elementwise():
            return Call(0.0, op.hbm_bytes / bandwidth, 1.0, op.hbm_bytes, 0.0)
    eight_bits = op.indexer_pair_flop and part.dense_flop_per_s.fp8
    indexed_s = op.indexer_flop / (float(part.dense_flop_per_s.fp8 or peak) if eight_bits else peak)
    compute_s = (op.flop - op.indexer_flop) / peak + indexed_s
    if isinstance(op, AttentionDecode):
        moved, query_s = op.readings * op.cache_bytes, op.query_bytes / bandwidth
        return Call(
            compute_s, moved / bandwidth, 1.0, moved, work_depth(op), query_s, lines=True,
            head_rows=op.readings * op.cached_heads * op.sequences,
            queries=max(1.0, op.new_tokens * op.heads / (op.cached_heads or math.inf)),
            indexed_s=indexed_s,
        )  # fmt: skip
    keys, asked = op.key_bytes, op.query_bytes
    return Call(
        compute_s, keys / bandwidth, op.flop, keys + asked, work_depth(op), asked / bandwidth,
        rows=2 * op.pairs / larger(op.tokens, 1e-30), scores_s=op.heads * op.capped_pairs / peak,
        head_rows=op.heads * op.tokens, tokens=op.tokens, key_width=op.key_width,
        keys=op.tokens * op.key_width, cache_bytes=float(part.cache_bytes or 0.0),
    )  # fmt: skip


def _given(
    op: GroupedGemm, part: AcceleratorSpec, law: Achieved | None
) -> tuple[Real, Real, Real, Real]:
    """Rows planned for, elements of tokens given, of results elsewhere, and rounds of choice."""
    given, own = op.given, work_size(op)
    if given is None:
        return own, 0.0, 0.0, 0.0
    if law is not None and law.untuned_tiles:
        planned = untuned_rows(given.tokens, given.experts)
    else:
        planned = larger(own, given.rows_each)
    chosen: Real = 0.0
    if law is not None and law.choice_s and part.multiprocessors:
        picks = given.pairs / larger(given.tokens, 1e-30)
        chosen = rounds(given.tokens, picks, given.among, float(part.multiprocessors))
    return planned, given.elements, larger(0.0, given.pairs - op.pairs) * op.n, chosen


def op_time(op: Op, part: AcceleratorSpec, calibration: CalibrationSpec) -> OpTime:
    """Time of all calls of ``op``, by the achieved shares of its family (:meth:`Call.time_s`).

    Raises
    ------
    InputError
        The part does not multiply in the op's precision, or the calibration has no shares for it.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    part.peak_flop_per_s(op.precision)  # what the part cannot do goes before what was not measured
    law = achieved(op, calibration)
    call = call_of(op, part, law)
    whole = call
    if isinstance(op, AttentionDecode) and law.tile_keys:
        whole = call_of(op.of_at_least(float(law.tile_keys)), part, law)
    time_s = whole.time_s(law)
    crossing_s = call.crossing_s
    if isinstance(op, AttentionDecode) and op.readings != 1.0:
        crossing_s = call.memory_s / op.readings + call.query_s
    return OpTime(op.count * time_s, op.count * call.compute_s, op.count * crossing_s)
