"""Single measured points beside their predictions, for plots and for the worst of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from planner import files
from planner.calibrate.calls import Peaks, stated_peaks
from planner.calibrate.choice import Chosen, candidates, chosen
from planner.calibrate.features import law_of, predict_s, works
from planner.calibrate.fit import ELEMENTWISE, conversion_law
from planner.calibrate.fitted import fit_file
from planner.calibrate.own_rows import choices
from planner.calibrate.packed import read_packed
from planner.calibrate.rows import Table
from planner.calibrate.screen import screen
from planner.calibrate.shapes import Key
from planner.calibrate.splits import SHAPES, SIZES
from planner.errors import InputError
from planner.specs.calibration import Achieved

SLICES = ("intermediate", "local_experts", "kv_heads")
"""What more is said of a point, beside its sizes and the shape of its model."""
MOST_POINTS = 400
"""Points of one table that are shown; more are sampled evenly by time."""
CONVERTED = 0.6
"""Share of the bandwidth that quantisation is shown with where the fit's is not at hand."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measured time and what the calibration says of it."""

    part: str
    family: str
    dtype: str
    label: str
    """Sizes, for a person."""
    measured_s: float
    predicted_s: float

    @property
    def relative_error(self) -> float:
        """Predicted over measured, minus one."""
        return self.predicted_s / self.measured_s - 1


def part_points(name: str) -> list[Point]:
    """Rows that a part's calibration was fitted to, predicted by the shipped calibration.

    Empty where no rows are to be had here (no carried ones, and the tables are not installed).
    """
    part, calibration = files.load_accelerator(name), files.load_calibration(name)
    peaks = stated_peaks(part)
    laws = {("conversion", ""): conversion_law(CONVERTED, calibration.elementwise)}
    picked = chosen(candidates(name), part.dense_flop_per_s.precisions())
    return _points(name, picked, peaks, laws, partial(law_of, calibration))


def rows_points(path: Path) -> list[Point]:
    """Rows of a file, predicted by the shares fitted to it."""
    tables = read_packed(path).tables
    part, fitted = fit_file(path)
    own: dict[Key, Achieved] = {**fitted.found.laws, ELEMENTWISE: fitted.elementwise}
    own[("conversion", "")] = conversion_law(CONVERTED, fitted.elementwise)
    name = part.name if part else fitted.device
    return _points(name, choices(tables), fitted.peaks, own, own.__getitem__)


def _points(
    part: str,
    picked: Sequence[Chosen],
    peaks: Peaks,
    laws: Mapping[Key, Achieved],
    law: Callable[[Key], Achieved],
) -> list[Point]:
    found = []
    for table in (table for choice in picked for table in choice.tables):
        kept = _thin(screen(table, peaks).table)
        parts = works(kept, peaks)
        known = dict(laws)
        try:
            known.update({w.key: law(w.key) for w in parts if w.key not in known})
        except (InputError, KeyError):
            continue
        if not len(kept):
            continue
        predicted = predict_s(parts, known)
        found += [
            Point(part, kept.op, kept.dtype, _label(kept, i), float(kept.time_s[i]), float(p))
            for i, p in enumerate(predicted)
        ]
    return found


def _thin(table: Table) -> Table:
    """At most so many rows, evenly over their times."""
    if len(table) <= MOST_POINTS:
        return table
    order = np.argsort(table.time_s)[:: -(-len(table) // MOST_POINTS)]
    keep = np.zeros(len(table), bool)
    keep[order] = True
    return table.take(keep)


def _label(table: Table, row: int) -> str:
    names = (*SIZES.get(table.op, ()), *SHAPES.get(table.op, ()), *SLICES)
    words = [f"{n} {table[n][row]:g}" for n in names if n in table.columns]
    return ", ".join((table.labels.get("variant", table.kernel), *words))


def worst(points: Sequence[Point], most: int) -> list[Point]:
    """Points farthest off, by the logarithm of predicted over measured."""
    ranked = sorted(points, key=lambda p: -abs(np.log(p.predicted_s / p.measured_s)))
    return ranked[:most]
