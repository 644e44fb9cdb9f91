"""Cases of a study: every combination of the values to try, numbered, made when asked for."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError
from planner.study.change import Overrides

Vary = Mapping[str, Sequence[Any]]
"""Dotted path (or name of a named thing, or ``path*`` for factors) -> values to try."""

LARGEST = 10_000_000
"""More cases than this is a slip of the keyboard, not a study."""


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario to ask: its number, and what it changes."""

    index: int
    overrides: Overrides


@dataclass(frozen=True)
class Grid:
    """All combinations; the last path turns fastest."""

    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, vary: Vary) -> "Grid":
        """Check and freeze the values to try.

        Raises
        ------
        InputError
            A path without values, or more cases than anyone means.
        """
        for path, values in vary.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise InputError("--vary", path, f"needs a list of values, got {values!r}")
        grid = cls(tuple(vary), tuple(tuple(values) for values in vary.values()))
        if len(grid) > LARGEST:
            raise InputError("--vary", ", ".join(vary), f"makes {len(grid):,} cases; at most 10 M")
        return grid

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.values)

    def case(self, index: int) -> Case:
        """Case number ``index``."""
        rest, chosen = index, []
        for values in reversed(self.values):
            rest, at = divmod(rest, len(values))
            chosen.append(values[at])
        return Case(index, dict(zip(self.paths, reversed(chosen), strict=True)))

    def __iter__(self) -> Iterator[Case]:
        return (self.case(index) for index in range(len(self)))
