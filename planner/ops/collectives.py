"""What one device must exchange in one forward step: lists of collectives.

Tensor-parallel sums and pipeline sends depend on the tokens of this attention rank, expert
traffic on the tokens of the whole expert group.
"""

import math
from typing import Literal, Protocol

from planner.ops.op import COMPUTE_PRECISION, ELEMENT_BYTES, Comm, Real
from planner.routing import Destinations, HotRank
from planner.shard import LocalMoe, Shard


class Routed(Protocol):
    """How experts are chosen: what the traffic of a token depends on."""

    @property
    def top_k(self) -> int:
        """Experts a token."""

    @property
    def groups(self) -> int:
        """Groups the experts are dealt to, in order."""

    @property
    def top_k_groups(self) -> int:
        """Groups a token may draw from."""


def token_comms(shard: Shard, tokens: Real, domain: int) -> list[Comm]:
    """Collectives that depend only on this rank's tokens: tensor-parallel sums, pipeline sends.

    Parameters
    ----------
    tokens : new tokens of this rank. [tokens]
    domain : devices of one scale-up domain.

    References
    ----------
    .. [1] M. Shoeybi et al., "Megatron-LM", arXiv:1909.08053 (two all-reduces a layer).
    """
    tp, comms = shard.attention_tp, list[Comm]()
    hidden = 2.0 * shard.hidden_size * tokens
    if tp > 1:
        moe_layers = shard.moe.layers if shard.moe else 0.0
        after_mlp = shard.dense_layers + (moe_layers if shard.moe and shard.attention_dp > 1
                                          and shard.moe.shared else 0.0)  # fmt: skip
        inside = min(tp, domain)
        comms.append(
            Comm("attention/all_reduce", "all_reduce", tp, inside, hidden, 0.0, shard.layers)
        )
        if after_mlp:
            comms.append(
                Comm("dense_mlp/all_reduce", "all_reduce", tp, inside, hidden, 0.0, after_mlp)
            )
        if shard.context_parallel > 1:
            comms += _context_comms(shard, tokens, domain)
    if shard.pp > 1:
        across = 1 if shard.stage_devices >= domain else 2
        comms.append(Comm("pipeline/send", "p2p", 2, across, hidden / tp))
    return comms


def _context_comms(shard: Shard, tokens: Real, domain: int) -> list[Comm]:
    """Gather queries and add up partial outputs over the ranks that share a sequence's cache."""
    ranks, comms = shard.context_parallel, list[Comm]()
    inside = min(ranks, domain)
    for group in shard.attention:
        if not group.core.kv_elements:
            continue
        moved, n = 2.0 * tokens * group.query_elements, group.layers
        comms += [
            Comm("attention/cp_gather", "all_gather", ranks, inside, moved, 0.0, n),
            Comm("attention/cp_reduce", "reduce_scatter", ranks, inside, moved, 0.0, n),
        ]
    return comms


def head_comms(shard: Shard, rows: Real, domain: int) -> list[Comm]:
    """Gather the logits of ``rows`` tokens over the tensor-parallel ranks.

    References
    ----------
    .. [1] M. Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.
    """
    tp = shard.attention_tp
    if tp == 1:
        return []
    return [
        Comm("lm_head/all_gather", "all_gather", tp, min(tp, domain), 2.0 * rows * shard.head.n)
    ]


def expert_comms(
    shard: Shard,
    group_tokens: Real,
    domain: int,
    dedup: bool,
    hot: HotRank | None = None,
    prompt_tokens: float = 1.0,
) -> list[Comm]:
    """Collectives that bring tokens to their experts and back.

    Equal tokens on every device (no attention data parallelism): one all-reduce.  Otherwise
    all-to-all to the expert ranks, or, with experts cut by tensor parallelism alone or where
    the deployment says so, all-gather and reduce-scatter.

    Parameters
    ----------
    group_tokens : tokens of all attention ranks together. [tokens]
    domain : devices of one scale-up domain.
    dedup : whether a token crosses scale-out once per *node* and is fanned out there (prefill
        kernels), rather than once per expert (low-latency kernels).
    hot : the hottest rank takes in (and gives back) that much more, and all wait for it.  Where
        a copy a node crosses scale-out, it comes in over the cards of all the node's ranks: there
        the hottest node counts, and each token once (``hot.reach``).
    prompt_tokens : new tokens of one prompt in the step, which choose alike. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepEP", github.com/deepseek-ai/DeepEP, docs/legacy.md.
    .. [2] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2.
    """
    moe = shard.moe
    devices = shard.stage_devices
    if moe is None or devices == 1:
        return []
    inside = min(devices, domain)
    whole = 2.0 * shard.hidden_size * group_tokens
    if shard.attention_dp == 1:
        return [
            Comm("expert_network/all_reduce", "all_reduce", devices, inside, whole, 0.0, moe.layers)
        ]
    if shard.moe_ep == 1 or shard.gathers_tokens:
        return _gathered(shard, moe, group_tokens / devices, inside)
    own = group_tokens / devices
    busiest: Real = 1.0 if hot is None else hot.pairs_ratio(group_tokens, prompt_tokens)
    busiest_out = busiest
    inner, outer = copies(moe, devices, inside, shard.moe_ep, dedup)
    if dedup and hot is not None and hot.reach is not None:
        busiest, busiest_out = hot.arrivals_ratio(group_tokens, prompt_tokens)
        inner, outer = placed_copies(hot.reach, devices, inside)
    alone = copies(moe, inside, inside, min(inside, shard.moe_ep), True)[0]
    each = copies(moe, inside, inside, min(inside, shard.moe_ep), False)[0]
    dispatch, combine = message_bytes(moe)
    halves: tuple[tuple[Literal["dispatch", "combine"], float], ...]
    halves = (("dispatch", dispatch), ("combine", combine))
    return [
        Comm(
            f"expert_network/{phase}",
            "all_to_all",
            devices,
            inside,
            own * size * shard.moe_tp * inner,
            own * size * shard.moe_tp * outer,
            moe.layers,
            hideable=True,
            phase=phase,
            mode="normal" if dedup else "low_latency",
            one_copy_share=1.0 if dedup or not each else min(1.0, alone / each),
            experts=moe.slots,
            message_bytes=size,
            busiest_share=busiest,
            busiest_scale_out_share=busiest_out,
        )
        for phase, size in halves
    ]


def _gathered(shard: Shard, moe: LocalMoe, own: Real, inside: int) -> list[Comm]:
    """Every rank gathers the ``own`` tokens of all others; partial sums are scattered back.

    4-bit inputs are gathered as they are multiplied, scales included; others in 16 bits and
    converted after, as TensorRT-LLM does (``fused_moe_cutlass.py``).
    """
    ranks, elements = shard.stage_devices, moe.message_elements
    narrow = ELEMENT_BYTES[COMPUTE_PRECISION[moe.gate_up.storage]] < 1 and shard.gathers_tokens
    each = message_bytes(moe)[0] if narrow else 2.0 * elements
    return [
        Comm("expert_network/all_gather", "all_gather", ranks, inside, own * each, 0.0, moe.layers),
        Comm(
            "expert_network/reduce_scatter", "reduce_scatter", ranks, inside,
            own * 2.0 * elements, 0.0, moe.layers,
        ),
    ]  # fmt: skip


def message_bytes(moe: LocalMoe) -> tuple[float, float]:
    """One token on its way to one expert, scales included, and back. [bytes]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2 (8 bits to
       the experts, 16 back).
    """
    dispatch_act = ELEMENT_BYTES[COMPUTE_PRECISION[moe.gate_up.storage]]
    scales = {1.0: 4 / 128, 0.5: 1 / 16}.get(dispatch_act, 0.0)
    return moe.message_elements * (dispatch_act + scales), moe.message_elements * 2.0


def copies(
    moe: Routed, devices: int, inside: int, expert_ranks: int, dedup: bool
) -> tuple[float, float]:
    r"""Copies of one token that travel inside its scale-up domain and across scale-out.

    Distinct ranks hit by ``k`` equally likely draws: :math:`R (1-(1-1/R)^k)`; a token's own rank
    costs nothing.  With ``dedup`` one copy per *other node* crosses scale-out, bounded by
    group-limited routing, and fans out there over scale-up.

    Returns
    -------
    inner, outer : expected copies a token.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2
       (node-limited routing).
    """
    ranks = min(devices, expert_ranks)
    targets = ranks * (1 - (1 - 1 / ranks) ** moe.top_k) if dedup else float(moe.top_k)
    nodes = max(1.0, devices / inside)
    if nodes == 1:
        return targets * (devices - 1) / devices, 0.0
    remote = (devices - inside) / devices
    if not dedup:
        return targets * (inside - 1) / devices, targets * remote
    hit = distinct_nodes(moe, nodes)
    return targets * (1 - 1 / inside), hit * (nodes - 1) / nodes


def placed_copies(reach: Destinations, devices: int, inside: int) -> tuple[float, float]:
    """Copies of ``copies`` with ``dedup``, for the placement at hand.

    Load balancing that deals experts to any rank gives up some of what node-limited routing
    saves: a token's groups are no longer together.

    Returns
    -------
    inner, outer : expected copies a token.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2.
    """
    if devices <= inside:
        return reach.ranks_per_token * (devices - 1) / devices, 0.0
    nodes = devices / inside
    return reach.ranks_per_token * (1 - 1 / inside), reach.nodes_per_token * (1 - 1 / nodes)


def distinct_nodes(moe: Routed, nodes: float) -> float:
    r"""Expected nodes that hold at least one of a token's experts.

    Without limit :math:`N (1-(1-1/N)^k)`.  Group-limited routing draws the ``k`` experts from
    ``l`` of ``g`` equal groups, which lie on the nodes in order.  A node with :math:`n = g / N`
    groups holds ``j`` of the ``l`` with hypergeometric probability, and is then missed by all
    draws with :math:`(1 - j/l)^k`; with fewer groups than nodes the token has
    :math:`R = l N / g` equally likely nodes.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2
       (at most 4 nodes a token); counting argument on the draws.
    """
    limit, groups, k = moe.top_k_groups, moe.groups, moe.top_k
    if limit >= groups:
        return float(nodes * (1 - (1 - 1 / nodes) ** k))
    if nodes >= groups:
        reachable = limit * nodes / groups
        return float(reachable * (1 - (1 - 1 / reachable) ** k))
    held = groups / nodes
    low = math.floor(held)
    missed = sum(
        weight
        * sum(
            math.comb(n, j) * math.comb(groups - n, limit - j) * (1 - j / limit) ** k
            for j in range(min(n, limit) + 1)
        )
        / math.comb(groups, limit)
        for n, weight in ((low, 1 - (held - low)), (low + 1, held - low))
        if weight
    )
    return float(nodes * (1 - missed))
