"""Routing token by token, and the moments that stand for it in large batches."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner import files
from planner.errors import InputError
from planner.routing import Gate, Sampling, contiguous, inclusion, popularity, sample_counts
from planner.routing.counts import chosen_experts, exact_counts, group_excess
from planner.routing.gate import calibrated, choose, scores
from planner.specs.routing import LognormalPopularity

SOFTMAX = Gate(experts=32, top_k=4)
SIGMOID = Gate(experts=32, top_k=4, scoring="sigmoid")
LIMITED = Gate(experts=64, top_k=6, groups=8, top_k_groups=3, scoring="sigmoid")
R1 = Gate(experts=256, top_k=8, groups=8, top_k_groups=4, scoring="sigmoid")
V2 = Gate(experts=160, top_k=6, groups=8, top_k_groups=3, group_score="best")


def shares(gate: Gate, sigma: float = 1.0, layers: int = 1) -> np.ndarray:
    return popularity(LognormalPopularity(sigma=sigma), gate.experts, layers, 5)


# --- a token's choice --------------------------------------------------------------------------


def test_group_limited_choice_by_hand():
    """Groups {0,1,2} {3,4,5} {6,7,8}; the best expert is alone in a group with a low sum of two."""
    gate = Gate(experts=9, top_k=2, groups=3, top_k_groups=1, scoring="sigmoid")
    affinity = np.array([[0.9, 0.1, 0.1, 0.6, 0.7, 0.1, 0.2, 0.3, 0.4]])
    assert set(choose(gate, np.log(affinity / (1 - affinity)))[0]) == {3, 4}
    free = Gate(experts=9, top_k=2, scoring="sigmoid")
    assert set(choose(free, np.log(affinity / (1 - affinity)))[0]) == {0, 4}


def test_the_best_of_a_group_and_its_two_best_open_different_groups():
    """Shares 0.30, 0.04 | 0.22, 0.20 | 0.10, 0.07: the first group by its best, the second by the
    sum of two (0.34 < 0.42)."""
    shares_of_a_token = np.array([[0.30, 0.04, 0.01, 0.20, 0.22, 0.01, 0.05, 0.07, 0.10]])
    for group_score, expected in (("best", {0, 1}), ("best_two", {3, 4})):
        gate = Gate(experts=9, top_k=2, groups=3, top_k_groups=1, group_score=group_score)
        assert set(choose(gate, np.log(shares_of_a_token))[0]) == expected


def test_models_say_what_ranks_their_groups():
    """As many groups as are kept have the best expert, but it alone, the others two nearly as good:
    DeepSeek-V2 opens the first, V3 the others."""
    limited = {}
    for name in files.model_names():
        moe = files.load_model(name).moe
        if moe is not None and Gate.of(moe).grouped:
            limited[name] = Gate.of(moe)
    assert {n for n, gate in limited.items() if gate.group_score == "best"} == {"deepseek-v2"}
    assert {"deepseek-r1", "deepseek-v3", "deepseek-v3.2"} < limited.keys()

    def groups_opened(gate: Gate) -> set[int]:
        size = gate.experts // gate.groups
        noisy = np.full((1, gate.experts), -9.0)
        alone, together = gate.top_k_groups, gate.groups - gate.top_k_groups
        noisy[0, [g * size for g in range(alone)]] = -1.0
        for g in range(alone, alone + together):
            noisy[0, [g * size, g * size + 1]] = -1.3
        return {int(e) // size for e in choose(gate, noisy)[0]}

    v2, v3 = limited["deepseek-v2"], limited["deepseek-v3"]
    assert groups_opened(v2) == {0, 1, 2}
    assert groups_opened(v3) == {4, 5, 6, 7}


@given(st.integers(1, 7), st.integers(0, 1000))
@example(top_k_groups=1, seed=0)
def test_the_best_expert_of_all_is_taken_where_groups_are_ranked_by_their_best(top_k_groups, seed):
    noisy = np.random.default_rng(seed).gumbel(size=(20, V2.experts))
    chosen = choose(replace(V2, top_k_groups=top_k_groups), noisy)
    assert (chosen == noisy.argmax(axis=1)[:, None]).any(axis=1).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([SOFTMAX, SIGMOID, LIMITED, R1, V2]), st.integers(0, 1000))
def test_a_token_goes_to_k_different_experts_of_few_enough_groups(gate, seed):
    fixed = scores(gate, inclusion(shares(gate), gate.top_k))[0]
    chosen = chosen_experts(gate, fixed, 50, Sampling(draws=2), np.random.default_rng(seed))
    flat = chosen.reshape(-1, gate.top_k)
    assert all(len(set(row)) == gate.top_k for row in flat.tolist())
    size = gate.experts // gate.groups
    assert max(len({e // size for e in row}) for row in flat.tolist()) <= gate.top_k_groups


def test_all_experts_are_chosen_when_k_is_all():
    gate = Gate(experts=4, top_k=4)
    assert (sample_counts(gate, np.full((2, 4), 0.25), 10, 1) == 10).all()


@pytest.mark.parametrize("gate", [SOFTMAX, SIGMOID], ids=lambda g: g.scoring)
def test_each_expert_is_chosen_with_its_probability(gate):
    """200,000 tokens: every expert within 4 standard errors and 1.5 %, skewed popularity."""
    included = inclusion(shares(gate), gate.top_k)
    n = 200_000
    fixed = scores(gate, included)
    seen = exact_counts(gate, fixed, n, Sampling(draws=1), np.random.default_rng(1))[0, 0] / n
    error = 4 * np.sqrt(included[0] * (1 - included[0]) / n)
    assert (np.abs(seen - included[0]) < error + 0.015 * included[0]).all()


def test_group_limited_probabilities_are_met_after_calibration():
    """Total variation from the wanted shares: closed form 3 %, calibrated below 2 %."""
    included = inclusion(popularity(LognormalPopularity(sigma=1.0), 256, 2, 3), 8)
    rng = np.random.default_rng(2)

    def off(fixed):
        n = 40_000
        seen = exact_counts(R1, fixed, n, Sampling(draws=1), rng)[0] / n
        return np.abs(seen - included).sum(axis=1).max() / 2 / 8

    assert off(scores(R1, included)) < 0.045
    assert off(calibrated(R1, included, rng)) < 0.022


def test_closed_form_of_two_equal_among_three():
    """Top-2 of 3 equally popular: every pair has probability 1/3."""
    gate = Gate(experts=3, top_k=2)
    fixed = scores(gate, np.full(3, 2 / 3))
    chosen = chosen_experts(gate, fixed, 30_000, Sampling(draws=1), np.random.default_rng(3))[0]
    for pair in combinations(range(3), 2):
        seen = np.mean([set(row) == set(pair) for row in chosen.tolist()])
        assert seen == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 30_000))


# --- correlation within a prompt ---------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.1, 0.5])
def test_tokens_of_a_prompt_correlate_as_stated(correlation):
    gate = Gate(experts=128, top_k=8, scoring="sigmoid")
    fixed = scores(gate, np.full(128, 8 / 128))
    sampling = Sampling(draws=4000, correlation=correlation, tokens_per_prompt=2)
    chosen = chosen_experts(gate, fixed, 2, sampling, np.random.default_rng(4))
    both = np.mean([len(set(a) & set(b)) for a, b in chosen.tolist()])
    p = 8 / 128
    seen = (both / 128 - p * p) / (p * (1 - p))
    assert seen == pytest.approx(correlation, rel=0.15, abs=0.01)


def test_correlation_leaves_the_mean_and_inflates_the_variance():
    gate, p = Gate(experts=64, top_k=4), 4 / 64
    even = np.full((1, 64), 1 / 64)
    prompts = Sampling(draws=300, correlation=0.3, tokens_per_prompt=16)
    plain = sample_counts(gate, even, 64, 1, Sampling(draws=300), "exact")
    alike = sample_counts(gate, even, 64, 1, prompts, "exact")
    close = sample_counts(gate, even, 64, 1, prompts, "approximate")
    assert plain.mean() == alike.mean() == 64 * p
    assert close.mean() == pytest.approx(64 * p, rel=1e-6)
    assert prompts.inflation(64) == 1 + 15 * 0.3
    assert alike.var() / plain.var() == pytest.approx(prompts.inflation(64), rel=0.2)
    assert close.var() == pytest.approx(alike.var(), rel=0.2)


# --- approximation against exact ---------------------------------------------------------------


@pytest.mark.parametrize("gate", [SOFTMAX, LIMITED], ids=["softmax", "group-limited"])
@pytest.mark.parametrize("tokens", [128, 2048])
def test_approximate_counts_have_the_moments_of_exact_ones(gate, tokens):
    sampling = Sampling(draws=120 if tokens > 1000 else 600)
    p = shares(gate, sigma=0.7)
    exact = sample_counts(gate, p, tokens, 1, sampling, "exact")
    close = sample_counts(gate, p, tokens, 1, Sampling(draws=4000), "approximate")
    np.testing.assert_allclose(close.mean(axis=0).sum(), tokens * gate.top_k, rtol=0.005)
    ranks = contiguous(1, gate.experts, 8)
    for a, b in ((exact, close), (ranks.rank_load(exact), ranks.rank_load(close))):
        assert b.var(axis=0).sum() == pytest.approx(a.var(axis=0).sum(), rel=0.2)
    hot_exact, hot_close = (
        (ranks.rank_load(c).max(axis=-1) / ranks.rank_load(c).mean(axis=-1)).mean()
        for c in (exact, close)
    )
    assert hot_close == pytest.approx(hot_exact, rel=0.03)


def test_exact_and_large_normal_counts_sum_to_all_pairs():
    exact = sample_counts(LIMITED, shares(LIMITED), 40, 1)
    assert (exact.sum(axis=2) == 40 * 6).all()
    large = sample_counts(LIMITED, shares(LIMITED, 0.3), 100_000, 1)
    np.testing.assert_allclose(large.sum(axis=2), 600_000, rtol=1e-4)


def test_experts_of_one_group_are_chosen_together_more_often():
    rng = np.random.default_rng(1)
    assert group_excess(SOFTMAX, np.full((1, 32), 1 / 8), rng) == 0
    even = np.full((4, 256), 8 / 256)
    assert group_excess(R1, even, rng, 8192) == pytest.approx(0.59, abs=0.04)
    # one of two groups, then both its experts: N_g is 0 or 2, the variances add to 2; own part 1/2
    assert group_excess(Gate(4, 2, 2, 1), np.full((1, 4), 0.5), rng) == pytest.approx(3, abs=0.05)


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"experts": 8, "top_k": 9}, "top_k: must be 1 to the 8 experts, got 9"),
        ({"experts": 8, "top_k": 2, "groups": 3}, "groups: 3 must divide 8 experts"),
        (
            {"experts": 8, "top_k": 3, "groups": 4, "top_k_groups": 1},
            "1 groups hold 2 experts, top_k is 3",
        ),
    ],
)
def test_an_impossible_gate_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Gate(**fields)
