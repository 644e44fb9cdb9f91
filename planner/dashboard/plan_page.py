"""What to buy: the cheapest fleet that keeps its promises, what else would do, and why not more."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from planner import files
from planner.dashboard import frame, jobs, scenario_form, state, wishes, work
from planner.dashboard.drawing import draw
from planner.dashboard.process import Job, Work
from planner.dashboard.scenario_form import Source
from planner.dashboard.terms import explained, term
from planner.dashboard.wishes import Wishes
from planner.report.planned import Planned
from planner.specs.scenario import Scenario
from planner.study.digest import digest, package_digest, plain

FIRST = "r1-chat"
HELP = {"TTFT p95": "TTFT", "TPOT p95": "TPOT", "E2E p95": "E2E"}
RISK = (
    "Chance that the true percentile of some promise is beyond its limit, from the scatter of this "
    "run's requests. Errors of the model itself come on top: see the page Trust."
)


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Plan", anchor=False)
    st.caption("moe-planner: the cheapest fleet that keeps its promises, and why not the others.")
    source = scenario_form.pick(_can_plan, FIRST)
    scenario = source.load()
    wanted = _form(source.name, scenario)
    changes = wishes.overrides(scenario, wanted)
    shared = {"scenario": source.name if source.content is None else None}
    state.publish(shared | wishes.link(scenario, wanted))
    question = source.load(changes)
    key, asked = _asked(question)
    place = st.container()
    with place:
        found: Planned | None = jobs.ask(
            key, "Plan", asked, at_once=not changes and source.name == FIRST, show=_answer
        )
    if found is None:
        return
    _answer(found)

    def rest() -> None:
        _rest(found)
        _take(source, changes, found, key)

    frame.later(key, rest)


def _asked(question: Scenario) -> tuple[str, Work]:
    key = digest("plan", package_digest(), plain(question))
    return key, Work(work.plan, (question,), desk=True)


def prepare() -> Job:
    """Begin the plan that the page opens with."""
    return jobs.prepare(*_asked(files.load_scenario(FIRST)))


def _can_plan(data: Mapping[str, Any]) -> bool:
    return bool(data.get("workload")) and bool(data.get("slo"))


def _form(name: str, scenario: Scenario) -> Wishes:
    own = wishes.wished(scenario)
    first = _First(name, own)
    models = sorted({*files.model_names(), own.model})
    systems = sorted({*files.system_names(), *own.systems})
    with st.sidebar:
        st.subheader("Wishes", anchor=False)
        model = st.selectbox(
            "Model",
            models,
            models.index(first("model", models)),
            key=first.key("model"),
            help="Parameters and layers as its maker published them.",
        )
        chosen = st.multiselect(
            "Systems to choose from", systems, first.several("systems", systems),
            key=first.key("systems"),
            max_selections=10, help="Servers; each is sized, the cheapest is the answer.",
        )  # fmt: skip
        promised = [
            _promise(first, latency, word)
            for latency, word in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E"))
        ]
        weights = st.multiselect(
            "Weights", wishes.WEIGHTS, first.several("weights", wishes.WEIGHTS),
            key=first.key("weights"), placeholder="as published", help=explained("Weights"),
        )  # fmt: skip
        kv = st.multiselect(
            "KV cache", wishes.KV, first.several("kv", wishes.KV), key=first.key("kv"),
            help=term("KV cache"),
        )  # fmt: skip
        left, right = st.columns(2)
        budget = left.number_input(
            "Budget, $/h", 0.01, 1e7, first.number("max_usd_per_hour", 1.0),
            key=first.key("max_usd_per_hour"), placeholder="none", format="%g",
            help="Of the whole fleet.",
        )  # fmt: skip
        kw = right.number_input(
            "Power, kW", 0.01, 1e6, first.number("max_rated_w", 1e-3),
            key=first.key("max_rated_w"), placeholder="none", format="%g",
            help="Of all servers as rated.",
        )  # fmt: skip
        most = left.number_input(
            "Most nodes", 1, 100_000, first.number("max_nodes", 1), key=first.key("max_nodes")
        )
    return Wishes(
        model, tuple(chosen) or own.systems, tuple(weights) or own.weights, tuple(kv) or own.kv,
        promised[0], promised[1], promised[2], budget, None if kw is None else kw * 1e3,
        int(most or own.max_nodes),
    )  # fmt: skip


def _promise(first: "_First", latency: str, word: str) -> tuple[str, float] | None:
    """A percentile and its limit, side by side."""
    which, limit = st.columns([1, 1.4], vertical_alignment="bottom")
    options, (asked, limit_s) = wishes.percentiles(latency), first.promise(latency)
    percentile = which.selectbox(
        word, options, options.index(asked), key=first.key(f"{latency}:percentile"),
        help=term(word),
    )  # fmt: skip
    limit_ms = limit.number_input(
        f"{word} at most, ms", 0.1, 1e7, limit_s and limit_s * 1e3,
        key=first.key(f"{latency}:limit"), disabled=percentile == wishes.NONE,
        placeholder="no promise", format="%g",
    )  # fmt: skip
    if percentile == wishes.NONE or limit_ms is None:
        return None
    return percentile, limit_ms / 1e3


class _First:
    """Values that the link or else the scenario gives to widgets, and their keys."""

    def __init__(self, name: str, own: Wishes) -> None:
        self._name, self._own = name, own
        self._linked = state.parameter("scenario") in (name, None)

    def key(self, knob: str) -> str:
        return state.key(f"plan:{self._name}:{knob}")

    def _given(self, knob: str, read: Callable[[str], Any]) -> Any:
        """Value of the link where it is sound, else the scenario's."""
        own = getattr(self._own, knob)
        given = state.parameter(knob) if self._linked else None
        if given is None:
            return own
        try:
            return read(given)
        except ValueError:
            state.complain(knob, given)
            return own

    def __call__(self, knob: str, options: Sequence[str]) -> Any:
        def read(text: str) -> str:
            if text not in options:
                raise ValueError(text)
            return text

        return self._given(knob, read)

    def several(self, knob: str, options: Sequence[str]) -> list[str]:
        def read(text: str) -> tuple[str, ...]:
            names = tuple(text.split(","))
            if not set(names) <= set(options):
                raise ValueError(text)
            return names

        return list(self._given(knob, read))

    def number(self, knob: str, scale: float) -> Any:
        def read(text: str) -> float | None:
            value = None if text == wishes.NONE else float(text)
            if value is not None and not 0 < value < 1e10:
                raise ValueError(text)
            return value

        value = self._given(knob, read)
        if value is None:
            return None
        return int(value) if isinstance(scale, int) else value * scale

    def promise(self, latency: str) -> tuple[str, float | None]:
        found = self._given(latency, lambda text: wishes.promise(text, latency))
        return found or (wishes.NONE, None)


def _answer(found: Any) -> None:
    """The answer first, and how it trades speed for money."""
    if not isinstance(found, Planned):
        return
    _headline(found)
    helps = {label: term(word) for label, word in HELP.items()}
    helps["Risk of a broken promise"] = RISK
    frame.tiles([(t.label, t.value, t.note, helps.get(t.label, "")) for t in found.tiles])
    if found.sure:
        st.caption(state.plain(found.sure))
    stage = "plan" if found.simulated else "screen"
    _pair(found, stage, ("speed_pareto", "money_pareto"))


def _rest(found: Planned) -> None:
    """What it was chosen from, and the cheapest fleet under the glass."""
    frame.table(found.options, "plan:options")
    if found.decisions:
        st.markdown("**How sure is it, and what else would do?**")
    for head, body in found.decisions:
        st.markdown(f"- **{state.plain(head)}**: {state.plain(body)}")
    _refused(found)
    for row in (("latency", "load"), ("use", "late"), ("step", "memory"), ("cost", "day")):
        _pair(found, "plan", row)
    with st.expander("The cheapest fleet in tables", icon=":material/table:"):
        for i, table in enumerate(found.more):
            frame.table(table, f"plan:more:{i}")
    frame.assumptions(found.assumptions, "plan:assumptions")


def _headline(found: Planned) -> None:
    """The answer, and what its speed rests on where nobody measured it."""
    box = st.info if not found.simulated else st.success if found.good else st.warning
    box(state.plain(found.headline))
    if found.warning:
        st.warning(state.plain(found.warning), icon=":material/warning:")
    if found.traffic:
        st.caption(state.plain(found.traffic))


def _pair(found: Planned, stage: str, names: Sequence[str]) -> None:
    """Figures side by side, those there are."""
    drawn = [name for name in names if name in found.figures]
    for column, name in zip(st.columns(len(drawn) or 1), drawn, strict=False):
        with column:
            draw(found.figures[name], f"{stage}:{name}")


def _refused(found: Planned) -> None:
    """Why the others were refused, and what would have to change."""
    count = len(found.refusals.rows)
    if not count:
        return
    with st.expander(f"Why the other {count} were refused", icon=":material/block:"):
        for reason, labels in found.groups:
            shown = "; ".join(labels[:6]) + (f"; and {len(labels) - 6} more" if labels[6:] else "")
            st.markdown(f"- **{state.plain(reason)}**: {state.plain(shown)}")
        if found.changes:
            st.markdown("**What would have to change: the nearest to each limit**")
        for head, body in found.changes:
            st.markdown(f"- **{state.plain(head)}**: {state.plain(body)}")
        frame.table(found.refusals, "plan:refusals")
    st.caption(state.plain(found.effort))


def _take(source: Source, changes: dict[str, Any], found: Planned, key: str) -> None:
    folder = jobs.board()[key].folder
    titles = [column.title for column in found.refusals.columns]
    refused = [dict(zip(titles, row, strict=True)) for row in found.refusals.rows]
    more: dict[str, scenario_form.Download] = {
        "answer.json": json.dumps(found.plain, indent=1),
        "refused.csv": frame.csv_text(refused),
    }
    if folder is not None:
        more["report.html"] = (folder / "report.html").read_bytes
    asked = scenario_form.Asked("plan", "planner.plan", changes)
    scenario_form.take_along(source, asked, more)
