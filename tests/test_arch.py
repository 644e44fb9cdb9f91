"""Parameters, FLOP and bytes: by hand, then by law."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import arch, files
from planner.specs.model import (
    CompressedAttention,
    GatedDeltaNet,
    Gqa,
    Indexer,
    KimiDeltaAttention,
    Mla,
    ModelSpec,
)

R1 = files.load_model("deepseek-r1")
V3_ATTENTION = R1.attention[0]
GPT_OSS = files.load_model("gpt-oss-120b")


def tiny(**changes: Any) -> ModelSpec:
    """A model small enough to count on paper."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "title": "Tiny",
        "hf_id": "none/tiny",
        "source": "made up",
        "hidden_size": 8,
        "vocab_size": 10,
        "max_context_tokens": 100,
        "attention": [{"kind": "gqa", "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 2}],
        "dense_mlp": {"layers": 1, "intermediate_size": 16},
        "moe": {
            "layers": 1,
            "experts": 4,
            "top_k": 2,
            "intermediate_size": 3,
            "shared_experts": 1,
            "shared_intermediate_size": 3,
        },
    }
    return ModelSpec.model_validate(fields | changes)


# --- by hand ---------------------------------------------------------------------------------


def test_a_tiny_model_is_counted_by_hand() -> None:
    counted = arch.parameters(tiny())
    assert counted.embed == counted.lm_head == 80
    assert counted.attention == 2 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8)
    assert counted.dense_mlp == 3 * 8 * 16
    assert counted.routed_experts == 4 * 3 * 8 * 3
    assert counted.shared_experts == 3 * 8 * 3
    assert counted.router == 8 * 4
    assert counted.norms_other == 5 * 8
    assert counted.total == 80 + 80 + 384 + 384 + 288 + 72 + 32 + 40
    assert counted.active_with_embedding == counted.total - 288 + 144


def test_a_tied_head_is_counted_once_but_still_computed() -> None:
    tied, untied = tiny(tied_embeddings=True), tiny()
    assert arch.parameters(tied).total == arch.parameters(untied).total - 80
    assert arch.flop_per_token(tied).lm_head == arch.flop_per_token(untied).lm_head == 160
    counted = arch.parameters(tied)
    assert counted.active_without_input_embedding == counted.active_with_embedding


def test_deepseek_r1_has_671026404352_parameters() -> None:
    counted = arch.parameters(R1)
    assert counted.total == 671_026_404_352
    assert counted.mtp == 11_610_060_800
    assert arch.expert_parameters(R1) == 44_040_192


def test_training_deepseek_v3_costs_250_gflop_a_token() -> None:
    assert arch.training_flop_per_token(R1, 4096) == pytest.approx(250.4e9, rel=5e-4)


def test_r1_in_fp8_weighs_673_gb_and_its_checkpoint_689() -> None:
    resident = arch.resident_bytes(R1, "fp8")
    assert sum(resident.values()) == pytest.approx(673.15e9, abs=5e6)
    assert resident["routed_experts"] == pytest.approx(654.07e9, abs=5e6)
    assert arch.checkpoint_bytes(R1) == pytest.approx(688.575e9, abs=1e6)
    assert R1.published.checkpoint_bytes is not None
    assert arch.checkpoint_bytes(R1) == pytest.approx(R1.published.checkpoint_bytes, rel=2e-5)


def test_r1_in_bf16_and_nvfp4_weighs_1342_and_397_gb() -> None:
    assert sum(arch.resident_bytes(R1, "bf16").values()) == 2 * 671_026_404_352
    assert sum(arch.resident_bytes(R1, "nvfp4").values()) == pytest.approx(396.68e9, rel=1e-4)


def test_published_four_bit_checkpoints_have_the_size_that_is_published() -> None:
    assert arch.checkpoint_bytes(files.load_model("kimi-k2.5")) == pytest.approx(594e9, rel=0.01)
    assert arch.checkpoint_bytes(files.load_model("deepseek-v4-pro")) == pytest.approx(
        865e9, rel=0.01
    )


def test_context_of_r1_costs_70272_bytes_a_token() -> None:
    assert arch.kv_bytes_per_token(R1, "bf16") == 70_272
    assert arch.kv_bytes_per_token(R1, "fp8") == 61 * 656
    assert arch.kv_bytes_per_sequence(R1, "bf16") == 0
    v32 = files.load_model("deepseek-v3.2")
    assert arch.kv_bytes_per_token(v32, "fp8") == 48_068


def test_latent_attention_has_the_matrices_of_the_paper() -> None:
    matrices = {m.name: m for m in arch.attention_matrices(V3_ATTENTION, 7168)}
    assert (matrices["q_a"].k, matrices["q_a"].n) == (7168, 1536)
    assert (matrices["q_b"].k, matrices["q_b"].n) == (1536, 128 * 192)
    assert (matrices["kv_a"].k, matrices["kv_a"].n) == (7168, 576)
    assert (matrices["kv_b"].k, matrices["kv_b"].n) == (512, 128 * 256)
    assert (matrices["o"].k, matrices["o"].n) == (128 * 128, 7168)
    assert matrices["q_a"].split == matrices["kv_a"].split == "replicated"
    assert matrices["q_b"].heads == matrices["kv_b"].heads == matrices["o"].heads == 128
    assert arch.attention_other_parameters(V3_ATTENTION, 7168) == 1536 + 512


def test_without_a_query_rank_the_queries_are_one_split_matrix() -> None:
    lite = files.load_model("deepseek-v2-lite").attention[0]
    names = [m.name for m in arch.attention_matrices(lite, 2048)]
    assert names == ["q", "kv_a", "kv_b", "o"]


def test_absorbed_decode_does_more_work_a_pair_than_prefill() -> None:
    core = arch.attention_core(V3_ATTENTION)
    assert core.prefill_pair_flop == 2 * 128 * (128 + 64 + 128)
    assert core.decode_pair_flop == 2 * 128 * (576 + 512)
    assert core.kv_elements == 576
    assert core.kv_split == 1


def test_a_sliding_window_caps_what_is_seen_and_what_is_kept() -> None:
    window = next(g for g in GPT_OSS.attention if isinstance(g, Gqa) and g.window_tokens)
    core = arch.attention_core(window)
    assert core.cap_tokens == core.cache_tokens == 128
    assert arch.kv_bytes_per_sequence(GPT_OSS, "bf16") == 18 * 128 * 2048
    assert arch.kv_bytes_per_token(GPT_OSS, "bf16") == 18 * 2048


def test_gpt_oss_biases_and_sinks_are_counted() -> None:
    assert arch.attention_other_parameters(GPT_OSS.attention[0], 2880) == 4096 + 1024 + 2880 + 64
    assert arch.expert_bias_parameters(GPT_OSS) == 3 * 2880


def test_sparse_attention_caps_the_work_but_keeps_the_cache() -> None:
    core = arch.attention_core(files.load_model("deepseek-v3.2").attention[0])
    assert core.cap_tokens == 2048
    assert core.cache_tokens is None
    assert core.indexer_pair_flop == 2 * 64 * 128
    assert core.indexer_bytes_per_token == 132


def test_layers_that_share_an_indexer_have_its_cap_but_not_its_cost() -> None:
    own, shared = files.load_model("glm-5.2").attention
    assert arch.attention_core(shared).cap_tokens == arch.attention_core(own).cap_tokens == 2048
    assert arch.attention_core(shared).indexer_pair_flop == 0
    assert arch.attention_core(shared).indexer_bytes_per_token == 0
    assert not [m for m in arch.attention_matrices(shared, 6144) if m.name.startswith("indexer")]


def test_linear_attention_keeps_a_state_instead_of_a_cache() -> None:
    net = GatedDeltaNet(
        layers=1, key_heads=16, value_heads=32, key_head_dim=128, value_head_dim=128
    )
    core = arch.attention_core(net)
    assert core.kv_elements == 0
    assert core.token_flop == 8 * 32 * 128 * 128
    assert core.state_bytes_per_sequence == 4 * 32 * 128 * 128 + 2 * 4 * 8192
    assert arch.attended_entries(core, 1000) == 0


def test_kimi_delta_attention_with_a_narrow_gate_has_two_gate_matrices() -> None:
    wide = KimiDeltaAttention(layers=1, heads=2, head_dim=4, full_rank_gate=True)
    narrow = KimiDeltaAttention(layers=1, heads=2, head_dim=4)
    assert {m.name for m in arch.attention_matrices(wide, 16)} >= {"gate"}
    assert {m.name for m in arch.attention_matrices(narrow, 16)} >= {"gate_a", "gate_b"}


def test_compressed_attention_sees_its_best_entries_and_the_raw_window() -> None:
    pro = files.load_model("deepseek-v4-pro")
    heavy, sparse = (arch.attention_core(group) for group in pro.attention)
    assert arch.attended_entries(sparse, 1_000_000) == 1024 + 128
    assert arch.attended_entries(heavy, 12_800) == 100 + 128
    assert arch.kv_entry_bytes(sparse, "fp8") == 584
    assert arch.kv_bytes_per_token_layer(sparse, "fp8") == (584 + 132) / 4
    assert arch.kv_bytes_per_token_layer(heavy, "fp8") == 584 / 128


def test_a_window_only_layer_of_v4_forgets() -> None:
    flash = files.load_model("deepseek-v4-flash").attention[0]
    assert isinstance(flash, CompressedAttention)
    assert flash.compression is None
    core = arch.attention_core(flash)
    assert (core.cap_tokens, core.cache_tokens, core.raw_window_tokens) == (128, 128, 0)


def test_latent_experts_work_on_the_narrow_vector() -> None:
    k3 = files.load_model("kimi-k3")
    assert k3.moe is not None
    assert arch.expert_parameters(k3) == 3 * 3584 * 3072
    assert sum(m.parameters for m in arch.latent_matrices(k3.moe, 7168)) == 2 * 7168 * 3584


@pytest.mark.parametrize(
    ("storage", "size"),
    [
        ("bf16", 2.0),
        ("fp8", 1 + 4 / 16384),
        ("mxfp4", 0.53125),
        ("nvfp4", 0.5625),
        ("int4", 0.5625),
    ],
)
def test_scales_are_part_of_a_weights_bytes(storage: arch.Storage, size: float) -> None:
    assert arch.bytes_per_parameter(storage) == size


def test_what_is_quantised_depends_on_the_format() -> None:
    assert arch.storage_format("fp8", "attention") == "fp8"
    assert arch.storage_format("nvfp4", "attention") == "bf16"
    assert arch.storage_format("nvfp4", "shared_experts") == "nvfp4"
    assert arch.storage_format("int4", "shared_experts") == "bf16"
    assert arch.storage_format("int4", "attention", has_experts=False) == "int4"
    assert arch.storage_format("mxfp4_fp8", "routed_experts") == "mxfp4"
    assert arch.storage_format("mxfp4_fp8", "attention") == "fp8"
    for component in ("embed", "lm_head", "router", "latent", "norms_other"):
        assert arch.storage_format("fp8", component) == "bf16"


def test_an_unknown_component_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="routed_experts"):
        arch.storage_format("fp8", "experts")


# --- by law ----------------------------------------------------------------------------------

widths = st.integers(1, 64)
gqas = st.builds(
    Gqa,
    layers=st.integers(1, 5),
    heads=widths,
    kv_heads=widths,
    head_dim=widths,
    qkv_bias=st.booleans(),
    sinks=st.booleans(),
    output_gate=st.booleans(),
    window_tokens=st.none() | widths,
)
mlas = st.builds(
    Mla,
    layers=st.integers(1, 5),
    heads=widths,
    q_lora_rank=st.none() | widths,
    kv_lora_rank=widths,
    qk_nope_head_dim=widths,
    qk_rope_head_dim=widths,
    v_head_dim=widths,
    indexer=st.none() | st.builds(Indexer, heads=widths, head_dim=widths, top_k_tokens=widths),
)
attentions = st.lists(gqas | mlas, min_size=1, max_size=3).map(tuple)


@st.composite
def models(draw: st.DrawFn) -> ModelSpec:
    groups = draw(attentions)
    layers = sum(group.layers for group in groups)
    experts = draw(st.integers(1, 16))
    moe = {
        "layers": layers,
        "experts": experts,
        "top_k": draw(st.integers(1, experts)),
        "intermediate_size": draw(widths),
    }
    return tiny(
        attention=[group.model_dump() for group in groups],
        hidden_size=draw(widths),
        vocab_size=draw(widths),
        tied_embeddings=draw(st.booleans()),
        dense_mlp=None,
        moe=moe,
        mtp_layers=draw(st.integers(0, 2)),
    )


def deeper(model: ModelSpec) -> ModelSpec:
    """The same with one layer more in the first group."""
    assert model.moe is not None
    first, *rest = model.attention
    more = first.model_copy(update={"layers": first.layers + 1})
    moe = model.moe.model_copy(update={"layers": model.moe.layers + 1})
    return model.model_copy(update={"attention": (more, *rest), "moe": moe})


@given(models())
def test_active_parameters_never_exceed_the_total(model: ModelSpec) -> None:
    counted = arch.parameters(model)
    assert counted.active_non_embedding <= counted.active_without_input_embedding
    assert counted.active_without_input_embedding <= counted.active_with_embedding
    assert counted.active_with_embedding <= counted.total


@given(models())
def test_the_total_is_the_sum_of_the_parts(model: ModelSpec) -> None:
    counted = arch.parameters(model)
    assert counted.total == sum(getattr(counted, name) for name in arch.COMPONENTS)


@given(models())
def test_one_layer_more_has_more_parameters_flop_and_bytes(model: ModelSpec) -> None:
    more = deeper(model)
    assert arch.parameters(more).total > arch.parameters(model).total
    assert arch.flop_per_token(more).linear > arch.flop_per_token(model).linear
    assert sum(arch.resident_bytes(more, "fp8").values()) > sum(
        arch.resident_bytes(model, "fp8").values()
    )
    assert arch.kv_bytes_per_token(more, "bf16") >= arch.kv_bytes_per_token(model, "bf16")


@given(models())
def test_linear_flop_are_at_most_twice_the_active_parameters(model: ModelSpec) -> None:
    assert arch.flop_per_token(model).linear <= 2 * arch.parameters(model).active_non_embedding


@given(models())
def test_narrower_formats_never_weigh_more(model: ModelSpec) -> None:
    weight = {f: sum(arch.resident_bytes(model, f).values()) for f in ("bf16", "fp8", "int4")}
    assert weight["fp8"] <= weight["bf16"] == 2 * arch.parameters(model).total
    assert weight["int4"] <= weight["bf16"]


@given(models())
def test_a_checkpoint_holds_at_least_the_resident_weights(model: ModelSpec) -> None:
    resident = sum(arch.resident_bytes(model, "bf16").values())
    extra = 2 * arch.parameters(model).mtp
    assert arch.checkpoint_bytes(model, "bf16") == pytest.approx(resident + extra)


@given(gqas | mlas, st.lists(st.integers(0, 10_000), min_size=1))
def test_attended_entries_grow_with_the_context_up_to_the_cap(
    attention: Gqa | Mla, contexts: list[int]
) -> None:
    core = arch.attention_core(attention)
    contexts.sort()
    seen = arch.attended_entries(core, contexts)
    assert np.all(np.diff(seen) >= 0)
    assert np.all(seen <= contexts)
    if core.cap_tokens is not None:
        assert np.all(seen <= core.cap_tokens)
