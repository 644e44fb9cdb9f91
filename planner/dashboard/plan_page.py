"""One scenario, asked and answered in the browser."""

from typing import Any

import streamlit as st

import planner
from planner import files
from planner.errors import InputError, PlannerError
from planner.units import human


def show() -> None:
    """Draw the page."""
    st.title("moe-planner")
    st.caption("What Mixture-of-Experts inference costs and how fast it runs.")
    titles = {
        name: title
        for name, title in files.scenario_titles().items()
        if planner.load_scenario(name).workload is not None
    }
    first = list(titles).index("r1-distill-7b-rtx5090")
    name = st.selectbox("Scenario", list(titles), index=first, format_func=lambda n: titles[n])
    changes = st.text_area(
        "Changes",
        placeholder="slo.tpot_p95_s=0.04",
        help="One PATH=VALUE a line, as --set takes them.",
    )
    if not st.button("Ask", type="primary"):
        return
    try:
        with st.spinner("Simulating"):
            answer = _answer(name, changes)
    except PlannerError as error:
        st.error(str(error))
        return
    _draw(answer)


@st.cache_data(show_spinner=False, max_entries=16)
def _answer(name: str, changes: str) -> Any:
    """Simulate the deployment of a scenario, or plan where it has none."""
    scenario = planner.load_scenario(name, _overrides(changes))
    return planner.simulate(scenario) if scenario.deployment else planner.plan(scenario)


def _overrides(text: str) -> dict[str, Any]:
    changes = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        path, equals, value = line.partition("=")
        if not equals:
            raise InputError("Changes", line, "is not PATH=VALUE, e.g. slo.tpot_p95_s=0.04")
        changes[path.strip()] = files.parse_value(value)
    return changes


def _draw(answer: Any) -> None:
    report = answer.best if isinstance(answer, planner.PlanReport) else answer
    if report is None:
        st.warning("No fleet keeps these promises.")
        return
    metrics, tiles = report.metrics, st.columns(4)
    tiles[0].metric("Devices", report.devices)
    tiles[1].metric("TTFT p95", human(metrics.ttft_s.p95, "s"))
    tiles[2].metric("TPOT p95", human(metrics.tpot_s.p95, "s"))
    if report.costs:
        cost = report.costs[0].usd_per_million_output_tokens
        tiles[3].metric("$ per million output tokens", f"{cost:.2f}")
    for figure in answer.figures().values():
        st.plotly_chart(figure)
    with st.expander("Assumptions"):
        st.dataframe(report.to_dict()["assumptions"])
