"""Placement of experts: what always holds, what it costs to move, and how good it could be."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError, InputError
from planner.routing import (
    Layout,
    Placement,
    aligned,
    any_placement_bound,
    balanced,
    best_split,
    contiguous,
    drifting,
    largest_rank_bound,
    moved_slots,
    place,
    popularity,
    rebalance,
)
from planner.routing.placement import replicate
from planner.specs.routing import Drift, LognormalPopularity


@st.composite
def cases(draw):
    """Loads ``[layers, experts]``, ep and redundant copies that fit."""
    experts, ep = draw(st.integers(1, 24)), draw(st.integers(1, 12))
    most = experts * (ep - 1)
    sizes = [r for r in range(most + 1) if (experts + r) % ep == 0]
    redundant = draw(st.sampled_from(sizes)) if sizes else None
    if redundant is None:
        ep, redundant = 1, 0
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    load = rng.lognormal(0, draw(st.floats(0, 2.5)), (draw(st.integers(1, 4)), experts))
    load[rng.random(load.shape) < draw(st.floats(0, 0.5))] = 0.0
    load[:, 0] += 1e-3
    return load, ep, redundant


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_slot_is_filled_every_expert_placed_and_none_twice_on_a_rank(case):
    load, ep, redundant = case
    placement = place(load, Layout(ep, redundant))
    assert placement.slots == load.shape[1] + redundant
    assert placement.slots == ep * placement.local_slots
    assert ((placement.slot_expert >= 0) & (placement.slot_expert < load.shape[1])).all()
    assert placement.copies.min() >= 1
    assert placement.per_rank().max() == 1
    np.testing.assert_allclose(placement.rank_load(load).sum(axis=1), load.sum(axis=1))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_between_the_bound_and_the_trivial_placement(case):
    load, ep, redundant = case
    placement = place(load, Layout(ep, redundant))
    hottest = placement.rank_load(load).max(axis=1)
    trivial = contiguous(len(load), load.shape[1], ep, redundant).rank_load(load).max(axis=1)
    assert (hottest <= trivial * (1 + 1e-9)).all()
    bound = largest_rank_bound(load, placement.copies, ep)
    assert (bound <= hottest * (1 + 1e-9)).all()
    assert (bound >= load.sum(axis=1) / ep * (1 - 1e-9)).all()


@settings(max_examples=200, deadline=None)
@given(cases(), st.floats(0, 2), st.integers(0, 2**31))
def test_no_placement_from_any_window_with_any_copies_is_below_its_bound(case, drift, seed):
    """Placed by the load served, by that of another window, in order, or dealt blindly."""
    past, ep, redundant = case
    rng = np.random.default_rng(seed)
    layers, experts = past.shape
    served = past * rng.lognormal(0, drift, past.shape)
    extra = rng.integers(0, experts, (layers, redundant))
    every_one = np.broadcast_to(np.arange(experts), (layers, experts))
    blind = rng.permuted(np.concatenate([every_one, extra], axis=1), axis=1)
    bound = any_placement_bound(served, redundant, ep)
    for placement in (
        place(served, Layout(ep, redundant)),
        place(past, Layout(ep, redundant)),
        contiguous(layers, experts, ep, redundant),
        Placement(blind, experts, ep),
    ):
        hottest = placement.rank_load(served).max(axis=1)
        assert (bound <= hottest * (1 + 1e-9)).all()
    assert (bound >= served.sum(axis=1) / ep * (1 - 1e-9)).all()


def test_the_bound_of_any_placement_by_hand():
    """Loads 4 2 1 1 in five slots, one a rank: the copy belongs to the first, and 2 is left."""
    served, past = np.array([[4.0, 2.0, 1.0, 1.0]]), np.array([[1.0, 4.0, 1.0, 1.0]])
    assert any_placement_bound(served, 1, 5).tolist() == [2.0]
    assert place(served, Layout(5, 1)).rank_load(served).max() == 2.0
    late = place(past, Layout(5, 1))
    assert late.copies.tolist() == [[1, 2, 1, 1]]
    assert largest_rank_bound(served, late.copies, 5).tolist() == [4.0]
    assert any_placement_bound(served, 0, 2).tolist() == [5.0]  # 4 and the lighter of the others


@settings(max_examples=40, deadline=None)
@given(cases())
def test_no_split_of_traffic_beats_the_linear_programme(case):
    load, ep, redundant = case
    placement = place(load, Layout(ep, redundant))
    hottest = placement.rank_load(load).max(axis=1)
    best = best_split(load, placement)
    assert (best <= hottest * (1 + 1e-7)).all()
    assert (best >= load.sum(axis=1) / ep * (1 - 1e-7)).all()


@settings(max_examples=60, deadline=None)
@given(cases())
def test_copies_go_where_the_largest_load_per_copy_becomes_smallest(case):
    """Taking a copy from any expert and giving it to the hottest cannot help."""
    load, ep, redundant = case
    copies = replicate(load, redundant, ep)
    assert copies.sum(axis=1).tolist() == [load.shape[1] + redundant] * len(load)
    for row, number in zip(load, copies, strict=True):
        per_copy = row / number
        hot = int(np.argmax(per_copy))
        if number[hot] == ep:
            continue
        for donor in np.flatnonzero(number > 1):
            if donor != hot:
                other = row[donor] / (number[donor] - 1)
                assert other >= per_copy[hot] * (1 - 1e-9)


def test_more_redundancy_is_never_worse_on_average():
    load = popularity(LognormalPopularity(sigma=1.0), 256, 58, 1)
    for ep in (32, 72, 144):
        first = -256 % ep
        means = [
            place(load, Layout(ep, redundant)).imbalance(load).mean()
            for redundant in range(first, first + 3 * ep + 1, ep)
        ]
        assert all(b <= a + 1e-3 for a, b in pairwise(means)), (ep, means)


def test_a_small_placement_by_hand():
    """Loads 6 3 2 1 on 2 ranks with 2 more copies: 6 and 3 are doubled, 2 and 1 go apart."""
    load = np.array([[6.0, 3.0, 2.0, 1.0]])
    placement = balanced(load, 2, 2)
    assert placement.copies.tolist() == [[2, 2, 1, 1]]
    assert sorted(placement.rank_load(load)[0]) == [5.5, 6.5]
    assert largest_rank_bound(load, placement.copies, 2)[0] == 6.0
    assert best_split(load, placement)[0] == pytest.approx(6.0)  # 3 is split 2 to 1


@pytest.mark.parametrize(
    ("ep", "redundant"), [(32, 0), (32, 32), (36, 32), (72, 32), (144, 32), (320, 64), (288, 32)]
)
def test_any_degree_near_its_bound(ep, redundant):
    load = popularity(LognormalPopularity(sigma=1.0), 256, 20, 2)
    placement = place(load, Layout(ep, redundant))
    hottest = placement.rank_load(load).max(axis=1)
    bound = largest_rank_bound(load, placement.copies, ep)
    assert (hottest / bound).mean() < 1.02
    assert placement.local_slots == (256 + redundant) // ep


def test_deepseeks_own_layouts_have_their_slots():
    """Nine routed experts a device at EP32, two at EP144 (beside the shared expert)."""
    assert contiguous(1, 256, 32, 32).local_slots == 9
    assert contiguous(1, 256, 144, 32).local_slots == 2


def test_hierarchical_keeps_a_group_on_one_node():
    load = popularity(LognormalPopularity(sigma=1.0), 64, 6, 3)
    layout = Layout(16, 16, "hierarchical", groups=8, ranks_per_node=4)
    placement = place(load, layout)
    assert placement.copies.min() >= 1
    assert placement.per_rank().max() == 1
    node = np.arange(placement.slots) // placement.local_slots // 4
    for row in placement.slot_expert:
        homes = [set(node[row // 8 == group]) for group in range(8)]
        assert all(len(home) == 1 for home in homes)
    free = place(load, Layout(16, 16)).imbalance(load).mean()
    assert free <= placement.imbalance(load).mean()
    assert placement.imbalance(load).mean() < contiguous(6, 64, 16, 16).imbalance(load).mean()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(300), "expert-parallel degree: needs 300 expert slots, has 256"),
        (Layout(72), r"must be even.*use 32 redundant experts"),
        (Layout(2, 512), "redundant experts: needs 512 ranks without the expert, has 256"),
        (
            Layout(12, 8, "hierarchical", groups=8),
            "whole nodes of 8 ranks: needs 16 ranks, has 12.*placement: global",
        ),
        (
            Layout(72, 32, "hierarchical", groups=8),
            "9 nodes divide.*expert groups.*placement: global",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_refused(layout, message):
    with pytest.raises(InfeasibleError, match=message):
        place(np.ones((1, 256)), layout)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ([[1.0, -1.0]], "must be finite and 0 or more"),
        ([[1.0, 2.0], [0.0, 0.0]], "layer 1 has no load at all"),
    ],
)
def test_an_unsound_load_is_refused(load, message):
    with pytest.raises(InputError, match=message):
        place(np.array(load), Layout(1))


@settings(max_examples=80, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_copies_take_tokens_in_turn(case, seed):
    """Slots of an expert add up to its tokens and differ by one at most."""
    load, ep, redundant = case
    placement = place(load, Layout(ep, redundant))
    rng = np.random.default_rng(seed)
    counts = rng.poisson(5.0, (3, *load.shape)).astype(float)
    dealt = placement.deal(counts, rng)
    for layer, row in enumerate(placement.slot_expert):
        for expert in range(load.shape[1]):
            mine = dealt[:, layer, row == expert]
            np.testing.assert_array_equal(mine.sum(axis=1), counts[:, layer, expert])
            assert np.ptp(mine, axis=1).max() <= 1


# --- moving ------------------------------------------------------------------------------------


def test_moved_slots_by_hand():
    before = Placement(np.array([[0, 1, 2, 3]]), 4, 2)
    assert moved_slots(before, Placement(np.array([[1, 0, 3, 2]]), 4, 2)).tolist() == [0]
    assert moved_slots(before, Placement(np.array([[0, 2, 1, 3]]), 4, 2)).tolist() == [2]
    assert moved_slots(before, Placement(np.array([[2, 3, 0, 1]]), 4, 2)).tolist() == [4]


def test_renaming_ranks_keeps_loads_and_moves_less():
    base = popularity(LognormalPopularity(sigma=1.0), 64, 6, 1)
    later = drifting(base, Drift(sigma=0.3), 1, np.random.default_rng(1))[0]
    before, after = (place(load, Layout(8, 8)) for load in (base, later))
    renamed = aligned(before, after)
    np.testing.assert_allclose(renamed.imbalance(later), after.imbalance(later))
    assert (renamed.copies == after.copies).all()
    assert (moved_slots(before, renamed) <= moved_slots(before, after)).all()
    assert moved_slots(before, renamed).sum() < 0.9 * moved_slots(before, after).sum()


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_no_other_names_of_ranks_move_less(nodes):
    """Every order of nodes, and of the ranks within each, is tried."""
    ep, size = 6, 6 // nodes
    rng = np.random.default_rng(nodes)
    before, after = (
        Placement(rng.permuted(np.arange(24)[None].repeat(3, axis=0), axis=1), 24, ep)
        for _ in range(2)
    )
    rows = after.slot_expert.reshape(3, ep, 4)
    orders = [
        np.concatenate(
            [node * size + np.array(own) for node, own in zip(order, inner, strict=True)]
        )
        for order in permutations(range(nodes))
        for inner in product(permutations(range(size)), repeat=nodes)
    ]
    each = [
        moved_slots(before, Placement(rows[:, order].reshape(3, 24), 24, ep)) for order in orders
    ]
    renamed = aligned(before, after, nodes)
    np.testing.assert_array_equal(moved_slots(before, renamed), np.min(each, axis=0))
    node = np.arange(24) // 4 // size
    for old, new in zip(after.slot_expert, renamed.slot_expert, strict=True):
        homes = {frozenset(old[node == n]) for n in range(nodes)}
        assert {frozenset(new[node == n]) for n in range(nodes)} == homes


def test_nodes_that_trade_their_groups_are_renamed_and_nothing_moves():
    layout = Layout(4, 0, "hierarchical", groups=2, ranks_per_node=2)
    one = np.array([[[1.0, 2, 3, 4, 4, 3, 2, 1]]]) / 20
    other = np.array([[[4.0, 3, 2, 1, 1, 2, 3, 4]]]) / 20
    traded = place(other[0], layout)
    assert moved_slots(place(one[0], layout), traded).tolist() != [0]
    found = rebalance(np.concatenate([one, other, other]), layout, 1, 1.0)
    assert found.moved_bytes.tolist() == [0, 0, 0]


def test_rebalancing_helps_when_popularity_remembers_and_costs_bytes():
    base = popularity(LognormalPopularity(sigma=0.8), 64, 8, 1)
    drift = Drift(sigma=0.5, memory=0.95)
    shares = drifting(base, drift, 12, np.random.default_rng(5))
    never = rebalance(shares, Layout(8, 8), 0, 1e6)
    often = rebalance(shares, Layout(8, 8), 1, 1e6)
    assert never.moved_bytes.sum() == 0
    assert often.imbalance[4:].mean() < never.imbalance[4:].mean()
    assert (often.moved_bytes[2:] > 0).all()
    assert (often.moved_bytes <= 8 * 72 * 1e6).all()
    assert (often.moved_bytes_max_rank <= often.moved_bytes).all()
    assert (often.moved_bytes_max_rank * 8 >= often.moved_bytes).all()


def test_without_drift_nothing_moves():
    shares = np.tile(popularity(LognormalPopularity(sigma=1.0), 32, 3, 1), (4, 1, 1))
    result = rebalance(shares, Layout(8, 8), 1, 1.0)
    assert result.moved_bytes.sum() == 0
    assert np.ptp(result.imbalance) == 0
