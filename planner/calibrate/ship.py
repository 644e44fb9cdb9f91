"""Make the calibrations that travel with the package: fit what was measured, transfer the rest."""

from collections.abc import Sequence
from pathlib import Path

from planner import files
from planner.calibrate.carried import carried
from planner.calibrate.fit import choices_of, fit_part, transfer, transfer_errors
from planner.calibrate.write import write_calibration
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec
from planner.specs.provenance import HeldOut

MEASURED = {
    "h100-sxm": None, "h200-sxm": "h100-sxm", "h800-sxm": "h100-sxm", "h20": "h100-sxm",
    "b200-sxm": None,
    "gb200-nvl72": "b200-sxm", "b300-sxm": "b200-sxm", "gb300-nvl72": "b300-sxm",
    "a100-80g-sxm": None, "l40s": None, "rtx-pro-6000": None, "mi355x": None, "mi300x": None,
}  # fmt: skip
"""Part with rows -> sibling whose shares are held against them, in this order."""
TRANSFERRED = {
    "gh200": "h200-sxm", "h100-nvl": "h100-sxm", "h100-pcie": "h100-sxm", "rtx-4090": "l40s",
    "rtx-5090": "rtx-pro-6000", "dgx-spark-gb10": "rtx-pro-6000", "mi325x": "mi300x",
}  # fmt: skip
"""Part without rows -> sibling whose shares it takes."""
SAME_CHIP = "h200-sxm"
"""Part whose error by a sibling's shares stands for transfers to the same chip with other memory
and clocks, which is what every transfer above is."""
STARTS_FROM = {"h800-sxm": "h100-sxm", "h20": "h100-sxm"}
"""Part with rows of some families only -> sibling whose shares it takes for the others."""
PARTLY_FITTED = ("mi300x",)
"""Part with rows of some formats only: its sibling takes those, and keeps its own of others."""
ESTIMATED = ("tpu",)
"""Calibrations read off published fractions, by hand: no kernel table of their parts is public."""
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
        like = _of(SAME_CHIP, made).provenance
        if spec.provenance and like:
            fitted = measured.provenance.held_out if measured.provenance else ()
            kinds = {(h.family, h.dtype) for h in fitted}
            held = tuple(
                h for h in like.held_out
                if h.split == "part"
                and (sibling not in PARTLY_FITTED or (h.family, h.dtype) in kinds)
            )  # fmt: skip
            said = tuple(h.model_copy(update={"source": f"{SAME_CHIP}: {h.source}"}) for h in held)
            update = {"held_out": said}
            spec = spec.model_copy(update={"provenance": spec.provenance.model_copy(update=update)})
        how = f"transferred from {sibling}, which was measured"
        paths.append(write_calibration(folder, spec, ABOUT.format(how=how)))
    return paths


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
