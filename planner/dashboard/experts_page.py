"""Where the load of experts is, and what load balancing makes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from planner import api, files
from planner.dashboard import frame, scenario_form, state, uploads
from planner.dashboard.drawing import draw
from planner.dashboard.scenario_form import Source
from planner.dashboard.terms import explained, term
from planner.errors import PlannerError
from planner.evaluation import ExpertReport
from planner.files.histograms import routing_names
from planner.report import expert_tables
from planner.report.expert_figures import expert_figures, expert_load_map
from planner.report.expert_page import expert_page

FIRST = "published/sglang-h100-decode"
USUAL = "deepseek-r1-translation"
"""Measured popularity that stands in where a scenario has none."""
LARGEST_BYTES = 16 * 2**20
DEGREES = (2, 4, 8, 16, 32, 36, 40, 48, 64, 72, 96, 128, 144, 160, 256, 288, 320)
COPIES = (0, 8, 16, 32, 48, 64, 96, 128)
OWN = "as in the scenario"


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Experts", anchor=False)
    st.caption("How unevenly tokens meet experts, and what copies and placement do about it.")
    source = scenario_form.pick(_has_experts, FIRST)
    changes, wanted, recorded = _controls(source)
    setting = source.load(changes)
    found = None
    if recorded is not None:
        try:
            found = _recorded(recorded.name, recorded.getvalue(), setting.model, wanted)
            st.info("Shown: your histogram.")
        except PlannerError as error:
            frame.refuse(error)
    if found is None:
        found = api.expert_load(setting, **wanted)
    _answer(found)
    _take(source, changes, wanted, found)


def _has_experts(data: Mapping[str, Any]) -> bool:
    model = data.get("model")
    known = model in files.model_names() and files.load_model(model).moe is not None
    return known and bool(data.get("deployment"))


def _controls(source: Source) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Changes of the scenario, options of the question, and an upload."""
    scenario = source.load()
    own, options = scenario.routing is not None, routing_names()
    options = [OWN, *options] if own else options
    layout = scenario.decoding
    degree = layout.parallelism.moe_ep if layout else 1
    copied = layout.redundant_experts if layout else 0
    degrees, copies = sorted({*DEGREES, degree}), sorted({*COPIES, copied})
    with st.container(border=True):
        left, middle, right = st.columns(3)
        start = state.chosen("routing", options, OWN if own else USUAL)
        routing = left.selectbox(
            "Popularity of experts", options,
            options.index(start), key=state.key(f"experts:{source.name}:routing"),
            help=explained("Expert popularity"),
        )  # fmt: skip
        ep = middle.select_slider(
            "Ranks that share the experts (EP)", degrees, state.chosen("ep", degrees, degree),
            key=state.key(f"experts:{source.name}:ep"), help=term("EP"),
        )  # fmt: skip
        redundant = right.select_slider(
            "Redundant experts", copies, state.chosen("redundant", copies, copied),
            key=state.key(f"experts:{source.name}:redundant"), help=term("expert slots"),
        )  # fmt: skip
        recorded = st.file_uploader(
            "Recorded histogram", type=["csv", "json", "npz", "npy"], key="experts:histogram",
            max_upload_size=16,
            help="Tokens per layer and expert: CSV with layer, expert, tokens (and window), JSON, "
            "NPZ. At most 16 MB; pickled objects are not read.",
        )  # fmt: skip
    shared = source.name if source.content is None else None
    state.publish({"scenario": shared, "routing": routing, "ep": ep, "redundant": redundant})
    changes = {} if routing == OWN else {"routing": routing}
    return changes, {"ep": ep, "redundant": redundant}, recorded


def _recorded(name: str, content: bytes, model: Any, wanted: dict[str, Any]) -> ExpertReport:
    suffix = Path(name).suffix.lower()
    with uploads.stored(content, suffix, LARGEST_BYTES, "your histogram") as path:
        return api.expert_load(path, model=model, **wanted)


def _answer(found: ExpertReport) -> None:
    before, after = found.before, found.after
    frame.tiles(
        [
            ("Hottest rank, no balancing", f"{before.rank_ratio:.2f} x", "the mean rank",
             "Tokens of the rank with the most over the mean, mean over layers and steps."),
            ("Hottest rank, balanced", f"{after.rank_ratio:.2f} x", "the mean rank", ""),
            ("95 % of steps below", f"{after.rank_ratio_p95:.2f} x", "balanced", ""),
            ("No placement can be below", f"{after.bound:.2f} x",
             f"{after.placement.slots} slots, {after.local_slots} a rank", term("expert slots")),
        ]
    )  # fmt: skip
    figures = expert_figures(found)
    draw(expert_load_map(found), "experts_map")
    draw(figures["rank_load"], "rank_load")
    left, right = st.columns(2)
    with left:
        draw(figures["hottest_rank"], "hottest_rank")
    with right:
        draw(figures["expert_load"], "expert_load")
    left, right = st.columns(2)
    with left:
        frame.table(expert_tables.summary(found), "summary")
    with right:
        frame.table(expert_tables.layers(found), "layers")


def _take(
    source: Source, changes: dict[str, Any], wanted: dict[str, Any],
    found: ExpertReport,
) -> None:  # fmt: skip
    rows = [
        {"layer": layer, "expert": expert, "tokens_per_step": float(load)}
        for layer, loads in enumerate(found.expert_load)
        for expert, load in enumerate(loads)
    ]
    more: dict[str, scenario_form.Download] = {
        "experts.csv": lambda: frame.csv_text(rows),
        "experts.html": lambda: expert_page(found),
    }
    asked = scenario_form.Asked("experts", "planner.expert_load", changes, wanted)
    scenario_form.take_along(source, asked, more)
