"""From work to time: the roofline with achieved shares."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.errors import InputError
from planner.ops import AttentionDecode, AttentionPrefill, Gemm, GroupedGemm, Op, Real
from planner.specs.hardware import AcceleratorSpec, Achieved, CalibrationSpec, Curve


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
    if op.family in {"gemm", "grouped_gemm"}:
        table = calibration.gemm if op.family == "gemm" else calibration.grouped_gemm
        if op.precision not in table:
            raise InputError(
                f"calibration {calibration.name}",
                op.family,
                f"no shares for {op.precision}; it has {', '.join(table)}",
            )
        return table[op.precision]
    if op.family == "attention_decode":
        return calibration.attention_decode
    if op.family == "attention_prefill":
        return calibration.attention_prefill
    return calibration.elementwise


def share_at(curve: Curve, size: Real) -> Real:
    """Share of the peak at ``size``: interpolated between knots in logarithms, flat outside.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (ceilings).
    """
    logs = np.log(np.maximum(size, 1e-30))
    shares: Real = np.exp(np.interp(logs, np.log(curve.sizes), np.log(curve.shares)))
    return shares


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
        return op.pairs / np.maximum(op.touched, 1e-30)
    return 1.0


def blended(compute_s: Real, memory_s: Real, blend: str) -> Real:
    """Time of computation and transfer together, from full overlap (``max``) to none (``sum``).

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (perfect overlap
       is the bound; kernels fall short of it most where both times are alike).
    """
    if blend == "max":
        return np.maximum(compute_s, memory_s)
    if blend == "sum":
        return compute_s + memory_s
    a, b = compute_s * compute_s, memory_s * memory_s
    return np.sqrt(a + b) if blend == "root2" else np.sqrt(np.sqrt(a * a + b * b))


def op_time(op: Op, part: AcceleratorSpec, calibration: CalibrationSpec) -> OpTime:
    r"""Time of ``op`` when compute and memory overlap.

    .. math:: t = n \left( \max\left( \frac{F}{\eta_c P}, \frac{B}{\eta_m W} \right) + t_0 \right)

    with ``n`` calls, ``F`` FLOP and ``B`` bytes a call, peak ``P``, bandwidth ``W``, achieved
    shares ``eta`` (constants, or curves over the op's size) and kernel floor ``t0``; a calibration
    may blend both times less sharply than by their maximum and add a time per step of the inner
    dimension.  An indexer of sparse attention multiplies in fp8 where the part can.

    Raises
    ------
    InputError
        The part does not multiply in the op's precision, or the calibration has no shares for it.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    peak = part.peak_flop_per_s(op.precision)
    shares = achieved(op, calibration)
    bandwidth = float(part.memory_bytes_per_s)
    call_bytes = op.hbm_bytes
    memory_s = op.count * call_bytes / bandwidth
    compute_s: Real = 0.0
    if op.family != "elementwise":
        compute_s = op.count * op.flop / peak
        fp8 = part.dense_flop_per_s.fp8
        if isinstance(op, AttentionDecode | AttentionPrefill) and op.indexer_pair_flop and fp8:
            compute_s = compute_s - op.count * op.indexer_flop * (1 / peak - 1 / float(fp8))
    busy = blended(
        compute_s / _share(shares.compute_curve, shares.compute_share, op, work_size),
        memory_s / _share(shares.memory_curve, shares.memory_share, op, lambda _: call_bytes),
        shares.blend,
    )
    return OpTime(busy + op.count * _fixed_s(op, shares), compute_s, memory_s)


def _share(curve: Curve | None, constant: float, op: Op, size: Callable[[Op], Real]) -> Real:
    return constant if curve is None else share_at(curve, size(op))


def _fixed_s(op: Op, shares: Achieved) -> float:
    """Time of one call that does not depend on the batch. [s]"""
    fixed = float(shares.floor_s)
    if shares.depth_s is not None and isinstance(op, Gemm | GroupedGemm):
        fixed = fixed + op.k * shares.depth_s
    return fixed
