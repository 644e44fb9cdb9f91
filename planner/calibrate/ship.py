"""Make the calibrations that travel with the package: fit what was measured, transfer the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from planner import files
from planner.calibrate.carried import at_rate, carried, over_units
from planner.calibrate.features import law_of
from planner.calibrate.fit import PartFit
from planner.calibrate.parts import choices_of, fit_part, transfer, transfer_errors
from planner.calibrate.shapes import Key
from planner.calibrate.write import write_calibration
from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, AttentionKernels, CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, Precision
from planner.specs.provenance import HeldOut

MEASURED = {
    "h100-sxm": None, "h200-sxm": "h100-sxm", "h800-sxm": "h100-sxm", "h20": "h100-sxm",
    "b200-sxm": None,
    "gb200-nvl72": "b200-sxm", "b300-sxm": "b200-sxm", "gb300-nvl72": "b300-sxm",
    "a100-80g-sxm": None, "l40s": None, "rtx-pro-6000": None, "mi355x": None, "mi300x": None,
    "tpu-v5e": None, "tpu-v7-ironwood": "tpu-v5e",
}  # fmt: skip
"""Part with rows -> sibling whose shares are held against them, in this order."""
TRANSFERRED = {
    "gh200": "h200-sxm", "h100-nvl": "h100-sxm", "h100-pcie": "h100-sxm", "rtx-4090": "l40s",
    "rtx-5090": "rtx-pro-6000", "dgx-spark-gb10": "rtx-pro-6000", "mi325x": "mi300x",
    "tpu-v4": "tpu-v5e", "tpu-v5p": "tpu-v5e", "tpu-v6e": "tpu-v5e",
}  # fmt: skip
"""Part without rows -> sibling whose shares it takes."""
SAME_CHIP = "h200-sxm"
"""Part whose error by a sibling's shares says what transfers to the same chip with other memory
and clocks do, which is what most transfers above are."""
OTHER_CHIP = ("dgx-spark-gb10",)
"""Part without rows that is another chip than its sibling: no such transfer can be checked."""
CORES = {"tpu-v4": 2, "tpu-v5e": 1, "tpu-v5p": 2, "tpu-v6e": 1}
"""Part -> cores that share its peak: what a product loses is time of one
(:func:`planner.calibrate.carried.carried`)."""
HELD_OVER = {"tpu-v5e": "tpu-v6e"}
"""Sibling -> part with rows on which such a transfer is tried."""
STARTS_FROM = {"h800-sxm": "h100-sxm", "h20": "h100-sxm"}
"""Part with rows of some families only -> sibling whose shares it takes for the others."""
PARTLY_FITTED = ("mi300x", "tpu-v5e")
"""Part with rows of some formats only: its sibling takes those, and keeps its own of others."""
ESTIMATED = ("tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7-ironwood")
"""Parts whose shares are read off published fractions, by hand, but for what has rows."""
HELD_AGAINST = ("h100-sxm", "a100-80g-sxm", "b200-sxm")
"""Measured parts of other makers' architectures that such estimates are tried on."""
ABOUT = """Achieved shares of the stated peaks, {how}. Floors [s].
Made by planner.calibrate.ship; make it again, do not edit. How, how wrong: docs/calibration.md."""


def ship(folder: Path, parts: Sequence[str] = (), families: Sequence[str] = ()) -> list[Path]:
    """Fit or transfer the calibrations of ``parts`` (all without) into ``folder``.

    Takes minutes a part, and the optional tables.

    Parameters
    ----------
    families : those to fit anew, the others stay as they ship; empty: all.  Parts that start from
        a sibling's shares are fitted whole: they have few rows.

    Raises
    ------
    InputError
        No rows of a part are to be had.
    """
    made: dict[str, CalibrationSpec] = {}
    paths = []
    for name, sibling in MEASURED.items():
        if parts and name not in parts:
            continue
        part, base = files.load_accelerator(name), files.load_calibration(name)
        if name in STARTS_FROM:
            base = transfer(base, name, (name,), _carried(STARTS_FROM[name], made, part))
        again = () if name in STARTS_FROM else families
        spec, found = fit_part(part, base, again)
        if name in STARTS_FROM:
            spec = _own_first(spec, found)
        provenance = spec.provenance
        if provenance and sibling:
            errors = transfer_errors(part, _carried(sibling, made, part), choices_of(part, again))
            held = (*provenance.held_out, *errors)
            update = {"held_out": held, "transferred_from": STARTS_FROM.get(name, "")}
            spec = spec.model_copy(update={"provenance": provenance.model_copy(update=update)})
        spec = _with_estimates(_eight_bits(spec, part))
        made[name] = spec
        how = "fitted to measured kernel times"
        about = ABOUT.format(how=how)
        fits = dict(found.of_libraries)
        fits.update(((*key,), fit) for key, fit in found.fits.items())
        paths.append(write_calibration(folder, spec, about, fits, add=bool(again)))
    for name, sibling in TRANSFERRED.items():
        if parts and name not in parts:
            continue
        measured = _taken_over(name, sibling, made)
        spec = transfer(files.load_calibration(name), name, (name,), measured)
        if spec.provenance:
            update = {"held_out": _tried(name, sibling, measured, made)}
            spec = spec.model_copy(update={"provenance": spec.provenance.model_copy(update=update)})
        how = f"transferred from {sibling}, which was measured"
        spec = _with_estimates(_eight_bits(spec, files.load_accelerator(name)))
        paths.append(write_calibration(folder, spec, ABOUT.format(how=how)))
    return paths


def _own_first(spec: CalibrationSpec, found: PartFit) -> CalibrationSpec:
    """``spec`` with engines' grouped queries by the part's own rows, where it has them."""
    own: dict[str, dict[str, Achieved]] = {"prefill": {}, "decode": {}}
    for (family, kind), law in found.laws.items():
        if family.startswith("attention_") and kind.startswith("gqa"):
            own[family.removeprefix("attention_")][kind] = law
    kernels = {
        engine: AttentionKernels.model_validate(
            {name: {**getattr(kernels, name), **laws} for name, laws in own.items()}
        )
        for engine, kernels in spec.attention_kernels.items()
    }
    return spec.model_copy(update={"attention_kernels": kernels})


def _taken_over(name: str, sibling: str, made: dict[str, CalibrationSpec]) -> CalibrationSpec:
    """Shares of ``sibling`` as ``name`` takes them: what was fitted, at the rate of its cores.

    A clock lengthens what a kernel loses as it does its products; fewer multiprocessors of the
    same kind are filled by smaller results.
    """
    measured = _of(sibling, made)
    if sibling in PARTLY_FITTED:
        measured = _fitted_products(measured)
    own, other = (files.load_accelerator(n) for n in (name, sibling))
    rate = units = 1.0
    if name in CORES:
        peaks = [float(part.peak_flop_per_s("bf16")) for part in (own, other)]
        rate = peaks[0] / CORES[name] / (peaks[1] / CORES[sibling])
    elif own.multiprocessors and other.multiprocessors:
        units = float(own.multiprocessors) / float(other.multiprocessors)
    bandwidth = float(own.memory_bytes_per_s) / float(other.memory_bytes_per_s)
    gemm = measured.gemm
    if rate != 1 or units != 1:
        gemm = {each: at_rate(law, rate, units) for each, law in gemm.items()}
    decode = {
        kind: over_units(law, units, bandwidth)
        for kind, law in measured.attention_decode_variants.items()
    }
    kernels = {
        engine: each.model_copy(
            update={
                "decode": {k: over_units(law, units, bandwidth) for k, law in each.decode.items()}
            }
        )
        for engine, each in measured.attention_kernels.items()
    }
    update = {
        "gemm": gemm, "attention_decode_variants": decode, "attention_kernels": kernels,
    }  # fmt: skip
    return measured.model_copy(update=update)


def _tried(
    name: str, sibling: str, measured: CalibrationSpec, made: dict[str, CalibrationSpec]
) -> tuple[HeldOut, ...]:
    """Error of such a transfer on a part with rows; none where no such transfer can be checked."""
    if name in OTHER_CHIP:
        return ()
    if sibling in HELD_OVER:
        part = files.load_accelerator(HELD_OVER[sibling])
        taken = _taken_over(part.name, sibling, made)
        held = transfer_errors(part, taken, choices_of(part, ("gemm",)))
        return tuple(held) if name == part.name else _elsewhere(part.name, held)
    like, fitted = _of(SAME_CHIP, made).provenance, measured.provenance
    kinds = {(h.family, h.dtype) for h in fitted.held_out if h.split != "part"} if fitted else set()
    own = [h for h in (like.held_out if like else ()) if h.split == "part"]
    if sibling in PARTLY_FITTED:
        own = [h for h in own if (h.family, h.dtype) in kinds]
    return _elsewhere(SAME_CHIP, own)


def _elsewhere(part: str, held: Sequence[HeldOut]) -> tuple[HeldOut, ...]:
    """Errors on the rows of ``part``, for another that has none."""
    return tuple(
        h.model_copy(update={"split": "elsewhere", "source": f"{part}: {h.source}"}) for h in held
    )


def _eight_bits(spec: CalibrationSpec, part: AcceleratorSpec) -> CalibrationSpec:
    """``spec`` with dense products of 8 bits from those of 16, where only these were measured.

    What is lost of the peak is lost in time (:func:`planner.calibrate.carried.carried`).
    """
    fitted = spec.provenance.residual_sigma if spec.provenance else {}
    if spec.name not in ESTIMATED or "gemm/bf16" not in fitted:
        return spec
    gemm, peak = dict(spec.gemm), part.peak_flop_per_s("bf16")
    eight: tuple[Precision, ...] = ("fp8", "int8")
    for each in (e for e in eight if e in part.dense_flop_per_s.precisions()):
        law = at_rate(gemm["bf16"], part.peak_flop_per_s(each) / peak)
        own = law.memory_share
        memory = Sourced(float(own), own.source, "as products of 16 bits", "assumed")
        gemm[each] = law.model_copy(update={"memory_share": memory})
    return spec.model_copy(update={"gemm": gemm})


def _with_estimates(spec: CalibrationSpec) -> CalibrationSpec:
    """``spec`` with the errors of its mere assumptions on other parts, where it has such."""
    made = spec.provenance
    if spec.name not in ESTIMATED or made is None:
        return spec
    held = (h for h in made.held_out if h.split != "assumed")  # those of another time
    update = {"held_out": (*held, *estimate_errors(spec))}
    return spec.model_copy(update={"provenance": made.model_copy(update=update)})


def estimate_errors(calibration: CalibrationSpec) -> list[HeldOut]:
    """Error that shares behind which nothing was measured make on parts with kernel tables.

    Only on formats that both have; what it says of the estimate's own parts is of its kind.
    """
    found = []
    own = files.load_accelerator(calibration.accelerators[0]).dense_flop_per_s.precisions()
    absent = set(get_args(Precision)) - set(own)
    for name in HELD_AGAINST:
        part = files.load_accelerator(name)
        choices = [
            choice
            for choice in choices_of(part)
            if choice.key[1] not in absent and _assumed(calibration, choice.key)
        ]
        errors = transfer_errors(part, calibration, choices)
        for error in errors:
            update = {"source": f"{name}: {error.source}", "split": "assumed"}
            found.append(error.model_copy(update=update))
    return found


def _assumed(calibration: CalibrationSpec, key: Key) -> bool:
    """Whether an assumption alone gives the compute share of a family and format."""
    try:
        law = law_of(calibration, key)
    except InputError:
        return False
    return law.compute_share.source == "assumption"


def _carried(name: str, made: dict[str, CalibrationSpec], part: AcceleratorSpec) -> CalibrationSpec:
    return carried(_of(name, made), files.load_accelerator(name), part)


def _fitted_products(measured: CalibrationSpec) -> CalibrationSpec:
    """``measured`` without the shares of products that no rows of it stand behind."""
    fitted = measured.provenance.residual_sigma if measured.provenance else {}
    update = {
        family: {k: v for k, v in getattr(measured, family).items() if f"{family}/{k}" in fitted}
        for family in ("gemm", "grouped_gemm")
    }
    return measured.model_copy(update=update)


def _of(name: str, made: dict[str, CalibrationSpec]) -> CalibrationSpec:
    return made.get(name) or files.load_calibration(name)
