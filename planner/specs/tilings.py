"""How kernels cut work into tiles, waves of them and parts, over the units of a part."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from planner.specs.base import Count, Spec

Side = Annotated[int, Field(ge=1, le=1024)]
"""Side of a tile. [elements]"""


def _rising(sides: tuple[int, ...]) -> tuple[int, ...]:
    if list(sides) != sorted(set(sides)):
        raise ValueError(f"must rise, got {list(sides)}")
    return sides


Sides = Annotated[tuple[Side, ...], Field(min_length=1), AfterValidator(_rising)]
"""Sides to choose among, rising."""


class Tiling(Spec):
    """How work is cut; no time, so that slower kernels are cut alike."""


class Waves(Tiling):
    """Tiles of a dense product that run in waves, one a unit at a time."""

    rows: Sides
    columns: Sides
    """Sides that the library chooses among, whichever takes least."""
    splits: Annotated[tuple[Side, ...], Field(min_length=1)] = (1,)
    """Parts that the inner dimension may be split into, one unit each."""
    units: Count
    """Multiprocessors of the part."""


class Heights(Tiling):
    """Heights that a kernel of grouped products has for its tiles; it computes whole ones."""

    rows: Sides
    """The lowest is chosen that holds the rows an expert planned for, else the tallest."""
    fullness: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of a tile that those rows may fill."""


class Splits(Tiling):
    """Decode attention that divides contexts over units (:func:`planner.ops.splits.parts`)."""

    keys: Count
    """Fewest tokens of a part. [tokens]"""
    root: Count
    """Parts of a context from which there are as its root, since the last joins them all."""
    waves: Count
    """Times that the parts of all contexts may fill the units."""
    units: Count
    """Multiprocessors of the part."""


class RowWaves(Tiling):
    """Cached heads of all sequences in waves over units (:func:`planner.ops.splits.uneven`)."""

    units: Count
    """Multiprocessors of the part."""
    fill: Annotated[float, Field(gt=0, le=1)]
    """Part of the units that, alone, would fill the memory's bandwidth."""
    parts: Literal["down", "up"] = "down"
    """How many parts each of fewer rows than units is divided into: as many as keep all within one
    wave; or, with a margin, one more where that leaves units without any."""
