"""Figures on a page: as wide as the window, titles and long legends as text that wraps."""

import html
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from planner.dashboard.state import plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PLOT = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
"""Plotly's own settings: its camera saves a picture in the browser, nothing leaves the machine."""
TITLED, NAMED = "title of the page", "legend of the page"
"""Where a figure keeps the title that was taken out, and the names that stand below it."""
SAVED = "drawing:saved"
MOST_NAMED = 4
"""Entries of a legend that fit below a figure on a phone."""
AXIS, BESIDE = 60, 80
"""Pixels below a figure for its axis, and beside bars with numbers."""
HEADING = 66
"""Pixels that figures leave for their title."""
COMPACT = {"font": {"size": 10}, "entrywidth": 0.5, "entrywidthmode": "fraction"}
"""Of a legend that is only saved: two columns whatever the width, so it pushes nothing up."""
OWN_LEGEND = """<style>
[class*="st-key-named"] .js-plotly-plot .legend { display: none; }
[class*="st-key-named"] .names {
  display: flex; flex-wrap: wrap; align-content: flex-start; gap: 0.2em 1.1em;
  font-size: 0.85rem; position: relative;
}
.names span { white-space: nowrap; }
.names i { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em; }
.names span span { opacity: 0.75; }
</style>"""
"""A figure's own legend is for the picture that the camera saves."""
_PREPARING = threading.Lock()


def draw(figure: "Figure", key: str) -> None:
    """A figure over the width there is; its title is text of the page, which wraps on a phone."""
    with _PREPARING:  # an answer's figures are shared by all who look at it
        if not (figure.layout.meta and TITLED in figure.layout.meta):
            _fit(figure)
    title, subtitle = figure.layout.meta[TITLED]
    st.markdown(f"**{title}**")
    if subtitle:
        st.caption(subtitle)
    kind = (st.session_state.get(SAVED) or "PNG").lower()
    camera = {"toImageButtonOptions": {"format": kind, "scale": 2, "filename": key}}
    named = figure.layout.meta[NAMED]
    if not named:
        st.plotly_chart(figure, key=key, config=PLOT | camera, theme=None)
        return
    with st.container(key=f"named {key}"):
        st.plotly_chart(figure, key=key, config=PLOT | camera, theme=None)
        st.html(_names(named, figure.layout.margin.b - AXIS))


def ask_format() -> None:
    """Ask what the camera in a figure's corner saves."""
    st.segmented_control(
        "The camera in a figure's corner saves", ("PNG", "SVG"), default="PNG", key=SAVED
    )


def _fit(figure: "Figure") -> None:
    """Move the title out of the picture, and leave room for what stands beside bars; once."""
    title, margin = figure.layout.title, figure.layout.margin
    words = (_heading(title.text), _heading(title.subtitle.text or ""))
    top = 12 if margin.t <= HEADING else margin.t - HEADING
    height = figure.layout.height - (margin.t - top)
    numbered = any(t.type == "bar" and t.orientation == "h" and t.text is not None
                   for t in figure.data)  # fmt: skip
    figure.update_layout(
        title=None, margin={"t": top, "r": BESIDE if numbered else margin.r}, height=height,
        meta={TITLED: words, NAMED: _colours(figure)},
    )  # fmt: skip
    if figure.layout.meta[NAMED]:
        figure.update_layout(legend=COMPACT)


def _heading(text: str) -> str:
    return plain(html.unescape(text))


def _colours(figure: "Figure") -> dict[str, str]:
    """Names and colours of a legend that would not fit below a figure on a phone.

    Only of bars: the marks and dashes of lines and points are the figure's own to draw.
    """
    shown = [trace for trace in figure.data if trace.showlegend is not False and trace.name]
    if len(shown) <= MOST_NAMED or any(trace.type != "bar" for trace in shown):
        return {}
    return {trace.name: str(trace.marker.color) for trace in shown}


def _names(named: Mapping[str, str], room: float) -> str:
    """Names beside their colours, in as many rows as the window needs.

    Parameters
    ----------
    room : height that the figure keeps for its own legend; names stand there. [pixels]
    """
    chips = "".join(
        f'<span><i style="background:{html.escape(colour)}"></i>'
        f"<span>{html.escape(html.unescape(name))}</span></span>"
        for name, colour in named.items()
    )
    place = f"margin-top:calc(-{room:.0f}px - 1rem);min-height:{room:.0f}px"
    return f'{OWN_LEGEND}<div class="names" style="{place}">{chips}</div>'
