"""The answer in sentences: what to buy, what it keeps, what it costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.evaluation import Result
from planner.evaluation.intervals import Interval, Intervals
from planner.report.interval_tables import between
from planner.report.operation_tables import sentence
from planner.report.risk import basis_sentence
from planner.report.words import (
    HOW,
    fleet,
    number,
    plural,
    promise_name,
    quantity,
    replicas,
    seconds,
    share,
    usd,
    watt_hours,
)
from planner.search import Comparison, Plan, Rejection
from planner.serving import Promise
from planner.specs.workload import CurveArrivals
from planner.units import human
from planner.workloads import resolve_run

NOT_ALONE = 2
"""A list of promises is joined by 'and' from this many on."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number that a reader looks for first."""

    label: str
    value: str
    note: str
    how: str
    """Module and function that compute it."""


def title(answer: Plan | Result | Comparison) -> str:
    """The scenario's title, or its name."""
    return answer.scenario.title or answer.scenario.name


def headline(answer: Plan | Result | Comparison, *, warned: bool = True) -> str:
    """The answer in one sentence or two; ``warned``: with what it rests on, if nobody measured."""
    if isinstance(answer, Comparison):
        return _comparison_headline(answer)
    if isinstance(answer, Plan):
        if answer.best is None:
            return _no_fleet(answer)
        warning = basis_sentence(answer) if warned else ""
        return " ".join(filter(None, (_result_headline(answer.best), _owned(answer), warning)))
    return _result_headline(answer)


def _owned(plan: Plan) -> str:
    """What a fleet costs beside the devices that are there already; nothing where none are."""
    if not plan.scenario.space.owned or plan.rented_usd_per_hour is None:
        return ""
    return f"Beyond the devices owned it is {usd(plan.rented_usd_per_hour)}/h."


def good_news(answer: Plan | Result | Comparison) -> bool:
    """Whether every promise is kept by somebody."""
    if isinstance(answer, Comparison):
        return any(row.best for row in answer.rows)
    result = answer.best if isinstance(answer, Plan) else answer
    return result is not None and result.metrics.slo_met and result.overload is None


def _result_headline(result: Result) -> str:
    model = result.replica.model.title
    sentences = [f"{fleet(result)} for {model}: {replicas(result)}."]
    sentences += [_overload_sentence(result), sentence(result)]
    sentences += [_promise_sentence(result), *_reach_sentences(result)]
    return " ".join(filter(None, sentences))


def _overload_sentence(result: Result) -> str:
    found = result.overload
    if found is None:
        return ""
    return (
        f"Overloaded: the queue grows by {found.growth_requests_per_s:.3g} requests/s without "
        f"bound (load {share(found.load_share)} of capacity), {found.queued:,} wait for a first "
        f"token after {seconds(found.until_s)}; waits have no percentiles."
    )


def _reach_sentences(result: Result) -> list[str]:
    return [
        f"No load keeps {promise_name(p.name)} ≤ {seconds(p.limit_s)}: a request alone on the "
        f"fleet takes {seconds(p.value_s)}."
        for p in result.out_of_reach
    ]


def _promise_sentence(result: Result) -> str:
    kept = [promise_text(p) for p in result.metrics.promises if p.kept]
    broken = [promise_text(p) for p in result.metrics.broken]
    money = _money(result)
    verdict = ""
    if broken:
        verdict = f"Breaks {_and(broken)}" + (f", keeps {_and(kept)}" if kept else "")
    elif kept:
        verdict = f"Keeps {_and(kept)}"
    if verdict and money:
        return f"{verdict}; {money}."
    return f"{verdict or money}." if verdict or money else ""


def _money(result: Result) -> str:
    if not result.costs:
        return ""
    cost = result.costs[0]
    return (
        f"{usd(cost.usd_per_hour)}/h and {usd(cost.usd_per_million_output_tokens)} per million "
        f"output tokens at this load ({cost.price.provider}, {cost.price.term}, "
        f"{cost.price.retrieved})"
    )


def _no_fleet(plan: Plan) -> str:
    limits = [f"{promise_name(n)} ≤ {seconds(v)}" for n, v in plan.scenario.slo if v is not None]
    titles = [hardware.system.title for hardware in plan.scenario.hardware]
    systems = titles[0] if len(titles) == 1 else f"any of {len(titles)} systems"
    text = (
        f"No fleet of up to {plan.scenario.space.max_nodes} nodes of {systems} keeps "
        f"{_and(limits)}."
    )
    late = [r for r in plan.rejections if r.stage != "fit"]
    if not late:
        return text
    nearest = min(late, key=lambda r: (r.needed or math.inf) / (r.available or 1.0))
    name = promise_name(nearest.limit) if nearest.limit.endswith("_s") else nearest.limit
    return (
        f"{text} Nearest: {_named(nearest)}, {name} {quantity(nearest.needed, nearest.unit)} "
        f"against {quantity(nearest.available, nearest.unit)}."
    )


def _named(refused: Rejection) -> str:
    return f"{refused.system}: {refused.label}" if refused.system else refused.label


def _comparison_headline(comparison: Comparison) -> str:
    fitting = [(row.hardware, row.best) for row in comparison.rows if row.best]
    if not fitting:
        return f"None of {plural(len(comparison.rows), 'system')} keeps every promise."
    hardware, best = fitting[0]
    text = f"Cheapest of {plural(len(comparison.rows), 'system')}: {hardware.system.title}. "
    return text + _result_headline(best)


def promise_text(promise: Promise) -> str:
    """``TTFT p95 1.08 s ≤ 2 s``."""
    sign = "≤" if promise.kept else ">"
    return f"{promise_name(promise.name)} {seconds(promise.value_s)} {sign} " + seconds(
        promise.limit_s
    )


def margin(promise: Promise) -> str:
    """How far a value is from its limit."""
    if not math.isfinite(promise.value_s):
        return "too few answers"
    ratio = promise.value_s / promise.limit_s
    return f"{share(1 - ratio)} to spare" if promise.kept else f"{share(ratio - 1)} over"


def _and(words: list[str]) -> str:
    if len(words) < NOT_ALONE:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


def traffic_line(result: Result) -> str:
    """What traffic the numbers are for."""
    traffic, workload = result.traffic, result.scenario.workload
    lengths = (
        f"mean prompt {number(round(traffic.input_tokens))}, "
        f"mean answer {number(round(traffic.output_tokens))} tokens"
    )
    name = f"{workload.title}. " if workload and workload.title else ""
    if not math.isfinite(traffic.requests_per_s):
        return f"{name}{lengths}."
    rate = f"{traffic.requests_per_s:.3g} requests/s"
    if workload and isinstance(workload.arrivals, CurveArrivals):
        start, end = measured_window(result)
        if end > start:
            return f"{name}Sized for {clock(start)} to {clock(end)}: {rate}, {lengths}."
    return f"{name}{rate}, {lengths}."


def measured_window(result: Result) -> tuple[float, float]:
    """Time of day at which requests begin and cease to count. [s]"""
    workload = result.scenario.workload
    if workload is None:
        return 0.0, 0.0
    run = resolve_run(workload, result.scenario.run)
    end = run.start_s + run.duration_s if run.duration_s else 0.0
    return run.start_s + run.warmup_s, end


def clock(time_s: float) -> str:
    """Time of day, ``22:10``."""
    minutes = round(time_s / 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def tiles(result: Result) -> list[Tile]:
    """The numbers a reader looks for first."""
    m = result.metrics
    titles = [use.pool.replica.hardware.system.title for use in result.pools]
    systems = ", ".join(dict.fromkeys(titles))
    found = [
        Tile("Devices", number(result.devices),
             f"{plural(result.nodes, 'node')}, {systems}"
             + interval_note(result, "devices", number, "; "),
             HOW["fleet"]),
    ]  # fmt: skip
    if result.costs:
        cost = result.costs[0]
        where = f"{cost.price.provider}, {cost.price.term}"
        where += f", {cost.price.region}" if cost.price.region else ""
        found += [
            Tile("Cost per hour", usd(cost.usd_per_hour), where, HOW["cost"]),
            Tile("Per million output tokens", usd(cost.usd_per_million_output_tokens),
                 interval_note(result, "usd", usd)
                 or f"input {usd(cost.usd_per_million_input_tokens)}, at this load", HOW["cost"]),
        ]  # fmt: skip
    found += [
        Tile("First token, p95", seconds(m.ttft_s.p95),
             _limit(result, "ttft_p95_s") + interval_note(result, "ttft_s", seconds, "; "),
             HOW["latency"]),
        Tile("Per output token, p95", seconds(m.tpot_s.p95),
             _limit(result, "tpot_p95_s") + interval_note(result, "tpot_s", seconds, "; "),
             HOW["latency"]),
        Tile("Output", human(m.steady.output_tokens_per_s, "tokens_per_s"),
             f"{m.steady.requests_per_s:.3g} requests/s"
             + interval_note(result, "rate", lambda x: human(x, "tokens_per_s"), "; "),
             HOW["load"]),
    ]  # fmt: skip
    if result.energy:
        found.append(
            Tile("Energy per million tokens", watt_hours(result.energy.wh_per_million_tokens),
                 f"fleet {human(result.energy.fleet_w, 'w')}"
                 + interval_note(result, "wh_per_million_tokens", watt_hours, "; "),
                 HOW["energy"])
        )  # fmt: skip
    found.append(
        Tile("KV cache in use", share(m.mean_kv_share),
             f"of {human(result.records.kv_capacity_tokens, 'tokens')}, mean", HOW["memory"])
    )  # fmt: skip
    return found


def interval_note(
    result: Result, name: str, write: Callable[[float], str], before: str = ""
) -> str:
    """90 % interval of a tile's number, a 95th percentile of a latency; empty without one."""
    within = _within(result.intervals, name) if result.intervals else None
    return f"{before}90 %: {between(within, write)}" if within else ""


def _within(found: Intervals, name: str) -> Interval | None:
    """An interval by the name of a tile; None where there is none, or it says nothing."""
    known = {which: each["p95"] for which, each in found.latency.items()} | found.energy
    known["devices"], known["goodput"] = found.devices, found.goodput_requests_per_s
    known["rate"] = found.rates["output_tokens_per_s"]
    if found.usd:
        known["usd"] = found.usd[0]["usd_per_million_output_tokens"]
        known["usd_per_hour"] = found.usd[0]["usd_per_hour"]
    within = known.get(name)
    sure = within is not None and within[0] == within[1] and name in ("devices", "usd_per_hour")
    return None if sure else within


def _limit(result: Result, name: str) -> str:
    for promise in result.metrics.promises:
        if promise.name == name:
            return f"limit {seconds(promise.limit_s)}, {margin(promise)}"
    return "no promise"
