"""Predicted against measured, on points that were not fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner import files
from planner.calibrate import tables as aic
from planner.calibrate.links_check import link_held_out
from planner.calibrate.own_rows import fit_rows, part_of
from planner.calibrate.parts import fit_part
from planner.calibrate.published import published_tables
from planner.calibrate.rows import Table, read_rows
from planner.calibrate.splits import SHAPES, SIZES
from planner.errors import InputError
from planner.specs.provenance import HeldOut

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
    list of {part, family, dtype, split, n, median_abs_error, p90_abs_error, bias, source, stored}.

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
    name = part_of(read_rows(path))
    fitted = fit_rows(path, files.load_accelerator(name) if name else None)
    return [_record(name or fitted.device, h, stored=False) for h in fitted.found.held_out]


def source_tables(source: str, part: str) -> list[Table]:
    """Tables that a word names: a rows file, ``published``, or ``ENGINE[:VERSION]`` of the tables.

    Raises
    ------
    InputError
        Nothing of that name has rows of the part.
    """
    if source.endswith(".jsonl"):
        return list(read_rows(Path(source)).tables)
    if source == "published":
        found = published_tables(part)
    else:
        engine, _, version = source.partition(":")
        found = aic.aic_tables(part, engine=engine, version=version or None)
    if not found:
        raise InputError("", "source", f"no rows of {part} in {source!r}")
    return found


def compare(a: str, b: str, part: str) -> list[Record]:
    """Two sources of the same part side by side, on points both have.

    Returns
    -------
    list of {part, family, dtype, a, b, n, median_ratio, p10_ratio, p90_ratio}; ratios are time by
    ``b`` over time by ``a``.
    """
    found = []
    for one in source_tables(a, part):
        for two in source_tables(b, part):
            if one.op != two.op or one.dtype != two.dtype or _kind(one) != _kind(two):
                continue
            ratio = _ratios(one, two)
            if len(ratio):
                low, mid, high = np.quantile(ratio, (0.1, 0.5, 0.9))
                found.append({
                    "part": part, "family": one.op, "dtype": one.dtype,
                    "a": f"{a} {one.kernel}".strip(), "b": f"{b} {two.kernel}".strip(),
                    "n": len(ratio), "median_ratio": round(float(mid), 4),
                    "p10_ratio": round(float(low), 4), "p90_ratio": round(float(high), 4),
                })  # fmt: skip
    return found


def _kind(table: Table) -> tuple[str, ...]:
    return tuple(table.labels.get(n, "") for n in ("variant", "kv_dtype", "distribution", "phase"))


def _ratios(one: Table, two: Table) -> np.ndarray:
    names = (*SIZES.get(one.op, ("ranks", "bytes")), *SHAPES.get(one.op, ()))
    names += ("kv_heads", "head_dim", "local_experts")
    names = tuple(n for n in names if n in one.columns and n in two.columns)
    if not names:
        return np.zeros(0)
    known = dict(zip(_keys(one, names), one.time_s, strict=True))
    pairs = [
        (known[key], t)
        for key, t in zip(_keys(two, names), two.time_s, strict=True)
        if key in known
    ]
    return np.array([t / s for s, t in pairs])


def _keys(table: Table, names: tuple[str, ...]) -> list[tuple[float, ...]]:
    return list(zip(*(table[n].tolist() for n in names), strict=True))
