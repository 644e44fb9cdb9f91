"""What two pools rest on: by hand, and by simulating what is said."""

import math

import pytest

from planner.evaluation import evaluate
from planner.report.risk import apart as sentences
from planner.search.rests import rests
from planner.search.slower import replicas_of
from tests.search.conftest import small

POOL = {"parallelism": {"attention_tp": 1}, "weights": "bf16"}


@pytest.fixture(scope="module")
def pair():
    deployment = {"prefill": {**POOL, "replicas": 2}, "decode": {**POOL, "replicas": 3}}
    return evaluate(small(4, systems=["hgx-h100"], deployment=deployment))


@pytest.fixture(scope="module")
def one():
    return evaluate(small(4, systems=["hgx-h100"], deployment={**POOL, "replicas": 8}))


def test_the_saving_and_what_ends_it_by_hand(pair, one):
    found = rests(pair, (pair, one))
    assert found.one_pool is one
    assert found.saving_share == pytest.approx(1 - 5 / 8)
    # three replicas more of one pool, and nothing is saved
    for use, factor in zip(pair.pools, (found.slower_prefill, found.slower_decode), strict=True):
        at, n = replicas_of(pair, use.pool), use.pool.replicas
        assert at(1.0) == n
        if math.isfinite(factor):
            assert at(factor) >= n + 3
            assert at(factor / 1.02) < n + 3


def test_a_handover_takes_its_bytes_at_the_links_rate_and_may_take_what_the_promise_leaves(pair):
    found = rests(pair, (pair,))
    first, slo = pair.metrics.ttft_s.p95, pair.scenario.slo.ttft_p95_s
    assert (found.slower_link - 1) * found.handover_s == pytest.approx(slo - first)
    busy = pair.traffic.requests_per_s * found.handover_s / 2
    assert found.link_busy_share == pytest.approx(busy, rel=0.02)


def test_one_pool_rests_on_nothing_of_that(one):
    assert rests(one, (one,)) is None


def test_the_report_says_all_of_it(pair, one):
    words = dict(sentences(rests(pair, (pair, one)), pair))
    assert {"Prompts", "Decode batch", "Handover", "Two pools instead of one", "Engine"} <= set(
        words
    )
    alone = dict(sentences(rests(pair, (pair,)), pair))
    assert "Two pools instead of one" not in alone
