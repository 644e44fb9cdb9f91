"""Rent, buy or API as a page shows it: sentence, tiles, curves, tables; no row a request kept."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.report.answer import Tile
from planner.report.bars import OKABE_ITO
from planner.report.studies import account_tables, months_words
from planner.report.study_figures import money
from planner.report.style import base
from planner.report.table import Table
from planner.report.words import NOTHING, number, plural, share, usd
from planner.study import Account
from planner.study.money import way_of
from planner.study.money_curves import bills_by_load, spent_by_month
from planner.study.money_intervals import sure_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHARES = tuple(i / 100 for i in range(0, 101))
MONTHS = tuple(range(0, 61))
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Accounted:
    """What is left of an account once it is drawn."""

    headline: str
    tiles: tuple[Tile, ...]
    figures: "dict[str, Figure]"
    tables: tuple[Table, ...]
    sure: str
    """What the intervals hold, leave out and are made of."""
    missing: tuple[str, ...]
    doubtful: tuple[str, ...]
    plain: dict[str, Any]


def accounted(found: Account) -> Accounted:
    """Draw an account."""
    bills = bills_by_load(found, SHARES)
    figures = {"bills": bills_figure(found, bills), "money": money(found)}
    spent = spent_by_month(found, MONTHS)
    if spent:
        figures["spent"] = spent_figure(found, spent)
    return Accounted(
        headline=_headline(bills, found),
        tiles=tuple(_tiles(found)),
        figures=figures,
        tables=account_tables(found),
        sure=sure_words(found),
        missing=found.missing,
        doubtful=tuple(f"{name} {value:g}" for name, value in found.terms if value.doubtful),
        plain=found.to_dict(),
    )


def _headline(bills: Mapping[str, Sequence[float]], found: Account) -> str:
    """Who is cheapest with all of the traffic, and from where on."""
    names = list(bills)
    best = [min(names, key=lambda name: bills[name][i]) for i in range(1, len(SHARES))]
    last = best[-1]
    words = (
        f"With all of this traffic the cheapest is {last}, {usd(bills[last][-1])} a month "
        f"({sure(found, f'usd_per_whole_month: {last}', usd)})"
    )
    first = next(i for i, name in enumerate(best) if best[i:] == [last] * len(best[i:]))
    if first == 0:
        return f"{words}; it is at every load."
    return f"{words}; below {share(SHARES[first + 1])} of it, {best[first - 1]}."


def sure(found: Account, name: str, write: Callable[[float], str]) -> str:
    """``90 %: $1.95 to $2.42``, or why there is no interval."""
    within = found.intervals.get(name)
    if within is None:
        return "no interval was worked out"
    if math.isinf(within[0]):
        return f"90 %: {write(within[0])}"
    if within[0] == within[1]:
        return "no interval: no number in it is doubtful"
    low, high = within
    return f"90 %: {write(low)} to {write(high)}"


def _months(value: float) -> str:
    return f"{value:.1f} months" if math.isfinite(value) else "never"


def _tiles(found: Account) -> list[Tile]:
    own, devices = found.own, found.result.devices
    tiles = [
        Tile("Owning, a device-hour", usd(own.usd_per_hour) if own else NOTHING,
             f"{sure(found, 'own_usd_per_device_hour', usd)}; bought for {usd(own.capex_usd)}"
             if own else "no interval: no purchase price is known", ""),
    ]  # fmt: skip
    if found.own_cost:
        tiles.append(
            Tile("Owning, $/M output tokens", usd(found.own_cost.usd_per_million_output_tokens),
                 sure(found, "own_usd_per_million_output_tokens", usd), "")
        )  # fmt: skip
    if found.useful:
        price, _, rent = min(found.useful, key=lambda each: each[2])
        known = sure(found, f"usd_per_device_hour: {way_of(price)}", usd)
        tiles.append(
            Tile("Renting, a device-hour", usd(rent),
                 f"{known}; {price.provider}, {price.term}, {price.retrieved}", "")
        )  # fmt: skip
    rented = next((p for p in found.paybacks if p.alternative.startswith("rent")), None)
    if rented:
        known = sure(found, f"months: {rented.alternative}", _months)
        tiles.append(
            Tile("Buying pays back in", months_words(rented),
                 f"{known}; instead of {rented.alternative}", "")
        )  # fmt: skip
    for offer in found.apis[:1]:
        equal = offer.load_share_where_equal
        tiles.append(
            Tile(f"Equal to {offer.api.name}", f"{share(equal)} of the load",
                 f"{sure(found, f'load_share_where_equal: {offer.api.name}', share)}; "
                 "below it, the API is cheaper", "")
        )  # fmt: skip
    tiles.append(Tile("Devices", number(devices), plural(found.result.nodes, "node"), ""))
    if found.site_w is not None and found.carbon_kg_per_day is not None:
        tiles.append(
            Tile("At the meter", f"{found.site_w / 1e3:,.3g} kW",
                 f"{sure(found, 'site_w', lambda w: f'{w / 1e3:,.3g} kW')}; "
                 f"{found.carbon_kg_per_day:,.0f} kg CO2e a day", "")
        )  # fmt: skip
    return tiles


def bills_figure(found: Account, bills: Mapping[str, Sequence[float]]) -> "Figure":
    """Break-even curve: what a month costs by how much of the traffic is there."""
    figure = base(
        "Rent, buy or API: the bill of a month", 420, 24 * len(bills),
        "by the share of the month's hours in which this traffic is there; lowest is cheapest",
    )  # fmt: skip
    _curves(figure, [100 * s for s in SHARES], bills, "%{x:.0f} % of the hours: %{y:$,.0f}")
    if found.utilisation < 1:
        figure.add_vline(x=100 * found.utilisation, line={"width": 1, "dash": "dot"})
    figure.update_xaxes(title="share of hours with this traffic (%)", range=[0, 100])
    figure.update_yaxes(title="USD a month", rangemode="tozero", tickformat="~s")
    return figure


def spent_figure(found: Account, spent: Mapping[str, Sequence[float]]) -> "Figure":
    """What is spent up to each month, in today's money, and the life of the machines."""
    figure = base(
        "When buying has paid for itself", 420, 24 * len(spent),
        "all that is paid up to a month, in today's money; crossing: paid back",
    )  # fmt: skip
    _curves(figure, list(MONTHS), spent, "month %{x}: %{y:$,.4s}")
    life = 12 * float(found.terms.life_years)
    if life <= MONTHS[-1]:
        figure.add_vline(
            x=life, line={"width": 1, "dash": "dot"},
            annotation={"text": "written off "}, annotation_position="top left",
        )  # fmt: skip
    figure.update_xaxes(title="months", range=[0, MONTHS[-1]])
    figure.update_yaxes(title="USD", rangemode="tozero", tickformat="~s")
    return figure


def _curves(
    figure: "Figure", x: Sequence[float], curves: Mapping[str, Sequence[float]], hover: str
) -> None:
    import plotly.graph_objects as go

    colours = [c for name, c in OKABE_ITO.items() if name not in ("grey", "yellow")]
    for i, (name, values) in enumerate(curves.items()):
        figure.add_trace(
            go.Scatter(
                x=list(x), y=list(values), name=name, mode="lines",
                line={"color": colours[i % len(colours)], "width": 2.5,
                      "dash": DASHES[i % len(DASHES)]},
                hovertemplate=hover + "<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(showlegend=True)
