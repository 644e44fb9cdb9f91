"""How wrong the answers may be: kernels, published figures, sources, and rows of one's own."""

import dataclasses
import hashlib
from typing import Any

import streamlit as st

from planner import files
from planner.calibrate.check import Record, check
from planner.calibrate.goals import meets_goal
from planner.dashboard import frame, jobs, own_benchmarks, state, work
from planner.dashboard.drawing import draw
from planner.dashboard.process import Work
from planner.errors import PlannerError
from planner.report import trust_figures
from planner.report.calibration import errors_table
from planner.report.runs_checked import QUANTITIES, RunsChecked
from planner.report.words import number
from planner.study.digest import digest, package_digest
from planner.validation.published import FAR, Verdict, summary

FIRST = "h200-sxm"
VIEWS = (
    "Kernels",
    "Published figures",
    "Sources",
    "Your own rows",
    "Your own runs",
    "Your benchmarks",
)


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Trust", anchor=False)
    st.caption("How far predictions were from what was measured, and where every number is from.")
    view = state.view("trust:view", VIEWS)
    match view:
        case "Kernels":
            _kernels()
        case "Published figures":
            state.publish({"view": view})
            _published()
        case "Sources":
            state.publish({"view": view})
            _sources()
        case "Your own rows":
            state.publish({"view": view})
            _own_rows()
        case "Your own runs":
            state.publish({"view": view})
            _own_runs()
        case _:
            own_benchmarks.show(view)


def _kernels() -> None:
    records = _stored()
    parts = sorted({r["part"] for r in records})
    index = parts.index(state.chosen("part", parts, FIRST))
    part = st.selectbox("Accelerator", parts, index, key=state.key("trust:part"))
    state.publish({"view": VIEWS[0], "part": part})
    _errors([r for r in records if r["part"] == part], f"errors-{part}.csv")


@st.cache_data(show_spinner=False)
def _stored() -> list[Record]:
    return check(refit=False)


def _errors(own: list[Record], file: str) -> None:
    met = [meets_goal(r) for r in own]
    judged = [ok for ok in met if ok is not None]
    medians = sorted(r["median_abs_error"] for r in own)
    worst = max(own, key=lambda r: r["median_abs_error"])
    frame.tiles(
        [
            ("Goals met", f"{sum(judged)} of {len(judged)}" if judged else "none set",
             "on points that were not fitted" if judged else "nothing of it was held out", ""),
            ("Middle median error", f"{100 * medians[len(medians) // 2]:.1f} %",
             f"over {len(own)} groups of rows", ""),
            ("Worst median error", f"{100 * worst['median_abs_error']:.0f} %",
             f"{worst['family']} {worst['dtype']}, {worst['split']}", ""),
            ("Points", number(sum(r["n"] for r in own)), "measured, held out", ""),
        ]
    )  # fmt: skip
    draw(trust_figures.held_out(own), "held_out")
    frame.table(errors_table(own, met), "errors")
    st.download_button(file, frame.csv_text(own), file, on_click="ignore", key="trust:errors")


def _published() -> None:
    st.markdown(
        "Every published figure is predicted anew from its scenario. That takes some seconds, in a "
        "process of its own; the answer is kept."
    )
    key = digest("published", package_digest())
    verdicts: list[Verdict] | None = jobs.ask(key, "Predict them", Work(work.published, ()))
    if verdicts is None:
        return
    items = []
    for split in trust_figures.SPLITS:
        own = [v for v in verdicts if v.split == split]
        if own:
            found = summary(own)
            items.append(
                (f"Median error, {trust_figures.WORDS[split]}",
                 f"{100 * found.median_abs_error:.0f} %",
                 f"{found.number} figures, p90 {100 * found.p90_abs_error:.0f} %, "
                 f"bias {100 * found.bias:+.0f} %", "")
            )  # fmt: skip
    found = summary(verdicts)
    note = f"{found.unexplained} without a stated reason"
    items.append((f"Off by more than {FAR:g} x", str(found.far), note, ""))
    frame.tiles(items)
    draw(trust_figures.published(verdicts), "published")
    rows: list[dict[str, Any]] = [
        {
            "claim": v.claim, "conditions": v.conditions, "quantity": v.quantity,
            "published": v.value, "predicted": v.predicted,
            "error": None if v.relative_error is None else f"{v.relative_error:+.0%}",
            "split": v.split, "reason": v.error or v.reason, "source": v.source,
        }
        for v in sorted(verdicts, key=lambda v: -abs(v.relative_error or 9.0))
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True, key="published_rows")
    text = frame.csv_text([dataclasses.asdict(v) for v in verdicts])
    st.download_button("published.csv", text, "published.csv", on_click="ignore")


def _sources() -> None:
    rows = [
        {"key": name, "title": entry.title, "link": entry.url, "retrieved": entry.retrieved}
        for name, entry in sorted(files.references().items())
    ]
    st.caption(f"{len(rows)} sources; every number of a profile names one of them.")
    st.dataframe(rows, hide_index=True, key="sources", height=600)
    st.download_button("sources.csv", frame.csv_text(rows), "sources.csv", on_click="ignore")


def _own_rows() -> None:
    st.markdown(
        "Rows that `moe-planner calibrate run` wrote on your device: achieved shares are fitted to "
        "a part of them and held to the rest."
    )
    given = st.file_uploader(
        "Kernel rows (JSON lines)", type=["jsonl"], key="trust:rows", max_upload_size=32
    )
    if given is None:
        return
    content = given.getvalue()
    try:
        records: list[Record] | None = jobs.ask(
            digest("rows", package_digest(), hashlib.sha256(content).hexdigest()),
            "Fit and check",
            Work(work.fit_rows, (content,)),
        )
    except PlannerError as error:
        frame.refuse(error)
        return
    if records:
        _errors(records, "errors.csv")
    elif records is not None:
        st.warning("The file is sound, but too small to hold anything out.")


def _own_runs() -> None:
    st.markdown(
        "Benchmark results of your own, a JSON object a line (`docs/runs.md`, "
        "`docs/run.schema.json`): each is simulated by its protocol and set beside what you "
        "measured."
    )
    given = st.file_uploader(
        "Benchmark runs (JSON lines)", type=["jsonl"], key="trust:runs", max_upload_size=32
    )
    if given is None:
        return
    content = given.getvalue()
    try:
        found: RunsChecked | None = jobs.ask(
            digest("runs", package_digest(), hashlib.sha256(content).hexdigest()),
            "Predict them",
            Work(work.check_runs, (content,)),
        )
    except PlannerError as error:
        frame.refuse(error)
        return
    if found is None:
        return
    for line, name, problem in found.refused:
        st.warning(state.plain(f"line {line} {name}: {problem}"))
    frame.tiles(
        [
            (f"Median error, {QUANTITIES[quantity]}", f"{100 * error:.1f} %", "either way", "")
            for quantity, error in found.median_abs_errors.items()
        ]
    )
    draw(found.figure, "runs:parity")
    frame.table(found.table, "runs:table")
    rows = [dataclasses.asdict(row) for row in found.rows]
    st.download_button("runs.csv", frame.csv_text(rows), "runs.csv", on_click="ignore")
