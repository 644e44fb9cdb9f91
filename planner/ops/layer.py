"""What one device must do in one forward step: lists of ops.

The list of a step is the sum of three parts that depend on different things, so that the event
loop can tabulate them: ``token_ops`` on the tokens of this attention rank, ``expert_ops`` on the
tokens of the whole expert group, and the attention cores on contexts.
"""

from typing import cast

from planner.arch import AttentionCore, kv_entry_bytes
from planner.ops.op import (
    COMPUTE_PRECISION,
    ELEMENT_BYTES,
    AttentionDecode,
    AttentionPrefill,
    Elementwise,
    Gemm,
    Given,
    GroupedGemm,
    Op,
    Real,
    smaller,
)
from planner.routing import HotRank
from planner.shard import LocalAttention, LocalMatrix, LocalMoe, Shard
from planner.specs.calibration import NARROW_HEADS, AttentionVariant, width_suffix


def dense(matrix: LocalMatrix, tokens: Real, layers: float) -> Gemm:
    """Product of ``tokens`` rows with this device's part of a matrix, in each of ``layers``.

    References
    ----------
    .. [1] M. Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3 (matrices cut by columns
       or rows).
    """
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
        ops += [dense(m, tokens, group.layers) for m in group.matrices]
        moved = 2.0 * sum(m.n for m in group.matrices if m.name not in ("o", "kv_b"))
        ops.append(Elementwise("attention/norm_rope_cache", 2 * tokens * moved, group.layers))
    ops += [dense(m, tokens, shard.dense_layers) for m in shard.dense]
    if shard.dense:
        ops.append(_gating("dense_mlp/gate", tokens, shard.dense[0].n / 2, shard.dense_layers))
    moe = shard.moe
    if moe:
        ops += [dense(m, tokens, moe.layers) for m in (moe.router, *moe.latent, *moe.shared)]
        ops.append(Elementwise("router/top_k", 4.0 * moe.experts * tokens, moe.layers))
        if moe.shared:
            ops.append(_gating("shared_experts/gate", tokens, moe.shared[0].n / 2, moe.layers))
    ops.append(
        Elementwise("norms/residual_norm", 8.0 * shard.hidden_size * tokens, 2 * shard.layers)
    )
    ops += [dense(m, tokens, shard.layers) for m in shard.hyper]
    if any(COMPUTE_PRECISION[m.storage] != "bf16" for a in shard.attention for m in a.matrices):
        kernels = 3 * shard.layers
        moved = 3.0 * quantised_inputs(shard) / kernels
        ops.append(Elementwise("norms/quantise", moved * tokens, kernels))
    return ops


def quantised_inputs(shard: Shard) -> float:
    """Elements of one token that are converted from 16 bits for products, all layers together.

    Each distinct input once: of the query and cache projections (which share the hidden state),
    of what is expanded from latents, of the output projection, of the gated MLPs (the gate
    writes the second input converted already), and of what is sent to experts.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.3.2 (inputs
       are quantised online, 1 x 128 elements at a time); section 3.2.2 (before dispatch).
    """
    total = 0.0
    for group in shard.attention:
        inputs = {
            shard.hidden_size if m.k == shard.hidden_size else m.name: m.k
            for m in group.matrices
            if COMPUTE_PRECISION[m.storage] != "bf16"
        }
        total += group.layers * sum(inputs.values())
    for matrices, layers in _gated_mlps(shard):
        if matrices and COMPUTE_PRECISION[matrices[0].storage] != "bf16":
            total += layers * matrices[0].k
    moe = shard.moe
    if moe and COMPUTE_PRECISION[moe.gate_up.storage] != "bf16":
        total += moe.layers * moe.message_elements
    return total


def _gated_mlps(shard: Shard) -> tuple[tuple[tuple[LocalMatrix, ...], float], ...]:
    shared = ((shard.moe.shared, shard.moe.layers),) if shard.moe else ()
    return ((shard.dense, shard.dense_layers), *shared)


def prompt_ops(shard: Shard, tokens: Real) -> list[Op]:
    """Ops that prompt tokens need beside :func:`token_ops`: keys put together from their parts.

    Latent attention expands its cache for a prompt; the expanded part of every head's key is
    read, and the whole key written with the part that all heads share.

    Parameters
    ----------
    tokens : prompt tokens of this rank. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.3 (decoupled rotary key).
    .. [2] SGLang, github.com/sgl-project/sglang, python/sglang/srt/models/deepseek_v2.py
       (``forward_normal``: keys are written in two parts).
    """
    ops: list[Op] = []
    for group in shard.attention:
        widths = {m.name: m for m in group.matrices}
        if group.name != "mla" or "kv_b" not in widths or group.core.cap_tokens is not None:
            continue  # layers that pick keys run in the absorbed form
        key = (widths.get("q_b") or widths["q"]).n
        expanded = widths["kv_b"].n - widths["o"].k
        ops.append(
            Elementwise("attention/key_parts", 2.0 * (expanded + key) * tokens, group.layers)
        )
    return ops


def _gating(name: str, rows: Real, width: float, count: float, apart: bool = False) -> Elementwise:
    """SiLU(gate) * up and conversion to the next input: read ``2 width`` bf16, write 1 byte.

    ``apart``: the conversion reads what a kernel of its own wrote in bf16.
    """
    return Elementwise(name, (9.0 if apart else 5.0) * width * rows, count)


def expert_ops(
    shard: Shard,
    group_tokens: Real,
    hot: HotRank | None = None,
    prompt_tokens: float = 1.0,
    gate_apart: bool = False,
) -> list[Op]:
    """Ops of the routed experts on the device the others wait for.

    Parameters
    ----------
    group_tokens : tokens of all attention ranks that share the experts. [tokens]
    hot : how much more the hottest rank has to do; ``None``: experts are equally popular.
    prompt_tokens : new tokens of one prompt in the step, which choose alike. [tokens]
    gate_apart : gate and conversion to 8 bits are two kernels.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    moe = shard.moe
    if moe is None:
        return []
    pairs = group_tokens * moe.top_k / shard.moe_ep
    touched = touched_slots(moe, group_tokens)
    if hot is not None:
        pairs = pairs * hot.pairs_ratio(group_tokens, prompt_tokens)
        touched = hot.most_touched(group_tokens)
    given = None if shard.uses_all_to_all else group_tokens
    return loaded_expert_ops(moe, pairs, touched, gate_apart, given)


def loaded_expert_ops(
    moe: LocalMoe, pairs: Real, touched: Real, gate_apart: bool = False, given: Real | None = None
) -> list[Op]:
    """Ops of the routed experts on a device with ``pairs`` rows over ``touched`` of its slots.

    Parameters
    ----------
    pairs : (token, expert) pairs that come to this device.
    touched : its slots with at least one of them.
    gate_apart : as for :func:`expert_ops`; products in 16 bits have nothing to convert.
    given : tokens that the kernels are given where every rank gathers those of all; None: those
        that the pairs are of. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    given = pairs / moe.top_k if given is None else given
    whole = Given(given, given * moe.top_k, given * moe.gate_up.k, moe.local_slots, moe.slots)
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
            m.storage,
            whole,
        )
        for m in (moe.gate_up, moe.down)
    ]
    act = ELEMENT_BYTES[COMPUTE_PRECISION[moe.gate_up.storage]]
    ops += [
        Elementwise("routed_experts/permute", pairs * moe.gate_up.k * 2 * act, moe.layers),
        _gating(
            "routed_experts/gate", pairs, moe.gate_up.n / 2, moe.layers, gate_apart and act < 2
        ),
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
        seen = _seen(shard, core, (sequences, context_tokens, capped_tokens))
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
                variant=_variant(group, cached=True),
                heads=core.heads * group.head_share * split,
                cached_heads=core.kv_split * _cache_share(group),
            )
        )
    return ops


def _seen(shard: Shard, core: AttentionCore, load: tuple[Real, Real, Real]) -> Real:
    """Context of ``load`` (queries, context, capped context) that one group of layers reads.

    A load is capped by the model's longest cap; layers with a shorter one read that of every
    query, which is too much only for contexts below it.
    """
    queries, context, capped = load
    if core.cap_tokens is None:
        return context
    return capped if core.cap_tokens == shard.cap_tokens else core.cap_tokens * queries


def prefill_attention(
    shard: Shard,
    tokens: Real,
    pairs: Real,
    capped_pairs: Real,
    sparse: bool = True,
    longest: Real | None = None,
) -> list[AttentionPrefill]:
    """Attention cores of the prompt chunks of this rank.

    Parameters
    ----------
    tokens : prompt tokens computed. [tokens]
    pairs, capped_pairs : causal (query, context) pairs, all and with the context capped.
    sparse : how layers that pick keys (top-k) run: over the picked ones, which differ from query
        to query and so need the absorbed form, or (False) over all with a mask.
    longest : longest context that one of the tokens sees; None: not known. [tokens]

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    .. [2] DeepSeek-AI, "DeepSeek-V3.2", arXiv:2512.02556, section 2.1 (absorbed form under the
       indexer; a masked form for short prompts).
    """
    ops = []
    for group in shard.attention:
        core = group.core
        picks = core.cap_tokens is not None and core.cache_tokens is None
        seen = _seen(shard, core, (tokens, pairs, capped_pairs))
        pair_flop = core.prefill_pair_flop
        if picks and sparse:
            pair_flop = core.decode_pair_flop
        elif picks:
            seen = pairs
        ops.append(
            AttentionPrefill(
                f"attention/{group.name}_prefill",
                tokens,
                pairs,
                seen / core.context_per_entry + core.raw_window_tokens * tokens,
                pair_flop * group.head_share,
                core.prefill_pair_flop / 2 * group.head_share,
                core.indexer_pair_flop,
                core.token_flop * group.head_share,
                group.layers,
                variant=_variant(group, cached=False),
                heads=core.heads * group.head_share,
                key_elements=_key_elements(group),
                longest_tokens=_reach(core, longest, masked=picks and not sparse),
            )
        )
    return ops


def _key_elements(group: LocalAttention) -> float | None:
    """Keys and values a token brings to prefill; None: MLA's, put together for every head."""
    if group.name != "gqa":
        return None
    return group.core.kv_elements * _cache_share(group)


def _cache_share(group: LocalAttention) -> float:
    """Part of a cache entry that this device holds; none of what keeps a state instead."""
    whole = kv_entry_bytes(group.core, group.kv)
    return group.entry_bytes / whole if whole else 0.0


def _reach(core: AttentionCore, longest: Real | None, masked: bool) -> Real | None:
    """Entries that the token with the longest context reads."""
    if longest is None:
        return None
    if core.cap_tokens is not None and not masked:
        longest = smaller(longest, float(core.cap_tokens))
    return longest / core.context_per_entry + core.raw_window_tokens


def _variant(group: LocalAttention, cached: bool) -> AttentionVariant | None:
    """Kernel of a group of layers, as calibrations name it: of prompts by what they write, too."""
    fp8 = group.kv == "fp8"
    if group.name == "gqa":
        alone = cached and group.core.heads == group.core.kv_split
        width = width_suffix(group.core.kv_elements / group.core.kv_split / 2)
        named = f"{'mha' if alone else 'gqa'}{width}{'_fp8_cache' if fp8 else ''}"
        return cast(AttentionVariant, named)
    if group.name != "mla":
        return None
    if not cached:
        return "mla_fp8_cache" if fp8 else None
    if group.core.heads * group.head_share * group.context_split < NARROW_HEADS:
        return "mla_narrow_fp8_cache" if fp8 else "mla_narrow"
    return "mla_fp8_cache" if fp8 else None
