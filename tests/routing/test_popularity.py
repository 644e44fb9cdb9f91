"""Shares of experts: families, histograms, drift, and what a token's choice allows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from planner.errors import InputError
from planner.routing import drifting, inclusion, popularity
from planner.routing.popularity import histogram_shares
from planner.specs.routing import (
    Balanced,
    DirichletPopularity,
    Drift,
    HistogramPopularity,
    LayerProfile,
    LognormalPopularity,
    UniformPopularity,
    ZipfPopularity,
)

FAMILIES = st.one_of(
    st.just(Balanced()),
    st.just(UniformPopularity()),
    st.builds(ZipfPopularity, exponent=st.floats(0, 3)),
    st.builds(LognormalPopularity, sigma=st.floats(0, 3)),
    st.builds(DirichletPopularity, alpha=st.floats(1e-3, 100)),
)
PROFILES = st.builds(
    LayerProfile,
    first_share=st.floats(0.1, 2),
    ramp_layers=st.floats(0.5, 30),
    spread=st.floats(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(FAMILIES, PROFILES, st.integers(2, 300), st.integers(1, 70), st.integers(0, 2**31))
def test_shares_of_every_layer_sum_to_one(spec, profile, experts, layers, seed):
    shares = popularity(spec, experts, layers, seed, profile)
    assert shares.shape == (layers, experts)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


@settings(max_examples=60, deadline=None)
@given(FAMILIES, st.integers(2, 128), st.data())
def test_inclusion_is_a_probability_and_sums_to_k(spec, experts, data):
    top_k = data.draw(st.integers(1, experts))
    included = inclusion(popularity(spec, experts, 3, 1), top_k)
    assert (included >= 0).all()
    assert (included <= 1).all()
    np.testing.assert_allclose(included.sum(axis=1), top_k, rtol=1e-9)


def test_same_seed_same_shares_other_seed_others():
    spec = LognormalPopularity(sigma=1.0)
    first, again, other = (popularity(spec, 64, 4, seed) for seed in (7, 7, 8))
    assert (first == again).all()
    assert not np.isclose(first, other).any()


def test_zipf_by_hand():
    shares = popularity(ZipfPopularity(exponent=1.0), 3, 1, 1)
    np.testing.assert_allclose(np.sort(shares[0])[::-1], np.array([6, 3, 2]) / 11)


def test_a_lognormal_has_its_sigma_and_a_dirichlet_its_variance():
    shares = popularity(LognormalPopularity(sigma=0.8), 2000, 50, 1)
    assert np.log(shares).std(axis=1).mean() == pytest.approx(0.8, rel=0.01)
    alpha, experts = 0.5, 200
    shares = popularity(DirichletPopularity(alpha=alpha), experts, 400, 1)
    variance = (experts - 1) / experts**2 / (experts * alpha + 1)
    assert shares.var() == pytest.approx(variance, rel=0.05)


def test_an_expert_takes_at_most_one_pair_of_a_token():
    """0.5 of the pairs at top-4 would be 2 a token; 1 is possible, the rest goes to the others."""
    included = inclusion(np.array([[0.5, 0.3, 0.1, 0.05, 0.05]]), 2)
    np.testing.assert_allclose(included, [[1.0, 0.6, 0.2, 0.1, 0.1]])
    included = inclusion(np.array([[0.6, 0.2, 0.1, 0.1]]), 2)
    np.testing.assert_allclose(included, [[1.0, 0.5, 0.25, 0.25]])


def test_first_layers_are_less_skewed_when_the_profile_says_so():
    profile = LayerProfile(first_share=0.5, ramp_layers=2.0)
    shares = popularity(LognormalPopularity(sigma=1.0), 4000, 30, 1, profile)
    skew = np.log(shares).std(axis=1)
    assert skew[0] == pytest.approx(0.5, rel=0.05)
    assert skew[2] == pytest.approx(1 - 0.5 * np.exp(-1), rel=0.05)
    assert skew[-1] == pytest.approx(1.0, rel=0.05)


# --- drift -------------------------------------------------------------------------------------


def test_drift_has_its_size_and_memory():
    base = np.full((1, 4000), 1 / 4000)
    moved = drifting(base, Drift(sigma=0.2, memory=0.6), 200, np.random.default_rng(1))
    z = np.log(moved[:, 0] * 4000)
    assert z.std() == pytest.approx(0.2, rel=0.03)
    one_window = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(z)])
    assert one_window == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(moved.sum(axis=2), 1.0)


def test_no_drift_is_no_change():
    base = popularity(ZipfPopularity(exponent=0.7), 16, 2, 1)
    np.testing.assert_allclose(drifting(base, Drift(), 3, np.random.default_rng(0))[2], base)


# --- histograms --------------------------------------------------------------------------------


def test_a_histogram_is_normalised_by_layer_and_window():
    spec = HistogramPopularity(windows=(((1, 3), (2, 2)), ((5, 5), (0, 8))))
    shares = histogram_shares(spec, 2, 2)
    np.testing.assert_allclose(shares, [[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0, 1]]])
    np.testing.assert_allclose(popularity(spec, 2, 2, 1), shares[-1])


def test_one_layer_stands_for_all():
    spec = HistogramPopularity(windows=(((1, 3),),))
    np.testing.assert_allclose(popularity(spec, 2, 5, 1), np.tile([0.25, 0.75], (5, 1)))


@pytest.mark.parametrize(
    ("experts", "layers", "message"),
    [(3, 2, "has 2 experts a layer, the model has 3"), (2, 58, "has 2 layers, the model has 58")],
)
def test_a_histogram_of_another_model_is_refused(experts, layers, message):
    spec = HistogramPopularity(windows=(((1, 3), (2, 2)),))
    with pytest.raises(InputError, match=message):
        popularity(spec, experts, layers, 1)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ((((1, -3),),), "layer 0 has a count of -3; counts are 0 or more"),
        ((((1, 2), (0, 0)),), "layer 1 has no tokens at all"),
        ((((1, 2), (1,)),), "one size"),
        ((), "needs a path or windows"),
    ],
)
def test_an_unsound_histogram_is_refused(windows, message):
    with pytest.raises(ValidationError, match=message):
        HistogramPopularity(windows=windows)


def test_a_histogram_must_have_been_read():
    with pytest.raises(InputError, match=r"x\.csv: popularity\.path: .* not been read"):
        popularity(HistogramPopularity(path="x.csv"), 2, 1, 1)


def test_top_k_larger_than_the_experts_is_refused():
    with pytest.raises(InputError, match="top_k: must be 1 to the 4 experts, got 5"):
        inclusion(np.full((1, 4), 0.25), 5)
    with pytest.raises(InputError, match="only 1 experts of a layer are ever used, top_k is 2"):
        inclusion(np.array([[1.0, 0.0, 0.0]]), 2)
