"""From work to time: the roofline with achieved shares."""

from dataclasses import dataclass

import numpy as np

from planner.errors import InputError
from planner.ops import AttentionDecode, AttentionPrefill, Op, Real
from planner.specs.hardware import AcceleratorSpec, Achieved, CalibrationSpec


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


def op_time(op: Op, part: AcceleratorSpec, calibration: CalibrationSpec) -> OpTime:
    r"""Time of ``op`` when compute and memory overlap.

    .. math:: t = n \left( \max\left( \frac{F}{\eta_c P}, \frac{B}{\eta_m W} \right) + t_0 \right)

    with ``n`` calls, ``F`` FLOP and ``B`` bytes a call, peak ``P``, bandwidth ``W``, achieved
    shares ``eta`` and kernel floor ``t0``.  An indexer of sparse attention multiplies in fp8
    where the part can.

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
    memory_s = op.count * op.hbm_bytes / bandwidth
    compute_s: Real = 0.0
    if op.family != "elementwise":
        compute_s = op.count * op.flop / peak
        fp8 = part.dense_flop_per_s.fp8
        if isinstance(op, AttentionDecode | AttentionPrefill) and op.indexer_pair_flop and fp8:
            compute_s = compute_s - op.count * op.indexer_flop * (1 / peak - 1 / float(fp8))
    busy = np.maximum(compute_s / shares.compute_share, memory_s / shares.memory_share)
    return OpTime(busy + op.count * shares.floor_s, compute_s, memory_s)
