"""The table a step model reads: how much hotter the hottest rank is, by tokens of the step."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.routing.gate import Gate
from planner.routing.load import (
    GRID_TOKENS,
    Destinations,
    ExpertLoad,
    destinations,
    expert_load,
    touched_mean,
)
from planner.routing.placement import Layout, Placement, check_slots, contiguous, place
from planner.routing.popularity import (
    Floats,
    drifting,
    histogram_shares,
    inclusion,
    popularity,
)
from planner.specs.model import Moe
from planner.specs.routing import Balanced, HistogramPopularity, Routing

Real = float | NDArray[np.float64]

SATURATED = 1e-9
"""Share of missed slots that counts as none."""


@dataclass(frozen=True, slots=True, eq=False)
class HotRank:
    r"""Hottest rank of a layer, mean over layers and steps, tabulated by tokens of the group.

    Between the tabulated batches ratios are linear in the logarithm of tokens; the share of slots
    that is missed falls as :math:`\\exp(-c B^a)` (``a`` is 1 for equally popular slots); above the
    last all is constant; below one token, touched slots fall to zero with the tokens.
    """

    tokens: Floats
    """Tokens of all ranks that share the experts, ``[batches]``, rising. [tokens]"""
    ratio: Floats
    """Pairs on the hottest rank over the mean."""
    ratio_p95: Floats
    """95th percentile over steps."""
    touched_hot: Floats
    touched_max: Floats
    touched_mean: Floats
    ep: int
    local_slots: int
    load: ExpertLoad | None = None
    """Everything else known of the loads; None when balanced."""
    placement: Placement | None = None
    reach: Destinations | None = None
    """Distinct ranks and nodes a token is sent to under this placement; None when balanced."""
    correlation: float = 0.0
    """Of choosing an expert, between two tokens of one prompt in a step."""

    def pairs_ratio(self, group_tokens: Real, prompt_tokens: float = 1.0) -> Real:
        r"""Pairs of the hottest rank over those of the mean rank; at least 1.

        Tokens of one prompt choose alike, so ``B`` of them vary as fewer independent ones do,
        :math:`B / (1 + (n - 1)\,\rho)`.

        Parameters
        ----------
        prompt_tokens : new tokens ``n`` of one prompt in the step. [tokens]

        References
        ----------
        .. [1] L. Kish, "Survey Sampling", 1965, section 5.4 (effective size of a clustered sample).
        """
        return self._read(self.ratio, self.independent(group_tokens, prompt_tokens))

    def independent(self, group_tokens: Real, prompt_tokens: float) -> Real:
        """Independent tokens that scatter as so many do of which those of one prompt choose alike.

        References
        ----------
        .. [1] As :meth:`pairs_ratio`.
        """
        alike = 1.0 + (max(prompt_tokens, 1.0) - 1.0) * self.correlation
        return group_tokens if alike == 1.0 else group_tokens / alike

    def arrivals_ratio(self, group_tokens: Real, prompt_tokens: float = 1.0) -> tuple[Real, Real]:
        """Distinct tokens of the hottest rank and node over the mean; pairs where that is unknown.

        What popularity does is computed (:class:`planner.routing.Destinations`); chance makes a
        rank hotter by as much as it does in pairs.  The second is of the busiest network card.

        References
        ----------
        .. [1] As :meth:`pairs_ratio`.
        """
        pairs = self.pairs_ratio(group_tokens, prompt_tokens)
        if self.reach is None:
            return pairs, pairs
        cards = self.reach.card_ratio(self.independent(group_tokens, prompt_tokens))
        return self.reach.rank_ratio * pairs / float(self.ratio[-1]), cards

    def pairs_ratio_p95(self, group_tokens: Real) -> Real:
        """95th percentile over steps of the same.

        References
        ----------
        .. [1] Interpolation of the table.
        """
        return self._read(self.ratio_p95, group_tokens)

    def touched(self, group_tokens: Real) -> Real:
        """Slots of the rank with the most pairs that have at least one token.

        References
        ----------
        .. [1] Interpolation of the table.
        """
        return self._slots(self.touched_hot, group_tokens)

    def most_touched(self, group_tokens: Real) -> Real:
        """The most slots with a token on any rank: what binds while weights do.

        References
        ----------
        .. [1] Interpolation of the table.
        """
        return self._slots(self.touched_max, group_tokens)

    def mean_touched(self, group_tokens: Real) -> Real:
        """Slots with a token on the mean rank.

        References
        ----------
        .. [1] Interpolation of the table.
        """
        return self._slots(self.touched_mean, group_tokens)

    def _read(self, column: Floats, group_tokens: Real) -> Real:
        at = np.log(np.maximum(group_tokens, 1.0))
        found = np.interp(at, np.log(self.tokens), column)
        return found if isinstance(group_tokens, np.ndarray) else float(found)

    def _slots(self, column: Floats, group_tokens: Real) -> Real:
        hit = np.log(-np.log(np.maximum(1.0 - column / self.local_slots, SATURATED)))
        found = -self.local_slots * np.expm1(-np.exp(self._read(hit, group_tokens)))
        if isinstance(group_tokens, np.ndarray):
            return np.asarray(found * np.minimum(group_tokens, 1.0))
        return float(found * min(group_tokens, 1.0))


def windows(routing: Routing, moe: Moe, seed: int | None = None) -> tuple[Floats, Floats]:
    """Popularity a placement is made from, and popularity while serving, ``[layers, experts]``.

    A histogram of several windows serves the last and places by the mean of those before it; of
    one window, and a family, the same popularity serves, moved by ``routing.drift``.

    Raises
    ------
    InputError
        When a histogram is not of this model.

    References
    ----------
    .. [1] DeepSeek-AI, EPLB, github.com/deepseek-ai/EPLB: load is predicted from past statistics.
    """
    chosen = routing.seed if seed is None else seed
    spec = routing.popularity
    if isinstance(spec, HistogramPopularity):
        shares = histogram_shares(spec, moe.experts, moe.layers)
        past, served = (shares[:-1].mean(axis=0), shares[-1]) if len(shares) > 1 else shares[[0, 0]]
    else:
        past = popularity(spec, moe.experts, moe.layers, chosen, routing.layer_profile)
        served = past
    if routing.drift.sigma:
        rng = np.random.default_rng(np.random.SeedSequence([chosen, 5]))
        served = drifting(served, routing.drift, 1, rng)[0]
    return past, served


@lru_cache(maxsize=64)
def hot_rank(
    routing: Routing,
    moe: Moe,
    ep: int,
    redundant: int = 0,
    ranks_per_node: int = 8,
) -> HotRank:
    """Table of the hottest rank for one model, layout and routing.

    Parameters
    ----------
    moe : the model's expert layers (experts, top-k, groups).
    ep, redundant : ranks that share the experts, and extra copies a layer.
    ranks_per_node : for hierarchical placement.

    Returns
    -------
    HotRank; exactly even when the popularity is ``balanced``.

    Raises
    ------
    InputError
        When a histogram is not of this model.
    InfeasibleError
        When the slots cannot be dealt to the ranks.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025.
    """
    check_slots(moe.experts, redundant, ep)
    gate = Gate.of(moe)
    if isinstance(routing.popularity, Balanced):
        return _even(moe, ep, redundant)
    past, served = windows(routing, moe)
    past = inclusion(past, moe.top_k) / moe.top_k
    placement = place(past, Layout(ep, redundant, routing.placement, moe.groups, ranks_per_node))
    load = expert_load(served, placement, GRID_TOKENS, gate, routing.seed)
    return HotRank(
        tokens=load.tokens,
        ratio=load.rank_ratio,
        ratio_p95=load.rank_ratio_p95,
        touched_hot=load.touched_hot,
        touched_max=load.touched_max,
        touched_mean=load.touched_mean,
        ep=ep,
        local_slots=placement.local_slots,
        load=load,
        placement=placement,
        reach=destinations(gate, served, placement, ranks_per_node, routing.seed),
        correlation=routing.prompt_correlation,
    )


def _even(moe: Moe, ep: int, redundant: int) -> HotRank:
    """No rank hotter than another; touched slots as for equally popular slots."""
    slots = moe.experts + redundant
    placement = contiguous(1, slots, ep)
    by_slot = np.full((1, slots), moe.top_k / slots)
    touched = np.array([touched_mean(by_slot, placement, tokens) for tokens in GRID_TOKENS])
    one = np.ones_like(GRID_TOKENS)
    return HotRank(GRID_TOKENS, one, one, touched, touched, touched, ep, placement.local_slots)
