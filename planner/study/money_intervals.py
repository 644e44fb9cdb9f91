"""90 % intervals of an account: doubtful prices and terms, and steps that take longer or shorter.

A bill is arithmetic on doubtful numbers and on one simulation, so it is drawn up again for drawn
values of all of them at once: months until buying pays are far from linear, and end in *never*.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from planner.evaluation import Result
from planner.evaluation.intervals import LEAVES_OUT, Interval
from planner.evaluation.spread import CONFIDENCE_LOG_SD, Z
from planner.sourced import Sourced
from planner.specs.money import Ownership, Region
from planner.specs.prices import ApiPrice
from planner.study.money import Account, account, way_of
from planner.study.money_curves import bills_by_load

DRAWS = 500
"""Bills drawn up; each cause is spread evenly over them."""
HOLDS = (
    "90 % intervals hold: doubtful prices and terms by their confidence words, and the error of "
    "the steps' time in throughput and power, of this fleet."
)
CHOSEN = "override"
"""Source of a term that who asks has set: taken as said."""
SHARES = ("residual_share", "maintenance_share_per_year", "staff_share_per_year")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a bill is drawn up from."""

    result: Result
    region: Region
    terms: Ownership
    apis: tuple[ApiPrice, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is not known for sure."""

    name: str
    about: str
    moved: Callable[[Inputs, float], Inputs]
    """Inputs with it so many standard deviations from its middle."""


def with_money_intervals(found: Account) -> Account:
    """Return the account with the 90 % intervals of what its page leads with.

    Parameters
    ----------
    found : its result carries :class:`planner.evaluation.intervals.Intervals`, or the steps' error
        is not among the causes.

    References
    ----------
    .. [1] JCGM 101:2008, "Propagation of distributions using a Monte Carlo method".
    .. [2] M. D. McKay, R. J. Beckman, W. J. Conover, "A comparison of three methods for selecting
       values of input variables", Technometrics 21, 1979 (each cause spread evenly).
    """
    apis = tuple(offer.api for offer in found.apis)
    inputs = Inputs(found.result, found.region, found.terms, apis)
    causes = tuple(causes_of(inputs))
    point = headline_numbers(found)
    rows: dict[str, list[float]] = {name: [] for name in point}
    for scores in _scores(len(causes)) if causes else ():
        changed = inputs
        for cause, score in zip(causes, scores, strict=True):
            changed = cause.moved(changed, float(score))
        drawn = headline_numbers(
            account(changed.result, changed.region, changed.terms, changed.apis, found.utilisation)
        )
        for name, values in rows.items():
            values.append(drawn.get(name, math.nan))
    within = {name: _interval(value, rows[name]) for name, value in point.items()}
    return replace(found, intervals=within, causes=tuple(f"{c.name} ({c.about})" for c in causes))


def headline_numbers(found: Account) -> dict[str, float]:
    """Numbers that the page and the terminal lead with; infinite months: never."""
    numbers: dict[str, float] = {}
    if found.own is not None:
        numbers["own_usd_per_device_hour"] = found.own.usd_per_hour
    if found.own_cost is not None:
        numbers["own_usd_per_million_output_tokens"] = found.own_cost.usd_per_million_output_tokens
    for price, _, usd in sorted(found.useful, key=lambda each: each[2]):
        numbers.setdefault(f"usd_per_device_hour: {way_of(price)}", usd)
    for name, bill in bills_by_load(found, [found.utilisation]).items():
        numbers[f"usd_per_month: {name}"] = bill[0]
    for name, bill in bills_by_load(found, [1.0]).items():
        numbers[f"usd_per_whole_month: {name}"] = bill[0]
    for each in found.paybacks:
        numbers[f"months: {each.alternative}"] = math.inf if each.months is None else each.months
        numbers[f"saving_usd_over_life: {each.alternative}"] = each.saving_usd_over_life
    for offer in found.apis:
        numbers[f"load_share_where_equal: {offer.api.name}"] = offer.load_share_where_equal
    if found.site_w is not None and found.carbon_kg_per_day is not None:
        numbers["site_w"] = found.site_w
        numbers["carbon_kg_per_day"] = found.carbon_kg_per_day
    return numbers


def causes_of(inputs: Inputs) -> Iterator[Cause]:
    """Everything doubtful that the bill is made of.

    References
    ----------
    .. [1] :data:`planner.evaluation.spread.CONFIDENCE_LOG_SD`.
    """
    result = inputs.result
    if result.intervals is not None:
        yield Cause("time of steps", "throughput and power follow", _steps)
    for field, value in inputs.terms:
        if _log_sd(value) and value.source != CHOSEN:
            yield Cause(field, value.confidence, _term(field, value))
    for field in ("electricity_usd_per_kwh", "carbon_g_per_kwh"):
        value = getattr(inputs.region, field)
        if _log_sd(value):
            yield Cause(field, value.confidence, _of_region(field, value))
    yield from _price_causes(inputs)


def _price_causes(inputs: Inputs) -> Iterator[Cause]:
    """Prices of machines, of renting them, of tokens."""
    for owner in ("system", "accelerator"):
        value = getattr(inputs.result.replica.hardware, owner).purchase_usd
        if value and _log_sd(value):
            yield Cause(f"{owner}.purchase_usd", value.confidence, _purchase(owner, value))
    for at, cost in enumerate(inputs.result.costs):
        usd = cost.price.usd_per_device_hour
        if _log_sd(usd):
            yield Cause(way_of(cost.price), usd.confidence, _price(at))
    for at, api in enumerate(inputs.apis):
        doubtful = [(f, v) for f, v in api if isinstance(v, Sourced) and _log_sd(v)]
        if doubtful:
            yield Cause(f"API: {api.name}", doubtful[0][1].confidence, _api(at, doubtful))


def _log_sd(value: Sourced) -> float:
    return CONFIDENCE_LOG_SD.get(value.confidence, 0.0)


def _off(value: Sourced, score: float) -> Sourced:
    """A doubtful number so many standard deviations of its logarithm away."""
    factor = math.exp(score * _log_sd(value))
    return Sourced(value * factor, value.source, value.note, value.confidence)


def _steps(inputs: Inputs, score: float) -> Inputs:
    """Steps longer (score above 0) or shorter: less or more output, busier or idler devices."""
    result = inputs.result
    within, energy = result.intervals, result.energy
    assert within is not None

    def at(value: float, ends: Interval, slow: int) -> float:
        end = ends[slow] if score > 0 else ends[1 - slow]
        if value <= 0 or not math.isfinite(end):
            return value
        return float(value * max(end / value, 1e-9) ** (abs(score) / Z))

    steady = result.metrics.steady
    rates = {name: at(getattr(steady, name), ends, 0) for name, ends in within.rates.items()}
    if energy is not None and "fleet_w" in within.energy:
        power_w = at(energy.fleet_w, within.energy["fleet_w"], 1)
        energy = replace(energy, fleet_w=power_w)
    metrics = replace(result.metrics, steady=replace(steady, **rates))
    return replace(inputs, result=replace(result, metrics=metrics, energy=energy))


def _term(field: str, value: Sourced) -> Callable[[Inputs, float], Inputs]:
    def moved(inputs: Inputs, score: float) -> Inputs:
        off = _off(value, score)
        if field in SHARES and off > 1:
            off = Sourced(1.0, value.source, value.note, value.confidence)
        if field == "pue":
            off = Sourced(max(1.0, off), value.source, value.note, value.confidence)
        return replace(inputs, terms=inputs.terms.model_copy(update={field: off}))

    return moved


def _of_region(field: str, value: Sourced) -> Callable[[Inputs, float], Inputs]:
    def moved(inputs: Inputs, score: float) -> Inputs:
        changed = inputs.region.model_copy(update={field: _off(value, score)})
        return replace(inputs, region=changed)

    return moved


def _purchase(owner: str, value: Sourced) -> Callable[[Inputs, float], Inputs]:
    def moved(inputs: Inputs, score: float) -> Inputs:
        hardware = inputs.result.replica.hardware
        spec = getattr(hardware, owner).model_copy(update={"purchase_usd": _off(value, score)})
        replica = replace(inputs.result.replica, hardware=hardware.model_copy(update={owner: spec}))
        return replace(inputs, result=replace(inputs.result, replica=replica))

    return moved


def _price(at: int) -> Callable[[Inputs, float], Inputs]:
    def moved(inputs: Inputs, score: float) -> Inputs:
        costs = list(inputs.result.costs)
        price = costs[at].price
        off = price.model_copy(
            update={"usd_per_device_hour": _off(price.usd_per_device_hour, score)}
        )
        costs[at] = replace(costs[at], price=off)
        return replace(inputs, result=replace(inputs.result, costs=tuple(costs)))

    return moved


def _api(at: int, doubtful: list[tuple[str, Sourced]]) -> Callable[[Inputs, float], Inputs]:
    def moved(inputs: Inputs, score: float) -> Inputs:
        apis = list(inputs.apis)
        apis[at] = apis[at].model_copy(update={f: _off(v, score) for f, v in doubtful})
        return replace(inputs, apis=tuple(apis))

    return moved


def _scores(causes: int) -> np.ndarray:
    """Standard normal scores ``[draws, causes]``; each column is spread evenly."""
    rng = np.random.default_rng(0)
    normal = NormalDist()
    even = np.array([normal.inv_cdf((i + 0.5) / DRAWS) for i in range(DRAWS)])
    return np.column_stack([rng.permutation(even) for _ in range(causes)])


def _interval(value: float, drawn: list[float]) -> Interval:
    """5th and 95th percentile, and the value itself where it lies outside."""
    known = sorted(x for x in drawn if not math.isnan(x))
    if not known:
        return value, value
    low, high = (known[min(len(known) - 1, int(q * len(known)))] for q in (0.05, 0.95))
    return min(value, low), max(value, high)


def sure_words(found: Account) -> str:
    """What the intervals hold, leave out, and rest on."""
    if not found.causes:
        return "No 90 % intervals: no price or term in this bill is doubtful."
    return f"{HOLDS} {LEAVES_OUT} Causes: {', '.join(found.causes)}."
