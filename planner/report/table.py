"""A table as data: built once, drawn in the terminal and in HTML."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numbers are set right."""

    title: str
    align: Literal["left", "right"] = "right"
    min_width: int = 0
    """Characters a page must have for this column to be shown."""
    wraps: bool = False
    """Whether long cells are broken over lines."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What a reader must know to read it."""
    how: str = ""
    """Module and function that compute it."""
    best: int | None = None
    """Row to bring out."""

    def shown(self, width: int) -> "Table":
        """Leave out what a narrow page has no room for."""
        keep = [i for i, column in enumerate(self.columns) if column.min_width <= width]
        return Table(
            self.title,
            tuple(self.columns[i] for i in keep),
            tuple(tuple(row[i] for i in keep) for row in self.rows),
            self.note,
            self.how,
            self.best,
        )


def text(title: str, min_width: int = 0) -> Column:
    """Column of words."""
    return Column(title, "left", min_width, wraps=True)


def key(title: str) -> Column:
    """Column of names that are never broken."""
    return Column(title, "left")
