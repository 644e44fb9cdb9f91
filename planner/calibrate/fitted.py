"""What ``calibrate fit`` answers: shares fitted to a file of rows or to a part's tables."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner import files
from planner.calibrate.fit import PartFit, with_laws
from planner.calibrate.own_rows import RowsFit, fit_rows, part_of
from planner.calibrate.packed import is_rows, unpacked
from planner.calibrate.parts import fit_part
from planner.calibrate.rows import read_rows
from planner.calibrate.write import calibration_yaml
from planner.errors import InputError
from planner.specs.calibration import Achieved, CalibrationSpec
from planner.specs.hardware import AcceleratorSpec

ABOUT = "Achieved shares of the stated peaks, fitted to {source}. Floors [s]."


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fit with what it takes to write and to judge it."""

    device: str
    source: str
    found: PartFit
    calibration: CalibrationSpec | None
    """Of a part with a profile."""
    rows_fit: RowsFit | None = None

    @property
    def about(self) -> str:
        """What was fitted to what, in a line."""
        used = sum(count.used for count in self.found.rows)
        refused = sum(sum(count.refused.values()) for count in self.found.rows)
        failed = self.rows_fit.failed if self.rows_fit else 0
        words = f"{used:,} rows of {self.source}, {refused:,} refused by rule"
        return words + (f", {failed} points the run could not measure" if failed else "")

    @property
    def laws(self) -> dict[str, Achieved]:
        """Shares by family and format."""
        return {"/".join(p for p in key if p): law for key, law in self.found.laws.items()}

    @property
    def records(self) -> list[dict[str, Any]]:
        """Held-out errors as ``check`` gives them."""
        part = self.calibration.name if self.calibration else self.device
        return [{"part": part, **h.model_dump(), "stored": False} for h in self.found.held_out]

    def as_dict(self) -> dict[str, Any]:
        """Plain data: shares, errors, rows used and refused."""
        if self.rows_fit and not self.calibration:
            return self.rows_fit.as_dict()
        return {
            "device": self.device,
            "laws": {
                n: law.model_dump(mode="json", exclude_none=True) for n, law in self.laws.items()
            },
            "held_out": self.records,
            "counts": [count.model_dump() for count in self.found.rows],
        }

    def file_text(self, path: Path) -> str:
        """Text of the file to write: a calibration, or shares of a device without a profile.

        Raises
        ------
        InputError
            A calibration is YAML; other devices' shares are JSON.
        """
        wanted = (".yaml", ".yml") if self.calibration else (".json",)
        if path.suffix not in wanted:
            raise InputError("--out", str(path), f"must end in {' or '.join(wanted)}")
        if self.calibration:
            return calibration_yaml(self.calibration, ABOUT.format(source=self.source))
        return json.dumps(self.as_dict(), indent=1) + "\n"


def fit_file(path: Path) -> tuple[AcceleratorSpec | None, RowsFit]:
    """Fit a file of the runner's rows, plain or gzipped; also the part where it has a profile.

    Raises
    ------
    InputError
        The file is not sound, or holds too little.
    """
    with unpacked(path) as plain:
        file = read_rows(plain)
        name = part_of(file)
        part = files.load_accelerator(name) if name else None
        return part, fit_rows(plain, part)


def fit_source(source: str) -> Fitted:
    """Fit a file of rows, or the measured tables of a part.

    Raises
    ------
    InputError
        The file is not sound or holds too little; the part is unknown or has no tables.
    """
    if not is_rows(source):
        part = files.load_accelerator(source)
        calibration, found = fit_part(part, files.load_calibration(source))
        return Fitted(source, "measured tables", found, calibration)
    path = Path(source)
    own, fitted = fit_file(path)
    if own is None:
        return Fitted(fitted.device, path.name, fitted.found, None, fitted)
    made = with_laws(files.load_calibration(own.name), own.name, (own.name,), fitted.found)
    return Fitted(own.name, path.name, fitted.found, made, fitted)
