"""Configurations and parts side by side, as bars."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.evaluation import SteadyResult
from planner.report.bars import OKABE_ITO
from planner.report.style import base, wrapped
from planner.specs.scenario import Hardware

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METRICS: dict[str, tuple[str, Callable[[Hardware], float | None]]] = {
    "memory bandwidth": ("TB/s a device", lambda h: float(h.accelerator.memory_bytes_per_s) / 1e12),
    "memory": ("GB a device", lambda h: float(h.accelerator.memory_bytes) / 1e9),
    "bf16 peak": ("dense PFLOP/s a device", lambda h: _peak(h, "bf16")),
    "fp8 peak": ("dense PFLOP/s a device", lambda h: _peak(h, "fp8")),
    "fp4 peak": ("dense PFLOP/s a device", lambda h: _peak(h, "fp4")),
    "scale-up link": (
        "GB/s a device, one way", lambda h: float(h.system.scale_up.bytes_per_s) / 1e9,
    ),
    "power": (
        "W a device",
        lambda h: None if h.accelerator.max_power_w is None else float(h.accelerator.max_power_w),
    ),
    "lowest price": (
        "USD a device-hour",
        lambda h: min((float(p.usd_per_device_hour) for p in h.prices), default=None),
    ),
}  # fmt: skip
"""What systems are compared by: unit, and how it is read from a profile."""


def _peak(h: Hardware, precision: str) -> float | None:
    value = getattr(h.accelerator.dense_flop_per_s, precision)
    return None if value is None else float(value) / 1e15


def hardware(shelf: Sequence[Hardware], metric: str) -> "Figure":
    """One number of every system that states it, largest on top."""
    import plotly.graph_objects as go

    unit, read = METRICS[metric]
    found = [(v, h.system.name, h.system.title) for h in shelf if (v := read(h)) is not None]
    found.sort()
    figure = base(
        f"{metric[0].upper()}{metric[1:]} of {len(found)} systems", 120 + 24 * len(found), 0,
        f"{unit}; as the makers state it, where they do",
    )  # fmt: skip
    figure.add_trace(
        go.Bar(
            x=[value for value, *_ in found], y=[name for _, name, _ in found],
            orientation="h", marker={"color": OKABE_ITO["blue"]}, showlegend=False,
            text=[f"{value:,.4g}" for value, *_ in found], textposition="outside",
            customdata=[wrapped(title, 60) for *_, title in found],
            cliponaxis=False, hovertemplate="%{customdata}: %{text} " + unit + "<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title=unit, range=[0, 1.15 * max((v for v, *_ in found), default=1.0)])
    figure.update_yaxes(ticksuffix=" ", showgrid=False)
    return figure


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of a device and of a user, and their 90 % intervals."""

    device: float
    user: float
    device90: tuple[float, float]
    user90: tuple[float, float]

    @classmethod
    def of(cls, found: SteadyResult) -> "Rates":
        """Of a steady step."""
        low, high = found.step_factor
        device, user = found.tokens_per_s_per_device, found.tokens_per_s_per_user
        return cls(device, user, (device / high, device / low), (user / high, user / low))


def speeds(rates: Mapping[str, Rates]) -> "Figure":
    """Tokens per second of a device against those of a user, a point a configuration."""
    import plotly.graph_objects as go

    names = {title: wrapped(title, 38) for title in rates}
    lines = sum(1 + name.count("<br>") for name in names.values())
    figure = base(
        "Throughput against speed", 460, 20 * lines + 10,
        "up: more tokens from a device; right: faster for a user; bars: 90 % intervals",
    )  # fmt: skip
    colours = [c for name, c in OKABE_ITO.items() if name not in ("grey", "yellow")]
    shapes = ("circle", "square", "diamond", "triangle-up", "cross", "star")
    for i, (title, rate) in enumerate(rates.items()):
        figure.add_trace(
            go.Scatter(
                x=[rate.user], y=[rate.device], mode="markers", name=names[title],
                error_x=_bar(rate.user, rate.user90, colours[i]),
                error_y=_bar(rate.device, rate.device90, colours[i]),
                marker={"color": colours[i], "size": 14, "symbol": shapes[i]},
                hovertemplate=f"{wrapped(title, 50)}<br>%{{y:,.0f}} tokens/s a device"
                "<br>%{x:,.1f} tokens/s a user<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="tokens/s a user", rangemode="tozero")
    figure.update_yaxes(title="tokens/s a device", rangemode="tozero")
    return figure


def _bar(value: float, ends: tuple[float, float], colour: str) -> dict[str, Any]:
    """A bar from end to end of an interval."""
    return {
        "array": [ends[1] - value], "arrayminus": [value - ends[0]], "symmetric": False,
        "thickness": 1, "width": 3, "color": colour,
    }  # fmt: skip
