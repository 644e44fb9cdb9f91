"""What moves the cost: each cause at both ends, by hand and by law."""

import math

import pytest

from planner.evaluation import evaluate, with_intervals
from planner.evaluation.spread import Spread
from planner.report.plan_tables import cost_moves
from planner.report.study_figures import cost_tornado
from planner.search import moves
from planner.search.slower import replicas_of
from tests.search.conftest import small

POOL = {"parallelism": {"attention_tp": 1}, "weights": "bf16"}


@pytest.fixture(scope="module")
def fleet():
    deployment = {"prefill": {**POOL, "replicas": 4}, "decode": {**POOL, "replicas": 5}}
    found = evaluate(small(4, systems=["hgx-h100"], deployment=deployment))

    def spreads(*_):
        return Spread("engine", -0.2, 0.3, ""), Spread("kernels", -0.01, 3.0, "")

    return with_intervals(found, spreads)


def test_every_cause_moves_the_cost_by_its_own_factor_alone(fleet):
    by = {move.name: move for move in moves(fleet)}
    assert set(by) >= {"engine", "kernels", "requests a second"}
    each = float(fleet.costs[0].price.usd_per_device_hour)
    for name, end in (("engine", 0.3), ("kernels", 3.0)):
        more = [replicas_of(fleet, use.pool)(math.exp(end)) for use in fleet.pools]
        assert by[name].high_usd_per_hour == pytest.approx(each * sum(more))
    # a fifth less, a quarter more: 4 and 4 of 4 and 5, 5 and 7
    traffic = by["requests a second"]
    assert traffic.low_usd_per_hour == pytest.approx(each * (4 + 4))
    assert traffic.high_usd_per_hour == pytest.approx(each * (5 + 7))


def test_the_widest_comes_first_and_every_end_holds_the_cost(fleet):
    found, own = moves(fleet), fleet.costs[0].usd_per_hour
    assert [m.swing for m in found] == sorted((m.swing for m in found), reverse=True)
    assert all(m.low_usd_per_hour <= own <= m.high_usd_per_hour for m in found)


def test_without_intervals_nothing_is_said(fleet):
    assert not moves(evaluate(fleet.scenario))


def test_the_report_shows_them(fleet):
    found = moves(fleet)
    assert len(cost_moves(found).rows) == len(found)
    bounded = [m.name for m in found if math.isfinite(m.high_usd_per_hour)]
    assert list(cost_tornado(fleet, found).data[0].y) == bounded[::-1]
    assert {row[0]: row[3] for row in cost_moves(found).rows}["kernels"] == "no bound"
