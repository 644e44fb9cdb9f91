"""Skewed counts as kernel benchmarks draw them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.routing.power_law import bounded_power_law, busiest_rank, power_law_counts


def draw(tokens, exponent, experts=64, top_k=4, seed=1):
    return power_law_counts(tokens, experts, top_k, exponent, np.random.default_rng(seed))


@given(st.integers(1, 5000), st.floats(0.1, 2.0), st.integers(0, 50))
def test_every_pair_is_placed_and_no_expert_is_chosen_twice_by_a_token(tokens, exponent, seed):
    counts = draw(tokens, exponent, seed=seed)
    assert counts.sum() == tokens * 4
    assert counts.min() >= 0
    assert counts.max() <= tokens
    assert (counts == np.rint(counts)).all()


@given(st.floats(0.1, 3.0), st.floats(0.5, 10.0), st.floats(1.1, 1000.0))
def test_quantiles_start_and_end_at_the_bounds_and_rise(exponent, low, factor):
    u = np.linspace(0, 1, 11)
    x = bounded_power_law(u, exponent, low, low * factor)
    assert x[0] == pytest.approx(low)
    assert x[-1] == pytest.approx(low * factor)
    assert (np.diff(x) > 0).all()


def test_the_median_of_a_flat_density_is_the_middle():
    assert bounded_power_law(np.array([0.5]), 0.0, 1.0, 3.0)[0] == pytest.approx(2.0)
    assert bounded_power_law(np.array([0.5]), 1.0, 1.0, 100.0)[0] == pytest.approx(10.0)
    near = bounded_power_law(np.array([0.5]), 1.0 + 1e-6, 1.0, 100.0)[0]
    assert near == pytest.approx(10.0, rel=1e-3)


def test_a_larger_exponent_makes_a_hotter_rank():
    hot = [
        np.mean([busiest_rank(draw(4096, a, seed=s), 16)[0] for s in range(40)])
        for a in (0.6, 1.01, 1.2)
    ]
    assert hot[0] < hot[1] < hot[2]
    assert hot[0] > 4096 * 4 / 16


def test_busiest_rank_by_hand():
    assert busiest_rank(np.array([3.0, 0, 1, 1, 0, 5, 0, 0]), 4) == (5.0, 1.0)


def test_more_choices_than_experts_are_refused():
    with pytest.raises(InputError, match="1 to the 4 experts, got 5"):
        power_law_counts(8, 4, 5, 1.0, np.random.default_rng(0))
