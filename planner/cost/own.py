"""What an owned device costs an hour: written off, financed, housed, powered, kept running."""

import math
from dataclasses import dataclass

from planner.specs.money import Ownership, Region

YEAR_H = 8760.0


@dataclass(frozen=True, slots=True)
class OwnCost:
    """Parts of the cost of one owned device. [USD/h, every hour of its life]"""

    capex_usd: float
    """Device, its share of the server and of the network. [USD]"""
    write_off_usd_per_hour: float
    capital_usd_per_hour: float
    hosting_usd_per_hour: float
    energy_usd_per_hour: float
    maintenance_usd_per_hour: float
    staff_usd_per_hour: float

    @property
    def running_usd_per_hour(self) -> float:
        """What is paid as time goes by: everything but the machines themselves."""
        return (
            self.hosting_usd_per_hour
            + self.energy_usd_per_hour
            + self.maintenance_usd_per_hour
            + self.staff_usd_per_hour
        )

    @property
    def usd_per_hour(self) -> float:
        """All of it."""
        return self.write_off_usd_per_hour + self.capital_usd_per_hour + self.running_usd_per_hour


def own_cost(
    terms: Ownership,
    region: Region,
    *,
    purchase_usd: float,
    whole_node: bool,
    rated_w: float,
    mean_w: float,
) -> OwnCost:
    r"""Cost of an hour of one owned device.

    The machines are paid for in equal yearly amounts that cover price and capital:

    .. math:: A = \left(C - \frac{R}{(1+i)^n}\right) \frac{i}{1 - (1+i)^{-n}}

    with price ``C``, resale ``R`` after ``n`` years, cost of capital ``i``; of these,
    :math:`(C - R)/n` is the write-off and the rest the cost of capital.

    Parameters
    ----------
    purchase_usd : price of a device, or its share of a node's price. [USD]
    whole_node : whether ``purchase_usd`` holds the server already.
    rated_w : what the data centre must be able to feed, a device. [W]
    mean_w : what it draws on average, its share of the server included. [W]

    References
    ----------
    .. [1] L. A. Barroso, U. Hoelzle, P. Ranganathan, "The Datacenter as a Computer", 3rd ed.,
       2018, chapter 6 (modelling costs).
    """
    server = 1.0 if whole_node else 1 + terms.server_share
    capex = purchase_usd * server * (1 + terms.network_share)
    residual, years = terms.residual_share * capex, terms.life_years
    rate = float(terms.capital_share_per_year)
    write_off = (capex - residual) / years
    yearly = write_off
    if rate:
        paid_back = -math.expm1(-years * math.log1p(rate))  # 1 - (1 + i)^-n
        yearly = (capex - residual * (1 - paid_back)) * rate / paid_back
    return OwnCost(
        capex_usd=capex,
        write_off_usd_per_hour=write_off / YEAR_H,
        capital_usd_per_hour=(yearly - write_off) / YEAR_H,
        hosting_usd_per_hour=terms.hosting_usd_per_kw_month * 12 * rated_w / 1000 / YEAR_H,
        energy_usd_per_hour=mean_w / 1000 * terms.pue * region.electricity_usd_per_kwh,
        maintenance_usd_per_hour=terms.maintenance_share_per_year * capex / YEAR_H,
        staff_usd_per_hour=terms.staff_share_per_year * capex / YEAR_H,
    )
