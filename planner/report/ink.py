"""How headings, tables and bars look in a terminal: any width, with or without colour."""

import io
from typing import TYPE_CHECKING

from planner.report.bars import Segment
from planner.report.table import Column, Table
from planner.report.words import share

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDEST = 118
"""Longer lines are hard to read."""

GLYPHS = "█▓▒░▚▞▤▦▧"
"""Fillings that tell the parts of a bar apart without colour."""

PLAIN = str.maketrans(
    {"█": "#", "▓": "%", "▒": "=", "░": "-", "▚": "x", "▞": "/", "▤": "+", "▦": "*", "▧": "o",
     "≤": "<", "±": "~", "✓": "+", "✗": "x", "\N{EN DASH}": "-", "µ": "u", "·": ".", "─": "-",
     "━": "-", "▸": ">", "…": ".", "•": "*", "╸": "-", "▴": "^"}
)  # fmt: skip
"""For terminals that know ASCII only."""


class Page:
    """Writes the pieces of an answer to a console."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self.width = min(console.width, WIDEST)
        self.coloured = console.color_system is not None and not console.no_color

    def put(self, piece: "RenderableType") -> None:
        """Print, in ASCII where the terminal has nothing else."""
        from rich.console import Console
        from rich.text import Text

        if not self.console.options.ascii_only:
            self.console.print(piece, width=self.width)
            return
        page = Console(
            file=io.StringIO(), width=self.width, color_system=None, legacy_windows=False
        )
        page.print(piece)
        lines = page.file.getvalue().rstrip("\n").translate(PLAIN)  # type: ignore[attr-defined]
        self.console.print(Text(lines.encode("ascii", "replace").decode()), soft_wrap=True)

    def headline(self, title: str, sentence: str, good: bool | None) -> None:
        """The answer, framed."""
        from rich.panel import Panel
        from rich.text import Text

        style = {True: "green", False: "red", None: "cyan"}[good]
        mark = {True: "✓ ", False: "✗ ", None: ""}[good]
        self.put(
            Panel(
                Text(mark, style=f"bold {style}") + Text(sentence, style="bold"),
                title=Text(title, style=f"bold {style}"),
                title_align="left",
                border_style=style,
            )
        )

    def section(self, title: str, how: str = "") -> None:
        """A heading, with the place of the formula at its right end."""
        from rich.text import Text

        line = Text(f"\n{title}", style="bold")
        gap = self.width - len(title) - len(how)
        if how and gap > 1:
            line.append(" " * gap + how, style="not bold dim")
        self.put(line)

    def text(self, words: str) -> None:
        """A paragraph."""
        from rich.text import Text

        self.put(Text(words))

    def note(self, words: str) -> None:
        """A paragraph of less weight."""
        from rich.text import Text

        self.put(Text(words, style="dim"))

    def bullet(self, head: str, body: str) -> None:
        """One item of a list; lines after the first hang under its head."""
        from rich.table import Table as Grid
        from rich.text import Text

        line = Text(head, style="bold")
        if body:
            line.append(f"  {body}" if len(head) < 16 else f"\n{body}", style="not bold")
        grid = Grid.grid(padding=(0, 1, 0, 0))
        grid.add_row(" •", line)
        self.put(grid)

    def table(self, table: Table, most: int | None = None) -> None:
        """A table with its heading and note."""
        if not table.rows and not table.note:
            return
        self.section(table.title, table.how)
        shown = table.shown(self.width)
        hidden = len(shown.rows) - most if most else 0
        if shown.rows:
            self.put(self._grid(shown, shown.rows[:most]))
        if hidden > 0:
            self.note(f"and {hidden} more in the HTML report or JSON.")
        for line in table.note.split("\n") if table.note else ():
            self.note(line)

    def _grid(self, table: Table, rows: tuple[tuple[str, ...], ...]) -> "RenderableType":
        from rich import box
        from rich.table import Table as Grid

        grid = Grid(
            box=box.SIMPLE_HEAD if any(c.title for c in table.columns) else None,
            pad_edge=False, padding=(0, 1), header_style="dim", show_edge=False,
            show_header=any(c.title for c in table.columns),
        )  # fmt: skip
        two_lines = _natural_width(table.columns, rows) > self.width
        for i, column in enumerate(table.columns):
            longest = max(len(row[i]) for row in rows)
            grid.add_column(
                column.title, justify=column.align, no_wrap=not column.wraps, overflow="fold",
                min_width=min(longest, 12) if column.wraps else _cell_width(rows, i, two_lines),
            )  # fmt: skip
        for i, row in enumerate(rows):
            cells = [cell.replace(" ± ", "\n± ") if two_lines else cell for cell in row]
            grid.add_row(*(_marked(c) for c in cells), style="bold" if i == table.best else "")
        return grid

    def stack(self, segments: tuple[Segment, ...], whole: float, mark: tuple[float, str]) -> None:
        """One bar of many parts against a whole, a mark on its scale, and its legend."""
        from rich.text import Text

        room = self.width - 2
        bar, filled = Text(), 0.0
        for i, s in enumerate(segments):
            start, filled = round(filled / whole * room), filled + s.value
            cells = round(filled / whole * room) - start
            bar.append(self._glyph(i, s) * cells, style=self._style(s))
        self.put(bar)
        self.note(_under(mark[1], round(mark[0] / whole * room), self.width))
        half = self.width >= 76
        columns = 2 if half else 1
        lines = -(-len(segments) // columns)
        for row in range(lines):
            line = Text()
            for i in range(row, len(segments), lines):
                line.append_text(self._legend(i, segments[i]))
            self.put(line)

    def _legend(self, i: int, s: Segment) -> "Text":
        from rich.text import Text

        line = Text(f"{self._glyph(i, s)} ", style=self._style(s))
        return line.append(f"{s.label:<20} {s.text:>9} {share(s.share):>6} ", style="default")

    def bars(self, segments: tuple[Segment, ...]) -> None:
        """A bar a part, longest first, with what binds it."""
        from rich.text import Text

        room = self.width - 54
        longest = max((abs(s.value) for s in segments), default=1.0)
        for s in segments:
            cells = max(1, round(abs(s.value) / longest * room))
            line = Text(f"{s.label:<22}{s.text:>9}{share(s.share):>7}  ")
            line.append(f"{s.note:<8} ", style="dim")
            line.append(("█" if s.value > 0 else "░") * cells, style=self._style(s))
            self.put(line)

    def _glyph(self, i: int, s: Segment) -> str:
        if not s.colour:
            return "·"
        return "█" if self.coloured else GLYPHS[i % len(GLYPHS)]

    def _style(self, s: Segment) -> str:
        return s.colour or "dim"


def _natural_width(columns: tuple[Column, ...], rows: tuple[tuple[str, ...], ...]) -> int:
    """Characters a table takes when nothing is broken over lines."""
    gaps = 3 * (len(columns) - 1)
    return gaps + sum(_cell_width(rows, i, False) for i, c in enumerate(columns) if not c.wraps)


def _cell_width(rows: tuple[tuple[str, ...], ...], i: int, two_lines: bool) -> int:
    """Longest line of a column."""
    lines = [row[i].replace(" ± ", "\n± ") if two_lines else row[i] for row in rows]
    return max(len(line) for cell in lines for line in cell.split("\n"))


def _under(words: str, cell: int, width: int) -> str:
    """Words with an arrow that points at a cell of the line above."""
    if cell + len(words) + 2 <= width:
        return " " * cell + f"▴ {words}"
    return f"{words} ▴".rjust(cell + 1)


def _marked(cell: str) -> str:
    from rich.markup import escape

    colour = {"✓": "green", "✗": "red"}.get(cell)
    return f"[bold {colour}]{cell}[/]" if colour else escape(cell)


if TYPE_CHECKING:
    from rich.text import Text
