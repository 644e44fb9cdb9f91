"""Predicted against measured, on points that were not fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner import files
from planner.calibrate import tables as aic
from planner.calibrate.fitted import fit_file
from planner.calibrate.links_check import link_held_out
from planner.calibrate.parts import fit_part
from planner.calibrate.published import published_tables
from planner.errors import InputError
from planner.specs.provenance import BORROWED, HeldOut

Record = dict[str, Any]


def check(parts: Sequence[str] = (), refit: bool | None = None) -> list[Record]:
    """How wrong each shipped calibration is on held-out points.

    Parameters
    ----------
    parts : accelerators; empty: all that were fitted.
    refit : fit again without the held-out points and compare (seconds to minutes a part, needs
        the optional tables); False: the figures stored when the calibration was made.  None:
        refit where the tables are installed and parts are named.

    Returns
    -------
    list of {part, family, dtype, split, n, median_abs_error, p90_abs_error, bias, source, stored};
    ``split`` and ``dtype`` as :class:`planner.specs.provenance.HeldOut` says.

    Raises
    ------
    InputError
        A part is not known, or ``refit`` is asked for without the tables.
    """
    names = list(parts) or [p for p in files.accelerator_names() if _stored(p)]
    again = refit if refit is not None else bool(parts) and aic.installed()
    if again and not aic.installed():
        raise InputError(
            "--refit", "", 'the tables are not installed: pip install "moe-planner[tables-nvidia]"'
        )
    found: list[Record] = []
    for name in names:
        part = files.load_accelerator(name)
        if again and (name in aic.PARTS or published_tables(name)):
            _, fitted = fit_part(part, files.load_calibration(name))
            held = (*fitted.held_out, *link_held_out(name))
            found += [_record(name, h, stored=False) for h in held]
        else:
            found += [_record(name, h, stored=True) for h in _stored(name)]
    return found


def _stored(part: str) -> tuple[HeldOut, ...]:
    calibration = files.load_calibration(part)
    made = (calibration.provenance, calibration.links.provenance)
    return tuple(held for provenance in made if provenance for held in provenance.held_out)


def _record(part: str, held: HeldOut, stored: bool) -> Record:
    return {"part": part, **held.model_dump(), "stored": stored}


def check_rows(path: Path) -> list[Record]:
    """Fit a file of the runner's rows, and compare with its held-out points.

    Raises
    ------
    InputError
        The file is not sound, or holds too little.
    """
    part, fitted = fit_file(path)
    name = part.name if part else fitted.device
    return [_record(name, h, stored=False) for h in fitted.found.held_out]


NOT_HELD = (*BORROWED, "in_sample")
"""Splits of records whose points were fitted, or are another part's."""
TOO_FEW = (
    "no rows held out: that takes four sizes and five rows of one kernel (of four sizes and more "
    "every third is held out between fitted neighbours)"
)


def why_nothing(target: str, records: Sequence[Record], of_file: bool = False) -> str:
    """Why no point of ``target`` is held out, and what would change it; empty where some are.

    Parameters
    ----------
    target : an accelerator, or a file of rows.
    records : what ``check`` or ``check_rows`` gave of it.
    """
    if any(record["split"] not in NOT_HELD for record in records):
        return ""
    if of_file:
        return f"{target}: {TOO_FEW}. `calibrate run` with a larger --budget goes on in that file."
    made = files.load_calibration(target).provenance
    if made is None:
        return (
            f"{target}: no rows held out: none of its kernels was measured, its shares are assumed "
            "or read off published figures. `calibrate run` on the part measures some."
        )
    if not made.transferred_from:
        return f"{target}: {TOO_FEW}."
    own = f"{target}: no rows held out: it has none, its shares are those of"
    if records:
        return f"{own} {made.transferred_from}. Above is what such a transfer does elsewhere."
    return f"{own} {made.transferred_from}, another chip: no such transfer can be checked."
