"""What is left of an income, and the account of a published day."""

from dataclasses import dataclass

from planner.cost.serving import HOURS_PER_DAY, SECONDS_PER_HOUR, api_bill_usd
from planner.specs.money import ServiceDay
from planner.specs.prices import ApiPrice


@dataclass(frozen=True, slots=True)
class Margin:
    """Income beside cost. [USD, over the same time]"""

    income_usd: float
    cost_usd: float

    @property
    def profit_usd(self) -> float:
        """What is left."""
        return self.income_usd - self.cost_usd

    @property
    def markup_share(self) -> float:
        """Profit over *cost*: 5.45 is published as a cost profit margin of 545 %."""
        return self.profit_usd / self.cost_usd if self.cost_usd else float("inf")

    @property
    def margin_share(self) -> float:
        """Profit over *income*: the gross margin of an income statement."""
        return self.profit_usd / self.income_usd if self.income_usd else float("-inf")


@dataclass(frozen=True, slots=True)
class DayAccount:
    """A published day, reckoned from its own figures."""

    day: ServiceDay
    stated: Margin
    """Stated income over the reckoned cost."""
    reckoned: Margin
    """Income reckoned from the published, rounded token counts."""
    prefill_nodes: float
    """Mean over the day, from tokens and tokens a second a node."""
    decode_nodes: float
    usd_per_million_input_tokens: float
    """A prefill node's hours over what it reads, cached tokens included."""
    usd_per_million_computed_input_tokens: float
    usd_per_million_output_tokens: float

    @property
    def node_gap_share(self) -> float:
        """Nodes by the two rates over the nodes stated, minus one: how well the day closes."""
        return (self.prefill_nodes + self.decode_nodes) / self.day.nodes - 1


def settle_day(day: ServiceDay, api: ApiPrice) -> DayAccount:
    r"""Reckon a published day's cost, income, margin and cost per token.

    .. math:: C = 24\,p\,d\,N, \qquad
              c_{in} = \frac{p\,d}{3600\,r_{in}}, \qquad c_{out} = \frac{p\,d}{3600\,r_{out}}

    with ``N`` nodes of ``d`` devices at ``p`` an hour and rates ``r`` a node of each phase.

    References
    ----------
    .. [1] DeepSeek, "DeepSeek-V3/R1 Inference System Overview", open-infra-index, 2025-03-01.
    """
    node_usd_per_s = day.usd_per_device_hour * day.devices_per_node / SECONDS_PER_HOUR
    cost = node_usd_per_s * SECONDS_PER_HOUR * HOURS_PER_DAY * day.nodes
    cached = day.cached_input_tokens / day.input_tokens
    income = api_bill_usd(api, day.input_tokens, day.output_tokens, cached)
    day_s = SECONDS_PER_HOUR * HOURS_PER_DAY
    prefill_nodes = day.input_tokens / day.input_tokens_per_s_per_node / day_s
    per_input = 1e6 * node_usd_per_s / day.input_tokens_per_s_per_node
    return DayAccount(
        day=day,
        stated=Margin(day.stated_income_usd, cost),
        reckoned=Margin(income, cost),
        prefill_nodes=prefill_nodes,
        decode_nodes=day.output_tokens / day.output_tokens_per_s_per_node / day_s,
        usd_per_million_input_tokens=per_input,
        usd_per_million_computed_input_tokens=per_input / (1 - cached),
        usd_per_million_output_tokens=1e6 * node_usd_per_s / day.output_tokens_per_s_per_node,
    )
