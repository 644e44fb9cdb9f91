"""Families with grouped-query attention: Llama, Qwen, Mixtral, gpt-oss, GLM-4.5, MiniMax, ..."""

from collections.abc import Mapping
from typing import Any

from planner.hf.fields import Fields
from planner.hf.parts import Parts, count_kinds, dense_layers, layer_count, leading_dense
from planner.specs.model import Attention, GatedDeltaNet, Gqa, Indexer, Moe

_WINDOWED = ("full_attention", "sliding_attention")
_CHUNKED = ("full_attention", "chunked_attention")
_HYBRID = ("full_attention", "linear_attention")


def dense(config: Fields) -> Parts:
    """Llama, Mistral, Qwen2, Qwen3: one MLP a layer."""
    return Parts(attention=_windowed(config), dense=dense_layers(config, count=layer_count(config)))


def mixtral(config: Fields) -> Parts:
    """Mixtral, OLMoE, Grok-1: experts of ``intermediate_size`` in every layer."""
    grok = config.word("model_type").startswith("grok")
    return Parts(
        attention=_windowed(config),
        moe=_moe(config, layer_count(config), config.integer("intermediate_size")),
        layer_vectors=4 if grok else 2,
    )


def gpt_oss(config: Fields) -> Parts:
    """gpt-oss: every second layer windowed; biases everywhere, sinks."""
    width = config.integer("intermediate_size")
    bias = {"router_bias": True, "expert_bias": True}
    return Parts(
        attention=_windowed(config, sinks=True),
        moe=_moe(config, layer_count(config), width, bias),
    )


def qwen_moe(config: Fields) -> Parts:
    """Qwen2-MoE and Qwen3-MoE: experts in every ``decoder_sparse_step``-th layer."""
    plain = _qwen_dense_layers(config)
    return Parts(
        attention=_windowed(config),
        dense=dense_layers(config, count=plain),
        moe=_qwen_experts(config, layer_count(config) - plain),
    )


def qwen_hybrid(config: Fields) -> Parts:
    """Qwen3-Next and Qwen3.5: gated full attention in every fourth layer, else delta nets."""
    every = config.integer("full_attention_interval", default=4)
    kinds = count_kinds(config, _HYBRID, lambda i: _HYBRID[(i + 1) % every != 0])
    groups: list[Attention] = []
    if "full_attention" in kinds:
        groups.append(_gqa(config, kinds["full_attention"], output_gate=True))
    if "linear_attention" in kinds:
        groups.append(_delta_net(config, kinds["linear_attention"]))
    plain = _qwen_dense_layers(config) if config.has("num_experts") else layer_count(config)
    return Parts(
        attention=tuple(groups),
        dense=dense_layers(config, count=plain),
        moe=_qwen_experts(config, layer_count(config) - plain),
        mtp_layers=config.integer("mtp_num_hidden_layers", default=0, least=0),
    )


def glm4_moe(config: Fields) -> Parts:
    """GLM-4.5: leading dense layers, sigmoid routing with a shared expert."""
    plain = leading_dense(config)
    return Parts(
        attention=_windowed(config),
        dense=dense_layers(config, count=plain),
        moe=_moe(config, layer_count(config) - plain, config.integer("moe_intermediate_size")),
        mtp_layers=config.integer("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0),
        mtp_copies_head=True,
    )


def minimax(config: Fields) -> Parts:
    """MiniMax-M2 and M3; M3 chooses blocks with a small indexer."""
    layers = layer_count(config)
    plain = leading_dense(config)
    attention: tuple[Attention, ...] = (_gqa(config, layers),)
    if config.has("sparse_attention_config"):
        attention = _sparse(config, layers)
    return Parts(
        attention=attention,
        dense=dense_layers(config, "dense_intermediate_size", plain),
        moe=_moe(
            config, layers - plain, config.integer("moe_intermediate_size", "intermediate_size")
        ),
    )


def llama4(config: Fields) -> Parts:
    """Llama 4: chunked attention in three of four layers, experts in every n-th layer."""
    layers = layer_count(config)
    kinds = count_kinds(config, _CHUNKED, lambda i: _CHUNKED[(i + 1) % 4 != 0])
    chunk = config.optional_integer("attention_chunk_size")
    if chunk is None:
        kinds = {"full_attention": layers}
    every = config.integer("interleave_moe_layer_step", default=1)
    sparse = len(config.items("moe_layers")) if config.has("moe_layers") else layers // every
    if sparse > layers:
        config.fail("moe_layers", f"names {sparse} layers, the model has {layers}")
    width = config.integer("intermediate_size")
    shared = {"shared_experts": 1, "shared_intermediate_size": width}
    return Parts(
        attention=_by_window(config, kinds, chunk),
        dense=dense_layers(config, "intermediate_size_mlp", layers - sparse),
        moe=_moe(config, sparse, width, shared),
    )


def mimo(config: Fields) -> Parts:
    """MiMo-V2-Flash: windowed layers with their own heads and sinks."""
    layers, plain = layer_count(config), leading_dense(config)
    pattern = config.items("hybrid_layer_pattern", 0, 1, length=layers)
    full = _gqa(config, pattern.count(0), sinks=config.flag("add_full_attention_sink_bias"))
    sliding = Gqa(
        layers=pattern.count(1),
        heads=config.integer("swa_num_attention_heads"),
        kv_heads=config.integer("swa_num_key_value_heads"),
        head_dim=config.integer("swa_head_dim"),
        v_head_dim=config.integer("swa_v_head_dim"),
        window_tokens=config.integer("sliding_window", "sliding_window_size"),
        sinks=config.flag("add_swa_attention_sink_bias"),
    )
    return Parts(
        attention=(full, sliding),
        dense=dense_layers(config, count=plain),
        moe=_moe(config, layers - plain, config.integer("moe_intermediate_size")),
    )


def step(config: Fields) -> Parts:
    """Step 3.5 and 3.7 in the form with one number of heads for all layers."""
    for name in ("attention_other_setting", "num_attention_heads_per_layer"):
        if config.has(name):
            config.fail(name, "is not supported; describe the model in a catalogue file instead")
    if config.flag("use_head_wise_attn_gate"):
        config.fail("use_head_wise_attn_gate", "is not supported; must be absent or false")
    plain = leading_dense(config)
    shared = config.integer("share_expert_dim", default=0, least=0)
    extra = {"shared_experts": 1, "shared_intermediate_size": shared} if shared else {}
    width = config.integer("moe_intermediate_size")
    return Parts(
        attention=_windowed(config),
        dense=dense_layers(config, count=plain),
        moe=_moe(config, layer_count(config) - plain, width, extra),
    )


def dbrx(config: Fields) -> Parts:
    """DBRX: its own names, nested."""
    heads, ffn = config.integer("n_heads"), config.table("ffn_config")
    layers = layer_count(config)
    attention = Gqa(
        layers=layers,
        heads=heads,
        kv_heads=config.table("attn_config").integer("kv_n_heads", default=1),
        head_dim=_share(config, config.integer("d_model"), heads, "n_heads"),
    )
    moe = Moe(
        layers=layers,
        experts=ffn.integer("moe_num_experts"),
        top_k=ffn.integer("moe_top_k"),
        intermediate_size=ffn.integer("ffn_hidden_size"),
    )
    return Parts(attention=(attention,), moe=moe)


def _gqa(config: Fields, layers: int, **extra: Any) -> Gqa:
    heads = config.integer("num_attention_heads")
    head_dim = config.optional_integer("head_dim") or _share(
        config, config.integer("hidden_size"), heads, "num_attention_heads"
    )
    return Gqa(
        layers=layers,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", default=heads),
        head_dim=head_dim,
        v_head_dim=config.optional_integer("v_head_dim"),
        **(_family_details(config) | extra),
    )


def _family_details(config: Fields) -> dict[str, Any]:
    """Biases and norms of queries and keys, which most configurations leave to the code."""
    kind = config.word("model_type")
    biased = kind in ("qwen2", "qwen2_moe") or kind.startswith("gpt_oss")
    bias = config.flag("qkv_bias", config.flag("attention_bias", biased))
    details: dict[str, Any] = {"qkv_bias": bias}
    if bias and kind in ("gpt_oss", "llama", "qwen3", "qwen3_moe"):
        details["output_bias"] = True
    if kind.startswith(("qwen3", "step3")):
        details["qk_norm"] = "per_head"
    elif kind == "olmoe":
        details["qk_norm"] = "full"
    elif kind in ("glm4_moe", "minimax_m2", "minimax_m3", "minimax_m3_vl"):
        named = "per_head" if config.word("qk_norm_type") != "per_layer" else "full"
        details["qk_norm"] = named if config.flag("use_qk_norm") else "none"
    return details


def _windowed(config: Fields, **extra: Any) -> tuple[Attention, ...]:
    """Full and sliding-window layers, as ``layer_types`` or the family's habit says."""
    kind, layers = config.word("model_type"), layer_count(config)
    window = config.optional_integer("sliding_window")
    if not config.flag("use_sliding_window", default=not kind.startswith("qwen")):
        window = None
    if window is None:
        return (_gqa(config, layers, **extra),)
    first = config.integer("max_window_layers", default=0, least=0)

    def habit(layer: int) -> str:
        if kind == "gpt_oss":
            return _WINDOWED[layer % 2 == 0]
        return _WINDOWED[layer >= first]

    return _by_window(config, count_kinds(config, _WINDOWED, habit), window, **extra)


def _by_window(
    config: Fields, kinds: Mapping[str, int], window: int | None, **extra: Any
) -> tuple[Attention, ...]:
    ordered = sorted(kinds, key=lambda kind: kind != "full_attention")
    return tuple(
        _gqa(config, kinds[kind], **extra)
        if kind == "full_attention"
        else _gqa(config, kinds[kind], window_tokens=window, **extra)
        for kind in ordered
    )


def _sparse(config: Fields, layers: int) -> tuple[Attention, ...]:
    sparse = config.table("sparse_attention_config")
    chosen = sparse.items("sparse_attention_freq", 0, 1, length=layers).count(1)
    block = sparse.integer("sparse_block_size")
    blocks = sparse.integer("sparse_topk_blocks")
    blocks += sparse.integer("sparse_local_block", default=0, least=0)
    blocks += sparse.integer("sparse_init_block", default=0, least=0)
    indexer = Indexer(
        heads=sparse.integer("sparse_num_index_heads"),
        head_dim=sparse.integer("sparse_index_dim"),
        top_k_tokens=block * blocks,
    )
    full = (_gqa(config, layers - chosen),) if chosen < layers else ()
    return (*full, _gqa(config, chosen, indexer=indexer)) if chosen else full


def _delta_net(config: Fields, layers: int) -> GatedDeltaNet:
    return GatedDeltaNet(
        layers=layers,
        key_heads=config.integer("linear_num_key_heads"),
        value_heads=config.integer("linear_num_value_heads"),
        key_head_dim=config.integer("linear_key_head_dim"),
        value_head_dim=config.integer("linear_value_head_dim"),
        conv_kernel=config.integer("linear_conv_kernel_dim", default=4),
    )


def _qwen_dense_layers(config: Fields) -> int:
    layers, step_size = layer_count(config), config.integer("decoder_sparse_step", default=1)
    only = config.items("mlp_only_layers") if config.has("mlp_only_layers") else []
    return sum(i in only or (i + 1) % step_size != 0 for i in range(layers))


def _qwen_experts(config: Fields, layers: int) -> Moe | None:
    if layers == 0:
        return None
    width = config.integer("moe_intermediate_size")
    shared = config.integer("shared_expert_intermediate_size", default=0, least=0)
    extra: dict[str, Any] = {}
    if shared:
        extra = {
            "shared_experts": max(1, shared // width),
            "shared_intermediate_size": shared,
            "shared_gate": True,
        }
    return _moe(config, layers, width, extra)


def _moe(
    config: Fields, layers: int, width: int, extra: Mapping[str, Any] | None = None
) -> Moe | None:
    if layers == 0:
        return None
    shared = config.integer("n_shared_experts", default=0, least=0)
    shared_width = config.integer("shared_intermediate_size", default=0, least=0) or shared * width
    values: dict[str, Any] = {
        "layers": layers,
        "experts": config.integer("num_experts", "num_local_experts", "n_routed_experts"),
        "top_k": config.integer("num_experts_per_tok", "experts_per_token"),
        "intermediate_size": width,
        "shared_experts": shared,
        "shared_intermediate_size": shared_width if shared else 0,
        "scoring": "sigmoid" if _sigmoid(config) else "softmax",
    }
    return Moe.model_validate(values | dict(extra or {}))


def _sigmoid(config: Fields) -> bool:
    kind = config.word("model_type")
    given = config.word("scoring_func")
    if given and given not in ("sigmoid", "softmax"):
        config.fail("scoring_func", f"{given!r} is not known; known: sigmoid, softmax")
    habit = kind.startswith(("glm4_moe", "minimax", "llama4", "mimo", "step3"))
    return given == "sigmoid" if given else habit


def _share(config: Fields, width: int, heads: int, name: str) -> int:
    if width % heads:
        config.fail(name, f"must divide the width {width}, got {heads}; or add head_dim")
    return width // heads
