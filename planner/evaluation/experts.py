"""Load of experts and ranks of a deployment, without and with load balancing."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.routing import (
    Gate,
    Layout,
    Placement,
    Rebalancing,
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
from planner.shard import shard
from planner.specs.model import ModelSpec, Moe
from planner.specs.routing import HistogramPopularity, PlacementPolicy, Routing
from planner.specs.scenario import Scenario

Floats = NDArray[np.float64]

STEPS = 20
"""Steps drawn for the statistics."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whose load is asked for, and where the experts are."""

    moe: Moe
    routing: Routing
    ep: int
    redundant: int = 0
    ranks_per_node: int = 8
    tokens: int = 4096
    """Tokens of all ranks that share the experts, in one step. [tokens]"""
    tokens_per_prompt: int = 1
    """New tokens of one prompt in a step."""

    @property
    def balanced_policy(self) -> PlacementPolicy:
        """Policy of the balanced placement: the routing's own, unless that is none."""
        own = self.routing.placement
        return "global" if own == "contiguous" else own


@dataclass(frozen=True, slots=True)
class Setting:
    """A question with its names, and what moving experts costs."""

    name: str
    model: str
    question: Question
    expert_bytes: float = 0.0
    """Stored bytes of one routed expert of one layer on its device. [bytes]"""
    bytes_per_s: float | None = None
    """Link over which a rank fetches experts; None: not known. [bytes/s]"""

    def changed(self, ep: int | None, redundant: int | None, tokens: int | None) -> "Setting":
        """The same with another layout or batch; None leaves as it is.

        Raises
        ------
        InputError
            A number below what it counts.
        """
        wanted = {"ep": ep, "redundant": redundant, "tokens": tokens}
        for name, value in wanted.items():
            least = 0 if name == "redundant" else 1
            if value is not None and value < least:
                raise InputError("", name, f"must be {least} or more, got {value}")
        now = self.question
        asked = replace(
            now,
            ep=now.ep if ep is None else ep,
            redundant=now.redundant if redundant is None else redundant,
            tokens=now.tokens if tokens is None else tokens,
        )
        return replace(self, question=asked)


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
    """Least expected ratio that any placement of these copies could have, mean over layers."""

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
    """Over drifting windows: the first placement kept, and renewed before every window."""

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
                "kept_hottest_rank_over_mean": kept.imbalance.tolist(),
                "renewed_hottest_rank_over_mean": renewed.imbalance.tolist(),
                "moved_bytes": renewed.moved_bytes.tolist(),
                "moved_bytes_busiest_rank": renewed.moved_bytes_max_rank.tolist(),
                "fetch_s": self.rebalance_s,
            }
        return plain


def experts_in(model: ModelSpec) -> Moe:
    """Expert layers of a model; InputError where it has none."""
    if model.moe is None:
        raise InputError("", "model", f"{model.name} is dense: it has no experts to balance")
    return model.moe


def experts_of(scenario: Scenario) -> Setting:
    """Experts, routing and layout of a scenario's deployment.

    Raises
    ------
    InputError
        Without routing or deployment, or for a dense model.
    """
    moe, pool = experts_in(scenario.model), scenario.decoding
    if pool is None or scenario.routing is None:
        missing = "deployment" if pool is None else "routing"
        remedy = "; e.g. --set routing=deepseek-r1-translation" if pool else ""
        raise InputError(scenario.name, missing, f"is missing: expert load needs it{remedy}")
    hardware, local = scenario.hardware[0], shard(scenario.model, pool)
    up, out = hardware.system.scale_up, hardware.system.scale_out
    inside = local.devices <= up.devices or out is None
    layout = pool.parallelism
    tokens = pool.limits.max_step_tokens * layout.attention_dp
    if scenario.steady:
        tokens = max(1, round(scenario.steady.sequences_per_device * local.devices))
    question = Question(
        moe, scenario.routing, layout.moe_ep, pool.redundant_experts,
        max(1, up.devices // layout.moe_tp), tokens,
    )  # fmt: skip
    stored = 0.0 if local.moe is None else sum(
        m.stored_bytes for m in (local.moe.gate_up, local.moe.down)
    )  # fmt: skip
    link = up if inside or out is None else out
    return Setting(scenario.name, scenario.model.name, question, stored, float(link.bytes_per_s))


def expert_report(setting: Setting, number: int = 0) -> ExpertReport:
    """Load of experts and ranks before and after load balancing.

    Without balancing, slots hold the experts in their order; redundant slots, where the degree
    does not divide the experts alone, repeat the first experts.

    Parameters
    ----------
    number : windows of drifting load over which the placement is renewed; 0: none.  A recorded
        histogram of several windows is used as it is.

    Raises
    ------
    InputError
        A histogram is not of this model, top-k exceeds the experts, or load that does not change
        is to be rebalanced.
    InfeasibleError
        The slots cannot be dealt to the ranks.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025.
    """
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
        rebalancing=_rebalanced(setting, number) if number else None,
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
    bound = largest_rank_bound(expected, placement.copies, asked.ep) / mean[:, 0]
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
    )


def _rebalanced(setting: Setting, number: int) -> tuple[Rebalancing, Rebalancing]:
    """The first placement kept, and renewed before every window."""
    shares, better = _windows(setting.question, number), _better(setting.question)
    kept, renewed = (rebalance(shares, better, n, setting.expert_bytes) for n in (0, 1))
    return kept, renewed


def _windows(asked: Question, number: int) -> Floats:
    spec = asked.routing.popularity
    if isinstance(spec, HistogramPopularity) and len(spec.windows) > 1:
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
