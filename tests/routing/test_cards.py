"""What chance and repetition bring to network cards and expert ranks."""

import numpy as np
import pytest

from planner.routing import Destinations, hot_rank, inclusion, popularity
from planner.routing.alike import repeated_text_correlation
from planner.routing.load import touched_mean
from planner.specs.routing import LognormalPopularity, Routing, UniformPopularity


def test_a_text_repeated_is_as_alike_as_it_is_short():
    """Different tokens, equally often: one in four pairs is equal, no pair of two prompts."""
    apart = [[4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3] for i in range(1000)]
    assert repeated_text_correlation(apart, 400) == pytest.approx(1 / 4, rel=1e-2)


def test_a_text_cut_short_counts_what_is_left():
    """Of 1, 1, 2 repeated to four tokens: 1, 1, 2, 1, so 9/16 + 1/16 within a prompt."""
    texts = [[1, 1, 2], [3, 3, 4]]
    between = 4 * (9 + 1) / 16 / 8  # shares 3/8 and 1/8, of two prompts
    assert repeated_text_correlation(texts, 4) == pytest.approx(10 / 16 - between)


def test_prompts_all_of_one_text_differ_in_nothing():
    assert repeated_text_correlation([[1, 2, 3]] * 5, 300) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("tokens", "nodes_per_token"), [(640, 2.6), (6400, 3.6)])
def test_the_busiest_card_is_as_busy_as_in_a_drawn_exchange(tokens, nodes_per_token):
    """Every token goes to each of four nodes with one probability; cards send and take in."""
    nodes, per_node = 4, 8
    reach = Destinations(7.0, nodes_per_token, 1.0, 1.0, nodes, nodes * per_node)
    rng = np.random.default_rng(1)
    n, p = tokens // (nodes * per_node), nodes_per_token / nodes
    # from [node, card] to [node]: tokens of one rank that go there
    sent = rng.binomial(n, p, (4000, nodes, per_node, nodes)).astype(float)
    sent[:, range(nodes), :, range(nodes)] = 0.0
    out, into = sent.sum(axis=3), sent.sum(axis=1).swapaxes(1, 2)
    busiest = np.maximum(out, into).reshape(4000, -1).max(axis=1)
    assert reach.card_ratio(float(tokens)) == pytest.approx((busiest / out.mean()).mean(), rel=0.02)


def test_cards_of_a_hot_node_are_busier_than_its_tokens_alone():
    reach = Destinations(7.0, 3.1, 1.3, 1.1, 4, 32)
    few, many = reach.card_ratio(np.array([1e3, 1e9]))
    assert few > many == pytest.approx(1.1, rel=1e-3)


def test_one_node_has_no_cards_to_wait_for():
    assert Destinations(4.0, 1.0, 1.2, 1.0, 1, 8).card_ratio(100.0) == 1.0


def test_touched_slots_between_tabulated_batches_are_exact_for_equal_experts(r1):
    table = hot_rank(Routing(popularity=UniformPopularity()), r1, 32)
    for tokens in (3.0, 6.0, 24.0, 100.0):
        assert table.mean_touched(tokens) == pytest.approx(8 * (1 - (1 - 8 / 256) ** tokens))


def test_touched_slots_between_tabulated_batches_are_those_of_skewed_experts(r1):
    """Counted exactly at 3, 5, 6 and 48 tokens; linear in the logarithm it would be 4 % off."""
    skewed = LognormalPopularity(sigma=0.9)
    table = hot_rank(Routing(popularity=skewed, placement="contiguous"), r1, 4)
    included = inclusion(popularity(skewed, r1.experts, r1.layers, 1), r1.top_k)
    tokens = np.array([3.0, 5.0, 6.0, 48.0])
    exact = [touched_mean(included, table.placement, n) for n in tokens]
    np.testing.assert_allclose(table.mean_touched(tokens), exact, rtol=6e-3)
