"""Money and energy of serving, from device-hours."""

from dataclasses import dataclass

from planner.specs.prices import ApiPrice, Price

SECONDS_PER_HOUR = 3600.0
HOURS_PER_DAY = 24.0


@dataclass(frozen=True, slots=True)
class Flow:
    """What a fleet serves per second."""

    requests_per_s: float
    input_tokens_per_s: float
    """Prompt tokens, cached ones included."""
    output_tokens_per_s: float
    cached_input_share: float
    prefill_share: float
    """Share of busy device-seconds that prefill adds."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What serving a flow costs at one price.  [USD]"""

    price: Price
    usd_per_hour: float
    usd_per_day: float
    usd_per_request: float
    usd_per_million_input_tokens: float
    """Prompt tokens that are computed."""
    usd_per_million_cached_input_tokens: float | None
    """Prompt tokens found in the cache; None without any.  They add no prefill device-seconds."""
    usd_per_million_output_tokens: float
    usd_per_million_tokens: float
    """Input and output together."""


def serving_cost(price: Price, devices: float, flow: Flow) -> Cost:
    r"""Split what ``devices`` cost over the tokens they serve.

    The split is by the device-seconds each phase uses: a mixed step's time is prefill's as far as
    prefill makes it longer, and decode's for the rest; idle time is charged in the same
    proportion.

    .. math:: c_{in} = \frac{p D \phi}{r_{in} (1 - s)}, \qquad
              c_{out} = \frac{p D (1 - \phi)}{r_{out}}

    with price ``p``, devices ``D``, prefill share ``phi``, cached share ``s``.

    References
    ----------
    .. [1] P. Patel et al., "Splitwise", ISCA 2024 (phases use devices differently).
    """
    usd_per_s = float(price.usd_per_device_hour) * devices / SECONDS_PER_HOUR
    computed = flow.input_tokens_per_s * (1 - flow.cached_input_share)
    return Cost(
        price=price,
        usd_per_hour=usd_per_s * SECONDS_PER_HOUR,
        usd_per_day=usd_per_s * SECONDS_PER_HOUR * HOURS_PER_DAY,
        usd_per_request=_ratio(usd_per_s, flow.requests_per_s),
        usd_per_million_input_tokens=1e6 * _ratio(usd_per_s * flow.prefill_share, computed),
        usd_per_million_cached_input_tokens=0.0 if flow.cached_input_share else None,
        usd_per_million_output_tokens=1e6
        * _ratio(usd_per_s * (1 - flow.prefill_share), flow.output_tokens_per_s),
        usd_per_million_tokens=1e6
        * _ratio(usd_per_s, flow.input_tokens_per_s + flow.output_tokens_per_s),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("inf")


@dataclass(frozen=True, slots=True)
class ApiComparison:
    """The same tokens bought from an API.  [USD]"""

    api: ApiPrice
    usd_per_day: float
    """What the API charges for the day's tokens."""
    own_usd_per_day: float

    @property
    def saving_share(self) -> float:
        """Part of the API's bill that own serving saves; negative when it costs more."""
        return 1 - self.own_usd_per_day / self.usd_per_day


def api_bill_usd(
    api: ApiPrice, input_tokens: float, output_tokens: float, cached_share: float
) -> float:
    """Price of tokens at an API's list price. [USD]

    References
    ----------
    .. [1] The API's price list, as named in ``api.valid`` and the source of each price.
    """
    cached_rate = api.cached_input_usd_per_million_tokens or api.input_usd_per_million_tokens
    cached = input_tokens * cached_share
    return (
        (input_tokens - cached) * api.input_usd_per_million_tokens
        + cached * cached_rate
        + output_tokens * api.output_usd_per_million_tokens
    ) / 1e6


def wh_per_million_tokens(power_w: float, tokens_per_s: float) -> float:
    """Energy per million tokens at a mean power. [Wh]

    References
    ----------
    .. [1] Definition: watts over tokens per second, times 1e6 / 3600.
    """
    return 1e6 * _ratio(power_w, tokens_per_s) / SECONDS_PER_HOUR


def carbon_g_per_million_tokens(
    wh_per_million: float, pue: float, carbon_g_per_kwh: float
) -> float:
    """Greenhouse gas of the grid's electricity per million tokens. [g CO2-equivalent]

    Location-based: contracts for green power do not change it; making the machines is not in it.

    Parameters
    ----------
    wh_per_million : energy of the machines. [Wh per million tokens]
    pue : energy of the building over that of the machines.

    References
    ----------
    .. [1] GHG Protocol Scope 2 Guidance, 2015 (location-based method).
    """
    return wh_per_million / 1000 * pue * carbon_g_per_kwh
