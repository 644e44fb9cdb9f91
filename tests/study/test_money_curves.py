"""Curves of rent, buy and API agree with the account they are drawn from."""

import pytest

import planner
from planner.study.money_curves import bills_by_load, spent_by_month


@pytest.fixture(scope="module")
def account():
    scenario = planner.load_scenario("r1-chat-ep16", {"run.duration_s": 20, "run.warmup_s": 5})
    return planner.break_even(scenario)


def test_owning_crosses_an_alternative_when_the_payback_says(account):
    paid = {each.alternative: each for each in account.paybacks if each.months is not None}
    spent = spent_by_month(account, [each.months for each in paid.values()])
    compared = 0
    for i, name in enumerate(paid):
        if name in spent:
            assert spent[name][i] == pytest.approx(spent["own"][i], rel=1e-6)
            compared += 1
    assert compared


def test_the_api_bill_meets_owning_at_the_load_the_account_says(account):
    offer = account.apis[0]
    share = offer.load_share_where_equal
    bills = bills_by_load(account, [share])
    assert bills[f"API: {offer.api.name}"][0] == pytest.approx(bills["own"][0], rel=1e-6)


def test_what_is_not_elastic_costs_the_same_at_every_load(account):
    bills = bills_by_load(account, [0.1, 0.5, 1.0])
    assert len(set(bills["own"])) == 1
    for name, values in bills.items():
        if name.endswith(("on-demand", "spot")) or name.startswith("API"):
            assert values[2] == pytest.approx(10 * values[0])


def test_an_account_at_half_the_hours_draws_the_same_api_curve(account):
    scenario = planner.load_scenario("r1-chat-ep16", {"run.duration_s": 20, "run.warmup_s": 5})
    half = bills_by_load(planner.break_even(scenario, utilisation=0.5), [1.0])
    whole = bills_by_load(account, [1.0])
    name = f"API: {account.apis[0].api.name}"
    assert half[name][0] == pytest.approx(whole[name][0])
