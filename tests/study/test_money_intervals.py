"""Intervals of a bill: by hand where one number is doubtful, and what always holds."""

import math
from dataclasses import replace

import pytest

import planner
from planner import files
from planner.sourced import Sourced
from planner.study.money import account
from planner.study.money_intervals import headline_numbers, sure_words, with_money_intervals


@pytest.fixture(scope="module")
def found():
    scenario = planner.load_scenario("r1-chat-ep16", {"run.duration_s": 20, "run.warmup_s": 5})
    return planner.break_even(scenario)


def bill(found, *, doubted=(), price=None, steps=False):
    """The same bill with nothing doubtful but the terms, the price and the steps named."""
    seen = {
        name: Sourced(value, "a", confidence="assumed" if name in doubted else "seen")
        for name, value in found.terms
    }
    region = files.load_region("iowa")
    result = found.result if steps else replace(found.result, intervals=None)
    costs = tuple(
        replace(cost, price=cost.price.model_copy(update={"usd_per_device_hour": price}))
        if price
        else cost
        for cost in [c for c in result.costs if c.price.term != "ownership"][:1]
    )
    result = replace(result, costs=costs)
    terms = found.terms.model_copy(update=seen)
    return with_money_intervals(account(result, region, terms, [offer.api for offer in found.apis]))


def test_every_interval_holds_its_value_and_every_leading_number_has_one(found):
    numbers = headline_numbers(found)
    assert set(found.intervals) == set(numbers)
    for name, value in numbers.items():
        low, high = found.intervals[name]
        assert low <= value <= high, name


def test_a_bill_without_doubt_has_no_interval_and_says_so(found):
    sure = bill(found)
    assert sure.causes == ()
    assert all(low == high for low, high in sure.intervals.values())
    assert "no price or term" in sure_words(sure)


def test_a_doubtful_rent_alone_is_off_by_its_word_by_hand(found):
    made = bill(found, price=Sourced(3.0, "a", confidence="estimate"))
    (name,) = (n for n in made.intervals if n.startswith("usd_per_device_hour"))
    low, high = made.intervals[name]
    assert low == pytest.approx(3.0 * math.exp(-1.645 * 0.15), rel=0.01)
    assert high == pytest.approx(3.0 * math.exp(1.645 * 0.15), rel=0.01)


def test_what_one_term_decides_moves_as_that_term_by_hand(found):
    made = bill(found, doubted=("staff_share_per_year",))
    assert made.own is not None
    low, high = made.intervals["own_usd_per_device_hour"]
    staff = made.own.staff_usd_per_hour
    assert high - made.own.usd_per_hour == pytest.approx(staff * math.expm1(1.645 * 0.2), rel=0.01)
    assert low - made.own.usd_per_hour == pytest.approx(staff * math.expm1(-1.645 * 0.2), rel=0.01)
    assert made.intervals["site_w"][0] == made.intervals["site_w"][1]


def test_longer_steps_make_a_token_dearer_as_throughput_falls(found):
    made = bill(found, steps=True)
    assert made.causes == ("time of steps (throughput and power follow)",)
    rate = found.result.metrics.steady.output_tokens_per_s
    low_rate, _ = found.result.intervals.rates["output_tokens_per_s"]
    value = headline_numbers(made)["own_usd_per_million_output_tokens"]
    high = made.intervals["own_usd_per_million_output_tokens"][1]
    assert high == pytest.approx(value * rate / low_rate, rel=0.02)


def test_a_doubt_more_never_narrows_an_interval(found):
    one = bill(found, doubted=("residual_share",)).intervals["own_usd_per_device_hour"]
    two = bill(found, doubted=("residual_share", "server_share", "network_share"))
    low, high = two.intervals["own_usd_per_device_hour"]
    assert low < one[0]
    assert one[1] < high


def test_a_term_that_was_set_by_hand_is_taken_as_said(found):
    scenario = planner.load_scenario("r1-distill-7b-rtx5090")
    made = planner.break_even(scenario, terms={"pue": 1.2, "server_share": 0.3})
    assert not any(cause.startswith(("pue", "server_share")) for cause in made.causes)


def test_buying_that_never_pays_may_at_best_pay_late(found):
    lists = found.to_dict()["interval90"]
    never = [n for n, ends in found.intervals.items() if math.isinf(ends[1])]
    assert all(lists[name][1] is None for name in never)
    for each in found.paybacks:
        low, high = found.intervals[f"months: {each.alternative}"]
        assert low <= (each.months or math.inf) <= high
