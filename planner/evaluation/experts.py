"""Load of experts and ranks of a deployment, without and with load balancing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.evaluation.expert_setting import Question, Setting
from planner.routing import (
    Gate,
    Layout,
    Placement,
    Rebalancing,
    any_placement_bound,
    drifting,
    expert_load,
    inclusion,
    largest_rank_bound,
    place,
    rebalance,
    windows,
)
from planner.routing.counts import Sampling
from planner.routing.popularity import histogram_shares
from planner.specs.routing import HistogramPopularity, PlacementPolicy

Floats = NDArray[np.float64]

STEPS = 20
"""Steps drawn for the statistics."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacementLoad:
    """What one placement makes of the load."""

    policy: PlacementPolicy
    redundant: int
    placement: Placement
    rank_load: Floats
    """Expected (token, expert) pairs of each rank over the mean rank, ``[layers, ep]``."""
    imbalance_by_layer: Floats
    """Hottest rank over mean rank, mean over drawn steps, ``[layers]``."""
    rank_ratio: float
    """The same, mean over layers."""
    rank_ratio_p95: float
    """95th percentile over steps of a step's mean over layers."""
    slot_ratio: float
    """Pairs of the hottest expert slot over the mean slot."""
    touched_hot: float
    """Slots of the hottest rank with at least one token."""
    touched_mean: float
    local_slots: int
    bound: float
    """Least expected ratio of any placement with so many slots, mean over layers."""
    copies_bound: float
    """Least expected ratio of any placement with these copies, mean over layers."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "policy": self.policy,
            "redundant_experts": self.redundant,
            "expert_slots": self.placement.slots,
            "slots_per_rank": self.local_slots,
            "hottest_rank_over_mean": self.rank_ratio,
            "hottest_rank_over_mean_p95": self.rank_ratio_p95,
            "imbalance": self.rank_ratio - 1.0,
            "hottest_slot_over_mean": self.slot_ratio,
            "touched_slots_hottest_rank": self.touched_hot,
            "touched_slots_mean_rank": self.touched_mean,
            "lower_bound_any_placement": self.bound,
            "lower_bound_these_copies": self.copies_bound,
            "hottest_rank_over_mean_by_layer": self.imbalance_by_layer.tolist(),
            "rank_load_over_mean": self.rank_load.round(6).tolist(),
            "slot_expert": self.placement.slot_expert.tolist(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class ExpertReport:
    """Load per layer, expert and rank, before and after load balancing."""

    setting: Setting
    expert_load: Floats
    """Expected (token, expert) pairs of a step by expert, ``[layers, experts]``."""
    before: PlacementLoad
    """Experts in their order, no load balancing."""
    after: PlacementLoad
    rebalancing: tuple[Rebalancing, Rebalancing] | None = None
    """Over drifting windows: the first placement kept, and renewed every few of them."""
    every: int = 1
    """Windows between renewals."""

    @property
    def hottest(self) -> tuple[int, int]:
        """Layer and rank with the most load without balancing, from 0."""
        at = int(self.before.rank_load.argmax())
        return divmod(at, self.setting.question.ep)

    @property
    def rebalance_s(self) -> float | None:
        """Time the busiest rank takes to fetch its experts at a rebalance, link alone. [s]"""
        rate = self.setting.bytes_per_s
        if self.rebalancing is None or not rate:
            return None
        return float(self.rebalancing[1].moved_bytes_max_rank.max()) / rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        asked = self.setting.question
        plain: dict[str, Any] = {
            "name": self.setting.name,
            "model": self.setting.model,
            "layers": len(self.expert_load),
            "experts": self.expert_load.shape[1],
            "top_k": asked.moe.top_k,
            "ep": asked.ep,
            "tokens": asked.tokens,
            "expert_load_tokens": self.expert_load.round(4).tolist(),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "rebalancing": None,
        }
        if self.rebalancing:
            kept, renewed = self.rebalancing
            plain["rebalancing"] = {
                "windows": len(kept.imbalance),
                "windows_between_renewals": self.every,
                "kept_hottest_rank_over_mean": kept.imbalance.tolist(),
                "renewed_hottest_rank_over_mean": renewed.imbalance.tolist(),
                "moved_bytes": renewed.moved_bytes.tolist(),
                "moved_bytes_busiest_rank": renewed.moved_bytes_max_rank.tolist(),
                "fetch_s": self.rebalance_s,
            }
        return plain


def expert_report(setting: Setting, number: int = 0, every: int = 1) -> ExpertReport:
    """Load of experts and ranks before and after load balancing.

    Without balancing, slots hold the experts in their order; redundant slots, where the degree
    does not divide the experts alone, repeat the first experts.

    Parameters
    ----------
    number : windows of drifting load over which the placement is renewed; 0: none.  Of a recorded
        histogram of several windows all are used, and must be meant.
    every : windows between renewals.

    Raises
    ------
    InputError
        A histogram is not of this model, top-k exceeds the experts, load that does not change
        is to be rebalanced, or windows are too few or not those recorded.
    InfeasibleError
        The slots cannot be dealt to the ranks.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025.
    """
    if every != 1 and not number:
        raise InputError("", "every", f"needs windows, got {every} without any")
    asked = setting.question
    moe = asked.moe
    past, served = windows(asked.routing, moe)
    past = inclusion(past, moe.top_k) / moe.top_k
    plain = Layout(asked.ep, _plain_redundancy(asked), "contiguous")
    better = _better(asked)
    return ExpertReport(
        setting=setting,
        expert_load=inclusion(served, moe.top_k) * asked.tokens,
        before=_load(asked, place(past, plain), plain, served),
        after=_load(asked, place(past, better), better, served),
        rebalancing=_rebalanced(setting, number, every) if number else None,
        every=every,
    )


def _better(asked: Question) -> Layout:
    """Layout with load balancing."""
    policy = asked.balanced_policy
    return Layout(asked.ep, asked.redundant, policy, asked.moe.groups, asked.ranks_per_node)


def _plain_redundancy(asked: Question) -> int:
    """No copies, where the experts alone can be dealt out evenly."""
    return 0 if asked.moe.experts % asked.ep == 0 else asked.redundant


def _load(asked: Question, placement: Placement, layout: Layout, served: Floats) -> PlacementLoad:
    gate = Gate.of(asked.moe)
    sampling = Sampling(STEPS, asked.routing.prompt_correlation, asked.tokens_per_prompt)
    found = expert_load(
        served, placement, np.array([float(asked.tokens)]), gate, asked.routing.seed, sampling
    )
    expected = inclusion(served, asked.moe.top_k)
    by_rank = placement.rank_load(expected)
    mean = by_rank.mean(axis=1, keepdims=True)
    bound = any_placement_bound(expected, layout.redundant, asked.ep) / mean[:, 0]
    copies_bound = largest_rank_bound(expected, placement.copies, asked.ep) / mean[:, 0]
    return PlacementLoad(
        policy=layout.policy,
        redundant=layout.redundant,
        placement=placement,
        rank_load=by_rank / mean,
        imbalance_by_layer=found.rank_ratio_by_layer[0],
        rank_ratio=float(found.rank_ratio[0]),
        rank_ratio_p95=float(found.rank_ratio_p95[0]),
        slot_ratio=float(found.slot_ratio[0]),
        touched_hot=float(found.touched_hot[0]),
        touched_mean=float(found.touched_mean[0]),
        local_slots=placement.local_slots,
        bound=float(bound.mean()),
        copies_bound=float(copies_bound.mean()),
    )


def _rebalanced(setting: Setting, number: int, every: int) -> tuple[Rebalancing, Rebalancing]:
    """The first placement kept, and renewed every ``every`` windows."""
    shares, better = _windows(setting.question, number), _better(setting.question)
    last = len(shares) - 1
    if not 1 <= every <= last:
        raise InputError("", "every", f"must be 1 to {last} of {number} windows, got {every}")
    kept, renewed = (rebalance(shares, better, n, setting.expert_bytes) for n in (0, every))
    return kept, renewed


def _windows(asked: Question, number: int) -> Floats:
    spec = asked.routing.popularity
    if isinstance(spec, HistogramPopularity) and len(spec.windows) > 1:
        recorded = len(spec.windows)
        if number != recorded:
            raise InputError(
                "", "windows",
                f"{spec.path or 'the histogram'} holds {recorded} windows, all of which are "
                f"used; give {recorded}, got {number}",
            )  # fmt: skip
        return histogram_shares(spec, asked.moe.experts, asked.moe.layers)
    if not asked.routing.drift.sigma:
        raise InputError(
            "", "routing.drift",
            "load that does not change needs no rebalancing; give routing.drift.sigma, or a "
            "histogram of several windows",
        )  # fmt: skip
    if number < 2:
        raise InputError("", "windows", f"rebalancing needs 2 windows or more, got {number}")
    past, _ = windows(asked.routing, asked.moe)
    rng = np.random.default_rng(np.random.SeedSequence([asked.routing.seed, 8]))
    return drifting(past, asked.routing.drift, number, rng)
