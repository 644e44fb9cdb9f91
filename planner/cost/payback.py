"""When buying has paid for itself."""

import math
from dataclasses import dataclass

from planner.cost.rent import MONTH_H


@dataclass(frozen=True, slots=True)
class Purchase:
    """Machines bought."""

    capex_usd: float
    running_usd_per_month: float
    """Hosting, energy, maintenance, staff."""
    capital_share_per_year: float
    life_years: float
    residual_share: float
    """What they sell for at the end, of what they cost."""


@dataclass(frozen=True, slots=True)
class Payback:
    """Buying against paying somebody by the month."""

    alternative: str
    alternative_usd_per_month: float
    running_usd_per_month: float
    """Of owning: hosting, energy, maintenance, staff."""
    months: float | None
    """Until what was not paid covers the purchase with interest; None: never."""
    within_life: bool
    """Whether that comes before the machines are written off."""
    saving_usd_over_life: float
    """Present value of owning over the alternative for the whole life, resale included."""

    @property
    def pays(self) -> bool:
        """Whether buying is the cheaper of the two over the machines' life."""
        return self.saving_usd_over_life > 0


def payback(alternative: str, alternative_usd_per_month: float, purchase: Purchase) -> Payback:
    r"""Months until savings have paid for the machines.

    Monthly savings ``m`` at a monthly cost of capital ``j`` are worth :math:`m (1-(1+j)^{-t})/j`
    after ``t`` months; set equal to the price ``C``:

    .. math:: t = -\frac{\ln(1 - j C / m)}{\ln(1 + j)}, \qquad j = (1+i)^{1/12} - 1

    Never, where savings do not even pay the interest (:math:`m \le j C`).

    References
    ----------
    .. [1] R. Brealey, S. Myers, F. Allen, "Principles of Corporate Finance", discounted payback.
    """
    capex_usd, running_usd_per_month = purchase.capex_usd, purchase.running_usd_per_month
    saved = alternative_usd_per_month - running_usd_per_month
    rate = math.expm1(math.log1p(purchase.capital_share_per_year) / 12)
    life = 12 * purchase.life_years
    if saved <= rate * capex_usd or saved <= 0:
        months = None
    elif rate:
        months = -math.log1p(-rate * capex_usd / saved) / math.log1p(rate)
    else:
        months = capex_usd / saved
    worth = -saved * math.expm1(-life * math.log1p(rate)) / rate if rate else saved * life
    resale = purchase.residual_share * capex_usd * (1 + rate) ** -life
    return Payback(
        alternative=alternative,
        alternative_usd_per_month=alternative_usd_per_month,
        running_usd_per_month=running_usd_per_month,
        months=months,
        within_life=months is not None and months <= life,
        saving_usd_over_life=worth + resale - capex_usd,
    )


def usd_per_month(usd_per_hour: float) -> float:
    """A price by the hour, for every hour of a mean month. [USD/month]

    References
    ----------
    .. [1] Definition: 8760 hours a year over 12.
    """
    return usd_per_hour * MONTH_H
