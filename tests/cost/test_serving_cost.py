"""Money and energy, by hand and by law."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.cost import (
    ApiComparison,
    Flow,
    api_bill_usd,
    serving_cost,
    wh_per_million_tokens,
)
from planner.sourced import Sourced
from planner.specs.prices import ApiPrice, Price


def price(usd: float) -> Price:
    return Price(
        accelerator="h200-sxm",
        provider="me",
        term="on-demand",
        usd_per_device_hour=Sourced(usd, source="test"),
        retrieved="2026",
    )


def api(read: float, cached: float | None, written: float) -> ApiPrice:
    def fact(value: float) -> Sourced:
        return Sourced(value, source="test")

    return ApiPrice(
        name="a",
        title="A",
        input_usd_per_million_tokens=fact(read),
        cached_input_usd_per_million_tokens=None if cached is None else fact(cached),
        output_usd_per_million_tokens=fact(written),
        valid="2026",
    )


FLOW = Flow(10.0, 10_000.0, 5_000.0, 0.2, 0.25)
FLOWS = st.builds(
    Flow,
    st.floats(0.01, 1e3),
    st.floats(1, 1e6),
    st.floats(1, 1e6),
    st.floats(0, 0.99),
    st.floats(0, 1),
)


def test_sixteen_devices_by_hand() -> None:
    cost = serving_cost(price(3.60), 16, FLOW)
    # 16 x 3.60 / 3600 = 0.016 USD/s; a quarter is prefill's, four fifths of the prompts computed
    assert cost.usd_per_hour == pytest.approx(57.6)
    assert cost.usd_per_day == pytest.approx(1382.4)
    assert cost.usd_per_request == pytest.approx(0.0016)
    assert cost.usd_per_million_input_tokens == pytest.approx(1e6 * 0.016 * 0.25 / 8000)
    assert cost.usd_per_million_output_tokens == pytest.approx(1e6 * 0.016 * 0.75 / 5000)
    assert cost.usd_per_million_tokens == pytest.approx(1e6 * 0.016 / 15_000)
    assert cost.usd_per_million_cached_input_tokens == 0


def test_the_published_production_day_closes() -> None:
    # 226.75 nodes of 8 at 2 USD: 87,072 USD; 608 B prompt tokens (56.3 % cached), 168 B answers
    day_s = 86400.0
    flow = Flow(1.0, 608e9 / day_s, 168e9 / day_s, 0.563, 0.5)
    cost = serving_cost(price(2.0), 1814, flow)
    assert cost.usd_per_day == pytest.approx(87_072)
    bill = (
        cost.usd_per_million_input_tokens * 608e3 * (1 - 0.563)
        + cost.usd_per_million_output_tokens * 168e3
    )
    assert bill == pytest.approx(87_072)


def test_an_api_bill_by_hand() -> None:
    assert api_bill_usd(api(0.55, 0.14, 2.19), 10e6, 1e6, 0.5) == pytest.approx(
        5 * 0.55 + 5 * 0.14 + 2.19
    )
    assert api_bill_usd(api(0.55, None, 2.19), 10e6, 1e6, 0.5) == pytest.approx(5.5 + 2.19)


def test_deepseeks_theoretical_income_of_a_day() -> None:
    # all tokens at R1's list price: 266 M cached at 0.14, the rest at 0.55, answers at 2.19
    known = {price.name: price for price in files.api_prices()}
    bill = api_bill_usd(known["deepseek-r1"], 608e9, 168e9, 342 / 608)
    assert bill == pytest.approx(562_027, rel=0.01)


def test_saving_is_the_part_of_the_bill_not_paid() -> None:
    assert ApiComparison(api(1, None, 1), 1000.0, 250.0).saving_share == 0.75
    assert ApiComparison(api(1, None, 1), 1000.0, 1500.0).saving_share == -0.5


def test_energy_of_a_million_tokens() -> None:
    # 10 kW at 1,000 tokens/s: 10 J a token, 10 MJ a million = 2,778 Wh
    assert wh_per_million_tokens(10e3, 1e3) == pytest.approx(10e6 / 3600)
    assert wh_per_million_tokens(10e3, 0.0) == math.inf


def test_nothing_served_costs_without_bound() -> None:
    cost = serving_cost(price(2.0), 8, Flow(0.0, 0.0, 0.0, 0.0, 0.0))
    assert cost.usd_per_hour == 16
    assert cost.usd_per_request == cost.usd_per_million_output_tokens == math.inf


@given(FLOWS, st.floats(0.1, 50), st.integers(1, 5000))
def test_twice_the_price_or_the_devices_costs_twice(flow: Flow, usd: float, devices: int) -> None:
    once = serving_cost(price(usd), devices, flow)
    for twice in (
        serving_cost(price(2 * usd), devices, flow),
        serving_cost(price(usd), 2 * devices, flow),
    ):
        for name in (
            "usd_per_hour", "usd_per_day", "usd_per_request", "usd_per_million_tokens",
            "usd_per_million_input_tokens", "usd_per_million_output_tokens",
        ):  # fmt: skip
            assert getattr(twice, name) == pytest.approx(2 * getattr(once, name))


@given(FLOWS, st.floats(0.1, 50), st.integers(1, 5000))
def test_tokens_pay_for_exactly_the_devices(flow: Flow, usd: float, devices: int) -> None:
    cost = serving_cost(price(usd), devices, flow)
    computed = flow.input_tokens_per_s * (1 - flow.cached_input_share)
    paid = (
        cost.usd_per_million_input_tokens * computed
        + cost.usd_per_million_output_tokens * flow.output_tokens_per_s
    )
    assert paid * 3600 / 1e6 == pytest.approx(cost.usd_per_hour)
