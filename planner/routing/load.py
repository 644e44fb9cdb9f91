"""Load of the hottest and the mean rank by tokens of a step, tabulated."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.routing.counts import (
    BINOMIAL_TOKENS,
    INDEPENDENT,
    Sampling,
    approximate_counts,
    chosen_experts,
    exact_counts,
    expert_groups,
    histogram,
)
from planner.routing.gate import Gate, scores
from planner.routing.placement import Placement
from planner.routing.popularity import Floats, inclusion

Real = float | NDArray[np.float64]

EXACT_TOKENS = 8
"""Largest batch of a table that is routed token by token."""

GRID_TOKENS: Floats = np.exp2(np.arange(21.0))
"""Batch sizes of a table: 1 to 2^20 tokens of the expert group. [tokens]"""


@dataclass(frozen=True, slots=True, eq=False)
class ExpertLoad:
    """What routing does to ranks, by batch size.  All arrays but the last are ``[batches]``."""

    tokens: Floats
    """Tokens of all ranks that share the experts. [tokens]"""
    rank_ratio: Floats
    """Pairs on the hottest rank over the mean rank, mean over layers and steps."""
    rank_ratio_p50: Floats
    """Median over steps of a step's mean over layers."""
    rank_ratio_p95: Floats
    rank_spread: Floats
    """Standard deviation between ranks over their mean, averaged likewise."""
    slot_ratio: Floats
    """Pairs of the hottest expert slot over the mean slot."""
    slot_spread: Floats
    hot_pairs: Floats
    """(token, expert) pairs of the hottest rank of a layer."""
    touched_hot: Floats
    """Slots with at least one token on the rank with the most pairs."""
    touched_max: Floats
    """The most touched slots of any rank: it need not be the one with the most pairs."""
    touched_mean: Floats
    """The same on the mean rank; exact, not sampled."""
    rank_ratio_by_layer: Floats
    """``[batches, layers]``, mean over steps."""


def expert_load(
    shares: Floats,
    placement: Placement,
    tokens: Floats,
    gate: Gate,
    seed: int,
    sampling: Sampling = INDEPENDENT,
) -> ExpertLoad:
    r"""Statistics of rank and slot loads for each batch size.

    Up to 8 tokens every token is routed; above, counts by expert are drawn from their moments.
    Copies of an expert take its tokens in turn.  The mean of touched slots is exact; without
    copies, over P ranks:

    .. math:: \frac{1}{P} \sum_e \left(1 - (1 - \pi_e)^B\right)

    Parameters
    ----------
    shares : popularity while serving, ``[layers, experts]``.
    placement : where experts are (made from *past* popularity).
    tokens : batch sizes, ``[batches]``. [tokens]
    sampling : steps drawn a batch size, correlation of tokens of one prompt.

    Returns
    -------
    ExpertLoad.  Without approximation where one rank holds all slots: ratios 1.

    Raises
    ------
    InputError
        When shares, placement and gate are of different sizes, or a batch is empty.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025
       (imbalance ratio (max - mean) / mean, averaged over layers and iterations).
    .. [2] J. Hájek, Ann. Math. Statist. 35, 1964.
    """
    if shares.shape != (placement.layers, placement.experts) or gate.experts != placement.experts:
        raise InputError(
            "",
            "placement",
            f"is for {placement.layers} layers x {placement.experts} experts, popularity for "
            f"{' x '.join(map(str, shares.shape))}, the gate for {gate.experts}",
        )
    if np.min(tokens) < 1:
        raise InputError("", "tokens", f"a batch has at least 1 token, got {np.min(tokens):g}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    included = inclusion(shares, gate.top_k)
    groups, fixed = expert_groups(gate, included, rng), scores(gate, included)
    rows = []
    for batch in np.rint(np.asarray(tokens, dtype=float)).astype(int):
        if batch <= EXACT_TOKENS:
            counts = exact_counts(gate, fixed, batch, sampling, rng)
        else:
            counts = approximate_counts(included, groups, batch, sampling, rng).astype(float)
        whole = batch <= BINOMIAL_TOKENS
        by_slot = placement.deal(counts, rng) if whole else placement.slot_load(counts)
        rows.append(_summary(by_slot, placement.ep, gate.top_k * float(batch)))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    touched = np.array([touched_mean(included, placement, batch) for batch in tokens])
    return ExpertLoad(tokens=np.asarray(tokens, dtype=float), touched_mean=touched, **columns)


def touched_mean(included: Floats, placement: Placement, tokens: float) -> float:
    r"""Expected slots with at least one token, mean over layers and ranks.

    The ``r`` copies of an expert take its ``n`` tokens in turn, so ``min(n, r)`` of them are
    touched: :math:`\sum_{m=1}^{r} P(n \ge m)` with ``n`` binomial; without copies
    :math:`1 - (1 - \pi)^B`.

    Parameters
    ----------
    included : probability that a token goes to each expert, ``[layers, experts]``.

    References
    ----------
    .. [1] Counting argument: independent tokens all miss an expert with ``(1 - pi)^tokens``.
    """
    pi, copies = np.minimum(included, 1.0 - 1e-15), placement.copies
    exactly = np.exp(tokens * np.log1p(-pi))  # P(n = m), from m = 0
    below, touched = exactly.copy(), np.zeros_like(pi)
    for m in range(1, int(copies.max()) + 1):
        touched += np.where(copies >= m, 1.0 - below, 0.0)
        exactly = exactly * max(tokens - m + 1, 0.0) / m * pi / (1.0 - pi)
        below = np.minimum(below + exactly, 1.0)
    return float(touched.sum(axis=1).mean() / placement.ep)


def _summary(counts: Floats, ep: int, pairs: float) -> dict[str, Floats | float]:
    """Statistics of counts ``[draws, layers, slots]`` in order of rank."""
    draws, layers, slots = counts.shape
    by_rank = counts.reshape(draws, layers, ep, slots // ep)
    load = by_rank.sum(axis=3)
    mean = load.mean(axis=2)
    ratio = load.max(axis=2) / mean
    slot_mean = counts.mean(axis=2)
    touched = (by_rank > 0).sum(axis=3)
    hot = load.argmax(axis=2)
    step = ratio.mean(axis=1)
    return {
        "rank_ratio": float(step.mean()),
        "rank_ratio_p50": float(np.quantile(step, 0.5)),
        "rank_ratio_p95": float(np.quantile(step, 0.95)),
        "rank_spread": float((load.std(axis=2) / mean).mean()),
        "slot_ratio": float((counts.max(axis=2) / slot_mean).mean()),
        "slot_spread": float((counts.std(axis=2) / slot_mean).mean()),
        "hot_pairs": float(step.mean()) * pairs / ep,
        "touched_hot": float(np.take_along_axis(touched, hot[..., None], axis=2).mean()),
        "touched_max": float(touched.max(axis=2).mean()),
        "rank_ratio_by_layer": ratio.mean(axis=0),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Destinations:
    """Distinct places tokens are sent to, mean over layers, for batches too large for chance."""

    ranks_per_token: float
    nodes_per_token: float
    rank_ratio: float
    """Tokens that reach the rank reached most, over the mean rank: a token that uses two experts
    of a rank arrives once, so this is below the ratio of pairs."""
    node_ratio: float
    """The same of nodes: what the network cards of a node take in where a token crosses once and
    is fanned out inside."""
    nodes: int
    cards: int
    """Network cards: as many as ranks."""

    def card_spread(self, group_tokens: Real) -> Real:
        r"""Standard deviation of what chance brings to one network card, over the mean.

        A card takes in what its partners send, the rank of its number on each other node:
        :math:`n = B (N - 1) / R` tokens that each come with probability :math:`p`, so
        :math:`\sqrt{(1 - p) / (p n)}`.  What a card sends spreads as much: of the ``B / R`` tokens
        of its rank each goes to :math:`N - 1` nodes with that probability.

        Parameters
        ----------
        group_tokens : independent tokens of all ranks. [tokens]

        References
        ----------
        .. [1] DeepSeek-AI, "DeepEP", github.com/deepseek-ai/DeepEP, csrc/kernels/internode.cu
           (a token crosses to the rank of its sender's number on the other node).
        """
        if self.nodes == 1:
            return 0.0 * group_tokens
        p = min(1.0, self.nodes_per_token / self.nodes)
        met = np.maximum(group_tokens, 1.0) * (self.nodes - 1) / self.cards
        return np.sqrt((1 - p) / (p * met))

    def card_ratio(self, group_tokens: Real) -> Real:
        """Tokens that the busiest network card takes in or sends, over the mean; with chance.

        The busiest card of the most visited node, or of all, whichever is busier: a little less
        than both effects together.

        References
        ----------
        .. [1] G. Blom, "Statistical Estimates and Transformed Beta-Variables", 1958 (the largest
           of n normal draws is expected at quantile (n - 3/8) / (n + 1/4)).
        """
        spread = self.card_spread(group_tokens)
        of_node, of_all = (largest_of(n) for n in (self.cards / self.nodes, 2 * self.cards))
        return np.maximum(self.node_ratio + of_node * spread, 1.0 + of_all * spread)


def largest_of(draws: float) -> float:
    """Expected largest of so many standard normal draws.

    References
    ----------
    .. [1] G. Blom, "Statistical Estimates and Transformed Beta-Variables", 1958.
    """
    return NormalDist().inv_cdf((draws - 0.375) / (draws + 0.25)) if draws > 1 else 0.0


def destinations(
    gate: Gate,
    shares: Floats,
    placement: Placement,
    ranks_per_node: int,
    seed: int,
    tokens: int = 1024,
) -> Destinations:
    """Distinct ranks and nodes that hold a token's experts: what deduplicated dispatch sends.

    Routes ``tokens`` tokens in at most twenty layers, evenly spaced.  How much more the hottest
    rank is reached is computed (:func:`distinct`): of so few, chance alone would make one hot.
    Nodes are few and each is reached by most tokens; group-limited gates couple their slots.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2 (a token
       crosses to a node once and is fanned out inside it).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
    included = inclusion(shares, gate.top_k)
    picked = np.unique(np.linspace(0, len(shares) - 1, 20).round().astype(int))
    copies, one, rows = placement.copies, Sampling(draws=1), []
    nodes = -(-placement.ep // ranks_per_node)
    for layer in picked:
        chosen = chosen_experts(gate, scores(gate, included[layer]), tokens, one, rng)[0]
        order = np.argsort(placement.slot_expert[layer], kind="stable")
        first = np.concatenate([[0], np.cumsum(copies[layer])[:-1]])
        slot = order[first[chosen] + rng.integers(0, copies[layer][chosen])]
        rank = slot // placement.local_slots
        by_rank, by_node = _reached(rank, placement.ep), _reached(rank // ranks_per_node, nodes)
        rows.append([by_rank.sum(), by_node.sum(), by_node.max() / by_node.mean()])
    by_slot = placement.slot_load(included[None])[0]
    ranks, _ = distinct(by_slot.reshape(len(by_slot), placement.ep, -1), ranks_per_node)
    ranks_per_token, nodes_per_token, node_ratio = (float(x) for x in np.mean(rows, axis=0))
    hottest = float(ranks.max(axis=1).mean())
    return Destinations(ranks_per_token, nodes_per_token, hottest, node_ratio, nodes, placement.ep)


def distinct(shares: Floats, ranks_per_node: int) -> tuple[Floats, Floats]:
    r"""Distinct tokens that come to each rank and to its node, over the mean.

    A token that uses two experts of a rank comes once: :math:`1 - \prod_s (1 - \pi_s)` of them
    come, if the slots of a rank are chosen independently.  Good for ratios; how many come on
    average depends on the groups of a gate (:class:`Destinations`).

    Parameters
    ----------
    shares : share of the tokens that go to each slot, ``[layers, ranks, slots of a rank]``.

    Returns
    -------
    ``[layers, ranks]`` each; ones where no token goes anywhere.

    References
    ----------
    .. [1] Counting argument: a token misses a rank when it misses each of its slots.
    """
    missed = (1.0 - np.minimum(shares, 1.0)).prod(axis=2)
    ranks = missed.shape[1]
    first = np.arange(0, ranks, ranks_per_node)
    by_node = np.multiply.reduceat(missed, first, axis=1)
    found = []
    for arrived in (1.0 - missed, 1.0 - by_node):
        mean = arrived.mean(axis=1, keepdims=True)
        found.append(np.divide(arrived, mean, out=np.ones_like(arrived), where=mean > 0))
    return found[0], np.repeat(found[1], ranks_per_node, axis=1)[:, :ranks]


def _reached(places: NDArray[np.intp], kinds: int) -> Floats:
    """Share of the tokens that reach each place."""
    return np.asarray((histogram(places, kinds) > 0).mean(axis=0))
