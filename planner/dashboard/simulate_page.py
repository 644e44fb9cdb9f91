"""A fleet under traffic, request by request: what its users see, and how full it gets."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from planner import files
from planner.dashboard import frame, jobs, run_knobs, scenario_form, state, uploads, work
from planner.dashboard.drawing import draw
from planner.dashboard.process import Work
from planner.dashboard.run_knobs import RunKnobs
from planner.dashboard.scenario_form import Source
from planner.dashboard.terms import term
from planner.errors import PlannerError
from planner.report.simulated import Simulated
from planner.report.trace_preview import arrivals_figure, lengths_figure
from planner.report.workload import sentence, workload_tables
from planner.serving import WorkloadReport, describe_workload
from planner.specs.arrivals import TraceArrivals
from planner.specs.requests import RequestTable
from planner.specs.scenario import Scenario
from planner.specs.workload import Run, Workload
from planner.study.digest import digest, package_digest, plain

FIRST = "r1-chat-ep16"
LARGEST_TRACE_MB = 64
EXAMPLES: dict[str, dict[str, Any]] = {
    "R1's busiest ten minutes": {"scenario": "deepseek-r1-day-fleet"},
    "R1's whole day, 1.38 M requests": {
        "scenario": "deepseek-r1-day-fleet", "part": run_knobs.DAY,
    },
    "A million requests, one replica": {"scenario": "r1-lengths-100k", "requests": 1_000_000},
    "Failures": {"scenario": "r1-chat-failures"},
    "Autoscaling": {"scenario": "r1-chat-autoscale"},
    "A thousandth of R1's day, by an hourly plan": {"scenario": "thousandth-day"},
    "Prefix caches and a store": {"scenario": "prefix-tiers"},
    "Sessions in two classes": {"scenario": "chat-sessions"},
}  # fmt: skip


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Simulate", anchor=False)
    st.caption("Every request through the fleet: percentiles, queues and load over time.")
    _examples()
    source = scenario_form.pick(_can_run, FIRST)
    scenario = source.load()
    wanted = _controls(source.name, scenario)
    recorded = _trace()
    _publish(source, scenario, wanted)
    changes = run_knobs.overrides(scenario, wanted)
    if recorded is None:
        question = source.load(changes)
    else:
        kept = {path: v for path, v in changes.items() if path.startswith("deployment")}
        question = run_knobs.with_trace(
            source.load(kept), recorded.workload, wanted, recorded.requests_per_s
        )
        changes = {**kept, "workload": recorded.name}
    key = digest(
        "simulate", package_digest(), plain(question), wanted.replications,
        recorded.sha if recorded else "",
    )  # fmt: skip
    found: Simulated | None = jobs.ask(
        key, "Simulate", Work(work.simulate, (question, wanted.replications), desk=True)
    )
    if found is None:
        return
    _answer(found)

    def rest() -> None:
        _rest(found)
        _take(source, changes, wanted, found, jobs.board()[key].folder)

    frame.later(key, rest)


def _can_run(data: Mapping[str, Any]) -> bool:
    return bool(data.get("deployment")) and bool(data.get("workload"))


def _examples() -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Examples:", width="content")
        for label, link in EXAMPLES.items():
            st.button(label, on_click=state.reopen, args=(link,), type="tertiary")


def _controls(name: str, scenario: Scenario) -> RunKnobs:
    own = run_knobs.defaults(scenario)
    first = _First(name, own)
    apart = own.prefill_replicas > 0
    with st.container(border=True):
        left, middle, right = st.columns(3)
        load, part = 1.0, own.part
        with left:
            if run_knobs.has_parts(scenario):
                chosen = st.segmented_control(
                    "Part of the day", run_knobs.PARTS, width="stretch",
                    default=first("part", run_knobs.PARTS), key=first.key("part"),
                )  # fmt: skip
                part = chosen or own.part
            elif scenario.workload and run_knobs.rate_field(scenario.workload):
                load = st.select_slider(
                    "Load, times the scenario's", run_knobs.LOADS,
                    first("load", run_knobs.LOADS), key=first.key("load"),
                    format_func=lambda n: f"{n:g} x",
                )  # fmt: skip
            requests = st.select_slider(
                "Requests", run_knobs.REQUESTS, first("requests", run_knobs.REQUESTS),
                key=first.key("requests"),
                format_func=lambda n: f"{n:,}" if n else "as in the scenario",
                help="Where a number is chosen, the first tenth is warm-up: served, not counted.",
            )  # fmt: skip
        with middle:
            counts = sorted({*run_knobs.REPLICAS, own.replicas})
            replicas = st.select_slider(
                "Decode replicas" if apart else "Replicas", counts,
                first("replicas", counts), key=first.key("replicas"), help=term("replica"),
            )  # fmt: skip
            prefills = 0
            if apart:
                counts = sorted({*run_knobs.REPLICAS, own.prefill_replicas})
                prefills = st.select_slider(
                    "Prefill replicas", counts, first("prefill_replicas", counts),
                    key=first.key("prefill_replicas"),
                )  # fmt: skip
        with right:
            replications = st.select_slider(
                "Independent runs", run_knobs.REPLICATIONS,
                first("replications", run_knobs.REPLICATIONS), key=first.key("replications"),
                help="With other seeds, for confidence intervals of every percentile.",
            )  # fmt: skip
            seed = st.number_input("Seed", 0, 10**9, first("seed", None), 1, key=first.key("seed"))
    return RunKnobs(load, requests, part, replicas, prefills, replications, int(seed))


class _First:
    """Values that the link or else the scenario gives to widgets, and their keys."""

    def __init__(self, name: str, own: RunKnobs) -> None:
        self._name, self._own = name, own
        self._linked = state.parameter("scenario") in (name, None)

    def key(self, knob: str) -> str:
        return state.key(f"simulate:{self._name}:{knob}")

    def __call__(self, knob: str, options: Any) -> Any:
        own = getattr(self._own, knob)
        if not self._linked:
            return own
        if options is None:
            return state.whole(knob, 0, 10**9, own)
        return state.chosen(knob, options, own)


def _publish(source: Source, scenario: Scenario, wanted: RunKnobs) -> None:
    own = run_knobs.defaults(scenario)
    moved = {
        knob: getattr(wanted, knob)
        for knob in RunKnobs.__slots__
        if getattr(wanted, knob) != getattr(own, knob)
    }
    state.publish({"scenario": source.name if source.content is None else None} | moved)


@dataclass(frozen=True)
class _Recorded:
    """An uploaded trace."""

    name: str
    sha: str
    workload: Workload
    requests_per_s: float | None


def _trace() -> _Recorded | None:
    with st.expander("Your own traffic: upload a trace", icon=":material/upload_file:"):
        given = st.file_uploader(
            "Trace (Azure CSV, Mooncake JSONL, BurstGPT CSV, own CSV, JSONL or Parquet)",
            type=["csv", "jsonl", "json", "parquet", "gz", "xz"], key="simulate:trace",
            max_upload_size=LARGEST_TRACE_MB,
            help="The format is told by its content. Own CSV: columns arrival_s, input_tokens, "
            f"output_tokens. At most {LARGEST_TRACE_MB} MB; it stays on this machine.",
        )  # fmt: skip
        if given is None:
            return None
        content = given.getvalue()
        sha = hashlib.sha256(content).hexdigest()
        try:
            workload, report = _read(sha, Path(given.name).name, content)
        except PlannerError as error:
            frame.refuse(error)
            return None
        table = _table(workload)
        rate = None
        if not table.timed:
            rate = st.number_input("It has no times: requests a second", 0.01, 1e5, 1.0)
        _preview(report, table)
    return _Recorded(Path(given.name).name, sha, workload, rate)


@st.cache_resource(show_spinner="Reading", max_entries=4)
def _read(sha: str, name: str, _content: bytes) -> tuple[Workload, WorkloadReport]:
    with uploads.stored(_content, ".trace", LARGEST_TRACE_MB * 2**20, "your trace") as path:
        workload = files.read_workload(path)
    workload = workload.model_copy(update={"title": name[:80]})
    return workload, describe_workload(workload, Run())


def _table(workload: Workload) -> RequestTable:
    arrivals = workload.arrivals
    assert isinstance(arrivals, TraceArrivals)
    assert arrivals.table is not None
    return arrivals.table


def _preview(report: WorkloadReport, table: RequestTable) -> None:
    st.success(state.plain(f"Read: {sentence(report.summary)}."))
    for note in report.summary.notes:
        st.caption(state.plain(note))
    left, right = st.columns(2)
    with left:
        if table.timed:
            draw(arrivals_figure(table), "trace:arrivals")
    with right:
        draw(lengths_figure(table), "trace:lengths")
    for i, found in enumerate(workload_tables(report)):
        frame.table(found, f"trace:table:{i}")


def _answer(found: Simulated) -> None:
    (st.success if found.good else st.warning)(state.plain(found.headline))
    st.caption(state.plain(found.traffic))
    helps = {"TTFT p95": term("TTFT"), "TPOT p95": term("TPOT"), "E2E p95": term("E2E"),
             "Goodput": term("goodput")}  # fmt: skip
    frame.tiles([(t.label, t.value, t.note, helps.get(t.label, "")) for t in found.tiles])
    if found.sure:
        st.caption(state.plain(found.sure))
    draw(found.figures["latency"], "simulate:latency")


def _rest(found: Simulated) -> None:
    """Everything over time, and in tables."""
    figures = found.figures
    over_time = [n for n in ("load", "tokens", "replicas", "cache", "use", "late") if n in figures]
    for at in range(0, len(over_time), 2):
        row = over_time[at : at + 2]
        for column, name in zip(st.columns(len(row)), row, strict=True):
            with column:
                draw(figures[name], f"simulate:{name}")
    for i, table in enumerate(found.tables):
        frame.table(table, f"simulate:table:{i}")
    frame.assumptions(found.assumptions, "simulate:assumptions")


def _take(
    source: Source, changes: dict[str, Any], wanted: RunKnobs, found: Simulated,
    folder: Path | None,
) -> None:  # fmt: skip
    columns = zip(*found.series.values(), strict=True)
    rows = [dict(zip(found.series, values, strict=True)) for values in columns]
    more: dict[str, scenario_form.Download] = {
        "answer.json": json.dumps(found.plain, indent=1),
        "series.csv": frame.csv_text(rows),
    }
    for path in sorted(folder.iterdir()) if folder else ():
        more[path.name] = _later(path)
    options = {"replications": wanted.replications} if wanted.replications > 1 else {}
    asked = scenario_form.Asked("simulate", "planner.simulate", changes, options)
    scenario_form.take_along(source, asked, more)


def _later(path: Path) -> Callable[[], bytes]:
    return path.read_bytes
