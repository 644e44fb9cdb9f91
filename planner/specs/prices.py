"""What devices and hosted models cost, on a date."""

from typing import Annotated, Literal

from planner.sourced import Sourced
from planner.specs.base import Spec, within

UsdPerHour = Annotated[
    Sourced, within(0.01, 200, "a price in USD per device-hour", "2.69 USD/h is written 2.69")
]
"""Price of one device for one hour. [USD/h]"""

UsdPerMillionTokens = Annotated[
    Sourced,
    within(1e-4, 1e4, "a price in USD per million tokens", "2.19 USD/M is written 2.19"),
]
"""Price of a hosted model's tokens. [USD per million tokens]"""


class Price(Spec):
    """What one device-hour costs somewhere, on a date."""

    accelerator: str
    provider: str
    term: Literal[
        "on-demand",
        "spot",
        "flex",
        "market",
        "reserved-1yr",
        "reserved-3yr",
        "capacity-block",
        "monthly",
        "ownership",
        "index",
        "internal",
        "procurement",
        "projection",
    ]
    usd_per_device_hour: UsdPerHour
    region: str | None = None
    """Where the devices stand, as ``hardware_profiles/money/regions.yaml`` names it; null: the
    offer does not say."""
    retrieved: str
    """When the price was read: ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``."""


class ApiPrice(Spec):
    """What a hosted model costs per token, on a date. [USD per million tokens]"""

    name: str
    title: str
    input_usd_per_million_tokens: UsdPerMillionTokens
    cached_input_usd_per_million_tokens: UsdPerMillionTokens | None = None
    output_usd_per_million_tokens: UsdPerMillionTokens
    valid: str
    """When this price held."""


class PriceList(Spec):
    """One file of prices."""

    devices: tuple[Price, ...] = ()
    apis: tuple[ApiPrice, ...] = ()
