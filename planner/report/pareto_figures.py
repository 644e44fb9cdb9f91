"""What a search found, as trade-offs: throughput against speed, money against latency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.evaluation import Result
from planner.report.bars import OKABE_ITO
from planner.report.style import base, wrapped
from planner.report.words import layout, number, seconds, usd
from planner.search import Plan
from planner.search.frontier import Point
from planner.units import human
from planner.workloads import measured_traffic

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class _Dot:
    x: float
    y: float
    hover: str


def speed_pareto(plan: Plan) -> "Figure":
    """Output tokens per second of a device against those of a user."""
    rate = _output_tokens_per_s(plan)
    figure = base(
        "Throughput against speed", 420, 50,
        "up: more tokens from a device; right: faster for a user",
    )  # fmt: skip

    def point(p: Point) -> tuple[float, float] | None:
        return (1 / p.tpot_s, rate / p.devices) if rate else None

    def fleet(r: Result) -> tuple[float, float] | None:
        return 1 / r.metrics.tpot_s.mean, r.metrics.steady.output_tokens_per_s / r.devices

    _draw(figure, plan, point, fleet)
    figure.update_xaxes(title="tokens/s a user", rangemode="tozero")
    figure.update_yaxes(title="output tokens/s a device", rangemode="tozero")
    return figure


def money_pareto(plan: Plan) -> "Figure":
    """USD per million output tokens, everything paid by them, against time per token."""
    rate = _output_tokens_per_s(plan)
    figure = base(
        "Money against latency", 420, 50,
        "the whole bill over output tokens; left and down is better",
    )  # fmt: skip

    def per_million(usd_per_hour: float, tokens_per_s: float) -> float:
        return usd_per_hour / SECONDS_PER_HOUR / tokens_per_s * 1e6

    def point(p: Point) -> tuple[float, float] | None:
        if not rate or p.usd_per_hour is None:
            return None
        return p.tpot_s * 1e3, per_million(p.usd_per_hour, rate)

    def fleet(r: Result) -> tuple[float, float] | None:
        produced = r.metrics.steady.output_tokens_per_s
        if not r.costs or not produced:
            return None
        return r.metrics.tpot_s.mean * 1e3, per_million(r.costs[0].usd_per_hour, produced)

    _draw(figure, plan, point, fleet)
    figure.update_xaxes(title="mean time per output token (ms)", rangemode="tozero")
    figure.update_yaxes(title="USD per million output tokens", rangemode="tozero")
    return figure


def _output_tokens_per_s(plan: Plan) -> float:
    workload = plan.scenario.workload
    if workload is None:
        return 0.0
    traffic = measured_traffic(workload, plan.scenario.run)
    rate = traffic.output_tokens_per_s
    return rate if 0 < rate < float("inf") else 0.0


def _draw(
    figure: "Figure",
    plan: Plan,
    point: Callable[[Point], tuple[float, float] | None],
    fleet: Callable[[Result], tuple[float, float] | None],
) -> None:
    """The closed form's frontier as rings, simulated fleets as dots, the chosen one as a star."""
    guessed = [_Dot(*xy, _point(p)) for p in plan.frontier if (xy := point(p))]
    found = [_Dot(*xy, _fleet(r)) for r in plan.options if (xy := fleet(r))]
    for dots, name, colour, symbol, size in (
        (sorted(guessed, key=lambda d: d.x), "frontier in closed form", "grey", "circle-open", 8),
        (found[1:], "simulated, keeps every promise", "blue", "circle", 11),
        (found[:1], "cheapest", "vermillion", "star", 16),
    ):
        _dots(figure, dots, name, (colour, symbol, size))


def _dots(figure: "Figure", dots: Sequence[_Dot], name: str, look: tuple[str, str, int]) -> None:
    import plotly.graph_objects as go

    if not dots:
        return
    colour, symbol, size = look
    figure.add_trace(
        go.Scatter(
            x=[d.x for d in dots], y=[d.y for d in dots], name=name, mode="markers",
            marker={"color": OKABE_ITO[colour], "symbol": symbol, "size": size},
            customdata=[d.hover for d in dots], hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip


def _point(p: Point) -> str:
    lines = [
        wrapped(f"{p.system}: {p.label}", 60),
        f"{number(p.replicas)} replicas, {number(p.devices)} devices, "
        f"batch of {number(p.batch_limit)} a rank",
        f"estimated: TPOT {seconds(p.tpot_s)}",
    ]
    if p.usd_per_hour is not None:
        lines.append(f"{usd(p.usd_per_hour)} an hour")
    if p.rated_w is not None:
        lines.append(f"{human(p.rated_w, 'w')} rated")
    return "<br>".join(lines)


def _fleet(r: Result) -> str:
    pool, m = r.replica.pool, r.metrics
    lines = [
        wrapped(f"{r.replica.hardware.system.title}", 60),
        wrapped(layout(r), 60),
        f"{number(r.replicas)} replicas, {number(r.devices)} devices",
        f"at most {number(pool.limits.max_sequences)} sequences a rank, "
        f"{number(pool.limits.max_step_tokens)} tokens a step",
        f"TTFT p95 {seconds(m.ttft_s.p95)}, TPOT p95 {seconds(m.tpot_s.p95)}",
    ]
    if r.costs:
        lines.append(
            f"{usd(r.costs[0].usd_per_hour)} an hour, {wrapped(r.costs[0].price.provider)}"
        )
    if r.energy:
        lines.append(f"{human(r.energy.fleet_w, 'w')} while it serves")
    return "<br>".join(lines)
