"""One deployment under the glass: what it holds, where its time goes, what binds."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from planner import api, files
from planner.dashboard import frame, knobs, scenario_form, state
from planner.dashboard.drawing import draw
from planner.dashboard.knobs import Choices, Knobs
from planner.dashboard.terms import explained, term
from planner.evaluation import SteadyResult, TimelineResult
from planner.evaluation.intervals import HOLDS_OF_STEP, LEAVES_OUT
from planner.report import bars, tables
from planner.report.figures import device_memory, step_parts
from planner.report.interval_tables import between, steady_intervals
from planner.report.pages import binds_line
from planner.report.step_page import StepAnswer, busy_line, step_page
from planner.report.timeline_figures import timeline_figures
from planner.report.words import HOW, plural, seconds, share
from planner.specs.deployment import Disaggregated
from planner.specs.scenario import Scenario
from planner.units import human

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FIRST = "published/sglang-h100-decode"
PAUSE_S = 0.2
"""Numbers are on screen before figures are drawn, and a next move of a slider overtakes them."""


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Deployment", anchor=False)
    st.caption("One decode step of one configuration: does it fit, how fast is it, what binds?")
    source = scenario_form.pick(lambda data: bool(data.get("deployment")), FIRST)
    scenario = source.load()
    wanted = _sliders(source.name, scenario)
    changes = knobs.overrides(scenario, wanted)
    own = knobs.defaults(scenario)
    moved = {
        n: getattr(wanted, n) for n in Knobs.__slots__ if getattr(wanted, n) != getattr(own, n)
    }
    state.publish({"scenario": source.name if source.content is None else None} | _short(moved))
    question = source.load(changes)
    found = api.steady(question)
    _numbers(found)
    time.sleep(PAUSE_S)
    _parts(found)
    timed = api.timeline(question)
    _timeline(timed)
    with st.expander("How sure: 90 % intervals and their causes", icon=":material/unfold_more:"):
        frame.table(steady_intervals(found), "sure")
    frame.assumptions(found.assumptions, "assumptions")
    ops = tables.ops("Decode step", found.step, HOW["step"])
    titles = [column.title for column in ops.columns]
    rows = [dict(zip(titles, row, strict=True)) for row in ops.rows]
    more: dict[str, scenario_form.Download] = {
        "ops.csv": frame.csv_text(rows),
        "report.html": lambda: step_page(StepAnswer(found, timed)),
    }
    scenario_form.take_along(source, scenario_form.Asked("step", "planner.steady", changes), more)


def prepare() -> None:
    """Answer once what the page opens with: what every other answer builds on is then known."""
    question = files.load_scenario(FIRST)
    found = api.steady(question)
    _figures(found)
    timeline_figures(api.timeline(question))


def _short(moved: dict[str, Any]) -> dict[str, str]:
    return {name: f"{v:g}" if isinstance(v, float) else str(v) for name, v in moved.items()}


def _sliders(name: str, scenario: Scenario) -> Knobs:
    offered, own = knobs.choices(scenario), knobs.defaults(scenario)
    with st.container(border=True):
        left, middle, right = st.columns(3)
        with left:
            sequences = _slide(name, "sequences", "Sequences a device", offered, own, "")
            context = _slide(name, "context", "Context, tokens", offered, own, term("KV cache"))
        with middle:
            ep = _slide(name, "ep", "Expert parallelism (EP)", offered, own, term("EP"))
            routing = _select(name, "routing", "Expert popularity", offered, own)
        with right:
            weights = _select(name, "weights", "Weights", offered, own)
            kv = _select(name, "kv", "KV cache", offered, own)
            drafts = _slide(
                name, "drafts", "Draft tokens (MTP)", offered, own,
                "Tokens that the model's own prediction module drafts; acceptance as published.",
            )  # fmt: skip
    return Knobs(sequences, context, ep, routing, weights, kv, drafts)


def _start(scenario: str, knob: str, offered: Choices, own: Knobs) -> tuple[str, list[Any], Any]:
    """Widget key, options, and the value that the link or else the scenario gives."""
    options, default = list(getattr(offered, knob)), getattr(own, knob)
    written = {f"{o:g}" if isinstance(o, float) else str(o): o for o in options}
    asked = state.parameter("scenario") in (scenario, None)
    word = state.chosen(knob, list(written), "") if asked else ""
    key = state.key(f"deployment:{scenario}:{knob}")
    return key, options, written.get(word, default)


def _slide(
    scenario: str, knob: str, label: str, offered: Choices, own: Knobs, help_text: str
) -> Any:  # fmt: skip
    key, options, value = _start(scenario, knob, offered, own)
    if len(options) < 2:
        return getattr(own, knob)
    return st.select_slider(
        label,
        options,
        value,
        key=key,
        help=help_text or explained(label) or None,
        format_func=lambda n: f"{n:,.10g}",
    )


def _select(scenario: str, knob: str, label: str, offered: Choices, own: Knobs) -> Any:
    key, options, value = _start(scenario, knob, offered, own)
    if len(options) < 2:
        return getattr(own, knob)
    told = explained(label) or None
    return st.selectbox(label, options, options.index(value), key=key, help=told)


def _numbers(found: SteadyResult) -> None:
    """What a reader looks for first: sent before anything that takes longer."""
    step, memory = found.step, found.replica.memory
    pool, system = found.replica.pool, found.replica.hardware.system
    within = found.interval90()

    def sure(name: str, write: Callable[[float], str]) -> str:
        low, high = within[name]
        return f"90 %: {between((low, high), write)}; "

    frame.tiles(
        [
            ("Tokens/s a device", f"{found.tokens_per_s_per_device:,.0f}",
             sure("tokens_per_s_per_device", lambda x: f"{x:,.0f}")
             + f"{human(found.tokens_per_s_per_node, 'tokens_per_s')} a node", ""),
            ("Tokens/s a user", f"{found.tokens_per_s_per_user:,.1f}",
             sure("tokens_per_s_per_user", lambda x: f"{x:,.1f}")
             + f"TPOT {seconds(1 / found.tokens_per_s_per_user)}", term("TPOT")),
            ("Decode step", seconds(step.time_s),
             sure("step_s", seconds)
             + f"{human(found.sequences_per_device, 'count')} sequences a device", ""),
            ("Speed of light", seconds(step.bound_s),
             f"set by {step.bound_by}; {step.time_s / step.bound_s:.2g} times that is reached",
             term("speed of light")),
        ]
    )  # fmt: skip
    st.caption(state.plain(f"{HOLDS_OF_STEP} {LEAVES_OUT}"))
    used = memory.fixed_bytes / memory.usable_bytes
    st.caption(
        f"{pool.parallelism.label()} on {plural(found.replica.devices, 'device')} of "
        f"{state.plain(system.title)}; {share(used)} of the usable memory is taken before the "
        "first token."
    )
    _apart(found.scenario)


def _apart(scenario: Scenario) -> None:
    """Say which of two pools is shown."""
    pools = scenario.deployment
    if isinstance(pools, Disaggregated):
        prompts = plural(pools.prefill.replicas, "replica")
        st.caption(
            f"Pools apart: shown and changed is the decode pool. Prompts are computed by {prompts} "
            f"of {pools.prefill.parallelism.label()}: see the page Simulate."
        )


def _figures(found: SteadyResult) -> "tuple[Figure, Figure]":
    return device_memory(found.replica.memory), step_parts(found.step, "A decode step")


def _parts(found: SteadyResult) -> None:
    step, memory = found.step, found.replica.memory
    left, right = st.columns(2)
    hbm, parts = _figures(found)
    with left:
        draw(hbm, "hbm")
        st.caption(state.plain(bars.kv_line(memory)))
    with right:
        draw(parts, "step")
        st.caption(state.plain(f"{binds_line(step)} {bars.bound_line(step)}."))


def _timeline(timed: TimelineResult) -> None:
    figures = timeline_figures(timed)
    if "gantt" in figures:
        draw(figures["gantt"], "gantt")
    st.caption(
        state.plain(
            f"Rank by rank the step takes {seconds(timed.timeline.time_s)}. {busy_line(timed)}"
        )
    )
    left, right = st.columns(2)
    with left:
        draw(figures["critical"], "critical")
    with right:
        draw(figures["busy"], "busy")
