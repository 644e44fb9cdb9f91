"""Work of one step: FLOP and bytes by hand, and against published tables."""

from typing import Any

import numpy as np
import pytest

from planner import arch, files
from planner.ops import Gemm, GroupedGemm, layer
from planner.ops.head import head_ops
from planner.roofline import op_time
from planner.shard import Shard, shard
from planner.specs.deployment import Parallelism, Pool

R1 = files.load_model("deepseek-r1")
H200_NODE_BYTES_PER_S = 8 * 4.8e12


def cut(model: str = "deepseek-r1", kv: Any = "bf16", **degrees: int) -> Shard:
    pool = Pool(parallelism=Parallelism(**degrees), weights="fp8", kv=kv)
    return shard(files.load_model(model), pool)


WHOLE = cut()
"""R1 on one imaginary device."""


def total(ops: list[Any], what: str) -> float:
    return sum(op.count * float(getattr(op, what)) for op in ops)


# --- single ops --------------------------------------------------------------------------------


def test_gemm_counts_every_operand_once() -> None:
    op = Gemm("x", 4.0, 10, 20, "fp8", 1.0)
    assert op.flop == 2 * 4 * 10 * 20
    assert op.hbm_bytes == 4 * 10 * 1 + 10 * 20 * 1 + 4 * 20 * 2


def test_grouped_gemm_reads_only_touched_experts() -> None:
    op = GroupedGemm("x", 6.0, 3.0, 10, 20, "bf16", 2.0)
    assert op.flop == 2 * 6 * 10 * 20
    assert op.hbm_bytes == 3 * 10 * 20 * 2 + 6 * (10 * 2 + 20 * 2)


def test_formulas_take_arrays() -> None:
    tokens = np.array([1.0, 8.0, 64.0])
    for build in (layer.token_ops, layer.expert_ops, head_ops):
        together = [np.broadcast_to(op.hbm_bytes, 3) for op in build(WHOLE, tokens)]
        for i, m in enumerate(tokens):
            alone = [float(op.hbm_bytes) for op in build(WHOLE, float(m))]
            assert [float(x[i]) for x in together] == pytest.approx(alone)


def test_every_input_of_an_8_bit_product_is_converted_once() -> None:
    # a layer: hidden state, two latents, all heads' output; then three dense MLPs, or 58 shared
    # experts and what is sent to the routed ones
    elements = 61 * (7168 + 1536 + 512 + 128 * 128) + 3 * 7168 + 58 * 2 * 7168
    assert layer.quantised_inputs(WHOLE) == elements == 2_414_592
    (op,) = (op for op in layer.token_ops(WHOLE, 100.0) if op.name == "norms/quantise")
    assert op.count * op.hbm_bytes == pytest.approx(100 * 3 * elements)
    assert op.count == 3 * 61
    # heads are shared out, the hidden state is not
    eighth = cut(attention_tp=8, moe_tp=8)
    assert layer.quantised_inputs(eighth) == elements - 61 * 7 / 8 * 128 * 128


# --- experts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "touched", "expert_gb", "total_gb", "ideal_ms"),
    [
        (1, 8.0, 20.4, 38.0, 0.99),
        (8, 57.4, 146.7, 166.2, 4.3),
        (32, 163.3, 417.3, 443.7, 11.6),
        (64, 222.4, 568.3, 604.0, 15.7),
        (128, 251.6, 642.8, 696.9, 18.2),
    ],
)
def test_bytes_of_a_decode_step_by_batch(
    batch: int, touched: float, expert_gb: float, total_gb: float, ideal_ms: float
) -> None:
    moe = WHOLE.moe
    assert moe is not None
    assert layer.touched_slots(moe, batch) == pytest.approx(touched, abs=0.06)
    # 256 (1 - (1 - 8/256)^B) experts of 44.05 MB in 58 layers
    assert layer.touched_slots(moe, batch) == pytest.approx(256 * (1 - (31 / 32) ** batch))
    experts = [op for op in layer.expert_ops(WHOLE, batch) if isinstance(op, GroupedGemm)]
    weights = sum(op.count * float(op.touched) * op.k * op.n * op.weight_bytes for op in experts)
    assert weights / 1e9 == pytest.approx(expert_gb, rel=0.002)
    # activations, which the table leaves out, are 1.1 % of the bytes at 128 tokens
    context = 4096.0 * batch
    step = [
        *layer.token_ops(WHOLE, batch),
        *layer.expert_ops(WHOLE, batch),
        *head_ops(WHOLE, batch),
        *layer.decode_attention(WHOLE, batch, context, context),
    ]
    moved = total(step, "hbm_bytes")
    assert moved / 1e9 == pytest.approx(total_gb, rel=0.02)
    assert moved / H200_NODE_BYTES_PER_S * 1e3 == pytest.approx(ideal_ms, rel=0.025)


def test_copies_of_experts_are_touched_like_experts_of_their_own() -> None:
    pool = Pool(
        parallelism=Parallelism(attention_dp=144, moe_ep=144), weights="fp8", redundant_experts=32
    )
    moe = shard(R1, pool).moe
    assert moe is not None
    assert layer.touched_slots(moe, 1) == pytest.approx(2 * 8 / 288)
    assert layer.touched_slots(moe, 1e6) == pytest.approx(2)


def test_expert_rows_are_tokens_times_top_k_over_the_ranks() -> None:
    local = cut(attention_dp=8, moe_ep=8)
    op = layer.expert_ops(local, 1024)[0]
    assert isinstance(op, GroupedGemm)
    assert op.pairs == 1024 * 8 / 8
    assert (op.k, op.n) == (7168, 4096)


# --- attention ---------------------------------------------------------------------------------


def test_absorbed_mla_does_242_flop_a_byte() -> None:
    op = layer.decode_attention(WHOLE, 0.0, 1.0, 1.0)[0]
    assert op.flop == 2 * 128 * (576 + 512) == 278_528
    assert op.hbm_bytes == 576 * 2 == 1152
    assert op.flop / op.hbm_bytes == pytest.approx(242, abs=0.5)
    fp8 = layer.decode_attention(cut(kv="fp8"), 0.0, 1.0, 1.0)[0]
    assert fp8.flop / fp8.hbm_bytes == pytest.approx(425, abs=0.5)


def test_tensor_parallel_mla_reads_the_whole_cache_for_an_eighth_of_the_heads() -> None:
    op = layer.decode_attention(cut(attention_tp=8, moe_tp=8), 0.0, 1.0, 1.0)[0]
    assert op.flop / op.hbm_bytes == pytest.approx(30, abs=0.5)


def test_splitting_the_context_gives_every_rank_a_part_of_it_for_all_heads_of_the_group() -> None:
    plain = layer.decode_attention(cut(attention_tp=8, moe_tp=8), 2.0, 8000.0, 8000.0)[0]
    split_shard = cut(attention_tp=8, moe_tp=8, context_parallel=8)
    split = layer.decode_attention(split_shard, 2.0, 8000.0, 8000.0)[0]
    assert split.flop == plain.flop
    queries = 2 * (128 / 8) * (576 + 512) * 2
    assert plain.hbm_bytes == 8000 * 1152 + queries
    assert split.hbm_bytes == 8000 * 1152 / 8 + 8 * queries


@pytest.mark.parametrize(
    ("tp", "kv", "kernel"),
    [
        (1, "bf16", None),
        (2, "bf16", None),
        (4, "bf16", "mla_narrow"),
        (1, "fp8", "mla_fp8_cache"),
        (4, "fp8", "mla_narrow_fp8_cache"),
    ],
)
def test_latent_attention_of_fewer_than_64_heads_is_a_kernel_of_its_own(
    tp: int, kv: str, kernel: str | None
) -> None:
    (op,) = layer.decode_attention(cut(attention_tp=tp, moe_tp=tp, kv=kv), 2.0, 8e3, 8e3)
    assert (op.heads, op.variant) == (128 / tp, kernel)


def test_decode_flop_of_a_token_at_4096() -> None:
    linear = total(layer.token_ops(WHOLE, 1.0) + layer.expert_ops(WHOLE, 1.0), "flop")
    head = total(head_ops(WHOLE, 1.0), "flop")
    core = total(layer.decode_attention(WHOLE, 1.0, 4096.0, 4096.0), "flop")
    assert linear / 1e9 == pytest.approx(71.40, rel=1e-3)
    assert head / 1e9 == pytest.approx(1.85, rel=2e-3)
    assert (linear + head) / 1e9 == pytest.approx(73.25, rel=1e-3)
    assert core / 1e9 == pytest.approx(69.6, rel=1e-3)


def test_every_rank_chooses_among_all_logits_by_hand() -> None:
    """129,280 logits of each of 4 rows: read in 16 bits, written and read again in 32."""
    for degrees in ({}, {"attention_tp": 8, "moe_tp": 8}):
        ops = {op.name: op for op in head_ops(cut(**degrees), 4.0)}
        assert ops["lm_head/logits"].hbm_bytes == 4 * 129_280 * 6
        chosen = ops["lm_head/sample"]
        assert chosen.count * chosen.hbm_bytes == pytest.approx(4 * 129_280 * 4)
    calibration = files.load_calibration("b200-sxm")
    took = op_time(chosen, files.load_accelerator("b200-sxm"), calibration).time_s
    assert took == pytest.approx(15e-6, rel=0.05)  # as published of torch.argmax


def test_prefill_flop_of_a_token_at_4096() -> None:
    pairs = 4096.0 / 2
    core = total(layer.prefill_attention(WHOLE, 1.0, pairs, pairs), "flop")
    assert core / 1e9 == pytest.approx(10.2, rel=5e-3)
    assert core == 61 * pairs * 2 * 128 * (192 + 128)


def test_sparse_attention_is_absorbed_in_prefill_or_masked() -> None:
    local = cut("deepseek-v3.2")
    indexer = 61 * 30_000 * 2 * 64 * 128
    sparse, masked = (
        layer.prefill_attention(local, 1.0, 30_000.0, 2048.0, sparse=how)[0]
        for how in (True, False)
    )
    assert 61 * sparse.flop - indexer == pytest.approx(61 * 2048 * 278_528)  # 34.8 GFLOP
    assert 61 * masked.flop - indexer == pytest.approx(61 * 30_000 * 2 * 128 * 320)
    assert total(layer.decode_attention(local, 1.0, 131072.0, 2048.0), "flop") == pytest.approx(
        166e9, rel=0.02
    )


def test_layers_with_a_shorter_window_do_not_read_up_to_the_longer_cap() -> None:
    # DeepSeek-V4-Flash: 2 layers see 128 tokens, 21 the best 2,048 (as 512 entries) + 128
    local = cut("deepseek-v4-flash")
    assert local.cap_tokens == 2048
    ops = layer.decode_attention(local, 1.0, 12800.0, 2048.0)
    entries = {op.count: float(op.capped_tokens) for op in ops}
    assert entries == {2: 128, 20: 12800 / 128 + 128, 21: 2048 / 4 + 128}


def test_a_sliding_window_layer_reads_its_window() -> None:
    # gpt-oss-120b: 18 layers of 128 tokens and 18 of all; 8 x 2 x 64 bf16 elements a token
    ops = layer.decode_attention(cut("gpt-oss-120b"), 0.0, 10_000.0, 128.0)
    assert total(ops, "hbm_bytes") == 18 * (10_000 + 128) * 8 * 2 * 64 * 2


def test_recurrent_states_are_read_and_written() -> None:
    local = cut("qwen3.5-397b-a17b")
    ops = layer.decode_attention(local, 1.0, 0.0, 0.0)
    states = [op for op in ops if op.state_bytes]
    assert total(states, "hbm_bytes") == pytest.approx(2 * local.state_bytes_per_sequence)


# --- the whole step ----------------------------------------------------------------------------


def test_weights_are_read_once_whatever_the_tokens() -> None:
    nothing = layer.token_ops(WHOLE, 0.0) + head_ops(WHOLE, 0.0)
    # 19.08 GB beside the experts, 1.85 of them the input table
    assert total(nothing, "hbm_bytes") / 1e9 == pytest.approx(19.08 - 1.853, rel=1e-3)


def test_every_op_belongs_to_a_component_the_reports_know() -> None:
    known = {*arch.COMPONENTS, "norms", "attention", "lm_head"}
    ops = [*layer.token_ops(WHOLE, 1.0), *layer.expert_ops(WHOLE, 1.0)]
    assert {op.name.split("/")[0] for op in ops} <= known
