"""What the first visitor would wait for, made ready while the server starts.

``python -m planner.dashboard.ready app.py [flags]`` starts the server so.
"""

import gc
import logging
import sys
import threading
from functools import lru_cache

log = logging.getLogger(__name__)
_IMPORTING = threading.Lock()
PATIENCE_S = 10.0
"""The server opens then, whatever is not ready."""


def libraries() -> None:
    """Import what pages draw with, whole, before any thread draws.

    Plotly looks for pandas among the loaded modules: one that another thread is still loading
    would fail it.
    """
    with _IMPORTING:
        import pandas  # noqa: F401  (tables are sent through it; before Plotly looks for it)
        import plotly.graph_objects  # noqa: F401


@lru_cache(maxsize=1)
def make_ready() -> threading.Thread:
    """Begin once, beside everything else: libraries, processes, the first plan, first answers."""
    thread = threading.Thread(target=_make_ready, name="make ready", daemon=True)
    thread.start()
    return thread


def _make_ready() -> None:
    try:
        from planner.dashboard.process import warm_up

        warm_up()
        libraries()
        from planner.dashboard import deployment_page, plan_page, scenario_form, terms

        begun = plan_page.prepare()
        scenario_form.shipped()
        terms.glossary()
        deployment_page.prepare()
        # Streamlit collects garbage after every run of a page: not in what will stay anyway
        gc.collect()
        gc.freeze()
        begun.wait_told(PATIENCE_S)
    except Exception:  # a page that needs it will say so
        log.exception("making ready")


def main() -> None:
    """Start Streamlit's server once the page it opens with has an answer to show.

    Modules are imported by this thread alone: Streamlit draws with Plotly while it is imported, and
    Plotly takes a pandas that another thread has half loaded for a whole one.
    """
    from planner.dashboard.process import warm_up

    warm_up()
    libraries()
    from streamlit.web.cli import main as streamlit

    make_ready().join(PATIENCE_S)
    sys.argv = ["streamlit", "run", *sys.argv[1:]]
    streamlit()


if __name__ == "__main__":
    from planner.dashboard.ready import main as serve  # the copy that pages ask

    serve()
