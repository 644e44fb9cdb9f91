"""Configurations side by side, and the parts they could run on."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from planner import api, files
from planner.dashboard import copying, frame, knobs, money_view, scenario_form, state
from planner.dashboard.drawing import ask_format, draw
from planner.dashboard.scenario_form import Source
from planner.dashboard.terms import explained
from planner.errors import InputError, PlannerError
from planner.report import compare_figures
from planner.report.compare_figures import METRICS, Rates
from planner.report.interval_tables import between
from planner.report.shelf import facts
from planner.report.words import fact, number, seconds
from planner.specs.scenario import Hardware
from planner.units import human

FIRST = ("published/sglang-h100-decode", "deepseek-profile-decode", "r1-chat-ep16")
VIEWS = ("Scenarios", "Rent, buy or API", "Hardware")
MOST = 6


@frame.guarded
def show() -> None:
    """Draw the page."""
    st.title("Compare", anchor=False)
    st.caption("Two to six configurations side by side, ways to pay for one, the hardware itself.")
    view = state.view("compare:view", VIEWS)
    if view == VIEWS[0]:
        _scenarios()
    elif view == VIEWS[1]:
        money_view.show(view)
    else:
        _hardware()


def _scenarios() -> None:
    known = scenario_form.shipped()
    names = [name for name, data in known.items() if data.get("deployment")]
    asked = (st.query_params.get("scenarios") or "")[:600]
    linked = [name for name in dict.fromkeys(asked.split(",")) if name in names][:MOST]
    if asked and not linked:
        state.complain("scenarios", asked)
    chosen = st.multiselect(
        "Scenarios", names, max_selections=MOST,
        default=linked or list(FIRST), key=state.key("compare:scenarios"),
        format_func=lambda n: str(known[n].get("title") or n),
    )  # fmt: skip
    left, right = st.columns(2)
    sequences = left.select_slider(
        "Sequences a device, of all", knobs.SEQUENCES,
        value=state.chosen("sequences", knobs.SEQUENCES, 32), key=state.key("compare:sequences"),
        help=explained("Sequences"),
    )  # fmt: skip
    context = right.select_slider(
        "Context of all, tokens", knobs.CONTEXTS, format_func=lambda n: f"{n:,}",
        value=state.chosen("context", knobs.CONTEXTS, 4096), key=state.key("compare:context"),
        help=explained("Context"),
    )  # fmt: skip
    only = st.toggle(
        "Only what differs", state.chosen("only", ("yes",), "") == "yes",
        key=state.key("compare:only"),
    )  # fmt: skip
    state.publish(
        {"view": VIEWS[0], "scenarios": ",".join(chosen), "sequences": sequences,
         "context": context, "only": "yes" if only else None}
    )  # fmt: skip
    steady = {"sequences_per_device": sequences, "context_tokens": context}
    sources = [Source(name) for name in chosen] + _uploads(MOST - len(chosen))
    if len(sources) < 2:
        st.info("Choose two to six scenarios.")
        return
    columns: dict[str, dict[str, str]] = {}
    rates: dict[str, Rates] = {}
    for source in sources:
        try:
            found = api.steady(source.load({"steady": steady}))
        except PlannerError as error:
            st.warning(state.plain(f"{source.name}: {error}"))
            continue
        title = _unlike(found.scenario.title or found.scenario.name, columns)
        columns[title] = _facts(found)
        rates[title] = Rates.of(found)
    if not columns:
        return
    draw(compare_figures.speeds(rates), "speeds")
    _side_by_side(columns, only=only)
    _take(chosen, steady)


def _uploads(room: int) -> list[Source]:
    """Scenarios of one's own beside the shipped ones; what is unsound is refused in place."""
    given = st.file_uploader(
        "Your own scenarios (YAML)", type=["yaml", "yml"], key="compare:uploads",
        accept_multiple_files=True, max_upload_size=1,
        help="Each of at most 256 kB; they stay on this machine, links do not carry them.",
    )  # fmt: skip
    sources = []
    for each in given:
        source = Source(each.name[:60], each.getvalue())
        try:
            if source.load().decoding is None:
                raise InputError(source.name, "deployment", "is missing; this page needs one")
        except PlannerError as error:
            frame.refuse(error)
            continue
        sources.append(source)
    if len(sources) > room:
        st.warning(f"At most {MOST} side by side; {len(sources) - room} are left out.")
    return sources[:room]


def _unlike(title: str, taken: Mapping[str, Any]) -> str:
    """A title that none of the others has."""
    found, number_of = title, 2
    while found in taken:
        found, number_of = f"{title} ({number_of})", number_of + 1
    return found


def _take(names: Sequence[str], steady: Mapping[str, Any]) -> None:
    """Command and Python of the shipped scenarios on screen."""
    if not names:
        return
    commands = [copying.command("step", name, {"steady": steady}) for name in names]
    code = (
        f"import planner\n\nfor name in {list(names)!r}:\n"
        f"    scenario = planner.load_scenario(name, {{'steady': {dict(steady)!r}}})\n"
        "    print(name, planner.steady(scenario).tokens_per_s_per_device)\n"
    )
    st.subheader("Take it along", anchor=False)
    shell, python = st.tabs(["Command line", "Python"])
    shell.code("\n".join(commands), language="bash", wrap_lines=True)
    python.code(code, language="python")
    ask_format()


def _side_by_side(columns: dict[str, dict[str, str]], *, only: bool) -> None:
    rows = []
    for label in next(iter(columns.values())):
        values = [facts[label] for facts in columns.values()]
        differs = len(set(values)) > 1
        if differs or not only:
            mark = {"differs": "●" if differs else ""}
            rows.append({"": label, **mark, **dict(zip(columns, values, strict=True))})
    marked = [bool(row["differs"]) for row in rows]
    st.dataframe(
        frame.highlighted(rows, marked), hide_index=True, key="side_by_side", height="content"
    )
    st.download_button(
        "comparison.csv", frame.csv_text(rows), "comparison.csv", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip


def _facts(found: Any) -> dict[str, str]:
    """What is known of one configuration, in the same order for all."""
    replica, memory = found.replica, found.replica.memory
    pool, hardware = replica.pool, replica.hardware
    within = {name: (low, high) for name, (low, high) in found.interval90().items()}
    drafts = pool.speculative.draft_tokens if pool.speculative else 0
    price = hardware.prices[0] if hardware.prices else None
    return {
        "model": replica.model.title,
        "system": hardware.system.title,
        "layout": pool.parallelism.label(),
        "devices a replica": number(replica.devices),
        "weights": pool.weights,
        "KV cache": pool.kv,
        "redundant experts": number(pool.redundant_experts),
        "draft tokens": number(drafts),
        "overlap": pool.overlap.replace("_", " "),
        "tokens/s a device": f"{found.tokens_per_s_per_device:,.0f}",
        "tokens/s a device, 90 %": between(
            within["tokens_per_s_per_device"], lambda x: f"{x:,.0f}"
        ),
        "tokens/s a node": f"{found.tokens_per_s_per_node:,.0f}",
        "tokens/s a user": f"{found.tokens_per_s_per_user:,.1f}",
        "tokens/s a user, 90 %": between(within["tokens_per_s_per_user"], lambda x: f"{x:,.1f}"),
        "decode step": seconds(found.step.time_s),
        "speed of light": seconds(found.step.bound_s),
        "set by": found.step.bound_by,
        "weights and buffers": human(memory.fixed_bytes, "bytes"),
        "usable memory": human(memory.usable_bytes, "bytes"),
        "KV capacity": human(memory.kv_capacity_tokens, "tokens"),
        "price a device-hour": (
            f"${float(price.usd_per_device_hour):.2f}, {price.provider}" if price else ""
        ),
        "numbers not confirmed": number(sum(a.value is not None for a in found.assumptions)),
    }


@st.cache_resource
def _shelf() -> list[Hardware]:
    return [files.load_hardware(name) for name in files.system_names()]


def _hardware() -> None:
    shelf = _shelf()
    by_name = {h.system.name: h for h in shelf}
    left, right = st.columns(2)
    metrics = list(METRICS)
    metric = left.selectbox(
        "Bars show", metrics, key=state.key("compare:metric"),
        index=metrics.index(state.chosen("metric", metrics, metrics[0])),
    )  # fmt: skip
    name = right.selectbox(
        "Every number of", list(by_name), format_func=lambda n: by_name[n].system.title,
        index=list(by_name).index(state.chosen("system", list(by_name), "hgx-h200")),
        key=state.key("compare:system"),
    )  # fmt: skip
    state.publish({"view": VIEWS[2], "metric": metric, "system": name})
    draw(compare_figures.hardware(shelf, metric), "hardware")
    st.markdown(f"**{state.plain(by_name[name].system.title)}: every number with its source**")
    rows = [
        {
            "of": word, "number": path, "value": fact(path, float(value)),
            "confidence": value.confidence, "source": value.source, "note": value.note,
        }
        for word, spec in (
            ("accelerator", by_name[name].accelerator), ("system", by_name[name].system),
            ("achieved", by_name[name].calibration),
        )
        for path, value in facts(spec)
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True, key="facts")
    st.download_button(
        "facts.csv", frame.csv_text(rows), "facts.csv", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip
