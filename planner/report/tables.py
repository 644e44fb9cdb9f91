"""Tables of a simulated fleet: promises, latency, load, cost, energy, assumptions."""

import math

from planner.cost import Cost
from planner.evaluation import Assumption, Day, Replications, Result
from planner.report.answer import margin
from planner.report.table import Column, Table, key, text
from planner.report.words import (
    HOW,
    NOTHING,
    fact,
    plural,
    promise_name,
    seconds,
    share,
    usd,
    watt_hours,
)
from planner.serving import Percentiles
from planner.serving.summaries import PrefixSummary
from planner.step import Step
from planner.units import human

_LATENCIES = (
    ("First token (TTFT)", "ttft_s"), ("Per token (TPOT)", "tpot_s"),
    ("Gap of tokens (ITL)", "itl_s"), ("Whole answer (E2E)", "e2e_s"),
    ("Wait in queue", "queue_s"),
)  # fmt: skip
PERCENTILES = ("mean", "p50", "p90", "p95", "p99")
KEPT, BROKEN = "✓", "✗"


def promises(result: Result) -> Table:
    """Each promise and what came of it."""
    rows = tuple(
        (
            KEPT if p.kept else BROKEN,
            promise_name(p.name),
            seconds(p.value_s),
            f"{'≤' if p.kept else '>'} {seconds(p.limit_s)}",
            margin(p),
        )
        for p in result.metrics.promises
    )
    columns = (key(""), key("promise"), Column("value"), Column("limit"), Column("margin"))
    good = f"{share(result.metrics.good_share)} of requests are within every limit."
    return Table("Promises", columns, rows, good if rows else "", HOW["promises"])


def latency(result: Result) -> Table:
    """Percentiles with the half-width of their 95 % confidence intervals."""
    m = result.metrics
    rows = tuple(
        (name, *(_cell(getattr(m, latency), which) for which in PERCENTILES))
        for name, latency in _LATENCIES
    )
    note = (
        f"{plural(m.arrived, 'request')} counted{_warm_up(result)}. "
        "±: half-width of the 95 % confidence interval, by 20 batches; none where the run is too "
        "short to tell."
    )
    room = {"p50": 64, "p90": 76}
    columns = (key(""), *(Column(which, min_width=room.get(which, 0)) for which in PERCENTILES))
    return Table("Latency", columns, rows, note, HOW["latency"])


def _warm_up(result: Result) -> str:
    """What is left out, in words."""
    counted = result.records.counted
    left_out = int((~counted).sum())
    if not left_out:
        return ", no warm-up"
    from_s = float(result.records.arrival_s[counted][0])
    return f", from {seconds(from_s)} on ({plural(left_out, 'request')} of warm-up left out)"


def _cell(p: Percentiles, which: str) -> str:
    value, width = getattr(p, which), getattr(p.half_width, which)
    if value is None or math.isnan(value):
        return NOTHING
    if width is None or math.isnan(width):
        return seconds(value)
    return f"{seconds(value)} ± {seconds(width)}"


def replications(found: Replications) -> Table:
    """Latencies over independent replications, with half-widths of 95 % confidence intervals."""
    rows = tuple(
        (name, *(_interval(found, f"{latency}.{which}") for which in PERCENTILES))
        for name, latency in _LATENCIES
    )
    note = (
        f"Mean over {found.count} independent replications ± half-width of the 95 % confidence "
        f"interval (Student's t); every promise was kept in {found.slo_met} of them. "
        "Half-widths at 90 % and every value: JSON."
    )
    columns = (key(""), *(Column(which) for which in PERCENTILES))
    return Table("Latency over replications", columns, rows, note, HOW["replications"])


def _interval(found: Replications, name: str) -> str:
    interval = found.intervals.get(name)
    if interval is None:
        return NOTHING
    return f"{seconds(interval.mean)} ± {seconds(interval.half_width_95)}"


def _prefix_rows(p: PrefixSummary) -> list[tuple[str, str]]:
    """What prefix caches gave."""
    computed = p.computed_tokens / p.run_input_tokens if p.run_input_tokens else 0.0
    rows = [
        (
            "Prefix cache",
            f"{share(p.hit_token_share)} of prompt tokens found, {share(p.hit_block_share)} of "
            f"blocks of {p.block_tokens:,} tokens",
        ),
        (
            "Computed",
            f"{human(p.computed_tokens, 'tokens')}, {share(computed)} of the prompts; "
            f"{human(p.evicted_tokens, 'tokens')} evicted",
        ),
    ]
    if p.loads:
        rows.append(
            (
                "Store behind it",
                f"{share(p.tier_hit_token_share)} of prompt tokens, loaded for "
                f"{plural(p.loads, 'request')} in {seconds(p.mean_load_s)} on average",
            )
        )
    return rows


def classes(result: Result) -> Table:
    """Latency by priority class."""
    rows = tuple(
        (
            str(c.priority), f"{c.arrived:,}", f"{c.finished:,}",
            _cell(c.queue_s, "p50"), _cell(c.queue_s, "p95"), _cell(c.ttft_s, "p50"),
            _cell(c.ttft_s, "p95"), _cell(c.tpot_s, "p95"),
        )
        for c in result.classes
    )  # fmt: skip
    columns = (
        key("class"), Column("arrived"), Column("finished"), Column("queue p50"),
        Column("queue p95"), Column("TTFT p50"), Column("TTFT p95"), Column("TPOT p95"),
    )  # fmt: skip
    return Table("By priority", columns, rows, "Class 0 is served first.", HOW["latency"])


def load(result: Result) -> Table:
    """Throughput and how full the fleet is."""
    m, s = result.metrics, result.metrics.steady
    rows = [
        (
            "Throughput",
            f"{s.requests_per_s:.4g} requests/s, "
            f"{human(s.input_tokens_per_s, 'tokens_per_s')} in, "
            f"{human(s.output_tokens_per_s, 'tokens_per_s')} out",
        ),
        (
            "Per device",
            f"{human(s.output_tokens_per_s / result.devices, 'tokens_per_s')} out",
        ),
        (
            "Goodput",
            f"{share(m.good_share)} of requests within every limit, "
            f"{m.goodput_requests_per_s:.4g} a second",
        ),
        (
            "Busy",
            f"{share(m.busy_share)} of the time, {share(m.prefill_share)} of that for prefill",
        ),
        (
            "Requests",
            f"{m.mean_running:,.0f} running, {m.mean_queue:,.2g} waiting on average, "
            f"{m.max_queue:,} at most",
        ),
        (
            "KV cache",
            f"{share(m.mean_kv_share)} of "
            f"{human(result.records.kv_capacity_tokens, 'tokens')} in use on average",
        ),
    ]
    if result.prefix:
        rows += _prefix_rows(result.prefix)
    if m.rejected or m.unfinished or m.lost:
        lost = f", {m.lost:,} lost" if m.lost else ""
        rows.append(("Not served", f"{m.rejected:,} rejected, {m.unfinished:,} unfinished{lost}"))
    if result.energy:
        e = result.energy
        rows.append(
            (
                "Energy",
                f"{watt_hours(e.wh_per_million_tokens)} per million tokens "
                f"({watt_hours(e.wh_per_million_output_tokens)} per million output tokens), "
                f"fleet {human(e.fleet_w, 'w')} on average",
            )
        )
    return Table("Load", (key(""), text("")), tuple(rows), how=HOW["load"])


def pools(result: Result) -> Table:
    """Each pool of a disaggregated fleet: what it is, and how full."""
    columns = (
        key("pool"), text("replicas"), Column("devices"), Column("busy"),
        Column("KV in use", min_width=64), Column("KV a replica", min_width=76),
    )  # fmt: skip
    rows = tuple(
        (
            use.pool.role,
            f"{use.pool.replicas} x {use.pool.replica.pool.parallelism.label()}, "
            f"{use.pool.replica.hardware.system.title}",
            f"{use.pool.devices:,}",
            share(use.busy_share),
            share(use.kv_share),
            human(use.pool.replica.memory.kv_capacity_tokens, "tokens"),
        )
        for use in result.pools
    )
    note = "Busy and KV in use: means over the whole run, warm-up included."
    return Table("Pools", columns, rows, note, HOW["load"])


def cost(result: Result, wide: bool) -> tuple[Table, ...]:
    """Cost at every named price, at this load and over the whole day: one table, or two."""
    now, day = _cost_now(result), result.day
    if day is None:
        return (now,)
    later = _cost_day(day)
    if not wide:
        return now, later
    columns = (*now.columns, *(Column(f"day {c.title}") for c in _PER_MILLION))
    rows = tuple((*a, *b[-3:]) for a, b in zip(now.rows, later.rows, strict=True))
    return (Table("Cost", columns, rows, f"{now.note} day: {later.note}", now.how, best=0),)


_PER_MILLION = (Column("in"), Column("out"), Column("all"))


def _cost_now(result: Result) -> Table:
    columns = (
        text("provider, term, date"),
        Column("$/device-h", min_width=90),
        Column("$/h"),
        Column("$/day", min_width=70),
        *_PER_MILLION,
    )
    rows = tuple(
        (
            _price(c),
            f"${float(c.price.usd_per_device_hour):,.2f}",
            usd(c.usd_per_hour),
            usd(c.usd_per_day),
            *_per_million(c),
        )
        for c in result.costs
    )
    note = f"in, out, all: USD per million tokens at this load. {split_line(result)}"
    return Table("Cost at this load", columns, rows, note, HOW["cost"], best=0)


def _cost_day(day: Day) -> Table:
    rows = tuple((_price(c), usd(c.usd_per_day), *_per_million(c)) for c in day.costs)
    note = (
        f"USD per million tokens of the whole day ({human(day.input_tokens, 'tokens')} in, "
        f"{human(day.output_tokens, 'tokens')} out): sized for the peak and always on, the fleet "
        f"works at {share(day.mean_load_share)} of it on average."
    )
    columns = (text("provider, term, date"), Column("$/day"), *_PER_MILLION)
    return Table("Cost over the whole day", columns, rows, note, HOW["cost"], best=0)


def _price(c: Cost) -> str:
    place = f" ({c.price.region})" if c.price.region else ""
    return f"{c.price.provider}{place}, {c.price.term}, {c.price.retrieved}"


def _per_million(c: Cost) -> tuple[str, ...]:
    return (
        usd(c.usd_per_million_input_tokens),
        usd(c.usd_per_million_output_tokens),
        usd(c.usd_per_million_tokens),
    )


def split_line(result: Result) -> str:
    """How one bill is split between prompts and answers."""
    if result.apart:
        return "Prompts pay for the prefill pool, answers for the decode pool, idle time included."
    return (
        "The bill is split by device-seconds: a mixed step's time is input's as far as prefill "
        f"makes it longer ({share(result.metrics.prefill_share)} of busy time), output's for the "
        "rest; idle time in the same proportion."
    )


def apis(result: Result) -> Table | None:
    """The same day's tokens bought from an API."""
    day = result.day
    if day is None or not day.apis:
        return None
    rows = tuple(
        (
            f"{a.api.title} ({a.api.valid})",
            f"{usd(a.api.input_usd_per_million_tokens)} / "
            f"{usd(a.api.output_usd_per_million_tokens)}",
            usd(a.usd_per_day),
            usd(a.own_usd_per_day),
            f"saves {share(a.saving_share)}"
            if a.saving_share >= 0
            else f"{share(-a.saving_share)} dearer",
        )
        for a in day.apis
    )
    columns = (
        text("list price of"), Column("in / out"), Column("API, a day"), Column("own, a day"),
        Column("own serving"),
    )  # fmt: skip
    price = result.costs[0].price if result.costs else None
    own = f" Own: {price.provider}, {price.term}, always on, devices only." if price else ""
    note = (
        f"The day's tokens: {human(day.input_tokens, 'tokens')} in, "
        f"{human(day.output_tokens, 'tokens')} out, {day.requests:,.0f} requests.{own}"
    )
    return Table("Against an API", columns, rows, note, HOW["api"])


def assumptions(found: tuple[Assumption, ...]) -> Table:
    """Numbers that are not confirmed, choices of the scenario first, achieved shares last."""
    numbers = sorted((a for a in found if a.value is not None), key=_weight)
    rows = tuple((a.name, fact(a.name, a.value), a.confidence, a.note, a.source) for a in numbers)
    columns = (
        key("number"), Column("value"), key("confidence"), text("why", 100), text("source", 200),
    )  # fmt: skip
    return Table("Numbers that are not confirmed", columns, rows, how=HOW["assumptions"])


def _weight(a: Assumption) -> int:
    return a.name.startswith("calibration") + a.name.startswith(("calibration", "memory."))


def statements(found: tuple[Assumption, ...]) -> tuple[tuple[str, str], ...]:
    """What the model itself takes for granted."""
    return tuple((a.name, a.note) for a in found if a.value is None)


def ops(title: str, step: Step, how: str) -> Table:
    """Every op and collective of a step, longest first."""
    rows = tuple(
        (p.name, seconds(p.time_s), share(p.time_s / step.time_s), seconds(p.compute_s),
         seconds(p.memory_s), p.bound)
        for p in sorted(step.parts, key=lambda part: -part.time_s)
    )  # fmt: skip
    columns = (
        key("op"), Column("time"), Column("share"), Column("compute"), Column("memory"),
        key("set by"),
    )  # fmt: skip
    note = "compute, memory: time its FLOP or bytes would take at the stated peaks."
    return Table(f"{title}, {seconds(step.time_s)}", columns, rows, note, how)
