"""Families with a compressed cache: DeepSeek V2 to V4, Kimi, GLM-5."""

from planner.hf.fields import Fields
from planner.hf.parts import Parts, dense_layers, layer_count, leading_dense
from planner.specs.model import (
    Attention,
    CompressedAttention,
    GroupScore,
    Indexer,
    KimiDeltaAttention,
    Mla,
    Moe,
)

_SCORING = ("softmax", "sigmoid", "sqrtsoftplus")
_GROUP_SCORES: dict[str, GroupScore] = {"group_limited_greedy": "best", "noaux_tc": "best_two"}
"""What ranks a token's groups, by ``topk_method``."""
_ENTRIES = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}


def deepseek(config: Fields) -> Parts:
    """DeepSeek V2, V3, V3.2, Kimi K2, GLM-5: latent attention, leading dense layers, experts."""
    layers, dense = layer_count(config), leading_dense(config)
    kind = config.word("model_type")
    return Parts(
        attention=_latent_groups(config, layers),
        dense=dense_layers(config, count=dense),
        moe=_experts(config, layers - dense),
        mtp_layers=config.integer("num_nextn_predict_layers", default=0, least=0),
        mtp_copies_head=kind in ("deepseek_v3", "deepseek_v32"),
    )


def deepseek_v4(config: Fields) -> Parts:
    """DeepSeek-V4: compressed attention, experts in every layer, hyper-connections."""
    layers = layer_count(config)
    if config.has("layer_types"):
        kinds = config.items("layer_types", *_ENTRIES, length=layers)
        ratios = [_ENTRIES[kind] for kind in kinds]
    else:
        ratios = config.items("compress_ratios", *_ENTRIES.values(), length=layers)
    groups = tuple(
        _compressed(config, ratios.count(ratio), ratio)
        for ratio in sorted(set(ratios), key=(0, 128, 4).index)
    )
    return Parts(
        attention=groups,
        moe=_experts(config, layers, scoring="sqrtsoftplus"),
        mtp_layers=config.integer("num_nextn_predict_layers", default=0, least=0),
        hyper_connections=config.integer("hc_mult", default=4, least=0),
    )


def kimi_linear(config: Fields) -> Parts:
    """Kimi Linear and Kimi K3: delta attention with some layers of latent attention."""
    layers, dense = layer_count(config), leading_dense(config)
    linear = config.table("linear_attn_config")
    full, delta = len(linear.items("full_attn_layers")), len(linear.items("kda_layers"))
    if full + delta != layers:
        linear.fail("kda_layers", f"{full} full and {delta} delta layers are not the {layers}")
    attention = [_latent(config, full)] if full else []
    kda = KimiDeltaAttention(
        layers=delta,
        heads=linear.integer("num_heads"),
        head_dim=linear.integer("head_dim"),
        conv_kernel=linear.integer("short_conv_kernel_size", default=4),
        full_rank_gate=linear.flag("use_full_rank_gate"),
    )
    return Parts(
        attention=(*attention, kda),
        dense=dense_layers(config, count=dense),
        moe=_experts(config, layers - dense),
        mtp_layers=config.integer("num_nextn_predict_layers", default=0, least=0),
        layer_vectors=6 if config.has("attn_res_block_size") else 2,
    )


def _latent(config: Fields, layers: int, indexer: Indexer | None = None) -> Mla:
    return Mla(
        layers=layers,
        heads=config.integer("num_attention_heads"),
        q_lora_rank=config.optional_integer("q_lora_rank"),
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_head_dim=config.integer("qk_nope_head_dim"),
        qk_rope_head_dim=config.integer("qk_rope_head_dim", least=0),
        v_head_dim=config.integer("v_head_dim"),
        output_gate=config.flag("mla_use_output_gate"),
        indexer=indexer,
    )


def _latent_groups(config: Fields, layers: int) -> tuple[Attention, ...]:
    if not config.has("index_topk"):
        return (_latent(config, layers),)
    own = _indexer(config, config.integer("index_topk"))
    if not config.has("indexer_types"):
        return (_latent(config, layers, own),)
    kinds = config.items("indexer_types", "full", "shared", length=layers)
    shared = own.model_copy(update={"shared": True})
    groups = ((kinds.count("full"), own), (kinds.count("shared"), shared))
    return tuple(_latent(config, count, indexer) for count, indexer in groups if count)


def _indexer(config: Fields, top_k_tokens: int) -> Indexer:
    return Indexer(
        heads=config.integer("index_n_heads"),
        head_dim=config.integer("index_head_dim"),
        top_k_tokens=top_k_tokens,
    )


def _compressed(config: Fields, layers: int, ratio: int) -> CompressedAttention:
    sparse = ratio == 4
    return CompressedAttention(
        layers=layers,
        heads=config.integer("num_attention_heads"),
        head_dim=config.integer("head_dim"),
        qk_rope_head_dim=config.integer("qk_rope_head_dim"),
        q_lora_rank=config.integer("q_lora_rank"),
        o_groups=config.integer("o_groups"),
        o_lora_rank=config.integer("o_lora_rank"),
        window_tokens=config.integer("sliding_window"),
        compression=ratio or None,
        indexer=_indexer(config, ratio * config.integer("index_topk")) if sparse else None,
    )


def _experts(config: Fields, layers: int, scoring: str = "") -> Moe | None:
    if layers == 0:
        return None
    width = config.integer("moe_intermediate_size")
    shared = config.integer("n_shared_experts", "num_shared_experts", default=0, least=0)
    given = config.word("scoring_func") or config.word("moe_router_activation_func")
    v3 = config.word("model_type") not in ("deepseek_v2",)
    chosen = given or scoring or ("sigmoid" if v3 else "softmax")
    if chosen not in _SCORING:
        config.fail("scoring_func", f"{chosen!r} is not known; known: {', '.join(_SCORING)}")
    return Moe.model_validate(
        {
            "layers": layers,
            "experts": config.integer("n_routed_experts", "num_experts"),
            "top_k": config.integer("num_experts_per_tok", "num_experts_per_token"),
            "intermediate_size": width,
            "shared_experts": shared,
            "shared_intermediate_size": shared * width,
            "latent_size": config.optional_integer("routed_expert_hidden_size"),
            "scoring": chosen,
        }
        | _group_rule(config)
    )


def _group_rule(config: Fields) -> dict[str, object]:
    """Group-limited choice of experts; nothing where all stand in one group.

    DeepSeek-V2 ranks groups by their best expert and says so in ``topk_method``; so its
    relatives are read without that field, later families as ``noaux_tc``.  ``greedy`` takes the
    best experts of all groups.
    """
    groups = config.integer("n_group", "num_expert_group", default=1)
    v2 = config.word("model_type") == "deepseek_v2"
    method = config.word("topk_method", "group_limited_greedy" if v2 else "noaux_tc")
    if groups == 1 or method == "greedy":
        return {}
    if method not in _GROUP_SCORES:
        known = ", ".join(("greedy", *_GROUP_SCORES))
        config.fail("topk_method", f"{method!r} is not known; known: {known}")
    return {
        "groups": groups,
        "top_k_groups": config.integer("topk_group", default=1),
        "group_score": _GROUP_SCORES[method],
    }
