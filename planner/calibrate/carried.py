"""Shares of one part as they are on another whose matrix units are slower beside the rest."""

from collections.abc import Mapping
from typing import get_args

from planner.sourced import Sourced
from planner.specs.calibration import Achieved, AttentionKernels, CalibrationSpec, Curve, Stored
from planner.specs.hardware import AcceleratorSpec, Precision


def carried(
    measured: CalibrationSpec, source: AcceleratorSpec, target: AcceleratorSpec
) -> CalibrationSpec:
    r"""Compute shares of ``measured`` on ``target``; as they are where units are not stated.

    What a kernel loses of the peak (epilogues, conversions, softmax, filling pipelines) is time of
    its multiprocessors, not a share of the matrix units' rate.  Where those do fewer FLOP a second
    and multiprocessor, by the factor ``r``, the same loss is a smaller part:

    .. math:: \eta' = \frac{1}{1 + r\,(1 / \eta - 1)}, \qquad
       r = \frac{P' / n'}{P / n}

    with peaks ``P`` and multiprocessors ``n``.  Dense results fill ``n'`` of them at sizes
    ``n' / n`` times as large, prompts run as long at ``P' / P`` times the FLOP,
    contexts are divided over ``n'``; an exponential takes the time of ``r`` times as many FLOP.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009 (ceilings other
       than the peak).
    """
    if source.multiprocessors is None or target.multiprocessors is None:
        return measured
    units = float(target.multiprocessors) / float(source.multiprocessors)
    bandwidth = float(target.memory_bytes_per_s) / float(source.memory_bytes_per_s)

    def scaled(law: Achieved, precision: Precision, of: str = "") -> Achieved:
        precision = law.multiplies or precision
        peak = target.peak_flop_per_s(precision) / source.peak_flop_per_s(precision)
        grown = {"gemm": units, "prompts": peak}.get(of, 1.0)
        return over_units(at_rate(law, peak / units, grown), units, bandwidth)

    shared = set(source.dense_flop_per_s.precisions()) & set(target.dense_flop_per_s.precisions())

    def each(laws: dict[Precision, Achieved], of: str = "") -> dict[Precision, Achieved]:
        return {name: scaled(law, name, of) for name, law in laws.items() if name in shared}

    def stored(laws: Mapping[Stored, Achieved]) -> dict[Stored, Achieved]:
        return {name: scaled(law, "bf16") for name, law in laws.items()}

    def library(laws: Mapping[Precision | Stored, Achieved]) -> dict[Precision | Stored, Achieved]:
        return {
            name: scaled(law, _multiplied(name))
            for name, law in laws.items()
            if name in shared or name in get_args(Stored)
        }

    update: dict[str, object] = {
        "gemm": each(measured.gemm, "gemm"),
        "grouped_gemm": each(measured.grouped_gemm),
        "expert_kernels": {n: library(k) for n, k in measured.expert_kernels.items()},
        "stored_experts": stored(measured.stored_experts),
    }
    update["attention_kernels"] = {
        engine: AttentionKernels(
            prefill={k: scaled(law, "bf16", "prompts") for k, law in kernels.prefill.items()},
            decode={k: scaled(law, "bf16") for k, law in kernels.decode.items()},
        )
        for engine, kernels in measured.attention_kernels.items()
    }
    for name, of in (("attention_decode", ""), ("attention_prefill", "prompts")):
        update[name] = scaled(getattr(measured, name), "bf16", of)
        variants: dict[str, Achieved] = getattr(measured, f"{name}_variants")
        update[f"{name}_variants"] = {k: scaled(law, "bf16", of) for k, law in variants.items()}
    return measured.model_copy(update=update)


def _multiplied(name: Precision | Stored) -> Precision:
    """Format that experts kept by ``name`` are multiplied in."""
    match name:
        case "mxfp4" | "int4":
            return "bf16"
        case _:
            return name


def at_rate(law: Achieved, rate: float, units: float = 1.0) -> Achieved:
    """One law at ``rate`` times the FLOP a second and multiprocessor, its sizes times ``units``."""

    def share(value: float) -> float:
        return float(f"{1 / (1 + rate * (1 / value - 1)):.4g}")

    own, curve = law.compute_share, law.compute_curve
    compute = own
    if rate != 1:
        compute = Sourced(share(float(own)), own.source, f"{own.note}; loss as time", "assumed")
    if curve is not None:
        grown = units * rate if law.waves else units  # of a result, or the FLOP of a duration
        sizes = tuple(size * grown for size in curve.sizes)
        shares = tuple(map(share, curve.shares))
        curve = Curve(sizes=sizes, shares=shares, source=curve.source, confidence="assumed")
    scores = max(1, round(law.score_flop * rate)) if law.score_flop else None
    waves = law.waves
    if waves is not None:
        waves = waves.model_copy(update={"units": round(waves.units * units)})
    update = {
        "compute_share": compute, "compute_curve": curve, "score_flop": scores, "waves": waves,
    }  # fmt: skip
    return law.model_copy(update=update)


def over_units(law: Achieved, units: float, bandwidth: float = 1.0) -> Achieved:
    """``law`` over ``units`` times as many multiprocessors, each of which takes a part.

    Parameters
    ----------
    bandwidth : of the memory, times as much; as many more multiprocessors fill it.
    """
    if law.row_waves is not None:
        waves = law.row_waves
        fill = min(1.0, float(f"{waves.fill * bandwidth / units:.3g}"))
        waves = waves.model_copy(update={"units": round(waves.units * units), "fill": fill})
        law = law.model_copy(update={"row_waves": waves})
    if law.splits is None or law.row_s is None or units == 1:
        return law
    splits = law.splits.model_copy(update={"units": round(law.splits.units * units)})
    row, note = law.row_s, f"{law.row_s.note}; of one unit"
    row = Sourced(float(f"{float(row) / units:.4g}"), row.source, note, "assumed")
    return law.model_copy(update={"splits": splits, "row_s": row})
