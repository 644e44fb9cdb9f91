"""One device's part of a model: by hand, then for every model of the catalogue."""

from typing import Any

import pytest

from planner import arch, files
from planner.errors import InfeasibleError
from planner.files import profiles
from planner.shard import Shard, shard
from planner.specs.deployment import Parallelism, Pool

R1 = files.load_model("deepseek-r1")
FP8_BLOCK = 1 + 4 / 128**2
"""One byte and an fp32 scale for each 128 x 128 block."""


def cut(
    model: str = "deepseek-r1",
    weights: Any = "fp8",
    kv: Any = "bf16",
    redundant: int = 0,
    **degrees: int,
) -> Shard:
    pool = Pool(
        parallelism=Parallelism(**degrees), weights=weights, kv=kv, redundant_experts=redundant
    )
    return shard(files.load_model(model), pool)


# --- by hand ---------------------------------------------------------------------------------


def test_r1_in_tp8_holds_an_eighth_and_the_replicated_matrices_whole() -> None:
    held = sum(cut(attention_tp=8, moe_tp=8).weight_bytes.values())
    # what tensor parallelism cannot cut: q_a and kv_a of 61 layers (fp8), routers of 58 (bf16)
    replicated = 61 * 7168 * (1536 + 512 + 64) * FP8_BLOCK + 58 * 7168 * 256 * 2
    assert 7 / 8 * replicated == pytest.approx(0.9945e9, rel=1e-3)
    assert held == pytest.approx(673.15e9 / 8 + 0.9945e9, rel=1e-4)
    assert held == pytest.approx(84.1e9 + 0.99e9, rel=0.01)


def test_r1_in_dp8_ep8_holds_its_experts_and_everything_else_whole() -> None:
    held = cut(attention_dp=8, moe_ep=8).weight_bytes
    # 58 layers x 32 experts x 3 matrices of 7168 x 2048
    assert held["routed_experts"] == pytest.approx(58 * 32 * 3 * 7168 * 2048 * FP8_BLOCK)
    assert held["routed_experts"] == pytest.approx(81.76e9, rel=1e-4)
    assert sum(held.values()) - held["routed_experts"] == pytest.approx(19.08e9, rel=1e-3)


def test_ep144_deals_out_288_slots_two_a_device() -> None:
    moe = cut(attention_dp=144, moe_ep=144, redundant=32).moe
    assert moe is not None
    assert (moe.experts, moe.slots, moe.local_slots) == (256, 288, 2)


def test_local_shapes_of_r1_in_tp8() -> None:
    local = cut(attention_tp=8, moe_tp=8)
    shapes = {m.name: (m.k, m.n) for m in local.attention[0].matrices}
    assert shapes == {
        "q_a": (7168, 1536),
        "q_b": (1536, 128 * 192 // 8),
        "kv_a": (7168, 576),
        "kv_b": (512, 128 * 256 // 8),
        "o": (128 * 128 // 8, 7168),
    }
    assert local.moe is not None
    assert (local.moe.gate_up.k, local.moe.gate_up.n) == (7168, 2 * 2048 // 8)
    assert (local.moe.down.k, local.moe.down.n) == (2048 // 8, 7168)
    assert local.head.n == 129280 // 8


def test_grouped_query_keys_are_split_by_tp_and_then_copied() -> None:
    # Qwen3-235B: 4 key-value heads of 128, 94 layers, bf16: 2 x 4 x 128 x 2 bytes a layer
    whole = 94 * 2 * 4 * 128 * 2
    held = {
        tp: cut("qwen3-235b-a22b", attention_tp=tp, moe_tp=tp).kv_bytes_per_token
        for tp in (1, 2, 4, 8)
    }
    assert held == {1: whole, 2: whole / 2, 4: whole / 4, 8: whole / 4}
    matrices = cut("qwen3-235b-a22b", attention_tp=8, moe_tp=8).attention[0].matrices
    assert {m.name: m.n for m in matrices}["k"] == 128


def test_latent_cache_is_whole_on_every_rank_unless_the_context_is_split() -> None:
    assert cut(attention_tp=8, moe_tp=8).kv_bytes_per_token == 61 * 576 * 2 == 70272
    assert cut(attention_dp=8, moe_ep=8).kv_bytes_per_token == 70272
    split = cut(attention_tp=8, moe_tp=8, context_parallel=8)
    assert split.kv_bytes_per_token == 70272 / 8


def test_fp8_cache_has_the_layout_of_the_kernels() -> None:
    # 512 bytes, 4 fp32 scales, 64 rotary elements in bf16
    assert cut(kv="fp8").kv_bytes_per_token == 61 * (512 + 16 + 128) == 40016
    # and 128 bytes and a scale of the indexer's key
    assert cut("deepseek-v3.2", kv="fp8").kv_bytes_per_token == 61 * (656 + 132) == 48068


def test_indexer_keys_are_whole_on_every_rank() -> None:
    one, four = (cut("minimax-m3", attention_tp=tp, moe_tp=tp) for tp in (1, 4))
    model = files.load_model("minimax-m3")
    keys = sum(
        c.layers * c.indexer_bytes_per_token for c in map(arch.attention_core, model.attention)
    )
    assert keys > 0
    assert four.kv_bytes_per_token - keys == pytest.approx((one.kv_bytes_per_token - keys) / 4)


def test_context_parallelism_needs_no_copies_of_a_state() -> None:
    # Qwen3.5: 2 key-value heads in one of four layers, recurrent states in the others
    local = cut("qwen3.5-397b-a17b", attention_tp=8, moe_tp=8, context_parallel=4)
    whole = files.load_model("qwen3.5-397b-a17b")
    assert local.kv_bytes_per_token == arch.kv_bytes_per_token(whole, "bf16") / 2 / 4


def test_states_of_linear_attention_are_split_by_heads() -> None:
    one, eight = (cut("qwen3.5-397b-a17b", attention_tp=tp, moe_tp=tp) for tp in (1, 8))
    assert one.state_bytes_per_sequence == pytest.approx(195e6, rel=0.02)
    assert eight.state_bytes_per_sequence == pytest.approx(one.state_bytes_per_sequence / 8)


def test_pipeline_stage_is_the_fullest() -> None:
    local = cut(attention_tp=8, moe_tp=8, pp=2)
    assert local.layers == 31  # of 61
    assert local.devices == 16
    assert local.stage_devices == 8
    assert local.kv_bytes_per_token == pytest.approx(31 * 576 * 2)


# --- what does not divide ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "numbers"),
    [
        ({"attention_tp": 3, "moe_tp": 3}, ("3", "128")),
        ({"attention_dp": 48, "moe_ep": 48}, ("48", "256")),
        ({"attention_tp": 4, "moe_tp": 4, "pp": 62}, ("62", "61")),
        ({"attention_tp": 128, "moe_tp": 128, "context_parallel": 128, "pp": 64}, ("64", "61")),
        ({"attention_dp": 3, "moe_tp": 3}, ("3", "4,096")),
    ],
)
def test_what_does_not_divide_names_both_numbers(
    degrees: dict[str, int], numbers: tuple[str, str]
) -> None:
    with pytest.raises(InfeasibleError) as caught:
        cut(**degrees)
    for number in numbers:
        assert number in str(caught.value)


def test_slots_that_do_not_divide_name_a_degree_and_a_padding_that_do() -> None:
    with pytest.raises(InfeasibleError) as caught:
        cut(attention_dp=144, moe_ep=144)
    error = caught.value
    assert (error.needed, error.available, error.unit) == (144, 256, "slots")
    assert error.advice == "take moe_ep 128, or redundant_experts 32"
    cut(attention_dp=128, moe_ep=128)
    cut(attention_dp=144, moe_ep=144, redundant=32)


def test_context_cannot_be_split_further_than_it_is_copied() -> None:
    with pytest.raises(InfeasibleError, match="copies of the KV cache"):
        cut("qwen3-235b-a22b", attention_tp=8, moe_tp=8, context_parallel=4)
    cut("qwen3-235b-a22b", attention_tp=8, moe_tp=8, context_parallel=2)


# --- every model -------------------------------------------------------------------------------


def _padded_bytes(local: Shard) -> float:
    """What experts in MXFP4 are held with beside what is stored."""
    if local.moe is None:
        return 0.0
    moe = local.moe
    whole = moe.layers * moe.local_slots * (moe.gate_up.stored_bytes + moe.down.stored_bytes)
    return whole * (arch.padding(moe.gate_up.storage, local.hidden_size) - 1)


@pytest.mark.parametrize("name", profiles.model_names())
def test_one_device_holds_exactly_the_whole_model(name: str) -> None:
    model = files.load_model(name)
    for weights in {model.native_format, "bf16", "fp8", "nvfp4", "int4"}:
        local = cut(name, weights=weights)
        held = sum(local.weight_bytes.values()) - _padded_bytes(local)
        assert held == pytest.approx(sum(arch.resident_bytes(model, weights).values()), rel=1e-9)
    assert local.kv_bytes_per_token == pytest.approx(arch.kv_bytes_per_token(model, "bf16"))
    assert local.state_bytes_per_sequence == pytest.approx(
        arch.kv_bytes_per_sequence(model, "bf16")
    )
