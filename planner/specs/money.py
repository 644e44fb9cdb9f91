"""What owning, renting and powering machines costs, and what a published day of service took in."""

from typing import Annotated

from pydantic import Field

from planner.sourced import Sourced
from planner.specs.base import Count, Positive, Spec, within

UsdPerKwh = Annotated[
    Sourced, within(0.005, 2, "a price in USD per kWh", "8 cents/kWh is written 0.08")
]
"""Price of electricity at the meter. [USD/kWh]"""

GramsPerKwh = Annotated[
    Sourced, within(0, 2000, "a carbon intensity in g/kWh", "0.4 kg/kWh is written 400")
]
"""Greenhouse gas of a kilowatt-hour from the grid. [g CO2-equivalent/kWh]"""

ShareOrNone = Annotated[Sourced, Field(ge=0, le=1)]
"""A share that may be nothing."""


class Region(Spec):
    """A place to put machines."""

    name: str
    title: str
    electricity_usd_per_kwh: UsdPerKwh
    carbon_g_per_kwh: GramsPerKwh


class Ownership(Spec):
    """Terms of owning and of renting by the spot: choices of the buyer, none a law of nature."""

    life_years: Positive
    """Years over which the machines are written off, in a straight line."""
    residual_share: ShareOrNone
    """What they sell for at the end, of what they cost."""
    capital_share_per_year: ShareOrNone
    """Cost of capital: interest, or the return asked for."""
    server_share: ShareOrNone
    """Chassis, host processors, memory, network cards, of the devices' price; only where no price
    of the whole node is known."""
    network_share: ShareOrNone
    """Switches, optics, cables, of the nodes' price."""
    maintenance_share_per_year: ShareOrNone
    """Spares and service contracts, of what the machines cost."""
    staff_share_per_year: ShareOrNone
    """People who run them, of what the machines cost."""
    hosting_usd_per_kw_month: Positive
    """Space, cooling and power feed of a data centre, per rated kilowatt, without energy."""
    pue: Annotated[Sourced, within(1, 3, "a power usage effectiveness", "1.3 is usual")]
    """Energy of the whole building over energy of the machines."""
    spot_interruptions_per_month: Positive
    """How often one spot node is taken away."""
    provision_s: Positive
    """From a node's loss to its successor's first weight byte. [s]"""
    weight_load_bytes_per_s: Positive
    """At which one device's weights are loaded. [bytes/s]"""

    def changed(self, **values: float) -> "Ownership":
        """These terms with some set by hand; they count as assumptions.

        Raises
        ------
        InputError
            By way of pydantic's message, where a value is out of range.
        """
        written = {
            name: {"value": value, "source": "override", "confidence": "assumed"}
            for name, value in values.items()
        }
        return Ownership.model_validate({**self.model_dump(mode="json"), **written})


class ServiceDay(Spec):
    """A published day of a service: what it ran on, served, cost and took in."""

    name: str
    title: str
    source: str
    nodes: Annotated[float, Field(gt=0)]
    """Mean over the day."""
    devices_per_node: Count
    usd_per_device_hour: Annotated[float, Field(gt=0)]
    input_tokens: Annotated[float, Field(gt=0)]
    """Cached ones included."""
    cached_input_tokens: Annotated[float, Field(ge=0)]
    output_tokens: Annotated[float, Field(gt=0)]
    input_tokens_per_s_per_node: Annotated[float, Field(gt=0)]
    """Of a prefill node, cached tokens included."""
    output_tokens_per_s_per_node: Annotated[float, Field(gt=0)]
    """Of a decode node."""
    api: str
    """Name of the price list the income is reckoned by."""
    stated_cost_usd: float
    stated_income_usd: float
    stated_markup_share: float
    """Profit over cost, as it was published (``cost profit margin``)."""


class MoneyFile(Spec):
    """One file of regions and published days."""

    regions: tuple[Region, ...] = ()
    days: tuple[ServiceDay, ...] = ()
    ownership: Ownership | None = None
