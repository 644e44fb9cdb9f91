"""What fits, and how much context: published verdicts, then sums."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import arch, files
from planner.errors import InfeasibleError
from planner.evaluation import build
from planner.files import profiles
from planner.files.engines import load_engine
from planner.memory import Memory, activation_bytes, communication_bytes, footprint
from planner.shard import Shard, shard
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.engine import EngineSpec


def cut(model: str = "deepseek-r1", weights: Any = "fp8", kv: Any = "bf16", **d: int) -> Shard:
    return shard(
        files.load_model(model), Pool(parallelism=Parallelism(**d), weights=weights, kv=kv)
    )


TP8 = cut(attention_tp=8, moe_tp=8)
DP8 = cut(attention_dp=8, moe_ep=8)


def on(system: str, local: Shard = TP8, **limits: Any) -> Memory:
    return footprint(local, files.load_hardware(system).accelerator, Limits(**limits))


# --- published verdicts --------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["hgx-h200", "hgx-h20", "hgx-mi300x", "hgx-b200"])
def test_r1_in_fp8_fits_eight_devices_of(system: str) -> None:
    memory = on(system)
    memory.require()
    assert memory.fits
    assert memory.short_by_bytes == 0


@pytest.mark.parametrize("system", ["hgx-h100", "hgx-h800"])
def test_r1_in_fp8_does_not_fit_eight_devices_of_80_gb(system: str) -> None:
    memory = on(system)
    # 81,559 MiB less 0.6 GB; 0.9 of it, and context and graphs beside: 79.0 GB.
    # 85.14 weights + 1.99 activations + 1.9 + 2.83 = 91.9 GB
    assert memory.usable_bytes == pytest.approx((81559 * 2**20 - 0.6e9) * 0.9 + 0.76e9 + 1.8e9)
    needed = memory.weights_bytes + memory.activations_bytes + 1.9e9 + 2.83e9 + 70272
    assert memory.short_by_bytes == pytest.approx(needed - memory.usable_bytes)
    assert memory.short_by_bytes == pytest.approx(12.9e9, rel=0.01)
    with pytest.raises(InfeasibleError, match="HBM per device") as caught:
        memory.require()
    assert caught.value.needed - caught.value.available == pytest.approx(memory.short_by_bytes)


def test_weights_alone_do_not_fit_80_gb_whatever_is_left_to_the_engine() -> None:
    assert on("hgx-h100", memory_share=1.0).short_by_bytes > 4e9
    assert on("hgx-h100").weights_bytes > 81559 * 2**20 * 0.9


def test_sixteen_h100_hold_it() -> None:
    memory = on("hgx-h100", cut(attention_tp=16, moe_tp=16))
    copies = 15 / 16 * 1.1366e9
    assert memory.weights_bytes == pytest.approx(42.1e9 + copies, rel=1e-3)
    # 76.43 - 42.1 - 0.27 GB are left (485 k tokens) without copies, activations, buffers
    left = 34.06e9 - copies - memory.activations_bytes - 1.9e9
    assert memory.kv_capacity_tokens == pytest.approx(left / 70272, rel=2e-3)
    assert memory.kv_capacity_tokens == pytest.approx(454e3, rel=0.12)


def test_context_of_r1_on_eight_h200() -> None:
    assert on("hgx-h200").kv_capacity_tokens == pytest.approx(691e3, rel=0.1)
    spread = on("hgx-h200", DP8)
    # 135.1 GB of 150.2, 102.8 of weights, 0.27 of workspaces: 32.1; activations and buffers 5.8
    assert spread.kv_capacity_tokens == spread.kv_capacity_tokens_per_rank * 8
    assert spread.kv_capacity_tokens == pytest.approx((32.1e9 - 5.8e9) * 8 / 70272, rel=0.06)


def test_nothing_less_than_the_weights_ever_fits() -> None:
    for name in profiles.system_names():
        memory = on(name)
        if memory.fits:
            assert memory.weights_bytes < memory.capacity_bytes


@pytest.mark.parametrize(
    ("model", "weights", "devices", "engine", "share", "reported_gib"),
    [
        ("llama-3.1-8b", "bf16", 1, "vllm", 0.95, (14.99, 58.11)),
        ("llama-3.1-70b", "fp8", 2, "vllm", 0.95, (33.88, 37.28)),
        ("llama-3.1-70b", "fp8", 4, "vllm", 0.95, (16.96, 54.09)),
        ("qwen2.5-7b", "bf16", 1, "vllm", 0.95, (14.25, 58.53)),
        ("qwen1.5-moe-a2.7b", "bf16", 1, "vllm", 0.95, (26.67, 45.83)),
        ("gpt-oss-20b", "mxfp4", 2, "vllm", 0.9, (7.01, 59.32)),
        ("qwen3-30b-a3b", "fp8", 1, "sglang", 0.83, (29.15, 35.98)),
    ],
)
def test_memory_that_engines_report_when_they_start(
    model: str, weights: Any, devices: int, engine: str, share: float, reported_gib: Any
) -> None:
    """Start-up logs on H100 (vLLM 0.19.0, SGLang of August 2026; docs/memory.md): weights within
    half a percent (gpt-oss-20b: four), the cache within one."""
    sizes = Limits(max_sequences=1024, max_step_tokens=8192, memory_share=share)
    pool = Pool(
        parallelism=Parallelism(attention_tp=devices, moe_tp=devices), weights=weights,
        engine=load_engine(engine), limits=sizes,
    )  # fmt: skip
    memory = build(files.load_model(model), files.load_hardware("hgx-h100"), pool).memory
    gib, (weights_gib, cache_gib) = 2.0**30, reported_gib
    close = 0.045 if model == "gpt-oss-20b" else 0.005
    assert memory.weights_bytes / gib == pytest.approx(weights_gib, rel=close)
    assert (memory.usable_bytes - memory.fixed_bytes) / gib == pytest.approx(cache_gib, rel=0.01)


# --- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "weights", "devices", "reported_gib"),
    [
        ("llama-3.1-8b", "bf16", 1, 1.89),
        ("llama-3.1-70b", "fp8", 4, 1.97),
        ("qwen2.5-7b", "bf16", 1, 2.21),
        ("gpt-oss-20b", "mxfp4", 2, 2.87),
    ],
)
def test_vllm_keeps_what_sampling_takes(
    model: str, weights: Any, devices: int, reported_gib: float
) -> None:
    """Peak activation of the same logs; it does not change with tensor parallelism."""
    local = cut(model, weights, attention_tp=devices, moe_tp=devices)
    limits = Limits(max_sequences=1024, max_step_tokens=8192)
    kept = activation_bytes(local, limits, load_engine("vllm").sampling_bytes)
    assert kept / 2**30 == pytest.approx(reported_gib, rel=0.01)


def test_sampling_all_sequences_may_take_more_than_a_step() -> None:
    """vLLM, gpt-oss-20b: 14 bytes x 1,024 sequences x 201,088 tokens + 2.4 x 8,192 x 2,880."""
    local = cut("gpt-oss-20b", "mxfp4")
    limits = Limits(max_sequences=1024, max_step_tokens=8192)
    hand = 14 * 1024 * 201_088 + 2.4 * 8192 * 2880
    assert activation_bytes(local, limits, 14.0) == pytest.approx(hand)
    assert activation_bytes(local, limits) < hand
    few = Limits(max_sequences=8, max_step_tokens=8192)
    assert activation_bytes(local, few, 14.0) == activation_bytes(local, few)


def test_experts_in_mxfp4_are_held_in_whole_256() -> None:
    """gpt-oss-120b: a hidden size of 2,880 is held as 3,072, 64.5 GiB; 64.38 are reported."""
    held = cut("gpt-oss-120b", "mxfp4").weight_bytes
    assert sum(held.values()) / 2**30 == pytest.approx(64.38, rel=0.003)
    whole = cut("deepseek-v4-flash", "mxfp4_fp8")
    assert arch.padding("mxfp4", whole.hidden_size) == 1.0


def test_permuted_expert_layout_of_a_full_chunk() -> None:
    # 8192 tokens x 8 experts x (7168 x (1 + 2) + 2048 x 5) bytes = 2.08 GB on one device
    permuted = 8192 * 8 * (7168 * 3 + 2048 * 5)
    assert permuted == pytest.approx(2.08e9, rel=1e-3)
    others = 8 * 8192 * 7168 + 5 * 8192 * 18432 + 4 * 512 * 129280
    limits = Limits(max_step_tokens=8192, max_sequences=512)
    assert activation_bytes(cut(), limits) == pytest.approx(permuted + others)
    # eight ranks of 8192 tokens send an eighth of their pairs each
    assert activation_bytes(DP8, limits) == pytest.approx(permuted + others)


def test_low_latency_buffers_of_the_expert_network() -> None:
    # 4 x 256 x 128 x (2 x 7168 + 4 x 7168 / 128) = 1.91 GB
    library = 1.9e9
    assert communication_bytes(DP8) - library == pytest.approx(1.91e9, rel=2e-3)
    assert communication_bytes(TP8) == pytest.approx(library)
    assert communication_bytes(cut()) == 0


def test_components_add_up_to_the_device() -> None:
    for system in profiles.system_names():
        for local in (TP8, DP8, cut("qwen3-8b"), cut("gpt-oss-120b", "mxfp4")):
            memory = on(system, local)
            if memory.fits:
                parts = memory.per_device_bytes()
                assert min(parts.values()) >= 0
                assert sum(parts.values()) == pytest.approx(memory.capacity_bytes, rel=1e-12)
                # less than one token of what the engine may use is left over
                reserve = memory.capacity_bytes - memory.usable_bytes
                assert 0 <= parts["reserve"] - reserve < memory.kv_bytes_per_token + 1e-3


def test_an_eight_bit_cache_holds_more_tokens() -> None:
    plain, narrow = on("hgx-h200"), on("hgx-h200", cut(kv="fp8", attention_tp=8, moe_tp=8))
    assert narrow.kv_capacity_tokens / plain.kv_capacity_tokens == pytest.approx(
        70272 / 40016, rel=1e-3
    )


def test_splitting_the_context_multiplies_the_tokens() -> None:
    split = on("hgx-h200", cut(attention_tp=8, moe_tp=8, context_parallel=8))
    assert split.kv_capacity_tokens == pytest.approx(
        8 * on("hgx-h200").kv_capacity_tokens, rel=1e-4
    )


def test_a_stated_capacity_replaces_the_computed() -> None:
    memory = on("hgx-h200", kv_tokens=123_456)
    assert memory.stated
    assert memory.kv_capacity_tokens == 123_456
    assert memory.kv_bytes == 123_456 * 70272


def test_recurrent_states_weigh_as_much_as_thousands_of_tokens() -> None:
    # Qwen3.5-397B: 195 MB a sequence against 30,720 bytes a token; on 8 devices an eighth of the
    # states and half of the cache (2 key-value heads)
    memory = on("hgx-h200", cut("qwen3.5-397b-a17b", "fp8", attention_tp=8, moe_tp=8))
    assert memory.state_bytes_per_sequence == pytest.approx(195e6 / 8, rel=0.02)
    assert memory.kv_bytes_per_token == 30720 / 2
    assert memory.sequence_overhead_tokens == pytest.approx(195e6 / 8 / 15360, rel=0.02)
    assert on("hgx-h200").sequence_overhead_tokens == 0


def test_a_sliding_window_costs_a_sequence_its_window() -> None:
    # gpt-oss-120b: 36,864 bytes a token and 4.7 MB a sequence
    memory = on("hgx-h200", cut("gpt-oss-120b", "mxfp4"))
    assert memory.kv_bytes_per_token == 36864
    assert memory.state_bytes_per_sequence == 128 * 36864
    assert memory.sequence_overhead_tokens == 128


def test_each_engine_means_something_else_by_its_share_of_memory() -> None:
    part = profiles.load_accelerator("h200-sxm")
    limits = Limits(max_step_tokens=32768, memory_share=0.8)

    def cache_bytes(share_of: Any) -> float:
        engine = EngineSpec(memory_share_of=share_of)
        return footprint(TP8, part, limits, engine=engine).kv_capacity_tokens * 70272.0

    held = footprint(TP8, part, limits)
    # 150.75 - 0.6 GB; 85.14 of weights, 8.2 of activations at 32,768 tokens, 1.9 of buffers, 0.27
    # of workspaces, 0.76 of context, 1.8 of graphs
    assert held.activations_bytes == pytest.approx(8.2e9, rel=0.1)
    rest = 150.15e9 - 85.14e9 - held.activations_bytes - 1.9e9 - 0.27e9
    assert cache_bytes("device") == pytest.approx(rest - 0.2 * 150.15e9, rel=2e-3)
    assert cache_bytes("static") == pytest.approx(
        0.8 * (150.15e9 - 1.9e9 - 0.76e9) - 85.14e9, rel=2e-3
    )
    assert cache_bytes("free") == pytest.approx(0.8 * (rest - 0.76e9 - 1.8e9), rel=2e-3)


@given(
    share=st.floats(0.05, 1.0),
    tokens=st.sampled_from([512, 8192, 65536]),
    share_of=st.sampled_from(["device", "static", "free"]),
)
def test_no_share_hands_out_more_than_the_device_has(share: float, tokens: int, share_of: Any):
    part = profiles.load_accelerator("h200-sxm")
    limits = Limits(max_step_tokens=tokens, memory_share=share)
    memory = footprint(TP8, part, limits, engine=EngineSpec(memory_share_of=share_of))
    if memory.fits:
        assert memory.fixed_bytes + memory.kv_bytes <= memory.capacity_bytes * (1 + 1e-12)
        assert memory.short_by_bytes == 0
    else:
        assert memory.short_by_bytes > 0


def test_more_memory_or_fewer_buffers_never_hold_fewer_tokens() -> None:
    tokens = [on("hgx-h200", memory_share=share).kv_capacity_tokens for share in (0.8, 0.9, 1.0)]
    assert tokens == sorted(tokens)
    chunks = [on("hgx-h200", max_step_tokens=n).kv_capacity_tokens for n in (32768, 8192, 2048)]
    assert chunks == sorted(chunks)


def test_an_engine_may_keep_the_whole_cache_of_windowed_layers() -> None:
    """gpt-oss: 18 of 36 layers see 128 tokens; kept whole, a token costs twice as much."""
    model, own = files.load_model("gpt-oss-120b"), Pool(parallelism=Parallelism(), weights="mxfp4")
    whole = own.model_copy(update={"engine": EngineSpec(windows_whole=True)})
    short, full = shard(model, own), shard(model, whole)
    assert full.kv_bytes_per_token == pytest.approx(2 * short.kv_bytes_per_token)
    assert short.state_bytes_per_sequence > full.state_bytes_per_sequence == 0
