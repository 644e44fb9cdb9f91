"""Rebalancing every few windows while popularity drifts: what it gains and what it moves."""

from dataclasses import dataclass

import numpy as np

from planner.routing.placement import Ints, Layout, Placement, place
from planner.routing.popularity import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Rebalancing:
    """One row a window."""

    imbalance: Floats
    """Hottest over mean rank by expected load, mean over layers, ``[windows]``."""
    moved_bytes: Floats
    """Expert weights fetched before the window, all ranks and layers, ``[windows]``. [bytes]"""
    moved_bytes_max_rank: Floats
    """The most any one rank fetches, ``[windows]``. [bytes]"""
    placements: tuple[Placement, ...]


def rebalance(
    shares: Floats,
    layout: Layout,
    every: int,
    expert_bytes: float,
) -> Rebalancing:
    """Serve window after window, laying the experts out anew every ``every`` windows.

    A placement is made from the mean of the last ``every`` windows seen (window 0 is served with
    a placement made from window 0 itself, at no cost; it is the start).  Ranks are renamed so that
    as little as possible moves (:func:`aligned`).

    Parameters
    ----------
    shares : popularity ``[windows, layers, experts]``.
    every : windows between rebalances; 0 keeps the first placement.
    expert_bytes : stored bytes of one routed expert of one layer. [bytes]

    Raises
    ------
    InfeasibleError
        When the slots cannot be dealt to the ranks.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.4.1 (redundant
       experts are chosen anew about every ten minutes).
    """
    current = place(shares[0], layout)
    imbalance, moved, hottest, used = [], [], [], []
    for window, served in enumerate(shares):
        fetched = fetched_max = 0
        if every and window and window % every == 0:
            fresh = place(shares[window - every : window].mean(axis=0), layout)
            nodes = layout.nodes if layout.policy == "hierarchical" else 1
            fresh = aligned(current, fresh, nodes)
            fetched = int(moved_slots(current, fresh).sum())
            fetched_max = _most_fetched(current, fresh)
            current = fresh
        imbalance.append(float(current.imbalance(served).mean()))
        moved.append(fetched * expert_bytes)
        hottest.append(fetched_max * expert_bytes)
        used.append(current)
    return Rebalancing(np.array(imbalance), np.array(moved), np.array(hottest), tuple(used))


def _most_fetched(before: Placement, after: Placement) -> int:
    """Slots, over all layers, that the busiest rank fetches."""
    gained = (after.per_rank() - before.per_rank()).clip(min=0)
    return int(gained.sum(axis=(0, 2)).max())


def aligned(before: Placement, after: Placement, nodes: int = 1) -> Placement:
    """Rename the ranks of ``after``, layer by layer, so that most experts stay where they are.

    Ranks are alike, so loads do not change.

    Parameters
    ----------
    nodes : nodes whose ranks must stay together; whole nodes and the ranks of each are renamed.

    References
    ----------
    .. [1] H. W. Kuhn, "The Hungarian method for the assignment problem", 1955.
    """
    old, new = before.per_rank(), after.per_rank()
    rows = after.slot_expert.reshape(after.layers, after.ep, after.local_slots).copy()
    for layer in range(after.layers):
        kept = np.minimum(old[layer][:, None, :], new[layer][None, :, :]).sum(axis=2)
        rows[layer] = rows[layer][_renamed(kept, nodes)]
    return Placement(rows.reshape(after.slot_expert.shape), after.experts, after.ep)


def _renamed(kept: Ints, nodes: int) -> Ints:
    """New rank that each old rank becomes, ``[ep]``; ``kept [old, new]``: experts that stay."""
    from scipy.optimize import linear_sum_assignment

    if nodes == 1:
        return np.asarray(linear_sum_assignment(kept, maximize=True)[1])
    size = len(kept) // nodes
    blocks = kept.reshape(nodes, size, nodes, size).swapaxes(1, 2)
    inside = np.array([[_renamed(block, 1) for block in row] for row in blocks])
    stay = np.take_along_axis(blocks, inside[..., None], axis=3).sum(axis=(2, 3))
    node = _renamed(stay, 1)
    return np.asarray((node[:, None] * size + inside[np.arange(nodes), node]).ravel())


def moved_slots(before: Placement, after: Placement) -> Ints:
    """Slots by layer whose rank must fetch an expert that it did not hold, ``[layers]``.

    Times the bytes of one expert this is what a rebalance moves.  Order within a rank is free.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025
       (layer-wise weight redistribution).
    """
    return np.asarray((after.per_rank() - before.per_rank()).clip(min=0).sum(axis=(1, 2)))
