"""What one device must do in one forward step: lists of ops and collectives.

The list of a step is the sum of three parts that depend on different things, so that the event
loop can tabulate them: ``token_ops`` on the tokens of this attention rank, ``expert_ops`` on the
tokens of the whole expert group, and the attention cores on contexts.
"""

import numpy as np

from planner.arch import Storage
from planner.ops.op import (
    ELEMENT_BYTES,
    AttentionDecode,
    AttentionPrefill,
    Comm,
    Elementwise,
    Gemm,
    GroupedGemm,
    Op,
    Real,
)
from planner.shard import LocalMatrix, LocalMoe, Shard
from planner.specs.hardware import Precision

COMPUTE_PRECISION: dict[Storage, Precision] = {
    "bf16": "bf16",
    "fp8": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "bf16",
    "int4": "bf16",
}
"""Format the matrix units multiply in: mxfp4 and int4 weights are expanded to bf16 on the fly."""


def _gemm(matrix: LocalMatrix, tokens: Real, layers: float) -> Gemm:
    return Gemm(
        f"{matrix.component}/{matrix.name}",
        tokens,
        matrix.k,
        matrix.n,
        COMPUTE_PRECISION[matrix.storage],
        matrix.bytes_per_parameter,
        layers,
    )


def token_ops(shard: Shard, tokens: Real) -> list[Op]:
    """Ops that depend only on the tokens of this attention rank: projections, dense MLP, norms.

    Parameters
    ----------
    tokens : new tokens of this rank (decode: one a sequence; prefill: the chunk). [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, sections 2.1 and 3.3.
    """
    ops: list[Op] = []
    for group in shard.attention:
        ops += [_gemm(m, tokens, group.layers) for m in group.matrices]
        moved = 2.0 * sum(m.n for m in group.matrices if m.name not in ("o", "kv_b"))
        ops.append(Elementwise("attention/norm_rope_cache", 2 * tokens * moved, group.layers))
    ops += [_gemm(m, tokens, shard.dense_layers) for m in shard.dense]
    if shard.dense:
        ops.append(_gating("dense_mlp/gate", tokens, shard.dense[0].n / 2, shard.dense_layers))
    moe = shard.moe
    if moe:
        ops += [_gemm(m, tokens, moe.layers) for m in (moe.router, *moe.latent, *moe.shared)]
        ops.append(Elementwise("router/top_k", 4.0 * moe.experts * tokens, moe.layers))
        if moe.shared:
            ops.append(_gating("shared_experts/gate", tokens, moe.shared[0].n / 2, moe.layers))
    ops.append(
        Elementwise("norms/residual_norm", 8.0 * shard.hidden_size * tokens, 2 * shard.layers)
    )
    ops += [_gemm(m, tokens, shard.layers) for m in shard.hyper]
    if any(COMPUTE_PRECISION[m.storage] != "bf16" for a in shard.attention for m in a.matrices):
        ops.append(
            Elementwise("norms/quantise", 3.0 * shard.hidden_size * tokens, 3 * shard.layers)
        )
    return ops


def _gating(name: str, rows: Real, width: float, count: float) -> Elementwise:
    """SiLU(gate) * up and conversion to the next input: read ``2 width`` bf16, write 1 byte."""
    return Elementwise(name, 5.0 * width * rows, count)


def expert_ops(shard: Shard, group_tokens: Real) -> list[Op]:
    """Ops of the routed experts on one device, experts equally popular.

    Parameters
    ----------
    group_tokens : tokens of all attention ranks that share the experts. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    moe = shard.moe
    if moe is None:
        return []
    pairs = group_tokens * moe.top_k / shard.moe_ep
    touched = touched_slots(moe, group_tokens)
    ops: list[Op] = [
        GroupedGemm(
            f"routed_experts/{m.name}",
            pairs,
            touched,
            m.k,
            m.n,
            COMPUTE_PRECISION[m.storage],
            m.bytes_per_parameter,
            moe.layers,
        )
        for m in (moe.gate_up, moe.down)
    ]
    act = ELEMENT_BYTES[COMPUTE_PRECISION[moe.gate_up.storage]]
    ops += [
        Elementwise("routed_experts/permute", pairs * moe.gate_up.k * 2 * act, moe.layers),
        _gating("routed_experts/gate", pairs, moe.gate_up.n / 2, moe.layers),
        Elementwise("routed_experts/combine", pairs * moe.down.n * 2.0 * 2, moe.layers),
    ]
    return ops


def touched_slots(moe: LocalMoe, group_tokens: Real) -> Real:
    r"""Expert slots of one device that receive at least one token, expected.

    .. math:: E_{local}\,(1 - (1 - k/E_{slots})^B)

    for ``B`` tokens whose ``k`` experts are equally popular; copies of an expert share its tokens.

    References
    ----------
    .. [1] Counting argument: each of ``B`` independent draws misses a slot with probability
       ``1 - k / slots``.
    """
    miss = (1.0 - moe.top_k / moe.slots) ** group_tokens
    return moe.local_slots * (1.0 - miss)


def head_ops(shard: Shard, rows: Real) -> list[Op]:
    """Output projection and sampling of ``rows`` tokens that need a next token.

    References
    ----------
    .. [1] H. Touvron et al., "LLaMA", arXiv:2302.13971 (untied output projection).
    """
    return [
        _gemm(shard.head, rows, 1.0),
        Elementwise("lm_head/sample", 8.0 * shard.head.n * rows, 1.0),
    ]


def decode_attention(
    shard: Shard, sequences: Real, context_tokens: Real, capped_tokens: Real
) -> list[AttentionDecode]:
    """Attention cores of decoding sequences.

    Parameters
    ----------
    sequences : decoding sequences of this rank.
    context_tokens, capped_tokens : sums over them of context and of min(context, cap). [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    """
    ops = []
    for group in shard.attention:
        core, split = group.core, group.context_split
        if core.kv_elements == 0 and core.token_flop == 0:
            continue
        seen = context_tokens if core.cap_tokens is None else capped_tokens
        entries = seen / core.context_per_entry + core.raw_window_tokens * sequences
        ops.append(
            AttentionDecode(
                f"attention/{group.name}_core",
                sequences,
                context_tokens / split,
                entries / split,
                core.decode_pair_flop * group.head_share * split,
                group.entry_bytes,
                group.query_elements * split,
                core.indexer_pair_flop,
                core.indexer_bytes_per_token,
                core.token_flop * group.head_share,
                core.state_bytes_per_sequence * group.head_share,
                group.layers,
            )
        )
    return ops


def prefill_attention(
    shard: Shard, tokens: Real, pairs: Real, capped_pairs: Real
) -> list[AttentionPrefill]:
    """Attention cores of the prompt chunks of this rank.

    Parameters
    ----------
    tokens : prompt tokens computed. [tokens]
    pairs, capped_pairs : causal (query, context) pairs, all and with the context capped.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    """
    ops = []
    for group in shard.attention:
        core = group.core
        seen = pairs if core.cap_tokens is None else capped_pairs
        ops.append(
            AttentionPrefill(
                f"attention/{group.name}_prefill",
                tokens,
                pairs,
                seen / core.context_per_entry + core.raw_window_tokens * tokens,
                core.prefill_pair_flop * group.head_share,
                core.prefill_pair_flop / 2 * group.head_share,
                core.indexer_pair_flop,
                core.token_flop * group.head_share,
                group.layers,
            )
        )
    return ops


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


def expert_comms(shard: Shard, group_tokens: Real, domain: int, dedup: bool) -> list[Comm]:
    """Collectives that bring tokens to their experts and back.

    Equal tokens on every device (no attention data parallelism): one all-reduce.  Otherwise
    all-to-all to the expert ranks, or, with experts cut by tensor parallelism alone,
    all-gather and reduce-scatter.

    Parameters
    ----------
    group_tokens : tokens of all attention ranks together. [tokens]
    domain : devices of one scale-up domain.
    dedup : whether a token crosses scale-out once per *node* and is fanned out there (prefill
        kernels), rather than once per expert (low-latency kernels).

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
        return [Comm("expert_network/all_reduce", "all_reduce", devices, inside, whole, 0.0, moe.layers)]
    if shard.moe_ep == 1:
        part = whole / devices
        return [
            Comm("expert_network/all_gather", "all_gather", devices, inside, part, 0.0, moe.layers),
            Comm(
                "expert_network/reduce_scatter", "reduce_scatter", devices, inside, part, 0.0, moe.layers
            ),
        ]
    own = group_tokens / devices
    inner, outer = copies(moe, devices, inside, shard.moe_ep, dedup)
    dispatch_act = ELEMENT_BYTES[COMPUTE_PRECISION[moe.gate_up.storage]]
    dispatch = moe.message_elements * (dispatch_act + (4 / 128 if dispatch_act == 1 else 0.0))
    combine = moe.message_elements * 2.0
    comms = []
    for name, size in (("expert_network/dispatch", dispatch), ("expert_network/combine", combine)):
        sent = own * size * shard.moe_tp
        comms.append(
            Comm(name, "all_to_all", devices, inside, sent * inner, sent * outer, moe.layers, True)
        )
    return comms


def copies(
    moe: LocalMoe, devices: int, inside: int, expert_ranks: int, dedup: bool
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


def distinct_nodes(moe: LocalMoe, nodes: float) -> float:
    """Expected nodes that hold at least one of a token's experts.

    Group-limited routing draws ``top_k`` experts from ``top_k_groups`` of ``groups`` equal groups,
    which lie on the nodes in order.

    References
    ----------
    .. [1] Counting argument on hypergeometric misses; DeepSeek-V3 Technical Report,
       arXiv:2412.19437, section 2.1.2.
    """
    limit, groups = moe.top_k_groups, moe.groups
    chosen = limit * (1 - (1 - 1 / limit) ** moe.top_k) if limit < groups else None
    if chosen is None:
        return float(nodes * (1 - (1 - 1 / nodes) ** moe.top_k))
    if nodes <= groups:
        held = groups / nodes
        return float(nodes * (1 - np.clip(1 - held / groups, 0, 1) ** chosen))
    spread = nodes / groups
    return float(chosen * spread * (1 - (1 - 1 / spread) ** (moe.top_k / chosen)))
