"""Fitted overheads of engines: one file, made by `calibrate engine`."""

from functools import lru_cache
from pathlib import Path

from planner.files.profiles import profile_root
from planner.files.yaml_io import load_spec
from planner.specs.overheads import OverheadsFit


def overheads_path() -> Path:
    """Where the shipped fit lies."""
    return profile_root() / "overheads" / "engines.yaml"


@lru_cache(maxsize=8)
def load_overheads(path: str | None = None) -> OverheadsFit:
    """Read a fit: the shipped one, or that of a path."""
    return load_spec(Path(path) if path else overheads_path(), OverheadsFit)
