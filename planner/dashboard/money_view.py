"""Rent, buy or API: one fleet, every way to pay for it."""

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from planner import files
from planner.dashboard import frame, jobs, scenario_form, state, work
from planner.dashboard.drawing import draw
from planner.dashboard.process import Work
from planner.report.accounted import Accounted
from planner.study.digest import digest, package_digest, plain

FIRST = "r1-chat-ep16"
USUAL_REGION = "virginia"
UTILISATIONS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def show(view: str) -> None:
    """Draw the view."""
    source = scenario_form.pick(_can_pay, FIRST)
    left, right = st.columns(2)
    regions = sorted(files.regions())
    region = left.selectbox(
        "Region", regions, regions.index(state.chosen("region", regions, USUAL_REGION)),
        key=state.key("money:region"), help="Electricity and carbon.",
    )  # fmt: skip
    used = right.select_slider(
        "Share of the hours with this traffic", UTILISATIONS,
        state.chosen("used", UTILISATIONS, 100), key=state.key("money:used"),
        help="Rent by the hour and API bills follow it; owned and reserved machines do not.",
        format_func=lambda n: f"{n} %",
    )  # fmt: skip
    shared = source.name if source.content is None else None
    state.publish({"view": view, "scenario": shared, "region": region, "used": used})
    question = source.load()
    key = digest("money", package_digest(), plain(question), region, used)
    asked = Work(work.pay, (question, region, used / 100))
    found: Accounted | None = jobs.ask(key, "Draw up the bill", asked)
    if found is None:
        return
    st.success(state.plain(found.headline))
    frame.tiles([(t.label, t.value, t.note, "") for t in found.tiles])
    st.caption(state.plain(found.sure))
    left, right = st.columns(2)
    with left:
        draw(found.figures["bills"], "money:bills")
    with right:
        draw(found.figures.get("spent", found.figures["money"]), "money:spent")
    for words in found.missing:
        st.caption(f"Not answered: {state.plain(words)}")
    for i, table in enumerate(found.tables):
        frame.table(table, f"money:table:{i}")
    if found.doubtful:
        st.caption(state.plain("Assumed terms of owning: " + ", ".join(found.doubtful)))
    options = {"region": region, "utilisation": used / 100}
    more: dict[str, scenario_form.Download] = {"answer.json": json.dumps(found.plain, indent=1)}
    scenario_form.take_along(
        source, scenario_form.Asked("break-even", "planner.break_even", {}, options), more
    )


def _can_pay(data: Mapping[str, Any]) -> bool:
    deployment = data.get("deployment") or {}
    return bool(data.get("workload")) and bool(deployment) and "prefill" not in deployment
