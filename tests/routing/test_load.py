"""Tables of the hottest rank: exact cases, laws, and their use by a step model."""

import time
from dataclasses import asdict

import numpy as np
import pytest

from planner.errors import InfeasibleError, InputError
from planner.routing import (
    GRID_TOKENS,
    Gate,
    Layout,
    Sampling,
    contiguous,
    destinations,
    distinct,
    expert_load,
    hot_rank,
    load,
    place,
    popularity,
    sample_counts,
    windows,
)
from planner.specs.routing import (
    Drift,
    HistogramPopularity,
    LognormalPopularity,
    Routing,
    UniformPopularity,
    ZipfPopularity,
)

SKEWED = Routing(popularity=LognormalPopularity(sigma=1.0))


def test_uniform_touched_slots_are_the_closed_form(r1):
    """E (1 - (1 - k/E)^B) over all ranks, exactly."""
    table = hot_rank(Routing(popularity=UniformPopularity()), r1, 32)
    for tokens in (1, 64, 1024):
        assert table.mean_touched(tokens) * 32 == pytest.approx(256 * (1 - (1 - 8 / 256) ** tokens))


def test_touched_copies_by_hand():
    """Top-1 of 2 experts on 3 ranks, the first twice: E min(n0, 2) + P(n1 > 0) for 2 tokens."""
    shares = np.array([[0.75, 0.25]])
    placement = place(shares, Layout(3, 1))
    assert placement.copies.tolist() == [[2, 1]]
    sampling = Sampling(draws=4000)
    load = expert_load(shares, placement, np.array([2.0]), Gate(2, 1), 1, sampling)
    both, mixed, other = 0.75**2, 2 * 0.75 * 0.25, 0.25**2
    assert load.touched_mean[0] * 3 == pytest.approx(2 * both + 2 * mixed + other)
    assert load.touched_max[0] == 1
    hottest = (1 * both + 1 * mixed + 2 * other) / (2 / 3)
    assert load.rank_ratio[0] == pytest.approx(hottest, rel=0.03)


def test_one_rank_with_everything_is_even(r1):
    table = hot_rank(SKEWED, r1, 1)
    np.testing.assert_allclose(table.ratio, 1.0)
    np.testing.assert_allclose(table.touched_hot, table.touched_max)
    assert table.touched_hot[-1] == 256


def test_one_token_by_hand():
    """Top-2 of 4 experts on 4 ranks: two ranks get one pair, the mean is a half: ratio 2."""
    gate = Gate(experts=4, top_k=2)
    load = expert_load(np.full((1, 4), 0.25), contiguous(1, 4, 4), np.array([1.0]), gate, 1)
    assert load.rank_ratio[0] == 2
    assert load.touched_hot[0] == load.touched_max[0] == 1
    assert load.hot_pairs[0] == 1
    assert load.touched_mean[0] == pytest.approx(0.5)


def test_large_batches_reach_the_popularity_itself(r1):
    past, served = windows(SKEWED, r1)
    table = hot_rank(SKEWED.model_copy(update={"placement": "contiguous"}), r1, 32)
    expected = contiguous(58, 256, 32).imbalance(served).mean()
    assert table.pairs_ratio(1e6) == pytest.approx(expected, rel=0.02)
    assert (past == served).all()


def test_balanced_is_exactly_even_and_agrees_with_equally_popular_slots(r1):
    table = hot_rank(Routing(), r1, 72, 32)
    tokens = np.array([0.0, 0.5, 1.0, 64.0, 4096.0, 1e7])
    np.testing.assert_allclose(table.pairs_ratio(tokens), 1.0)
    touched = 4 * (1 - (1 - 8 / 288) ** tokens[2:5])
    np.testing.assert_allclose(table.touched(tokens)[2:5], touched)
    assert table.touched(0.0) == 0
    assert table.touched(0.5) == pytest.approx(touched[0] / 2)


@pytest.mark.parametrize("ep", [32, 72])
def test_laws_of_a_table(r1, ep):
    redundant = 32
    even, plain = (
        hot_rank(SKEWED.model_copy(update={"placement": policy}), r1, ep, redundant)
        for policy in ("global", "contiguous")
    )
    for table in (even, plain):
        assert (table.ratio >= 1).all()
        assert (table.touched_max >= table.touched_hot - 1e-9).all()
        assert (table.touched_max >= table.touched_mean - 1e-9).all()
        assert (table.touched_max <= table.local_slots).all()
        assert (np.diff(table.touched_mean) >= 0).all()
        assert (np.diff(table.touched_max) >= -0.05).all()
        tokens = np.geomspace(1, 1e6, 400)
        assert (np.diff(table.pairs_ratio(tokens) * tokens) > 0).all()  # hot pairs always rise
        assert (table.ratio_p95 >= table.ratio * 0.999).all()
    assert (even.ratio <= plain.ratio * 1.001).all()
    assert even.ratio[-1] < 1.05 < plain.ratio[-1]


def test_ratio_falls_with_tokens(r1):
    """Chance evens out: the ratio at 2^20 tokens is below that at 64, which is below that at 1."""
    table = hot_rank(SKEWED, r1, 32, 32)
    assert table.pairs_ratio(1) > table.pairs_ratio(64) > table.pairs_ratio(2**20)


def test_exact_and_approximate_tables_meet(r1):
    """Token by token at 32 and 256 tokens against the table, which approximates there."""
    gate = Gate.of(r1)
    shares = popularity(LognormalPopularity(sigma=0.8), 256, 4, 1)
    placement = place(shares, Layout(32))
    load = expert_load(shares, placement, np.array([32.0, 256.0]), gate, 1, Sampling(draws=200))
    for i, tokens in enumerate((32, 256)):
        exact = sample_counts(gate, shares, tokens, 2, Sampling(draws=60), "exact")
        ranks = placement.rank_load(exact)
        ratio = (ranks.max(axis=2) / ranks.mean(axis=2)).mean()
        assert load.rank_ratio[i] == pytest.approx(ratio, rel=0.03)


def test_drift_makes_a_placement_worse(r1):
    ratios = [
        hot_rank(SKEWED.model_copy(update={"drift": Drift(sigma=s)}), r1, 32, 32).ratio[-1]
        for s in (0.0, 0.1, 0.3)
    ]
    assert ratios == sorted(ratios)
    assert ratios[2] > ratios[0] + 0.05


def test_alike_prompts_make_the_hot_rank_hotter(r1):
    uniform = Routing(popularity=UniformPopularity(), prompt_correlation=0.2)
    table = hot_rank(uniform, r1, 32)
    assert table.pairs_ratio(8192, 1024) > table.pairs_ratio(8192) + 0.1
    assert table.pairs_ratio(8192, 1.0) == table.pairs_ratio(8192)
    # as routing prompts one by one has it
    shares = popularity(UniformPopularity(), 256, 58, 1)
    sampling = Sampling(draws=40, correlation=0.05, tokens_per_prompt=256)
    alike = Routing(popularity=UniformPopularity(), prompt_correlation=0.05)
    drawn = expert_load(
        shares, contiguous(58, 256, 32), np.array([4096.0, 65536.0]), Gate.of(r1), 3, sampling
    )
    read = [hot_rank(alike, r1, 32).pairs_ratio(n, 256.0) - 1 for n in drawn.tokens]
    assert read == pytest.approx(drawn.rank_ratio - 1, rel=0.1)


def test_a_histogram_places_by_its_past_and_serves_its_last_window(r1):
    rng = np.random.default_rng(1)
    counts = rng.gamma(1.0, 1.0, (3, 1, 256)) * 1000 + 1
    recorded = tuple(tuple(tuple(row) for row in window) for window in counts.tolist())
    past, served = windows(Routing(popularity=HistogramPopularity(windows=recorded)), r1)
    mean = (counts[:2] / counts[:2].sum(axis=2, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(past[0], mean[0])
    np.testing.assert_allclose(served[57], counts[2, 0] / counts[2, 0].sum())


def test_node_limited_routing_reaches_fewer_nodes(r1):
    """Experts of a group on one node, 4 of 8 groups: at most 4 of 8 nodes."""
    shares = popularity(UniformPopularity(), 256, 2, 1)
    limited, free = Gate.of(r1), Gate(256, 8, scoring="sigmoid")
    placement = contiguous(2, 256, 64)
    near = destinations(limited, shares, placement, 8, 1)
    far = destinations(free, shares, placement, 8, 1)
    assert near.nodes_per_token <= 4
    assert far.nodes_per_token == pytest.approx(8 * (1 - (1 - 1 / 8) ** 8), rel=0.06)
    assert near.nodes_per_token <= near.ranks_per_token <= 8


def test_chance_makes_no_rank_hot_of_equally_popular_experts(r1):
    """Of 1,024 routed tokens one of 64 ranks gets a third more than the mean."""
    shares = popularity(UniformPopularity(), 256, 2, 1)
    found = destinations(Gate.of(r1), shares, contiguous(2, 256, 64), 8, 1)
    assert found.rank_ratio == pytest.approx(1.0)
    table = hot_rank(Routing(popularity=UniformPopularity()), r1, 64)
    few, many = (table.arrivals_ratio(tokens)[0] for tokens in (1024, 2**20))
    assert many < 1.03
    assert few > 1.2


def test_same_seed_same_table(r1):
    tables = [hot_rank.__wrapped__(SKEWED, r1, 36, 32) for _ in range(2)]
    assert (tables[0].ratio == tables[1].ratio).all()
    assert (tables[0].touched_hot == tables[1].touched_hot).all()


def test_a_layout_met_after_another_has_the_table_it_has_alone(r1):
    load._kept_counts.cache_clear()
    load._kept_tokens.cache_clear()
    alone = hot_rank.__wrapped__(SKEWED, r1, 32)
    hot_rank.__wrapped__(SKEWED, r1, 8)
    hot_rank.__wrapped__(SKEWED, r1, 36, 32)
    after = hot_rank.__wrapped__(SKEWED, r1, 32)
    assert (alone.load.rank_ratio_by_layer == after.load.rank_ratio_by_layer).all()
    assert asdict(alone.reach) == asdict(after.reach)
    assert load._kept_counts.cache_info().hits == 2


def test_reading_a_table_is_cheap(r1):
    """The event loop pays nothing: below 20 us a read, a million tokens included."""
    table = hot_rank(SKEWED, r1, 32, 32)
    start = time.perf_counter()
    for tokens in range(1, 1001):
        table.pairs_ratio(float(tokens))
    assert (time.perf_counter() - start) / 1000 < 100e-6
    assert isinstance(table.pairs_ratio(10.0), float)
    assert table.pairs_ratio(GRID_TOKENS).shape == GRID_TOKENS.shape


def test_what_does_not_fit_together_is_refused(r1):
    with pytest.raises(InfeasibleError, match="expert-parallel degree"):
        hot_rank(SKEWED, r1, 512)
    with pytest.raises(InputError, match="is for 1 layers x 4 experts"):
        expert_load(np.full((1, 8), 0.125), contiguous(1, 4, 2), GRID_TOKENS, Gate(8, 2), 1)
    with pytest.raises(InputError, match="at least 1 token"):
        expert_load(np.full((1, 4), 0.25), contiguous(1, 4, 2), np.zeros(1), Gate(4, 2), 1)


def test_a_steeper_family_is_hotter(r1):
    ratios = [
        hot_rank(
            Routing(popularity=ZipfPopularity(exponent=s), placement="contiguous"), r1, 32
        ).ratio[-1]
        for s in (0.2, 0.5, 0.8)
    ]
    assert ratios == sorted(ratios)


def test_a_token_that_uses_two_experts_of_a_rank_comes_once_by_hand() -> None:
    # two nodes of two ranks of two slots; every token goes to both slots of rank 0 or to rank 2
    shares = np.array([[[0.5, 0.5], [0.0, 0.0], [0.5, 0.0], [0.0, 0.0]]])
    ranks, nodes = distinct(shares, 2)
    # 1 - 0.5 * 0.5 = 0.75 and 0.5 of the tokens: 0.3125 a rank on average, 0.625 a node
    assert ranks[0] == pytest.approx([2.4, 0.0, 1.6, 0.0])
    assert nodes[0] == pytest.approx([1.2, 1.2, 0.8, 0.8])
    assert distinct(np.zeros((1, 3, 2)), 2)[0] == pytest.approx(np.ones((1, 3)))
