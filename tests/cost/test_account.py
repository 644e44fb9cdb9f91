"""The whole bill of a simulated deployment."""

import json

import pytest

from planner import files
from planner.errors import InputError
from planner.evaluation import evaluate
from planner.study.money import account


@pytest.fixture(scope="module")
def result():
    return evaluate(
        files.load_scenario(
            "r1-distill-7b-rtx5090", {"run.requests": 120, "run.warmup_requests": 10}
        )
    )


def bill(result, region="virginia", **terms):
    apis = [api for api in files.api_prices() if api.name == "deepseek-r1"]
    ownership = files.load_ownership().changed(**terms)
    return account(result, files.load_region(region), ownership, apis)


def test_an_account_is_plain_values(result) -> None:
    found = bill(result)
    assert json.loads(json.dumps(found.to_dict()))["region"] == "virginia"
    assert found.own.usd_per_hour > found.own.running_usd_per_hour > 0
    assert {p.alternative.split(":")[0] for p in found.paybacks} == {"rent", "API"}
    assert sum(p.share for p in found.parts) == pytest.approx(1)


def test_carbon_follows_the_grid_and_the_building(result) -> None:
    dirty, clean = bill(result, "iowa"), bill(result, "quebec")
    assert dirty.carbon_kg_per_day / clean.carbon_kg_per_day == pytest.approx(431.95 / 11.36)
    assert bill(result, pue=3.0).site_w == pytest.approx(2 * bill(result, pue=1.5).site_w)
    # grams a million tokens x tokens a day = kg a day
    steady = result.metrics.steady
    tokens = (steady.input_tokens_per_s + steady.output_tokens_per_s) * 86400 / 1e6
    assert dirty.carbon_g_per_million_tokens * tokens / 1e3 == pytest.approx(
        dirty.carbon_kg_per_day, rel=1e-6
    )


def test_the_api_costs_the_same_at_the_load_that_is_said(result) -> None:
    offer = bill(result).apis[0]
    how, margin = offer.margins[0]
    assert how == "own"
    assert offer.load_share_where_equal * margin.income_usd == pytest.approx(margin.cost_usd)


def test_a_part_without_a_price_says_so(result) -> None:
    import dataclasses

    hardware = result.replica.hardware
    bare = hardware.model_copy(
        update={"accelerator": hardware.accelerator.model_copy(update={"purchase_usd": None})}
    )
    without = dataclasses.replace(
        result, replica=dataclasses.replace(result.replica, hardware=bare), costs=()
    )
    with pytest.raises(InputError, match="no price to rent or buy"):
        bill(without)
    rented = dataclasses.replace(without, costs=result.costs)
    assert bill(rented).own is None
    assert "no purchase price" in bill(rented).missing[0]


def test_an_unknown_region_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match="atlantis"):
        files.load_region("atlantis")


def test_elastic_rent_and_tokens_follow_the_hours_and_owned_machines_do_not(result) -> None:
    apis = [api for api in files.api_prices() if api.name == "deepseek-r1"]
    region, terms = files.load_region("iowa"), files.load_ownership()
    always, half = (account(result, region, terms, apis, u) for u in (1.0, 0.5))
    for one, other in zip(always.paybacks, half.paybacks, strict=True):
        share = other.alternative_usd_per_month / one.alternative_usd_per_month
        assert share == pytest.approx(1.0 if "reserved" in one.alternative else 0.5)
        assert other.running_usd_per_month == one.running_usd_per_month
    (_, one), (_, other) = always.apis[0].margins[0], half.apis[0].margins[0]
    assert other.income_usd == pytest.approx(one.income_usd / 2)
    assert other.cost_usd == one.cost_usd
    with pytest.raises(InputError, match="at most 1"):
        account(result, region, terms, apis, 0.0)
