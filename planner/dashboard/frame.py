"""Around every page: one boundary for errors, and the pieces that all pages draw alike."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Literal

import streamlit as st

from planner.dashboard import terms
from planner.dashboard.state import plain
from planner.errors import PlannerError
from planner.evaluation import Assumption
from planner.report import tables
from planner.report.table import Table
from planner.report.words import plural

log = logging.getLogger(__name__)
BEGUN, DRAWN = "frame:begun", "frame:drawn"
"""Answers whose top, and whose rest, was drawn last."""
TWO_A_ROW = """<style>
@media (max-width: 640px) {
  [class*="st-key-tiles"] [data-testid="stColumn"] {
    min-width: calc(50% - 1rem); flex: 1 1 calc(50% - 1rem);
  }
  [class*="st-key-tiles"] [data-testid="stColumn"]:not(:has([data-testid="stMetric"])) {
    display: none;
  }
  [class*="st-key-tiles"] [data-testid="stMetricValue"] { font-size: 1.4rem; }
  [class*="st-key-tiles"] [data-testid="stMetricValue"] *,
  [class*="st-key-tiles"] [data-testid="stMetricLabel"] * { white-space: normal; }
}
</style>"""
"""Streamlit puts every column into a row of its own there."""
SHOWN_ROWS = 20
"""Tables of more rows scroll."""
FEW_COLUMNS = 3
BLANK = "\N{NO-BREAK SPACE}"


def guarded(page: Callable[[], None]) -> Callable[[], None]:
    """A page whose errors are explained in place, never a traceback."""

    @wraps(page)
    def run() -> None:
        try:
            page()
            words()
        except PlannerError as error:
            refuse(error)
        except Exception:
            log.exception("page %s", page.__module__)
            st.error(
                "This page met a fault of the program, not of what you entered. The log on the "
                "server has the details; another scenario may work."
            )

    return run


def refuse(error: PlannerError) -> None:
    """Explain a refusal where it happened."""
    st.error(plain(str(error)), icon=":material/block:")


def later(answer: str, rest: Callable[[], None]) -> None:
    """Draw what is further down once the browser has drawn the top of an answer.

    Parameters
    ----------
    answer : digest of the answer; its rest is put off once.
    """
    if st.session_state.get(DRAWN) == answer:
        rest()
        return
    _put_off(answer)


@st.fragment(run_every=0.4)
def _put_off(answer: str) -> None:
    if st.session_state.get(BEGUN) == answer:
        st.session_state[DRAWN] = answer
        st.rerun()
    st.session_state[BEGUN] = answer
    st.caption("More is being drawn.")


def tiles(items: Sequence[tuple[str, str, str, str]]) -> None:
    """Tiles of label, value, note, help; four a row, two on a phone."""
    if not items:
        return
    st.html(TWO_A_ROW)
    with st.container(key=f"tiles {items[0][0]}"):
        for at in range(0, len(items), 4):
            row = items[at : at + 4]
            for column, (label, value, note, help_text) in zip(st.columns(4), row, strict=False):
                with column:
                    told = help_text or terms.explained(f"{label}; {note}")
                    st.metric(label, value, help=told or None)
                    st.caption(plain(note) or BLANK)


def table(found: Table, key: str) -> None:
    """A table, its note, and its rows as CSV."""
    if not found.rows:
        if found.note:
            st.caption(plain(found.note))
        return
    titles = [c.title or BLANK * i for i, c in enumerate(found.columns, 1)]
    st.markdown(f"**{plain(found.title)}**")
    rows = [dict(zip(titles, row, strict=True)) for row in found.rows]
    if len(titles) <= FEW_COLUMNS and len(rows) <= SHOWN_ROWS:  # words wrap: readable on a phone
        written = [{plain(k): plain(str(v)) for k, v in row.items()} for row in rows]
        st.table(written, hide_index=True, hide_header=not any(c.title for c in found.columns))
    else:
        _scrolling(rows, titles, key)
    if found.note:
        st.caption(plain(found.note))


def _scrolling(rows: list[dict[str, Any]], titles: Sequence[str], key: str) -> None:
    height: Literal["content", "auto"] = "content" if len(rows) <= SHOWN_ROWS else "auto"
    helps = {title: st.column_config.Column(help=terms.explained(title)) for title in titles
             if terms.explained(title)}  # fmt: skip
    st.dataframe(rows, hide_index=True, key=key, height=height, column_config=helps)


def highlighted(rows: Sequence[dict[str, Any]], marked: Sequence[bool]) -> Any:
    """Rows as a table in which the marked ones stand out, on light and on dark."""
    import pandas as pd

    table = pd.DataFrame(list(rows))
    look = ["background-color: rgba(230, 159, 0, 0.16)" if mark else "" for mark in marked]
    return table.style.apply(lambda column: look, axis=0)


def csv_text(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV; a cell that a spreadsheet would compute is marked as text."""
    import csv
    import io

    listed = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(listed[0]) if listed else [])
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in listed)
    return out.getvalue()


def _cell(value: Any) -> Any:
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t")
    return f"'{value}" if risky else value


def assumptions(taken: tuple[Assumption, ...], key: str) -> None:
    """What an answer rests on that is not confirmed, and what the model takes for granted."""
    numbers, stated = tables.assumptions(taken), tables.statements(taken)
    count = plural(len(numbers.rows), "number")
    title = f"Assumptions: {count} not confirmed, {len(stated)} taken for granted"
    with st.expander(title, icon=":material/help:"):
        table(numbers, key)
        for name, note in stated:
            st.markdown(f"- **{plain(name)}**: {plain(note)}")


def words() -> None:
    """Every term of the glossary, at the foot of a page."""
    known = terms.glossary()
    if known:
        with st.expander("What the words mean", icon=":material/menu_book:"):
            for name, meaning in known.items():
                st.markdown(f"- **{plain(name)}**: {meaning}")
