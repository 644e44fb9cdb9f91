"""The published day reckoned from its own figures; the bill divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.cost import carbon_g_per_million_tokens, settle_day, split_cost
from planner.cost.margin import Margin


@pytest.fixture(scope="module")
def day():
    apis = {api.name: api for api in files.api_prices()}
    found = files.service_days()["deepseek-2025-02-27"]
    return settle_day(found, apis[found.api])


def test_the_day_costs_what_was_published(day) -> None:
    assert day.stated.cost_usd == day.day.stated_cost_usd == 87_072


def test_the_stated_income_makes_the_stated_markup(day) -> None:
    assert f"{100 * day.stated.markup_share:.0f}" == "545"


def test_income_from_rounded_tokens_is_within_their_rounding(day) -> None:
    # 266 B at 0.55, 342 B at 0.14, 168 B at 2.19; half a billion of each is 1.4 kUSD
    assert day.reckoned.income_usd == pytest.approx(146_300 + 47_880 + 367_920)
    assert abs(day.reckoned.income_usd - day.day.stated_income_usd) < 0.5e3 * (0.55 + 0.14 + 2.19)
    assert day.reckoned.markup_share == pytest.approx(5.4556, abs=1e-4)


def test_cost_a_million_tokens_by_phase(day) -> None:
    assert round(day.usd_per_million_input_tokens, 3) == 0.060
    assert round(day.usd_per_million_output_tokens, 2) == 0.30
    assert day.usd_per_million_computed_input_tokens == pytest.approx(0.0603 * 608 / 266, rel=1e-3)


def test_the_two_phases_take_the_nodes_that_ran(day) -> None:
    assert abs(day.node_gap_share) < 0.001


def test_markup_is_over_cost_and_margin_over_income() -> None:
    margin = Margin(300.0, 100.0)
    assert (margin.profit_usd, margin.markup_share) == (200.0, 2.0)
    assert margin.margin_share == pytest.approx(2 / 3)


def test_a_bill_split_by_hand() -> None:
    parts = split_cost(
        100.0, 0.8, 0.25, {"attention": 1.0, "host": 1.0},
        {"attention": 1.0, "expert_network": 3.0, "hidden": -2.0, "host": 2.0},
    )  # fmt: skip
    found = {(p.phase, p.component): p.usd_per_hour for p in parts}
    # idle 20; prefill 20, half each; decode 60 over 1 + (3 - 2) + 2
    assert found == pytest.approx({
        ("idle", "idle"): 20, ("prefill", "attention"): 10, ("prefill", "host"): 10,
        ("decode", "attention"): 15, ("decode", "expert_network"): 15, ("decode", "host"): 30,
    })  # fmt: skip


SECONDS = st.dictionaries(st.sampled_from("abcdef"), st.floats(1e-6, 1), min_size=1)


@given(st.floats(1, 1e5), st.floats(0, 1), st.floats(0, 1), SECONDS, SECONDS, st.floats(0, 0.5))
def test_the_parts_are_the_whole_bill(usd, busy, prefill, one, two, hidden) -> None:
    two = {**two, "expert_network": 0.6, "hidden": -hidden}
    parts = split_cost(usd, busy, prefill, one, two)
    assert sum(p.usd_per_hour for p in parts) == pytest.approx(usd)
    assert sum(p.share for p in parts) == pytest.approx(1)
    assert all(p.usd_per_hour >= 0 for p in parts)


def test_carbon_by_hand() -> None:
    # 1,000 Wh at the machine, 1.5 kWh at the meter, 400 g each
    assert carbon_g_per_million_tokens(1000, 1.5, 400) == pytest.approx(600)
