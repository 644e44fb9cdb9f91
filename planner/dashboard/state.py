"""What is on screen as a link: query parameters in and out, every value checked."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import streamlit as st

OPENED = "state:opened"
"""How often links were opened inside the page."""
LONGEST = 200
"""Characters of a parameter that are looked at; no sound value is longer."""


def parameter(name: str) -> str | None:
    """One query parameter, cut where no sound value goes on."""
    given = st.query_params.get(name)
    return None if given is None else str(given)[:LONGEST]


def chosen(name: str, options: Sequence[Hashable], default: Any) -> Any:
    """Value of a parameter among ``options`` as they are written; the default where it is none."""
    given = parameter(name)
    if given is None:
        return default
    for option in options:
        if str(option) == given:
            return option
    complain(name, given)
    return default


def whole(name: str, low: int, high: int, default: int) -> int:
    """Whole number from ``low`` to ``high`` that a parameter gives; else the default."""
    given = parameter(name)
    if given is None:
        return default
    digits = given.isascii() and given.isdigit()
    if not digits or not low <= int(given) <= high:
        complain(name, given)
        return default
    return int(given)


def complain(name: str, given: str) -> None:
    """Say in place that a link holds a value that cannot be."""
    st.warning(f"The link's `{name}` has no value {quoted(given)} here; the default is shown.")


def key(name: str) -> str:
    """Key of a widget: another one after :func:`reopen`, so that its first value counts again.

    First values are the widgets' own arguments, never put into the session's state: a browser
    that missed the one run which carried such a value would answer with the widget's lowest.
    """
    return f"{name}@{st.session_state.get(OPENED, 0)}"


def reopen(link: Mapping[str, Any]) -> None:
    """Open a link inside the page: a callback of a widget."""
    st.session_state[OPENED] = st.session_state.get(OPENED, 0) + 1
    st.query_params.from_dict({name: str(value) for name, value in link.items()})


def view(name: str, views: Sequence[str]) -> str:
    """Which view of a page is shown: the link's, or the one that is clicked."""
    found = st.segmented_control(
        "Show", views, default=chosen("view", views, views[0]), key=key(name),
        label_visibility="collapsed",
    )  # fmt: skip
    return found or views[0]


def publish(values: Mapping[str, Any]) -> None:
    """Make the address bar say what is on screen; what is None is left out."""
    wanted = {name: str(value) for name, value in values.items() if value is not None}
    if wanted != st.query_params.to_dict():
        st.query_params.from_dict(wanted)


def plain(text: str) -> str:
    r"""Text in which no character means anything to Markdown.

    >>> print(plain("a <b> [c](d) $e"))
    a &lt;b&gt; \[c\](d) \$e
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]#$~|:":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", "  \n")


def quoted(text: str) -> str:
    """Text between quotation marks, harmless."""
    return f"“{plain(text[:60])}”"
