"""Fitted overheads of engines: one file, made by `calibrate engine`."""

from functools import lru_cache
from pathlib import Path

from planner.errors import InputError
from planner.files.profiles import load_accelerator, load_model, profile_root
from planner.files.yaml_io import load_spec
from planner.specs.overheads import (
    OF_REPORTED,
    SHARED_LEVELS,
    OverheadsFit,
    ReportedWidths,
    Width,
    kernel_kind,
)


def overheads_path() -> Path:
    """Where the shipped fit lies."""
    return profile_root() / "overheads" / "engines.yaml"


def reported_path() -> Path:
    """Where the errors on reported runs lie; made with docs/reported.md."""
    return profile_root() / "overheads" / "reported.yaml"


@lru_cache(maxsize=8)
def load_overheads(path: str | None = None) -> OverheadsFit:
    """Read a fit: the shipped one, or that of a path."""
    stored = load_spec(Path(path) if path else overheads_path(), OverheadsFit)
    beside: tuple[Width, ...] = ()
    if reported_path().exists() and all(w.case not in OF_REPORTED for w in stored.widths):
        beside = load_spec(reported_path(), ReportedWidths).widths
    found, makers, models = set(), set(), set()
    for combination in stored.combinations:
        version, part, model = combination.split(" | ")
        models.add(model)
        try:
            makers.add(load_accelerator(part).vendor)
            found.add(f"{version.split()[0]} {kernel_kind(load_model(model))}")
        except InputError:  # a model of the user's own, fitted elsewhere
            continue
    return stored.model_copy(
        update={
            "kernel_kinds": tuple(sorted(found)),
            "makers": tuple(sorted(makers)),
            "models": tuple(sorted(models)),
            "widths": (*stored.widths, *beside),
        }
    )


@lru_cache(maxsize=16)
def fit_of(family: str) -> OverheadsFit | None:
    """What of the shipped fit is about one engine; None where it has no run of it."""
    stored = load_overheads()
    own = {f"{family}", *(e.group for e in stored.effects if e.group.startswith(f"{family} "))}
    if family not in {e.group for e in stored.effects if e.level == "family"}:
        return None
    return stored.model_copy(
        update={
            "effects": tuple(
                e for e in stored.effects if e.level in SHARED_LEVELS or e.group in own
            ),
            "refused": (),
            "combinations": tuple(c for c in stored.combinations if c.startswith(f"{family} ")),
        }
    )
