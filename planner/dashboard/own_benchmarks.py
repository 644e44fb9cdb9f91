"""Results of benchmark tools, uploaded: predicted for a scenario's deployment and set beside."""

import hashlib
from typing import get_args

import streamlit as st

from planner.dashboard import frame, jobs, scenario_form, state, work
from planner.dashboard.drawing import draw
from planner.dashboard.process import Work
from planner.errors import PlannerError
from planner.files.benchmarks import Tool
from planner.report.benchmarks_checked import BenchmarksChecked
from planner.study.digest import digest, package_digest, plain

FIRST = "r1-distill-7b-rtx5090"
TOOLS: dict[Tool, str] = {
    "vllm": "vLLM: bench serve --save-result",
    "sglang": "SGLang: bench_serving --output-file",
    "aiperf": "AIPerf or GenAI-Perf: profile_export_aiperf.json",
    "guidellm": "GuideLLM: benchmarks.json",
}


def show(view: str) -> None:
    """Draw the view."""
    st.markdown(
        "What a benchmark tool wrote: its load is simulated on the deployment you name, and its "
        "latencies and rates are set beside what you measured."
    )
    source = scenario_form.pick(lambda data: bool(data.get("deployment")), FIRST)
    tools = get_args(Tool)
    tool = st.selectbox(
        "Tool", tools, tools.index(state.chosen("tool", tools, tools[0])),
        key=state.key("own:tool"),
        format_func=lambda name: TOOLS[name],
    )  # fmt: skip
    shared = source.name if source.content is None else None
    state.publish({"view": view, "scenario": shared, "tool": tool})
    given = st.file_uploader(
        "Result of the tool", type=["json", "jsonl"], key="trust:benchmarks", max_upload_size=32
    )
    if given is None:
        return
    content, question = given.getvalue(), source.load()
    sha = hashlib.sha256(content).hexdigest()
    key = digest("benchmarks", package_digest(), plain(question), tool, sha)
    asked = Work(work.check_benchmarks, (content, tool, question))
    try:
        found: BenchmarksChecked | None = jobs.ask(key, "Predict them", asked)
    except PlannerError as error:
        frame.refuse(error)
        return
    if found is not None:
        _answer(found)


def _answer(found: BenchmarksChecked) -> None:
    tiles = [
        (f"Median error, {word}", f"{100 * error:.1f} %", "either way, over all statistics", "")
        for word, error in found.median_abs_errors.items()
    ]
    if found.judged:
        note = "measured values; nine of ten are expected"
        tiles.append(("Inside 90 %", f"{found.inside} of {found.judged}", note, ""))
    frame.tiles(tiles)
    draw(found.figure, "benchmarks:parity")
    for i, table in enumerate(found.tables):
        frame.table(table, f"benchmarks:table:{i}")
    st.download_button(
        "benchmarks.csv", frame.csv_text(found.rows), "benchmarks.csv", on_click="ignore"
    )
