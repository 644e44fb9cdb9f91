"""The whole bill of one simulated deployment: rent, own, buy from an API, energy, carbon."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from planner import files
from planner.cost import (
    CostPart,
    Margin,
    OwnCost,
    Payback,
    Purchase,
    api_bill_usd,
    carbon_g_per_million_tokens,
    own_cost,
    payback,
    serving_cost,
    split_cost,
    spot_useful_share,
    useful_usd_per_hour,
)
from planner.cost.payback import usd_per_month
from planner.cost.rent import MONTH_H
from planner.cost.serving import Cost, Flow
from planner.errors import InputError
from planner.evaluation import Result, evaluate, with_intervals
from planner.evaluation.intervals import Interval
from planner.search import plan
from planner.sourced import Sourced
from planner.specs.money import Ownership, Region
from planner.specs.prices import ApiPrice, Price
from planner.specs.scenario import Scenario


@dataclass(frozen=True, slots=True)
class ApiOffer:
    """Selling, or buying, the same tokens at an API's list price."""

    api: ApiPrice
    margins: tuple[tuple[str, Margin], ...]
    """(how the fleet is paid for, what selling at this price leaves a month)."""
    load_share_where_equal: float
    """Share of this traffic at which the API costs what the owned fleet costs: below it, buying
    tokens is cheaper.  Above 1, the API is cheaper even at this traffic."""


@dataclass(frozen=True)
class Account:
    """What one deployment costs, whichever way it is paid for."""

    result: Result
    region: Region
    terms: Ownership
    own: OwnCost | None
    own_cost: Cost | None
    """Owning, as a price of device-hours."""
    useful: tuple[tuple[Price, float, float], ...]
    """Every rent: price, share of paid time that serves, USD a useful device-hour."""
    paybacks: tuple[Payback, ...]
    apis: tuple[ApiOffer, ...]
    parts: tuple[CostPart, ...]
    """Where the headline rent goes."""
    site_w: float | None
    """Mean power at the meter, the building's share included. [W]"""
    carbon_g_per_million_tokens: float | None
    carbon_kg_per_day: float | None
    utilisation: float
    missing: tuple[str, ...]
    """What could not be answered, and why."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """90 % intervals of the leading numbers, by name
    (:func:`planner.study.money_intervals.headline_numbers`); an upper end may be infinite."""
    causes: tuple[str, ...] = ()
    """What the intervals are made of."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        own = self.own
        return {
            "scenario": self.result.scenario.name,
            "devices": self.result.devices,
            "region": self.region.name,
            "utilisation": self.utilisation,
            "electricity_usd_per_kwh": float(self.region.electricity_usd_per_kwh),
            "carbon_g_per_kwh": float(self.region.carbon_g_per_kwh),
            "own": own and {**asdict(own), "usd_per_hour": own.usd_per_hour},
            "own_usd_per_million_output_tokens": self.own_cost
            and self.own_cost.usd_per_million_output_tokens,
            "rents": [
                {
                    "provider": price.provider,
                    "term": price.term,
                    "usd_per_device_hour": float(price.usd_per_device_hour),
                    "useful_share": share,
                    "usd_per_useful_device_hour": usd,
                }
                for price, share, usd in self.useful
            ],
            "paybacks": [asdict(each) for each in self.paybacks],
            "apis": [_offer_dict(offer) for offer in self.apis],
            "parts": [asdict(part) for part in self.parts],
            "site_w": self.site_w,
            "carbon_g_per_million_tokens": self.carbon_g_per_million_tokens,
            "carbon_kg_per_day": self.carbon_kg_per_day,
            "terms": {
                name: {"value": float(value), "confidence": value.confidence, "note": value.note,
                       "source": value.source}
                for name, value in self.terms
            },
            "missing": list(self.missing),
            "interval90": {
                name: [end if math.isfinite(end) else None for end in ends]
                for name, ends in self.intervals.items()
            },
            "causes": list(self.causes),
        }  # fmt: skip


def _offer_dict(offer: ApiOffer) -> dict[str, Any]:
    return {
        "name": offer.api.name,
        "valid": offer.api.valid,
        "load_share_where_equal": offer.load_share_where_equal,
        "margins": [
            {
                "paid_by": how,
                "income_usd_per_month": margin.income_usd,
                "cost_usd_per_month": margin.cost_usd,
                "markup_share": margin.markup_share,
                "margin_share": margin.margin_share,
            }
            for how, margin in offer.margins
        ],
    }


def break_even(
    scenario: Scenario,
    *,
    region: str = "virginia",
    ownership: str | None = None,
    terms: Mapping[str, float] | None = None,
    apis: Sequence[str] = (),
    utilisation: float = 1.0,
) -> Account:
    """Simulate a deployment (or plan one) and draw up its bill: rent, own, API, energy, carbon.

    Parameters
    ----------
    region : name of a shipped region, or a YAML file with one.
    ownership : YAML file of the terms of owning; the shipped ones where not given.
    terms : single terms to replace, by name.
    apis : names of price lists; the scenario's own where none are given.
    utilisation : share of the month's hours in which the traffic is there.

    Raises
    ------
    InputError, InfeasibleError
        Unknown names, bad values, a scenario without an answer, no price at all.
    """
    place, owning = files.load_region(region), files.load_ownership(ownership)
    known = {api.name: api for api in files.api_prices()}
    for name in apis:
        if name not in known:
            raise InputError("--api", name, f"is not known; there are {', '.join(sorted(known))}")
    try:
        owning = owning.changed(**(terms or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "--term", str(first["loc"][0]), f"{first['msg']}; there are {', '.join(dict(owning))}"
        ) from None
    from planner.study.money_intervals import with_money_intervals  # which draws up more bills

    result = answered(scenario)
    found = account(result, place, owning, [known[name] for name in apis], utilisation)
    return with_money_intervals(replace(found, result=with_intervals(result)))


def answered(scenario: Scenario) -> Result:
    """The scenario's own deployment simulated, or the best plan where it has none."""
    if scenario.deployment is not None:
        return evaluate(scenario)
    found = plan(scenario)
    if found.best is None:
        last = found.rejections[-1]
        raise InputError(scenario.name, "slo", f"no fleet keeps it; {last.label}: {last.limit}")
    return found.best


ELASTIC = ("on-demand", "spot", "flex", "market")
"""Terms that end when the machines are given back; all others are paid for every hour."""


def account(
    result: Result,
    region: Region,
    terms: Ownership,
    apis: Iterable[ApiPrice] = (),
    utilisation: float = 1.0,
) -> Account:
    """Draw up the whole bill of a simulated deployment, by the month.

    Parameters
    ----------
    apis : price lists to set beside it; the scenario's own where none are given.
    utilisation : share of the month's hours in which this traffic is there.  Tokens, elastic rent
        and API bills follow it; owned and committed machines cost the same, and stay powered.

    Raises
    ------
    InputError
        No price to rent or to buy is known, or a utilisation outside (0, 1].
    """
    if result.apart:
        raise InputError(
            result.scenario.name, "deployment",
            "an account of owning and renting takes one pool; ask for each pool by itself",
        )  # fmt: skip
    if not 0 < utilisation <= 1:
        raise InputError("--utilisation", f"{utilisation:g}", "must be above 0 and at most 1")
    missing: list[str] = []
    own = _own(result, region, terms, missing)
    rents = [c.price for c in result.costs if c.price.term != "ownership"]
    if own is None and not rents:
        raise InputError(
            result.scenario.name, "prices",
            f"no price to rent or buy {result.replica.hardware.accelerator.name} is known; "
            "give prices in the scenario, or set accelerator.purchase_usd",
        )  # fmt: skip
    flow = _flow(result)
    owning = serving_cost(own_price(result, own), result.devices, flow) if own else None
    useful = tuple(_useful(result, price, terms) for price in rents)
    chosen = tuple(apis) or result.scenario.api_prices
    costs = [("own", own.usd_per_hour)] if own else []
    paid = [(way_of(price), usd * _held(price, utilisation)) for price, _, usd in useful]
    costs += paid[:1]
    bills = [(api, utilisation * _api_usd_per_month(api, flow)) for api in chosen]
    site_w, per_million = _power(result, region, terms, missing)
    m = result.metrics
    return Account(
        result=result,
        region=region,
        terms=terms,
        own=own,
        own_cost=owning,
        useful=useful,
        paybacks=tuple(_paybacks(result, own, terms, paid, bills)) if own else (),
        apis=tuple(_offer(result, api, bill, costs) for api, bill in bills),
        parts=split_cost(
            result.costs[0].usd_per_hour if result.costs else owning.usd_per_hour if owning else 0,
            m.busy_share, m.prefill_share, result.prefill.by_component(),
            result.decode.by_component(),
        ),
        site_w=site_w,
        carbon_g_per_million_tokens=per_million,
        carbon_kg_per_day=None if site_w is None else site_w * 24 / 1e6 * region.carbon_g_per_kwh,
        utilisation=utilisation,
        missing=tuple(missing),
    )  # fmt: skip


def _power(
    result: Result, region: Region, terms: Ownership, missing: list[str]
) -> tuple[float | None, float | None]:
    """Power at the meter [W] and grams of CO2-equivalent a million tokens."""
    energy = result.energy
    if energy is None:
        missing.append("energy and carbon: the maker states no maximum power")
        return None, None
    grams = carbon_g_per_million_tokens(
        energy.wh_per_million_tokens, terms.pue, region.carbon_g_per_kwh
    )
    return energy.fleet_w * terms.pue, grams


def own_price(result: Result, own: OwnCost) -> Price:
    """Owning, written as a price of device-hours."""
    return Price(
        accelerator=result.replica.hardware.accelerator.name,
        provider="own",
        term="ownership",
        usd_per_device_hour=Sourced(
            own.usd_per_hour, "planner.cost.own_cost", confidence="derived"
        ),
        retrieved="reckoned",
    )


def _own(result: Result, region: Region, terms: Ownership, missing: list[str]) -> OwnCost | None:
    hardware = result.replica.hardware
    part, system = hardware.accelerator, hardware.system
    node = system.purchase_usd
    price = float(node) / system.devices_per_node if node else part.purchase_usd
    if price is None:
        missing.append(f"owning: no purchase price of {part.name} is known")
        return None
    rated = system.server_power_w_per_device or part.max_power_w
    if rated is None:
        missing.append(f"owning: no power of {part.name} is known")
        return None
    mean_w = result.energy.fleet_w / result.devices if result.energy else float(rated)
    return own_cost(
        terms, region, purchase_usd=float(price), whole_node=node is not None,
        rated_w=float(rated), mean_w=mean_w,
    )  # fmt: skip


def _flow(result: Result) -> Flow:
    steady = result.metrics.steady
    return Flow(
        steady.requests_per_s, steady.input_tokens_per_s, steady.output_tokens_per_s,
        result.cached_input_share, result.metrics.prefill_share,
    )  # fmt: skip


def _useful(result: Result, price: Price, terms: Ownership) -> tuple[Price, float, float]:
    """Only spot is interrupted; a commitment is paid for whether it is used or not."""
    usd = float(price.usd_per_device_hour)
    if price.term != "spot":
        return price, 1.0, usd
    replica = result.replica
    nodes = max(1, -(-replica.devices // replica.hardware.system.devices_per_node))
    recovery_s = terms.provision_s + replica.memory.weights_bytes / terms.weight_load_bytes_per_s
    share = spot_useful_share(terms.spot_interruptions_per_month / MONTH_H, nodes, recovery_s)
    return price, share, useful_usd_per_hour(usd, share)


def way_of(price: Price) -> str:
    """Name of a way to rent."""
    return f"rent: {price.provider}, {price.term}"


def _held(price: Price, utilisation: float) -> float:
    """Share of the month's hours that are paid for."""
    return utilisation if price.term in ELASTIC else 1.0


def _api_usd_per_month(api: ApiPrice, flow: Flow) -> float:
    month_s = MONTH_H * 3600
    return api_bill_usd(
        api, flow.input_tokens_per_s * month_s, flow.output_tokens_per_s * month_s,
        flow.cached_input_share,
    )  # fmt: skip


def _paybacks(
    result: Result, own: OwnCost, terms: Ownership,
    paid: list[tuple[str, float]], bills: list[tuple[ApiPrice, float]],
) -> Iterable[Payback]:  # fmt: skip
    purchase = Purchase(
        own.capex_usd * result.devices,
        usd_per_month(own.running_usd_per_hour * result.devices),
        float(terms.capital_share_per_year), float(terms.life_years), float(terms.residual_share),
    )  # fmt: skip
    alternatives = [(name, usd_per_month(usd * result.devices)) for name, usd in paid]
    alternatives += [(f"API: {api.name}", bill) for api, bill in bills]
    for name, bill in alternatives:
        yield payback(name, bill, purchase)


def _offer(result: Result, api: ApiPrice, bill: float, costs: list[tuple[str, float]]) -> ApiOffer:
    months = [(how, usd_per_month(usd * result.devices)) for how, usd in costs]
    return ApiOffer(
        api,
        tuple((how, Margin(bill, cost)) for how, cost in months),
        months[0][1] / bill if bill else float("inf"),
    )
