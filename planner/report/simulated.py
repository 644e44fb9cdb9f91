"""A simulated fleet as a page shows it: everything drawn, no row a request kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.evaluation import Assumption, Result
from planner.report import answer, tables
from planner.report.answer import Tile
from planner.report.table import Table
from planner.report.words import layout, number, seconds, share, usd
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
    found.append(tables.load(result))
    if result.apart:
        found.append(tables.pools(result))
    found += tables.cost(result, wide=True) if result.costs else ()
    return Simulated(
        headline=answer.headline(result),
        good=answer.good_news(result),
        traffic=answer.traffic_line(result),
        tiles=tuple(run_tiles(result)),
        figures=result_figures(result),
        tables=tuple(found),
        assumptions=result.assumptions,
        plain=result.to_dict(),
        series={name: column.tolist() for name, column in result.series().columns().items()},
        requests=len(result.records.arrival_s),
    )


def run_tiles(result: Result) -> list[Tile]:
    """What a run says first: latencies with their intervals, goodput, tokens, load, money."""
    m, steady = result.metrics, result.metrics.steady
    found = [
        _latency(result, name, which)
        for name, which in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s"))
    ]
    found += [
        Tile("Goodput", f"{m.goodput_requests_per_s:.3g} requests/s",
             f"{share(m.good_share)} of requests within every limit", ""),
        Tile("Output", human(steady.output_tokens_per_s, "tokens_per_s"),
             f"{human(steady.input_tokens_per_s, 'tokens_per_s')} in", ""),
        Tile("Busy", share(m.busy_share), f"KV cache {share(m.mean_kv_share)} in use", ""),
        Tile("Waiting", number(round(m.mean_queue, 1)), f"at most {number(m.max_queue)}", ""),
    ]  # fmt: skip
    if result.costs:
        cost = result.costs[0]
        found.append(
            Tile("$ per million output tokens", usd(cost.usd_per_million_output_tokens),
                 f"{usd(cost.usd_per_hour)} an hour, {cost.price.provider}", "")
        )  # fmt: skip
    else:
        found.append(Tile("Devices", number(result.devices), layout(result), ""))
    return found


def _latency(result: Result, name: str, which: str) -> Tile:
    """The 95th percentile and how sure it is: over replications, else by batches."""
    p = getattr(result.metrics, which)
    interval = result.replications and result.replications.intervals.get(f"{which}.p95")
    if interval:
        note = f"± {seconds(interval.half_width_95)} over {len(interval.values)} runs"
        return Tile(f"{name} p95", seconds(interval.mean), note, "")
    width = p.half_width.p95
    note = f"p50 {seconds(p.p50)}, p99 {seconds(p.p99)}"
    value = seconds(p.p95) if width is None else f"{seconds(p.p95)}"
    return Tile(f"{name} p95", value, note if width is None else f"± {seconds(width)}; {note}", "")
