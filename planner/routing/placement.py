"""Which expert each slot of each rank holds: copies of hot experts, dealt out evenly.

Copies first, then ranks.  An extra copy always goes to the expert with the largest load per copy,
which makes the largest load per copy as small as it can be.  Copies go to ranks in falling order
of load, each to the least loaded rank that has a free slot and not this expert; swaps with the
hottest rank then improve what is left.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from planner.errors import InfeasibleError, InputError
from planner.routing.popularity import Floats
from planner.specs.routing import PlacementPolicy

Ints = NDArray[np.intp]

SWAPS = 48
"""Swaps tried a layer after the first deal; each lowers the hottest rank."""

GOOD_ENOUGH = 1.001
"""Hottest over mean rank at which swapping stops."""


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Expert of every slot, ``slot_expert [layers, slots]``; rank of slot i: ``i // local_slots``.

    Copies of an expert take its tokens in turn.

    References
    ----------
    .. [1] NVIDIA TensorRT-LLM, cpp/tensorrt_llm/kernels/moeLoadBalance/moeLoadBalanceKernels.cu
       (round robin over copies by each source rank).
    """

    slot_expert: Ints
    experts: int
    ep: int

    @property
    def layers(self) -> int:
        """MoE layers."""
        return len(self.slot_expert)

    @property
    def slots(self) -> int:
        """Expert slots of a layer."""
        return int(self.slot_expert.shape[1])

    @property
    def local_slots(self) -> int:
        """Expert slots of one rank."""
        return self.slots // self.ep

    @property
    def copies(self) -> Ints:
        """Slots of each expert, ``[layers, experts]``."""
        rows = np.arange(self.layers)[:, None] * self.experts
        flat = np.bincount((self.slot_expert + rows).ravel(), minlength=self.layers * self.experts)
        return flat.reshape(self.layers, self.experts)

    def per_rank(self) -> Ints:
        """How often each rank holds each expert, ``[layers, ep, experts]``."""
        shape = (self.layers, self.ep, self.experts)
        rank = np.arange(self.slots) // self.local_slots
        row = np.arange(self.layers)[:, None]
        keys = (row * self.ep + rank) * self.experts + self.slot_expert
        return np.bincount(keys.ravel(), minlength=int(np.prod(shape))).reshape(shape)

    def slot_load(self, load: Floats) -> Floats:
        """Load of each slot ``[..., layers, slots]`` of a load by expert."""
        at = np.broadcast_to(self.slot_expert, (*load.shape[:-1], self.slots))
        return np.take_along_axis(load / self.copies, at, axis=-1)

    @property
    def copy_index(self) -> Ints:
        """Number of each slot among the copies of its expert, from 0, ``[layers, slots]``."""
        order = np.argsort(self.slot_expert, axis=1, kind="stable")
        first = np.cumsum(self.copies, axis=1) - self.copies
        result = np.empty_like(self.slot_expert)
        sorted_expert = np.take_along_axis(self.slot_expert, order, axis=1)
        number = np.arange(self.slots) - np.take_along_axis(first, sorted_expert, axis=1)
        np.put_along_axis(result, order, number, axis=1)
        return result

    def deal(self, counts: Floats, rng: np.random.Generator) -> Floats:
        """Whole tokens of each slot: an expert's go to its copies in turn, from a random one.

        ``counts [draws, layers, experts]`` -> ``[draws, layers, slots]``.
        """
        at = np.broadcast_to(self.slot_expert, (len(counts), *self.slot_expert.shape))
        tokens = np.take_along_axis(counts, at, axis=2)
        copies = np.take_along_axis(self.copies, self.slot_expert, axis=1)
        if copies.max() == 1:
            return tokens
        start = np.take_along_axis(rng.integers(0, 1 << 20, counts.shape), at, axis=2)
        offset = (self.copy_index + start) % copies
        return np.where(copies == 1, tokens, (np.rint(tokens) + offset) // copies)

    def rank_load(self, load: Floats) -> Floats:
        """Load of each rank ``[..., layers, ep]`` of a load by expert."""
        by_slot = self.slot_load(load)
        by_rank = by_slot.reshape(*by_slot.shape[:-1], self.ep, self.local_slots)
        return np.asarray(by_rank.sum(axis=-1))

    def imbalance(self, load: Floats) -> Floats:
        """Hottest rank over mean rank, ``[..., layers]``; 1 is perfect."""
        by_rank = self.rank_load(load)
        return np.asarray(by_rank.max(axis=-1) / by_rank.mean(axis=-1))


def check_slots(experts: int, redundant: int, ep: int) -> None:
    """Refuse what cannot be laid out.

    Raises
    ------
    InfeasibleError
        When there are more ranks than slots, when the ranks do not divide the slots, or when
        there are more redundant copies than ranks without the expert.
    """
    slots = experts + redundant
    if ep > slots:
        raise InfeasibleError(
            "expert-parallel degree", ep, slots, "expert slots", "lower ep or add redundant experts"
        )
    if slots % ep:
        raise InfeasibleError(
            "the split of expert slots must be even",
            ep,
            slots,
            "expert slots",
            f"use {redundant + ep - slots % ep} redundant experts",
        )
    if redundant > experts * (ep - 1):
        raise InfeasibleError(
            "redundant experts",
            redundant,
            experts * (ep - 1),
            "ranks without the expert",
            f"at ep {ep} every rank then already holds all {experts} experts",
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Ranks and slots that experts are dealt to."""

    ep: int
    """Expert-parallel ranks; must divide experts + redundant."""
    redundant: int = 0
    """Extra copies a layer."""
    policy: PlacementPolicy = "global"
    groups: int = 1
    """Expert groups, for ``hierarchical``."""
    ranks_per_node: int = 8
    """For ``hierarchical``."""

    @property
    def nodes(self) -> int:
        """Nodes that the ranks are on."""
        return -(-self.ep // self.ranks_per_node)


def place(load: Floats, layout: Layout) -> Placement:
    """Lay out experts from past ``load``.

    Parameters
    ----------
    load : past tokens (or shares) by expert, ``[layers, experts]``.

    Raises
    ------
    InputError, InfeasibleError
        For a negative or empty load, and for what ``check_slots`` or ``hierarchical`` refuse.

    References
    ----------
    .. [1] DeepSeek-AI, EPLB, github.com/deepseek-ai/EPLB (the two policies; own implementation).
    """
    layers, experts = load.shape
    check_slots(experts, layout.redundant, layout.ep)
    if not np.isfinite(load).all() or (load < 0).any():
        raise InputError("", "load", "expert loads must be finite and 0 or more")
    empty = np.flatnonzero(load.sum(axis=1) == 0)
    if len(empty):
        raise InputError("", "load", f"layer {empty[0]} has no load at all; every count is 0")
    match layout.policy:
        case "contiguous":
            return contiguous(layers, experts, layout.ep, layout.redundant)
        case "global":
            return balanced(load, layout.ep, layout.redundant)
        case "hierarchical":
            return hierarchical(load, layout)
        case _:
            assert_never(layout.policy)


def contiguous(layers: int, experts: int, ep: int, redundant: int = 0) -> Placement:
    """Trivial placement: slot i holds expert ``i % experts``.

    References
    ----------
    .. [1] SGLang, python/sglang/srt/eplb/expert_location.py (trivial placement).
    """
    check_slots(experts, redundant, ep)
    row = np.arange(experts + redundant) % experts
    return Placement(np.tile(row, (layers, 1)), experts, ep)


def replicate(load: Floats, redundant: int, most: int) -> Ints:
    """Copies of each expert ``[layers, experts]``: the next one to the largest load per copy.

    Minimises the largest load per copy with ``redundant`` extra copies and at most ``most`` each.

    References
    ----------
    .. [1] T. Ibaraki, N. Katoh, "Resource Allocation Problems", MIT Press, 1988, section 4.2
       (greedy is optimal for separable min-max allocation).
    """
    layers = np.arange(len(load))
    copies = np.ones(load.shape, dtype=np.intp)
    per_copy = load.astype(float)
    for _ in range(redundant):
        hottest = np.argmax(per_copy, axis=1)
        copies[layers, hottest] += 1
        number = copies[layers, hottest]
        per_copy[layers, hottest] = np.where(number < most, load[layers, hottest] / number, -1.0)
    return copies


def balanced(load: Floats, ep: int, redundant: int = 0) -> Placement:
    """Copies and ranks from past load, any rank for any expert.

    Fills every slot, places every expert, never twice on one rank (``check_slots`` refuses the
    sizes at which that cannot be).  Never worse on that load than ``contiguous``, which is taken
    for a layer where it is better.

    References
    ----------
    .. [1] R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17,
       1969 (longest first).
    """
    layers, experts = load.shape
    trivial = contiguous(layers, experts, ep, redundant)
    copies = replicate(load, redundant, ep)
    expert = np.stack([np.repeat(np.arange(experts), row) for row in copies])
    weight = np.take_along_axis(load / copies, expert, axis=1)
    found = Placement(_swap(_deal(expert, weight, ep, experts), load / copies, ep), experts, ep)
    worse = found.imbalance(load) > trivial.imbalance(load)
    rows = np.where(worse[:, None], trivial.slot_expert, found.slot_expert)
    return Placement(rows, experts, ep)


def _deal(expert: Ints, weight: Floats, ep: int, experts: int) -> Ints:
    """Deal copies in falling order of weight; ``[layers, slots]`` in order of rank."""
    layers, slots = expert.shape
    local, row = slots // ep, np.arange(layers)
    order = np.argsort(-weight, axis=1, kind="stable")
    load, used = np.zeros((layers, ep)), np.zeros((layers, ep), dtype=np.intp)
    holds = np.zeros((layers, ep, experts), dtype=bool)
    result = np.full((layers, slots), -1, dtype=np.intp)
    for j in range(slots):
        e = expert[row, order[:, j]]
        closed = (used >= local) | holds[row, :, e]
        rank = np.argmin(np.where(closed, np.inf, load), axis=1)
        for stuck in np.flatnonzero(closed.all(axis=1)):
            rank[stuck] = _make_room(result[stuck], used[stuck], holds[stuck], e[stuck], local)
        result[row, rank * local + used[row, rank]] = e
        holds[row, rank, e] = True
        used[row, rank] += 1
        load[row, rank] += weight[row, order[:, j]]
    return result


def _make_room(slots: Ints, used: Ints, holds: NDArray[np.bool_], expert: int, local: int) -> int:
    """Every rank with a free slot holds ``expert``: move a copy there from a rank without it.

    Returns the rank that then has room.  Loads are left to the swaps that follow.
    """
    free = int(np.flatnonzero(used < local)[0])
    for rank in np.flatnonzero(~holds[:, expert]):
        for place_ in range(rank * local, (rank + 1) * local):
            moved = slots[place_]
            if not holds[free, moved]:
                slots[free * local + used[free]] = moved
                last = rank * local + used[rank] - 1
                slots[place_], slots[last] = slots[last], -1
                holds[rank, moved], holds[free, moved] = False, True
                used[free] += 1
                used[rank] -= 1
                return int(rank)
    raise AssertionError("a placement without duplicates exists whenever copies <= ranks")


def _swap(slots: Ints, per_copy: Floats, ep: int) -> Ints:
    """Exchange slots between the hottest rank and another while that lowers it."""
    slots = slots.copy()
    layers, count = slots.shape
    local, row = count // ep, np.arange(layers)
    if ep == 1:
        return slots
    owner = np.arange(count) // local
    mean = np.take_along_axis(per_copy, slots, axis=1).sum(axis=1) / ep
    active = row
    for _ in range(SWAPS):
        load = np.take_along_axis(per_copy[active], slots[active], axis=1)
        hottest = load.reshape(len(active), ep, local).sum(axis=2).max(axis=1)
        active = active[hottest > GOOD_ENOUGH * mean[active]]
        if not len(active):
            break
        now = slots[active]
        weight = np.take_along_axis(per_copy[active], now, axis=1)
        load = weight.reshape(len(active), ep, local).sum(axis=2)
        hot = np.argmax(load, axis=1)
        peak = load[np.arange(len(active)), hot]
        mine = hot[:, None] * local + np.arange(local)  # [a, local]
        w_mine = np.take_along_axis(weight, mine, axis=1)[:, :, None]
        gain = w_mine - weight[:, None, :]
        after = np.maximum(peak[:, None, None] - gain, load[:, owner][:, None, :] + gain)
        after[(gain <= 0) | (owner[None, None, :] == hot[:, None, None])] = np.inf
        after[_would_repeat(now, mine, ep)] = np.inf
        best = after.reshape(len(active), -1).argmin(axis=1)
        a = np.arange(len(active))
        better = after.reshape(len(active), -1)[a, best] < peak * (1 - 1e-12)
        one, two = mine[a, best // count], best % count
        rows, one, two = active[better], one[better], two[better]
        slots[rows, one], slots[rows, two] = slots[rows, two], slots[rows, one]
        active = rows
    return slots


def _would_repeat(now: Ints, mine: Ints, ep: int) -> NDArray[np.bool_]:
    """Whether swapping slots ``mine[i]`` and j repeats an expert on a rank, ``[a, local, j]``."""
    layers, count = now.shape
    local = count // ep
    e_mine = np.take_along_axis(now, mine, axis=1)
    by_rank = now.reshape(layers, 1, ep, local)
    held = (by_rank == e_mine[:, :, None, None]).any(axis=3)  # other rank already holds mine
    there = np.repeat(held, local, axis=2)
    here = (now[:, None, :] == e_mine[:, :, None]).any(axis=1)[:, None, :]
    return np.asarray(there | here)


def hierarchical(load: Floats, layout: Layout) -> Placement:
    """Groups of experts to nodes first, then copies and ranks within each node.

    Keeps a token that may use ``top_k_groups`` groups to as few nodes.  A node gets
    ``groups / nodes`` groups and ``redundant / nodes`` copies.

    Raises
    ------
    InfeasibleError
        When ranks do not fill their nodes, or nodes do not divide groups or redundant experts.

    References
    ----------
    .. [1] DeepSeek-AI, EPLB, github.com/deepseek-ai/EPLB (hierarchical policy).
    """
    layers, experts = load.shape
    ep, redundant, groups = layout.ep, layout.redundant, layout.groups
    check_slots(experts, redundant, ep)
    nodes, per_node = layout.nodes, layout.ranks_per_node
    if nodes > 1 and ep % per_node:
        raise InfeasibleError(
            f"hierarchical placement needs whole nodes of {per_node} ranks",
            nodes * per_node,
            ep,
            "ranks",
            "use placement: global",
        )
    divided = {"expert groups": groups, "redundant experts": redundant}
    for what, amount in divided.items():
        if amount % nodes:
            raise InfeasibleError(
                f"hierarchical placement needs {what} that {nodes} nodes divide",
                nodes,
                amount,
                what,
                "use placement: global",
            )
    if nodes == 1:
        return balanced(load, ep, redundant)
    size = experts // groups
    by_group = load.reshape(layers, groups, size).sum(axis=2)
    home = balanced(by_group, nodes).slot_expert.reshape(layers, nodes, groups // nodes)
    members = (home[..., None] * size + np.arange(size)).reshape(layers, nodes, -1)
    parts = []
    for node in range(nodes):
        mine = members[:, node]
        inner = balanced(np.take_along_axis(load, mine, axis=1), ep // nodes, redundant // nodes)
        parts.append(np.take_along_axis(mine, inner.slot_expert, axis=1))
    return Placement(np.concatenate(parts, axis=1), experts, ep)
