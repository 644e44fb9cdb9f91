"""What to measure first, and what to buy without knowing: by theory, by hand, by law."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner.errors import InputError
from planner.study import indices as indices_module
from planner.study import sizing as sizing_module
from planner.study.draws import Unknown, worlds
from planner.study.indices import sobol
from planner.study.sizing import size, wilson


def ishigami(x):
    """The usual test of sensitivity methods, on the unit cube."""
    a, b, c = (2 * math.pi * x - math.pi).T
    return np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)


def test_indices_of_the_ishigami_function_are_those_in_the_books():
    # A. Saltelli et al., "Global Sensitivity Analysis: The Primer", 2008, section 4.4
    variance = 7**2 / 8 + 0.1 * math.pi**4 / 5 + 0.1**2 * math.pi**8 / 18 + 0.5
    both = 0.1**2 * math.pi**8 * (1 / 18 - 1 / 50)
    first = [0.5 * (1 + 0.1 * math.pi**4 / 5) ** 2, 7**2 / 8, 0.0]
    total = [first[0] + both, first[1], both]
    s1, st_ = sobol(ishigami, 3, 4096, seed=1)
    assert s1[0] == pytest.approx([v / variance for v in first], abs=0.02)
    assert st_[0] == pytest.approx([v / variance for v in total], abs=0.02)
    for estimate, truth in ((s1, first), (st_, total)):
        assert (estimate[1] - 0.01 <= np.array(truth) / variance).all()
        assert (estimate[2] + 0.01 >= np.array(truth) / variance).all()


def test_the_estimators_are_those_of_scipy():
    from scipy.stats import sobol_indices

    f = np.random.default_rng(1).random((5, 64))
    f[2:] += f[0]
    theirs = sobol_indices(func={"f_A": f[:1], "f_B": f[1:2], "f_AB": f[2:, None]}, n=64)
    ours = indices_module._estimate(f, np.arange(64))
    # SciPy calls a negative estimate of a first index what it is, and so do we
    assert ours[0] == pytest.approx(theirs.first_order)
    assert ours[1] == pytest.approx(theirs.total_order)


def test_an_answer_that_never_moves_blames_nothing():
    first, total = sobol(lambda x: np.ones(len(x)), 2, 8, seed=1)
    assert not first.any()
    assert not total.any()


def test_a_tornado_is_simulating_both_ends(base):
    found = planner.sensitivity(
        base,
        {"hardware.0.prices.0.usd_per_device_hour*": [0.5, 1.0, 2.0], "slo.tpot_p95_s": [0.1, 0.2]},
        workers=1,
    )
    price, promise = found.swings
    assert price.path.startswith("hardware")
    assert price.at_low == pytest.approx(0.5 * found.at_middle)
    assert price.at_high == pytest.approx(2.0 * found.at_middle)
    assert promise.swing == 0
    assert found.answers == 5


def test_the_price_alone_explains_a_cost_that_only_it_moves(base):
    found = planner.sensitivity(
        base,
        {"hardware.0.prices.0.usd_per_device_hour*": [0.5, 2.0], "slo.tpot_p95_s": [0.1, 0.2]},
        samples=64, workers=1,
    )  # fmt: skip
    assert found.indices[0].path.startswith("hardware")
    assert found.indices[0].total == pytest.approx(1, abs=0.1)
    assert found.indices[1].total == pytest.approx(0, abs=1e-9)
    assert found.answers == 5 + 64 * 4


@pytest.mark.parametrize(
    ("unknowns", "more", "words"),
    [
        ({}, {}, "nothing is unknown"),
        ({"slo.tpot_p95_s": [2, 1]}, {}, "that rise"),
        ({"slo.tpot_p95_s": [1, 1]}, {}, "both 1"),
        ({"slo.tpot_p95_s": ["a", "b"]}, {}, "low,high"),
        ({"slo.tpot_p95_s": [0.1, 0.2]}, {"quantity": "label"}, "no column of numbers"),
        ({"slo.tpot_p95_s": [0.1, 0.2]}, {"samples": 6}, "power of two"),
        ({"accelerator.memory_bytes*": [0.1, 1]}, {}, "no answer there"),
    ],
)
def test_a_bad_question_is_refused(base, unknowns, more, words):
    with pytest.raises(InputError, match=words):
        planner.sensitivity(base, unknowns, workers=1, **more)


@given(st.floats(-5, 5), st.floats(0.01, 5), st.floats(0, 1))
def test_quantiles_of_a_triangle_are_the_inverse_of_its_distribution(low, width, peak):
    mid = min(low + peak * width, low + width)
    unknown = Unknown("x", low, mid, low + width)
    q = np.linspace(0, 1, 41)
    x = unknown.at(q)
    assert (np.diff(x) >= -1e-12).all()
    rising = (x - low) ** 2 / max(width * (mid - low), 1e-300)
    falling = 1 - (low + width - x) ** 2 / max(width * (low + width - mid), 1e-300)
    assert np.where(x <= mid, rising, falling)[1:-1] == pytest.approx(q[1:-1], abs=1e-4)


def test_worlds_fill_every_stratum_once():
    drawn = worlds((Unknown("a", 0, None, 10), Unknown("b", 0, None, 1)), 10, seed=3)
    assert sorted(int(world["a"]) for world in drawn) == list(range(10))
    assert drawn == worlds((Unknown("a", 0, None, 10), Unknown("b", 0, None, 1)), 10, seed=3)


def test_a_count_is_drawn_whole(base):
    found = planner.sensitivity(
        base, {"workload.arrivals.concurrency": [1, 4]}, quantity="mean_running", workers=1
    )
    assert found.swings[0].at_high > found.swings[0].at_low


def sized(monkeypatch, base, costs, keeps, **options):
    """Fleets with given costs and outcomes: ``keeps[fleet][world]``."""

    def table(_, cases, *rest, **more):
        count = len(keeps[0])

        class Rows:
            rows = tuple(
                {"usd_per_hour": costs[i // count], "slo_met": keeps[i // count][i % count],
                 "error": None}
                for i in range(len(cases))
            )  # fmt: skip

        return Rows

    monkeypatch.setattr(sizing_module, "Table", table)
    names = {f"f{i}": {} for i in range(len(costs))}
    found = size(base, names, {"slo.tpot_p95_s": [1, 2]}, count=len(keeps[0]), **options)
    return found, {choice.name: choice for choice in found.choices}


def test_regret_by_hand(base, monkeypatch):
    # four worlds; f0 at 10 keeps two, f1 at 15 keeps three, f2 at 30 keeps all
    keeps = [[True, True, False, False], [True, True, True, False], [True] * 4]
    found, by = sized(monkeypatch, base, [10, 15, 30], keeps)
    # f0: 0, 0, 10 + 15 - 15, 10 + 30 - 30; f1: 5, 5, 0, 15; f2: 20, 20, 15, 0
    assert by["f0"].mean_regret_usd_per_hour == pytest.approx(5)
    assert by["f1"].worst_regret_usd_per_hour == pytest.approx(15)
    assert by["f2"].worst_regret_usd_per_hour == pytest.approx(20)
    assert found.best.name == "f2"  # the only one that is sure enough
    assert [c.name for c in found.choices] == ["f2", "f1", "f0"]
    assert sized(monkeypatch, base, [10, 15, 30], keeps, confidence=0.5)[0].best.name == "f0"
    dear = sized(monkeypatch, base, [10, 15, 30], keeps, confidence=0.0, breach_usd_per_hour=100.0)[
        0
    ]
    assert dear.best.name == "f2"


def test_where_every_fleet_breaks_only_cost_is_regretted(base, monkeypatch):
    found, by = sized(monkeypatch, base, [10, 30], [[False, True], [False, True]])
    assert found.lost_worlds == 1
    assert by["f0"].worst_regret_usd_per_hour == 0
    assert by["f1"].worst_regret_usd_per_hour == pytest.approx(20)


def test_sizing_simulates_every_fleet_in_the_same_worlds(base):
    found = size(
        base, {"one": {"deployment.replicas": 1}, "two": {"deployment.replicas": 2}},
        {"workload.arrivals.concurrency": [1, 40]}, count=4, workers=1,
    )  # fmt: skip
    by = {choice.name: choice for choice in found.choices}
    assert by["two"].mean_usd_per_hour == pytest.approx(2 * by["one"].mean_usd_per_hour)
    assert by["two"].slo_probability >= by["one"].slo_probability
    assert found.to_dict()["worlds"] == 4


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilsons_interval_holds_the_share(hits, trials):
    hits = min(hits, trials)
    low, high = wilson(hits, trials)
    assert 0 <= low <= hits / trials + 1e-12
    assert hits / trials - 1e-12 <= high <= 1


def test_wilson_by_hand():
    # 8 of 10: 0.490 to 0.943
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_module_gives_the_same_intervals_twice():
    again = [indices_module.sobol(ishigami, 3, 64, seed=2)[0] for _ in range(2)]
    assert (again[0] == again[1]).all()


@pytest.mark.parametrize(
    ("scenario", "options", "says"),
    [("base", {"count": 0}, "--worlds: 0: must be 1 or more"),
     ("no deployment", {}, "deployment: is missing")],
)  # fmt: skip
def test_what_cannot_be_sized_is_said(base, scenario, options, says):
    if scenario == "no deployment":
        base = base.model_copy(update={"deployment": None})
    with pytest.raises(InputError, match=says):
        size(base, {"one": {"deployment.replicas": 1}}, {"slo.tpot_p95_s": [1, 2]}, **options)
