"""Grouped experts under skew: half the degrees held out, power laws never fitted."""

import numpy as np
import pytest

from planner.calibrate import account, skew
from planner.errors import InputError


@pytest.fixture(scope="module")
def verdicts():
    return skew.published_errors()


def errors(verdicts, part, split):
    return np.array([
        abs(v.relative_error) for v in verdicts
        if part in v.claim and v.split == split and v.quantity == "moe_layer_s"
    ])  # fmt: skip


@pytest.mark.parametrize("part", ["h100-sxm", "h200-sxm"])
def test_uniform_rows_of_held_out_degrees_are_within_what_was_promised(verdicts, part):
    """Median 12 %, 90th percentile 30 %."""
    held = errors(verdicts, part, "held_out")
    assert len(held) == 32
    assert np.median(held) <= 0.12
    assert np.quantile(held, 0.9) <= 0.30


@pytest.mark.parametrize("part", ["h100-sxm", "h200-sxm"])
def test_power_law_rows_are_predicted_in_size(verdicts, part):
    found = errors(verdicts, part, "unfitted")
    assert len(found) == 280
    assert np.median(found) <= 0.12


def cost(verdicts, part, conditions):
    return next(
        v for v in verdicts
        if v.quantity == "time_over_uniform" and part in v.claim and v.conditions == conditions
    )  # fmt: skip


def test_skew_is_free_while_weights_bind(verdicts):
    found = cost(verdicts, "h100-sxm", "EP128, 128 tokens in the group, power law 1.2")
    assert found.value == pytest.approx(1.0, abs=0.1)
    assert found.predicted == pytest.approx(1.0, abs=0.1)


def test_skew_costs_many_times_once_computation_binds(verdicts):
    mild, strong = (
        cost(verdicts, "h100-sxm", f"EP128, 16,384 tokens in the group, power law {a}")
        for a in ("0.6", "1.2")
    )
    assert mild.value < strong.value
    assert 2 < mild.predicted < strong.predicted
    assert strong.relative_error == pytest.approx(0, abs=0.3)


def test_uniform_load_by_hand():
    """EP16, 32 tokens: 256 pairs over 256 experts, 16 a rank, one each."""
    row = skew.Row("h100-sxm", 16, 32, None, 1e-3)
    pairs, touched = skew.rank_load(row)
    assert (pairs[0], touched[0]) == (16.0, 16.0)
    few = skew.Row("h100-sxm", 4, 4, None, 1e-3)
    pairs, touched = skew.rank_load(few)
    assert (pairs[0], touched[0]) == (8.0, 8.0)


def test_a_part_without_rows_is_refused():
    with pytest.raises(InputError, match="b200"):
        skew.law("b200-sxm")


def test_an_account_of_one_tag_holds_nothing_else():
    assert {v.claim for v in account.account(["network"])} == {
        "Time per token when the network alone counts"
    }
    assert "skew" in account.tags()
