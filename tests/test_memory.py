"""What fits, and how much context: published verdicts, then sums."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.errors import InfeasibleError
from planner.files import profiles
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
    # 81,559 MiB x 0.9 = 76.97 GB; 85.14 weights + 1.99 activations + 0.39 + 3.0 = 90.6 GB
    assert memory.usable_bytes == pytest.approx(81559 * 2**20 * 0.9)
    needed = memory.weights_bytes + memory.activations_bytes + 0.392e9 + 3.0e9 + 70272
    assert memory.short_by_bytes == pytest.approx(needed - memory.usable_bytes)
    assert memory.short_by_bytes == pytest.approx(13.65e9, rel=0.01)
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
    # 31.9 GB are left (454 k tokens) without those copies, activations and collective buffers
    left = 31.9e9 - copies - memory.activations_bytes - 0.392e9
    assert memory.kv_capacity_tokens == pytest.approx(left / 70272, rel=2e-3)
    assert memory.kv_capacity_tokens == pytest.approx(454e3, rel=0.12)


def test_context_of_r1_on_eight_h200() -> None:
    assert on("hgx-h200").kv_capacity_tokens == pytest.approx(691e3, rel=0.1)
    spread = on("hgx-h200", DP8)
    # 31.8 GB a device for the cache when 3 GB are set aside; activations and buffers take 4.4 more
    assert spread.kv_capacity_tokens == spread.kv_capacity_tokens_per_rank * 8
    assert spread.kv_capacity_tokens == pytest.approx((31.8e9 - 4.4e9) * 8 / 70272, rel=0.06)


def test_nothing_less_than_the_weights_ever_fits() -> None:
    for name in profiles.system_names():
        memory = on(name)
        if memory.fits:
            assert memory.weights_bytes < memory.capacity_bytes


# --- by hand ---------------------------------------------------------------------------------


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
    library = 0.392e9
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
                # less than one token of the engine's share is left over
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
        return footprint(TP8, part, limits, share_of=share_of).kv_capacity_tokens * 70272.0

    held = footprint(TP8, part, limits)
    # 150.75 GB; 85.14 of weights, 8.2 of activations at 32,768 tokens, 3 + 0.392 beside
    assert held.activations_bytes == pytest.approx(8.2e9, rel=0.1)
    rest = 150.75e9 - 3.392e9
    assert cache_bytes("device") == pytest.approx(
        0.8 * 150.75e9 - 85.14e9 - 3.392e9 - held.activations_bytes, rel=2e-3
    )
    assert cache_bytes("static") == pytest.approx(0.8 * rest - 85.14e9, rel=2e-3)
    assert cache_bytes("free") == pytest.approx(
        0.8 * (rest - 85.14e9 - held.activations_bytes), rel=2e-3
    )


@given(
    share=st.floats(0.05, 1.0),
    tokens=st.sampled_from([512, 8192, 65536]),
    share_of=st.sampled_from(["device", "static", "free"]),
)
def test_no_share_hands_out_more_than_the_device_has(share: float, tokens: int, share_of: Any):
    part = profiles.load_accelerator("h200-sxm")
    limits = Limits(max_step_tokens=tokens, memory_share=share)
    memory = footprint(TP8, part, limits, share_of=share_of)
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
