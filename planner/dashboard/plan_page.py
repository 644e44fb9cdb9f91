"""One scenario, asked and answered in the browser."""

from typing import Any

import streamlit as st

import planner
from planner import files
from planner.dashboard import copying, frame, state
from planner.errors import InputError, PlannerError
from planner.report import answer as words
from planner.report.html import page as report_page
from planner.units import human

FIRST = "r1-distill-7b-rtx5090"


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("moe-planner")
    st.caption("What Mixture-of-Experts inference costs and how fast it runs.")
    titles = {
        name: title
        for name, title in files.scenario_titles().items()
        if planner.load_scenario(name).workload is not None
    }
    key = state.seed("plan:scenario", state.chosen("scenario", list(titles), FIRST))
    name = st.selectbox("Scenario", list(titles), key=key, format_func=lambda n: titles[n])
    state.publish({"scenario": name})
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
        frame.refuse(error)
        return
    _draw(answer)
    _take(answer, str(name), _overrides(changes))


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
        st.warning(state.plain(words.headline(answer)))
        return
    st.markdown(state.plain(words.headline(answer)))
    metrics, tiles = report.metrics, st.columns(4)
    tiles[0].metric("Devices", report.devices)
    tiles[1].metric("TTFT p95", human(metrics.ttft_s.p95, "s"))
    tiles[2].metric("TPOT p95", human(metrics.tpot_s.p95, "s"))
    if report.costs:
        cost = report.costs[0].usd_per_million_output_tokens
        tiles[3].metric("$ per million output tokens", f"{cost:.2f}")
    for name, figure in answer.figures().items():
        frame.draw(figure, f"plan:{name}")
    frame.assumptions(report.assumptions, "plan:assumptions")


def _take(answer: Any, name: str, changes: dict[str, Any]) -> None:
    verb = "plan" if isinstance(answer, planner.PlanReport) else "simulate"
    st.subheader("Take it along", anchor=False)
    shell, code = st.tabs(["Command line", "Python"])
    shell.code(copying.command(verb, name, changes), language="bash", wrap_lines=True)
    code.code(copying.python(f"planner.{verb}", name, changes), language="python")
    st.download_button(
        "report.html", lambda: report_page(answer), "report.html", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip
