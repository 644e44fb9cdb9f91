"""Which experts tokens pick."""

import numpy as np
import pytest

from planner.calibrate.runner.routing import picks, popularity, route


@pytest.mark.parametrize("distribution", ["balanced", "zipf", "lognormal"])
def test_a_token_picks_distinct_experts(distribution: str) -> None:
    ids = picks(300, 64, 8, distribution, np.random.default_rng(1))
    assert ids.shape == (300, 8)
    assert all(len(set(row)) == 8 for row in ids.tolist())
    assert ids.min() >= 0
    assert ids.max() < 64


def test_balanced_counts_differ_by_one_at_most() -> None:
    counts = np.bincount(picks(100, 48, 8, "balanced", np.random.default_rng(2)).ravel())
    assert counts.max() - counts.min() <= 1


def test_a_skewed_draw_is_more_uneven_than_a_balanced_one() -> None:
    spread = {
        name: np.bincount(picks(4096, 64, 8, name, np.random.default_rng(3)).ravel()).std()
        for name in ("balanced", "zipf", "lognormal")
    }
    assert spread["zipf"] > 10 * spread["balanced"] + 10
    assert spread["lognormal"] > 10


@pytest.mark.parametrize("local", [64, 16, 2, 1])
def test_a_device_holds_the_pairs_of_its_own_experts(local: int) -> None:
    here = route(512, 64, local, 8, "zipf", np.random.default_rng(4))
    assert here.counts.sum() == here.pairs == (here.ids >= 0).sum()
    assert len(here.counts) == local
    assert (here.ids >= 0).any(axis=1).all()
    assert here.ids.max() < local
    assert here.touched == np.count_nonzero(here.counts)


def test_devices_of_a_balanced_group_get_equal_shares() -> None:
    here = route(1024, 64, 8, 8, "balanced", np.random.default_rng(5))
    assert here.pairs == 1024 * 8 // 8


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="balanced, zipf, lognormal"):
        popularity(8, "pareto", np.random.default_rng(0))
