"""Rent, buy or API as curves: by how much of the traffic is there, and month by month."""

import math
from collections.abc import Sequence

from planner.cost.payback import usd_per_month
from planner.specs.prices import Price
from planner.study.money import ELASTIC, Account, way_of

RENTS = 3
"""Cheapest ways to rent that a curve shows."""


def bills_by_load(found: Account, shares: Sequence[float]) -> dict[str, list[float]]:
    """Monthly bill of every way to pay, by the share of the month's hours the traffic is there.

    Owned and committed machines cost the same whatever they do; on-demand rent and API bills
    follow the traffic. [USD a month]
    """
    devices, bills = found.result.devices, dict[str, list[float]]()
    if found.own is not None:
        month = usd_per_month(found.own.usd_per_hour * devices)
        bills["own"] = [month for _ in shares]
    for price, _, usd in _cheapest(found):
        month = usd_per_month(usd * devices)
        elastic = price.term in ELASTIC
        bills[way_of(price)] = [month * (share if elastic else 1.0) for share in shares]
    for offer in found.apis:
        if offer.margins:
            month = offer.margins[0][1].income_usd / found.utilisation
            bills[f"API: {offer.api.name}"] = [month * share for share in shares]
    return bills


def spent_by_month(found: Account, months: Sequence[float]) -> dict[str, list[float]]:
    r"""Present value of all that is paid up to each month, for owning and its alternatives.

    A monthly bill ``a`` at a monthly cost of capital ``j`` is worth :math:`a (1-(1+j)^{-t})/j`
    after ``t`` months; owning pays its price at once and its running cost so.  Curves cross where
    :func:`planner.cost.payback` says that buying has paid for itself. [USD]
    """
    own = found.own
    if own is None or not found.paybacks:
        return {}
    rate = math.expm1(math.log1p(float(found.terms.capital_share_per_year)) / 12)

    def worth(bill: float, month: float) -> float:
        return bill * (-math.expm1(-month * math.log1p(rate)) / rate if rate else month)

    capex = own.capex_usd * found.result.devices
    running = found.paybacks[0].running_usd_per_month
    spent = {"own": [capex + worth(running, month) for month in months]}
    bills = {each.alternative: each.alternative_usd_per_month for each in found.paybacks}
    shown = [way_of(price) for price, _, _ in _cheapest(found)]
    shown += [f"API: {offer.api.name}" for offer in found.apis]
    for name in shown:
        if name in bills:
            spent[name] = [worth(bills[name], month) for month in months]
    return spent


def _cheapest(found: Account) -> list[tuple[Price, float, float]]:
    return sorted(found.useful, key=lambda each: each[2])[:RENTS]
