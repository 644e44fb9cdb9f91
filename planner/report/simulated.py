"""A simulated fleet as a page shows it: everything drawn, no row a request kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.evaluation import Assumption, Result
from planner.evaluation.intervals import HOLDS, LEAVES_OUT
from planner.report import answer, interval_tables, tables
from planner.report.answer import Tile, interval_note
from planner.report.operation_tables import operations
from planner.report.table import Table
from planner.report.words import layout, number, plural, seconds, share, usd, watt_hours
from planner.units import human

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Simulated:
    """What is left of a run once it is drawn: its size does not grow with the run."""

    headline: str
    good: bool
    traffic: str
    tiles: tuple[Tile, ...]
    sure: str
    """What the intervals in tiles hold and leave out; empty without any."""
    figures: "dict[str, Figure]"
    tables: tuple[Table, ...]
    assumptions: tuple[Assumption, ...]
    plain: dict[str, Any]
    """As :meth:`~planner.evaluation.Result.to_dict`."""
    series: dict[str, Sequence[float]]
    """Columns over time."""
    requests: int


def simulated(result: Result) -> Simulated:
    """Draw a result."""
    from planner.report.figures import result_figures

    found = [tables.promises(result)] if result.metrics.promises else []
    found.append(tables.latency(result))
    if result.replications:
        found.append(tables.replications(result.replications))
    if result.classes:
        found.append(tables.classes(result))
    optional = (
        interval_tables.intervals(result), tables.load(result), operations(result),
        tables.pools(result) if result.apart else None,
    )  # fmt: skip
    found += [table for table in optional if table is not None]
    found += tables.cost(result, wide=True) if result.costs else ()
    return Simulated(
        headline=answer.headline(result),
        good=answer.good_news(result),
        traffic=answer.traffic_line(result),
        tiles=tuple(run_tiles(result)),
        sure=intervals_sentence(result),
        figures=result_figures(result),
        tables=tuple(found),
        assumptions=result.assumptions,
        plain=result.to_dict(),
        series={name: column.tolist() for name, column in result.series().columns().items()},
        requests=len(result.records.arrival_s),
    )


def intervals_sentence(result: Result) -> str:
    """What the 90 % intervals of an answer hold and leave out; empty without any."""
    return f"{HOLDS} {LEAVES_OUT}" if result.intervals else ""


def run_tiles(result: Result) -> list[Tile]:
    """What a run says first: latencies with their intervals, goodput, tokens, load, money."""
    m, steady = result.metrics, result.metrics.steady
    found = [
        _latency(result, name, which)
        for name, which in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s"))
    ]
    found += [
        Tile("Goodput", f"{m.goodput_requests_per_s:.3g} requests/s",
             _joined(interval_note(result, "goodput", lambda x: f"{x:.3g}"),
                     f"{share(m.good_share)} of requests within every limit"), ""),
        Tile("Output", human(steady.output_tokens_per_s, "tokens_per_s"),
             _joined(interval_note(result, "rate", _rate),
                     f"{human(steady.input_tokens_per_s, 'tokens_per_s')} in"), ""),
        Tile("Busy", share(m.busy_share), f"KV cache {share(m.mean_kv_share)} in use", ""),
        Tile("Waiting", number(round(m.mean_queue, 1)), f"at most {number(m.max_queue)}", ""),
    ]  # fmt: skip
    if result.costs:
        cost = result.costs[0]
        found.append(
            Tile("$ per million output tokens", usd(cost.usd_per_million_output_tokens),
                 _joined(interval_note(result, "usd", usd),
                         f"{usd(cost.usd_per_hour)} an hour, {cost.price.provider}"), "")
        )  # fmt: skip
    else:
        found.append(Tile("Devices", number(result.devices), layout(result), ""))
    return [*found, *_power_tiles(result), *_fleet_tiles(result), *_cache_tiles(result)]


def _power_tiles(result: Result) -> list[Tile]:
    """Energy a token, where the maker states a power."""
    if result.energy is None:
        return []
    value = result.energy.wh_per_million_tokens
    note = _joined(
        interval_note(result, "wh_per_million_tokens", watt_hours),
        f"fleet {human(result.energy.fleet_w, 'w')}",
    )
    return [Tile("Energy per million tokens", watt_hours(value), note, "")]


def _fleet_tiles(result: Result) -> list[Tile]:
    """Replicas that served, of a fleet that fails or scales."""
    found = result.operations
    if found is None:
        return []
    serving = " + ".join(f"{pool.mean_serving:.3g}" for pool in found.pools)
    hours = sum(pool.replica_hours for pool in found.pools)
    return [
        Tile("Replicas serving", serving, f"on average; {hours:.3g} replica-hours paid", ""),
        Tile("Availability", share(found.availability_share),
             f"{plural(sum(found.failures.values()), 'failure')}, {found.retried:,} requests "
             f"retried, {found.lost:,} lost", ""),
    ]  # fmt: skip


def _cache_tiles(result: Result) -> list[Tile]:
    """What prefix caches gave."""
    found = result.prefix
    if found is None:
        return []
    loaded = f"{share(found.tier_hit_token_share)} from the store" if found.loads else ""
    evicted = f"{human(found.evicted_tokens, 'tokens')} evicted in the run"
    return [
        Tile("Prompt tokens in caches", share(found.hit_token_share), _joined(loaded, evicted), "")
    ]


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _rate(value: float) -> str:
    return human(value, "tokens_per_s")


def percentile_note(result: Result, which: str) -> str:
    """Of a tile with a 95th percentile: its 90 % interval, else the simulation's own half-width."""
    p = getattr(result.metrics, which)
    sure = interval_note(result, which, seconds)
    if not sure and p.half_width.p95 is not None:
        sure = f"± {seconds(p.half_width.p95)}"
    return _joined(sure, f"p50 {seconds(p.p50)}, p99 {seconds(p.p99)}")


def _latency(result: Result, name: str, which: str) -> Tile:
    """The 95th percentile and how sure it is: over replications, else by batches."""
    p = getattr(result.metrics, which)
    interval = result.replications and result.replications.intervals.get(f"{which}.p95")
    if interval:
        chance = f"± {seconds(interval.half_width_95)} over {len(interval.values)} runs"
        note = _joined(chance, interval_note(result, which, seconds))
        return Tile(f"{name} p95", seconds(interval.mean), note, "")
    return Tile(f"{name} p95", seconds(p.p95), percentile_note(result, which), "")
