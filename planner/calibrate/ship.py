"""Make the calibrations that travel with the package: fit what was measured, transfer the rest."""

from collections.abc import Sequence
from pathlib import Path

from planner import files
from planner.calibrate.carried import at_rate, carried
from planner.calibrate.features import PRECISION
from planner.calibrate.fit import choices_of, fit_part, transfer, transfer_errors
from planner.calibrate.write import write_calibration
from planner.sourced import Sourced
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec, Precision
from planner.specs.provenance import HeldOut

MEASURED = {
    "h100-sxm": None, "h200-sxm": "h100-sxm", "h800-sxm": "h100-sxm", "h20": "h100-sxm",
    "b200-sxm": None,
    "gb200-nvl72": "b200-sxm", "b300-sxm": "b200-sxm", "gb300-nvl72": "b300-sxm",
    "a100-80g-sxm": None, "l40s": None, "rtx-pro-6000": None, "mi355x": None, "mi300x": None,
    "tpu-v5e": None, "tpu-v6e": "tpu-v5e", "tpu-v7-ironwood": "tpu-v5e",
}  # fmt: skip
"""Part with rows -> sibling whose shares are held against them, in this order."""
TRANSFERRED = {
    "gh200": "h200-sxm", "h100-nvl": "h100-sxm", "h100-pcie": "h100-sxm", "rtx-4090": "l40s",
    "rtx-5090": "rtx-pro-6000", "dgx-spark-gb10": "rtx-pro-6000", "mi325x": "mi300x",
    "tpu-v4": "tpu-v5e", "tpu-v5p": "tpu-v5e",
}  # fmt: skip
"""Part without rows -> sibling whose shares it takes."""
SAME_CHIP = "h200-sxm"
"""Part whose error by a sibling's shares stands for transfers to the same chip with other memory
and clocks, which is what most transfers above are."""
OTHER_CHIP = {"tpu-v5e": "tpu-v6e"}
"""Sibling -> part that stands for transfers of its shares to another generation."""
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
        measured = _of(sibling, made)
        if sibling in PARTLY_FITTED:
            measured = _fitted_products(measured)
        spec = transfer(files.load_calibration(name), name, (name,), measured)
        stands = OTHER_CHIP.get(sibling, SAME_CHIP)
        like = _of(stands, made).provenance
        if spec.provenance and like:
            fitted = measured.provenance.held_out if measured.provenance else ()
            kinds = {(h.family, h.dtype) for h in fitted if h.split != "part"}
            held = tuple(
                h for h in like.held_out
                if h.split == "part"
                and (sibling not in PARTLY_FITTED or (h.family, h.dtype) in kinds)
            )  # fmt: skip
            said = tuple(h.model_copy(update={"source": f"{stands}: {h.source}"}) for h in held)
            update = {"held_out": said}
            spec = spec.model_copy(update={"provenance": spec.provenance.model_copy(update=update)})
        how = f"transferred from {sibling}, which was measured"
        spec = _with_estimates(_eight_bits(spec, files.load_accelerator(name)))
        paths.append(write_calibration(folder, spec, ABOUT.format(how=how)))
    return paths


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
    """``spec`` with what its shares that were read off make on other parts, where it has such."""
    made = spec.provenance
    if spec.name not in ESTIMATED or made is None:
        return spec
    fitted = {_kind(held) for held in made.held_out}
    errors = [held for held in estimate_errors(spec) if _kind(held) not in fitted]
    update = {"held_out": (*made.held_out, *errors)}
    return spec.model_copy(update={"provenance": made.model_copy(update=update)})


def _kind(held: HeldOut) -> tuple[str, str]:
    """What an error is of: an operation, for products in a format."""
    attention = held.family.startswith("attention")
    return held.family, "" if attention else PRECISION.get(held.dtype, held.dtype)


def estimate_errors(calibration: CalibrationSpec) -> list[HeldOut]:
    """Error that shares read off published fractions make on parts with kernel tables.

    Only on formats that both have; what it says of the estimate's own parts is of its kind.
    """
    found = []
    for name in HELD_AGAINST:
        part = files.load_accelerator(name)
        errors = transfer_errors(part, calibration)
        found += [e.model_copy(update={"source": f"{name}: {e.source}"}) for e in errors]
    return found


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
