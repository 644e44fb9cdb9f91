"""Money, energy and carbon of serving."""

from planner.cost.margin import DayAccount, Margin, settle_day
from planner.cost.own import OwnCost, own_cost
from planner.cost.payback import Payback, Purchase, payback
from planner.cost.rent import spot_useful_share, useful_usd_per_hour
from planner.cost.serving import (
    HOURS_PER_DAY,
    SECONDS_PER_HOUR,
    ApiComparison,
    Cost,
    Flow,
    api_bill_usd,
    carbon_g_per_million_tokens,
    serving_cost,
    wh_per_million_tokens,
)
from planner.cost.split import CostPart, split_cost

__all__ = [
    "HOURS_PER_DAY",
    "SECONDS_PER_HOUR",
    "ApiComparison",
    "Cost",
    "CostPart",
    "DayAccount",
    "Flow",
    "Margin",
    "OwnCost",
    "Payback",
    "Purchase",
    "api_bill_usd",
    "carbon_g_per_million_tokens",
    "own_cost",
    "payback",
    "serving_cost",
    "settle_day",
    "split_cost",
    "spot_useful_share",
    "useful_usd_per_hour",
    "wh_per_million_tokens",
]
