"""Owning, spot, payback: by hand and by law."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.cost import Purchase, own_cost, payback, spot_useful_share, useful_usd_per_hour
from planner.cost.own import YEAR_H

TERMS = files.load_ownership().changed(
    life_years=5, residual_share=0.0, capital_share_per_year=0.0, server_share=0.5,
    network_share=0.2, maintenance_share_per_year=0.03, staff_share_per_year=0.02,
    hosting_usd_per_kw_month=100, pue=1.5,
)  # fmt: skip
REGION = files.load_region("iowa")


def own(terms=TERMS, **changes):
    values = {"purchase_usd": 20_000, "whole_node": False, "rated_w": 1000, "mean_w": 600}
    return own_cost(terms, REGION, **{**values, **changes})


def test_an_owned_device_by_hand() -> None:
    cost = own()
    # 20,000 x 1.5 x 1.2 = 36,000, over five years of 8,760 h; 1 kW at 100 USD a month;
    # 600 W x 1.5 at 6.79 cents
    assert cost.capex_usd == pytest.approx(36_000)
    assert cost.write_off_usd_per_hour == pytest.approx(36_000 / 5 / 8760)
    assert cost.capital_usd_per_hour == pytest.approx(0, abs=1e-12)
    assert cost.hosting_usd_per_hour == pytest.approx(1200 / 8760)
    assert cost.energy_usd_per_hour == pytest.approx(0.6 * 1.5 * 0.0679)
    assert cost.maintenance_usd_per_hour == pytest.approx(0.03 * 36_000 / 8760)
    assert cost.staff_usd_per_hour == pytest.approx(0.02 * 36_000 / 8760)


def test_a_price_of_the_whole_node_has_its_server_in_it() -> None:
    assert own(whole_node=True).capex_usd == pytest.approx(24_000)


def test_capital_is_the_annuity_less_the_write_off() -> None:
    # 36,000 over five years at 10 %: annuity factor 0.263797
    cost = own(TERMS.changed(capital_share_per_year=0.10))
    yearly = (cost.write_off_usd_per_hour + cost.capital_usd_per_hour) * YEAR_H
    assert yearly == pytest.approx(36_000 * 0.2637974808, rel=1e-9)


@given(st.floats(0, 0.3), st.floats(0, 0.5), st.integers(1, 10))
def test_what_is_paid_in_a_life_is_worth_the_price(
    rate: float, residual: float, years: int
) -> None:
    terms = TERMS.changed(capital_share_per_year=rate, residual_share=residual, life_years=years)
    cost = own(terms)
    yearly = (cost.write_off_usd_per_hour + cost.capital_usd_per_hour) * YEAR_H
    growth = (1 + rate) ** years
    factor = sum((1 + rate) ** -k for k in range(1, years + 1))
    assert yearly * factor + residual * cost.capex_usd / growth == pytest.approx(
        cost.capex_usd, rel=1e-4
    )


@pytest.mark.parametrize(
    ("part", "published"), [("h100-sxm", 1.69), ("h200-sxm", 1.74), ("b200-sxm", 2.34)]
)
def test_the_shipped_terms_come_near_a_published_cost_of_ownership(
    part: str, published: float
) -> None:
    """Within a third of a GPU cloud's published cost of ownership: not fitted, and not close."""
    accelerator = files.load_accelerator(part)
    system = files.load_system(
        {"h100": "hgx-h100", "h200": "hgx-h200", "b200": "hgx-b200"}[part[:4]]
    )
    rated = float(system.server_power_w_per_device)
    cost = own_cost(
        files.load_ownership(), REGION, purchase_usd=float(accelerator.purchase_usd),
        whole_node=False, rated_w=rated, mean_w=0.8 * rated,
    )  # fmt: skip
    assert 0.75 < cost.usd_per_hour / published < 1.5


def test_a_spot_replica_by_hand() -> None:
    # two nodes, each lost every 100 h, an hour to recover: 50 h of service for 51 paid
    assert spot_useful_share(0.01, 2, 3600) == pytest.approx(50 / 51)
    assert useful_usd_per_hour(1.0, 0.5) == 2.0


def test_spot_agrees_with_drawing_the_interruptions() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    lives_h = rng.exponential(1 / 0.05, (200_000, 4)).min(axis=1)
    drawn = lives_h.sum() / (lives_h + 0.5).sum()
    assert spot_useful_share(0.05, 4, 1800) == pytest.approx(drawn, rel=2e-3)


def bought(**changes: float) -> Purchase:
    values = {
        "capex_usd": 1000, "running_usd_per_month": 20, "capital_share_per_year": 0.0,
        "life_years": 5, "residual_share": 0.0,
    }  # fmt: skip
    return Purchase(**{**values, **changes})


def test_payback_by_hand() -> None:
    answer = payback("rent", 70, bought())
    assert answer.months == pytest.approx(20)
    assert answer.saving_usd_over_life == pytest.approx(50 * 60 - 1000)
    assert answer.pays
    assert answer.within_life


def test_interest_lengthens_payback_until_it_never_comes() -> None:
    # 1 % a month: 1,000 x 1 % = 10 of interest, of 50 saved: ln(1 - 0.2) / ln(1.01) = 22.43 months
    yearly = 1.01**12 - 1
    assert payback("rent", 70, bought(capital_share_per_year=yearly)).months == pytest.approx(
        -math.log(0.8) / math.log(1.01)
    )
    never = payback("rent", 29, bought(capital_share_per_year=yearly))
    assert never.months is None
    assert not never.pays


@given(st.floats(0, 0.3), st.floats(30, 500))
def test_savings_until_payback_are_worth_the_price(rate: float, rent: float) -> None:
    answer = payback("rent", rent, bought(capital_share_per_year=rate))
    if answer.months is None:
        return
    monthly = (1 + rate) ** (1 / 12) - 1
    t = answer.months
    worth = (rent - 20) * ((1 - (1 + monthly) ** -t) / monthly if monthly > 1e-7 else t)
    assert worth == pytest.approx(1000, rel=1e-5)
