"""A calibration as YAML in the style of the shipped ones, and its covariances as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.calibrate.laws import Fit
from planner.sourced import Sourced
from planner.specs.base import Spec
from planner.specs.calibration import CalibrationSpec, Curve
from planner.specs.tilings import Heights, Waves

USUAL = (("blend", "max"), ("chain", "sum"), ("untuned_tiles", False))
"""What a law that does not say is."""


def calibration_yaml(spec: CalibrationSpec, about: str) -> str:
    """Text of a calibration's file; ``about`` is its first comment."""
    lines = [f"# {line}" for line in about.splitlines()]
    lines += [f"name: {spec.name}", "accelerators:", *(f"  - {a}" for a in spec.accelerators)]
    for field in type(spec).model_fields:
        if field in ("name", "accelerators"):
            continue
        value = getattr(spec, field)
        if value not in (None, ""):
            lines += _lines(field, value, 0)
    return "\n".join(lines) + "\n"


def _lines(name: str, value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(value, Sourced):
        return [f"{pad}{name}: {_flow(value.as_dict())}"]
    if isinstance(value, Curve | Waves | Heights):
        written = {
            k: v
            for k, v in value.model_dump().items()
            if v not in ("", "derived") and (k, v) != ("fullness", 1.0)
        }
        return [f"{pad}{name}: {_flow(written)}"]
    if isinstance(value, Spec):
        value = {k: getattr(value, k) for k in type(value).model_fields}
    if isinstance(value, dict):
        found = [f"{pad}{name}:"]
        for key, part in value.items():
            if part not in (None, "", (), {}) and (key, part) not in USUAL:
                found += _lines(str(key), part, depth + 1)
        return found if len(found) > 1 else []
    if isinstance(value, tuple) and not all(isinstance(item, Spec) for item in value):
        return [f"{pad}{name}: {_scalar(value)}"]
    if isinstance(value, tuple):
        rows = [{k: v for k, v in item.model_dump().items() if v not in ("", {})} for item in value]
        return [f"{pad}{name}:", *(f"{pad}  - {_flow(row)}" for row in rows)] if rows else []
    return [f"{pad}{name}: {_scalar(value)}"]


def _flow(written: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{k}: {_scalar(v)}" for k, v in written.items()) + "}"


def _scalar(value: Any) -> str:
    if isinstance(value, dict):
        return _flow(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e12 else repr(float(value))
    if isinstance(value, int):
        return str(value)
    text = str(value)
    plain = text.replace("-", "").replace(".", "").replace("_", "").isalnum()
    return text if plain and not text[0].isdigit() else json.dumps(text)


def covariance_json(fits: Mapping[tuple[str, ...], Fit], before: dict[str, Any]) -> str:
    """Covariances of the logarithms of each fit's parameters, as JSON, after those ``before``."""
    found = before | {
        "/".join(part for part in key if part): {
            "parameters": list(fit.names),
            "rows": fit.rows,
            "sigma": round(fit.sigma, 5),
            "covariance": [[float(f"{x:.3g}") for x in row] for row in fit.covariance],
        }
        for key, fit in fits.items()
    }
    return json.dumps(found, separators=(",", ":")).replace('},"', '},\n"') + "\n"


def write_calibration(
    folder: Path,
    spec: CalibrationSpec,
    about: str,
    fits: Mapping[tuple[str, ...], Fit] | None = None,
    add: bool = False,
) -> Path:
    """Write a calibration into ``folder``, covariances below it; return the calibration's path.

    Parameters
    ----------
    add : leave the covariances of other fits that are there as they are.
    """
    path = folder / f"{spec.name}.yaml"
    path.write_text(calibration_yaml(spec, about), "utf-8")
    if fits:
        beside = folder / "covariance"
        beside.mkdir(exist_ok=True)
        path_of = beside / f"{spec.name}.json"
        known = json.loads(path_of.read_text("utf-8")) if add and path_of.exists() else {}
        path_of.write_text(covariance_json(fits, known), "utf-8")
    return path
