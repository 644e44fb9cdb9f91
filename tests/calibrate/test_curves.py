"""Shares over a size: between knots, outside them, and what may not be a curve."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from planner import files
from planner.evaluation.attention_kernels import with_attention_kernels
from planner.ops import AttentionDecode, AttentionPrefill, Elementwise, Gemm, GroupedGemm
from planner.ops.call import Call
from planner.ops.laws import blended, crossing, doubled, doubling_line, share_at, streamed_share
from planner.roofline import achieved, call_of, op_time, work_depth
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, AttentionVariant, CalibrationSpec, Curve
from planner.specs.deployment import Parallelism, Pool
from planner.specs.hardware import AcceleratorSpec

CALIBRATIONS = [
    files.load_spec(path, CalibrationSpec)
    for path in sorted((files.profile_root() / "calibrations").glob("*.yaml"))
]
PLAIN: dict[str, Any] = {"parallelism": Parallelism(), "weights": "bf16"}
PAIRS = [
    (files.load_accelerator(name), c) for c in CALIBRATIONS for name in c.accelerators
]  # fmt: skip
ENGINES = [
    (
        files.load_accelerator(c.name),
        with_attention_kernels(c, Pool(attention_kernel=engine, **PLAIN)),
    )
    for c in CALIBRATIONS
    for engine in sorted(c.attention_kernels)
]
"""Every part as an engine attends on it that has laws of its own there."""
FEW = settings(max_examples=20)
"""Examples of each of these: they are many."""
VARIANTS: tuple[Any, ...] = (None, "mla_fp8_cache", *get_args(AttentionVariant)[3:])
M = st.floats(0, 2e6)
SIDE = st.sampled_from([128.0, 576.0, 2048.0, 7168.0, 24576.0, 129280.0])


def curve(sizes: tuple[float, ...], shares: tuple[float, ...]) -> Curve:
    return Curve(sizes=sizes, shares=shares, source="test")


def test_a_share_lies_on_a_line_between_the_logarithms_and_is_flat_outside() -> None:
    rising = curve((1.0, 100.0), (0.1, 0.4))
    shares = share_at(rising, np.array([0.0, 1e-3, 1.0, 10.0, 100.0, 1e9]))
    assert shares == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.4, 0.4])


@pytest.mark.parametrize(
    ("sizes", "shares", "message"),
    [
        ((1.0, 2.0), (0.5,), "2 sizes but 1 shares"),
        ((2.0, 1.0), (0.5, 0.5), "sizes must increase, got 1 as number 2"),
        ((1.0, 2.0), (0.1, 0.3), "rise faster than sizes at 2: more would take less time"),
        ((1.0, 2.0), (0.5, 1.1), "less than or equal to 1"),
        ((0.0, 2.0), (0.5, 0.5), "greater than 0"),
        ((1.0,), (0.5,), "at least 2"),
    ],
)
def test_what_is_no_curve_is_refused(
    sizes: tuple[float, ...], shares: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        curve(sizes, shares)


@pytest.mark.parametrize(
    ("family", "field", "value", "message"),
    [
        ("attention_decode", "blend", "root4", "attention_decode: no waves, and blend max"),
        ("attention_decode", "chain", "root1.5", "no compute_curve, and chain sum or root2"),
        ("attention_prefill", "blend", "root2", "and blend max or sum"),
        (
            "attention_decode", "compute_curve",
            {"sizes": (1.0, 2.0), "shares": (0.5, 0.6), "source": "t"},
            "attention_decode: no compute_curve",
        ),
        ("attention_decode", "split_depth", 32768, "split_depth is of products"),
        (
            "attention_prefill", "row_waves", {"units": 132, "fill": 0.5},
            "attention_prefill: row_waves are of cached heads",
        ),
    ],
)  # fmt: skip
def test_attention_may_only_be_what_the_event_loop_reads(
    family: str, field: str, value: Any, message: str
) -> None:
    data: dict[str, Any] = CALIBRATIONS[0].model_dump()
    data[family][field] = value
    with pytest.raises(ValidationError, match=message):
        CalibrationSpec.model_validate(data)


def test_each_doubling_of_a_context_adds_as_much_by_hand() -> None:
    """2,048 tokens, then 4,096 for the next 2,048, then 8,192: straight in between."""
    depths = [0.0, 1024.0, 2048.0, 4096.0, 6144.0, 14336.0, 22528.0]
    steps = [0.0, 1024.0, 2048.0, 3072.0, 4096.0, 6144.0, 7168.0]
    assert [doubled(depth, 2048.0) for depth in depths] == steps
    assert np.asarray(doubled(np.array(depths), 2048.0)).tolist() == steps
    assert doubling_line(4096.0, 2048.0) == (3072.0, 0.5, 6144.0)
    call = Call(0.0, 0.0, 1.0, 0.0, 6144.0).shaped(shaped_law(doubling_depth=2048))
    assert call.depth == 4096.0


def test_a_short_context_fills_a_tile_by_hand() -> None:
    """64 keys of a tile of 256 move and multiply four times as much, and are 256 steps."""
    call = Call(1e-6, 2e-6, 1.0, 1e6, 64.0).shaped(shaped_law(tile_keys=256))
    assert (call.compute_s, call.memory_s, call.moved_bytes, call.depth) == (4e-6, 8e-6, 4e6, 256.0)
    long = Call(1e-6, 2e-6, 1.0, 1e6, 512.0)
    assert long.shaped(shaped_law(tile_keys=256)) == long


@given(st.floats(0, 1e7), st.floats(0, 1e7), st.sampled_from([512.0, 2048.0]))
def test_doublings_never_fall_and_lie_under_the_logarithm(a: float, b: float, first: float) -> None:
    low, high = sorted((a, b))
    assert doubled(low, first) <= doubled(high, first)
    value, slope, end = doubling_line(low, first)
    assert value + slope * (end - low) == pytest.approx(float(doubled(end, first)))
    log = first * np.log2(1 + low / first)
    assert log - 0.09 * first <= value <= log * (1 + 1e-12) + 1e-9


def test_time_to_stream_a_cache_is_straight_between_the_knots() -> None:
    rising = curve((1e6, 3e6), (0.25, 0.75))
    sizes = np.array([0.0, 5e5, 1e6, 2e6, 3e6, 6e6])
    times = sizes / streamed_share(rising, sizes)
    assert times == pytest.approx([0, 2e6, 4e6, 4e6, 4e6, 8e6])


def test_a_decode_call_by_hand() -> None:
    """100 us of products at a half, 30 of cache at 0.6, 8 of queries at 0.8, 5 of floor."""
    number = Sourced(0.5, "t")
    law = Achieved(
        compute_share=number, memory_share=Sourced(0.6, "t"), floor_s=Sourced(5e-6, "t"),
        query_share=Sourced(0.8, "t"),
    )  # fmt: skip
    call = Call(100e-6, 30e-6, 1.0, 1e8, 0.0, 8e-6, lines=True)
    assert call.time_s(law) == pytest.approx(200e-6 + 10e-6 + 5e-6)
    together = law.model_copy(update={"query_share": None, "blend": "sum"})
    assert call.time_s(together) == pytest.approx(200e-6 + 38e-6 / 0.6 + 5e-6)


def shaped_law(**shape: int) -> Achieved:
    number = Sourced(0.5, "t")
    return Achieved(compute_share=number, memory_share=number, floor_s=Sourced(0, "t"), **shape)


def test_a_product_of_few_rows_computes_a_whole_tile() -> None:
    """4 rows in a tile of 64 compute 16 times their 1 us, over the units of 16 times the result."""
    call = Call(1e-6, 0.0, 4 * 1024.0, 1e6, 4096.0, rows=4.0)
    shaped = call.shaped(shaped_law(tile_rows=64))
    assert (shaped.compute_s, shaped.size) == (pytest.approx(16e-6), 64 * 1024)
    assert call.time_s(shaped_law(tile_rows=64)) == pytest.approx(32e-6)
    assert call.time_s(shaped_law(tile_rows=4)) == call.time_s(shaped_law()) == 2e-6


def test_a_pipeline_is_filled_once_a_tile() -> None:
    """256 steps beside 512 are half as much again; 2 ns of operands a step make 0.512 us."""
    call = Call(8e-6, 4e-6, 128.0, 1e6, 512.0, step_s=2e-9)
    shaped = call.shaped(shaped_law(fill_depth=256))
    assert shaped.compute_s == pytest.approx(12e-6)
    assert shaped.memory_s == pytest.approx(4.512e-6)


def test_a_long_inner_dimension_is_split_over_units() -> None:
    """At twice the depth of a split there are twice the units' worth, and the chain ends there."""
    call = Call(1e-6, 0.0, 1024.0, 1e6, 16384.0)
    shaped = call.shaped(shaped_law(split_depth=8192))
    assert (shaped.size, shaped.depth) == (2048, 8192)
    short = Call(1e-6, 0.0, 1024.0, 1e6, 4096.0).shaped(shaped_law(split_depth=8192))
    assert (short.size, short.depth) == (1024, 4096)


def test_an_exponential_takes_the_time_of_its_flop() -> None:
    """A head of 64 and 256 FLOP a score: as much again as its products, at 128 half of it."""
    part, law = PAIRS[0][0], shaped_law(score_flop=256)
    for dim, ratio in ((64.0, 2.0), (128.0, 1.5)):
        op = AttentionPrefill("x", 1e3, 5e5, 5e5, 4 * 8 * dim, 0.0, heads=8.0)
        call = call_of(op, part)
        assert call.shaped(law).compute_s == pytest.approx(ratio * call.compute_s)


def test_a_kernel_that_multiplies_in_eight_bits_is_timed_by_that_peak() -> None:
    part = files.load_accelerator("h200-sxm")
    op = AttentionDecode("x", 8, 8e3, 8e3, 2e5, 576.0, 1e5)
    law = shaped_law().model_copy(update={"multiplies": "fp8"})
    assert call_of(op, part).compute_s == pytest.approx(1.6e9 / 989.4e12)
    assert call_of(op, part, law).compute_s == pytest.approx(1.6e9 / 1978.9e12)


@given(
    a=st.tuples(M, SIDE, SIDE), b=st.tuples(M, SIDE, SIDE), tile=st.sampled_from([None, 64, 128]),
    split=st.sampled_from([None, 2048, 8192]), fill=st.sampled_from([None, 256]),
)  # fmt: skip
def test_more_rows_columns_or_depth_never_take_less_time(
    a: Any, b: Any, tile: Any, split: Any, fill: Any
) -> None:
    part = PAIRS[0][0]
    law = shaped_law(tile_rows=tile, split_depth=split, fill_depth=fill).model_copy(
        update={
            "compute_curve": curve((1e3, 1e6), (0.001, 0.9)),
            "depth_s": Sourced(1e-10, "t"), "blend": "sum",
        }
    )  # fmt: skip
    for make in (
        lambda m, k, n: Gemm("x", m, k, n, "bf16", 2.0),
        lambda m, k, n: GroupedGemm("x", 8 * m, min(256.0, 8 * m), k, n, "bf16", 2.0),
    ):
        less = make(*(min(pair) for pair in zip(a, b, strict=True)))
        more = make(*(max(pair) for pair in zip(a, b, strict=True)))
        if isinstance(less, GroupedGemm) and less.touched != more.touched:
            continue
        short, long = (float(call_of(op, part).time_s(law)) for op in (less, more))
        assert short <= long * (1 + 1e-9)


def test_heads_that_share_nothing_take_the_law_of_those_that_do_where_it_has_no_other() -> None:
    known = files.load_calibration("h200-sxm")
    laws = dict(known.attention_decode_variants)
    laws.pop("mha", None)
    bare = known.model_copy(update={"attention_decode_variants": laws})
    op = AttentionDecode("x", 8, 8e3, 8e3, 2e5, 1e3, 1e5, variant="mha")
    assert achieved(op, bare) == laws["gqa"]
    assert achieved(op, known) == known.attention_decode_variants["mha"] != laws["gqa"]


def latent(heads: float, variant: Any) -> AttentionDecode:
    """64 sequences of 8,192 tokens of multi-head latent attention."""
    seen = 64 * 8192.0
    return AttentionDecode(
        "x", 64.0, seen, seen, 2 * heads * 1088, 1152.0, heads * 1088.0, variant=variant
    )


@pytest.mark.parametrize("part", ["b200-sxm", "gb200-nvl72", "b300-sxm", "gb300-nvl72"])
def test_few_latent_heads_take_what_both_engines_measured_on_blackwell(part: str) -> None:
    # B200, TensorRT-LLM 1.3.0rc20 and SGLang 0.5.14: 127.2 and 127.2, 172.9 and 169.7 us
    accelerator, known = files.load_accelerator(part), files.load_calibration(part)
    for heads, measured_s in ((16, 127.2e-6), (32, 171e-6)):
        time_s = op_time(latent(heads, "mla_narrow"), accelerator, known).time_s
        assert time_s == pytest.approx(measured_s, rel=0.1)


def test_few_latent_heads_take_the_law_of_many_where_there_is_no_other() -> None:
    known = files.load_calibration("h200-sxm")
    assert achieved(latent(16, "mla_narrow"), known) == known.attention_decode
    fp8 = achieved(latent(16, "mla_narrow_fp8_cache"), known)
    assert fp8 == known.attention_decode_variants["mla_fp8_cache"]


def test_the_length_of_one_prompt_is_its_chain() -> None:
    op = AttentionPrefill("x", 4096, 4096**2 / 2, 4096**2 / 2, 2 * 128 * 320.0, 128 * 320.0)
    assert work_depth(op) == pytest.approx(4096)


def test_the_longest_context_is_the_chain_where_it_is_known() -> None:
    """Four prompts of 1,024 have the pairs of one of 2,048, but no tile of theirs is as long."""
    pairs = 4 * 1024**2 / 2
    op = AttentionPrefill("x", 4096.0, pairs, pairs, 2e5, 1e4)
    assert work_depth(op) == pytest.approx(2048)
    assert work_depth(replace(op, longest_tokens=1024.0)) == 1024


def test_keys_and_values_are_those_of_the_cached_heads() -> None:
    """32 queried and 8 cached heads of 128: 4 x (4,096 + 1,024) bytes a token, not 4 x 8,192."""
    op = AttentionPrefill("x", 10.0, 55.0, 55.0, 4 * 4096.0, 2 * 4096.0, key_elements=2 * 1024.0)
    assert (op.query_bytes, op.key_bytes, op.hbm_bytes) == (163_840, 40_960, 204_800)
    assert replace(op, key_elements=None).hbm_bytes == 327_680


def test_a_prefill_call_by_hand() -> None:
    """100 us of products and 30 of keys at a half, 8 of queries at 0.8, 1,000 tokens of 20 ns and
    4,000 rows of heads of 5: 310 us; a chain of 2,000 at 100 ns is 200; 5 of floor."""
    law = Achieved(
        compute_share=Sourced(0.5, "t"), memory_share=Sourced(0.5, "t"), floor_s=Sourced(5e-6, "t"),
        query_share=Sourced(0.8, "t"), token_s=Sourced(20e-9, "t"), row_s=Sourced(5e-9, "t"),
        depth_s=Sourced(100e-9, "t"), blend="sum",
    )  # fmt: skip
    call = Call(100e-6, 30e-6, 1.0, 1e8, 2000.0, 8e-6, head_rows=4000.0, tokens=1000.0)
    for chain, together in (
        ("sum", 510e-6), ("root2", 1e-6 * (310**2 + 200**2) ** 0.5),
        ("root1.5", 1e-6 * (310**1.5 + 200**1.5) ** (2 / 3)),
    ):  # fmt: skip
        own = law.model_copy(update={"chain": chain})
        assert call.time_s(own) == pytest.approx(together + 5e-6)


def test_a_token_starts_the_threads_of_its_cached_keys() -> None:
    """Heads of 128: two of them are half a block of 512, four one block, eight walk it twice."""
    shares = {name: Sourced(1.0, "t") for name in ("compute_share", "memory_share")}
    law = Achieved(
        floor_s=Sourced(0.0, "t"), token_s=Sourced(8e-9, "t"), written_elements=512, **shares
    )
    for heads, each in ((1, 2e-9), (2, 4e-9), (4, 8e-9), (8, 8e-9)):
        call = Call(0.0, 0.0, 1.0, 1.0, 0.0, tokens=1000.0, key_width=128.0 * heads)
        assert call.time_s(law) == pytest.approx(1000 * each)
        crowded = law.model_copy(update={"written_power": 2})
        assert call.time_s(crowded) == pytest.approx(1000 * each * (each / 8e-9))


def test_what_a_cache_serves_does_not_cross_by_hand() -> None:
    """All of 96 MB, a quarter of twice that, and of 168 MB against 100 what L40S's rows show."""
    shares = crossing(np.array([0.0, 96e6, 192e6, 480e6]), 96e6)
    assert shares == pytest.approx([0.0, 0.0, 0.75, 0.96])
    assert crossing(168e6, 100e6) == pytest.approx(0.646, abs=1e-3)


@given(moved=st.floats(1, 1e12), more=st.floats(0, 1e12), kept=st.floats(0, 1e9))
def test_more_bytes_cross_as_more_move_and_never_fewer_than_do_not_fit(
    moved: float, more: float, kept: float
) -> None:
    crossed = moved * crossing(moved, kept)
    assert max(0.0, moved - kept) <= crossed * (1 + 1e-9)
    assert crossed <= moved
    assert crossed <= (moved + more) * crossing(moved + more, kept) * (1 + 1e-9)


def test_what_a_cache_serves_is_close_to_random_replacement() -> None:
    """A loop over ``x`` times the cache misses the share ``m`` with ``1 - m = exp(-m x)``."""
    for times in np.geomspace(1.01, 20, 50):
        low, high = 1e-9, 1.0
        for _ in range(60):
            m = (low + high) / 2
            low, high = (m, high) if 1 - m > np.exp(-m * times) else (low, m)
        assert abs(crossing(times, 1.0) - m) < 0.06


def test_a_short_prompt_computes_a_whole_tile_by_hand() -> None:
    """Queries that see 64 keys in the mean take two tiles' worth of 256, those of 512 their own;
    so do exponentials, 128 FLOP each."""
    shares = {name: Sourced(1.0, "t") for name in ("compute_share", "memory_share")}
    law = Achieved(floor_s=Sourced(0.0, "t"), tile_rows=256, score_flop=128, **shares)
    for rows, times in ((128.0, 2.0), (256.0, 1.0), (1024.0, 1.0)):
        call = Call(10e-6, 1e-6, 1.0, 1.0, 0.0, rows=rows, scores_s=1e-8)
        assert call.time_s(law) == pytest.approx(times * (10e-6 + 1.28e-6))
    op = AttentionPrefill("x", 6400.0, 409_600.0, 409_600.0, 512.0, 64.0)
    assert call_of(op, files.load_accelerator("b200-sxm")).rows == 128.0


def test_a_prompt_that_stayed_on_chip_by_hand() -> None:
    """40 of 100 MB in an L2 of 100, of which 0.75 keep: none crosses, and 2,000 tokens with keys
    of 512 elements take 4 ps each; of 150 MB three quarters of 100 + 50 us at a half do."""
    shares = {"compute_share": Sourced(1.0, "t"), "memory_share": Sourced(0.5, "t")}
    law = Achieved(floor_s=Sourced(0.0, "t"), key_s=Sourced(4e-12, "t"), kept_part=0.75, **shares)
    keys_s = 2000 * 512 * 4e-12
    of = {"keys": 2000 * 512.0, "cache_bytes": 100e6}
    few = Call(10e-6, 20e-6, 1.0, 40e6, 0.0, 20e-6, **of)
    assert few.time_s(law) == pytest.approx(10e-6 + keys_s)
    many = Call(10e-6, 100e-6, 1.0, 150e6, 0.0, 50e-6, **of)
    assert many.time_s(law) == pytest.approx(0.75 * 150e-6 / 0.5 + keys_s)
    assert many.crossing_s == pytest.approx(50e-6)
    assert few.crossing_s == 0.0
    unknown = replace(few, cache_bytes=0.0)
    assert unknown.crossing_s == pytest.approx(40e-6)
    assert unknown.time_s(law) == pytest.approx(40e-6 / 0.5 + keys_s)


PROMPTS: dict[str, Any] = {
    "tokens": st.floats(1, 1e5), "context": st.floats(0, 1e5), "more": st.floats(0, 1e5),
    "variant": st.sampled_from([None, "gqa"]),
}  # fmt: skip


@pytest.mark.parametrize(("part", "calibration"), PAIRS, ids=lambda p: p.name)
@given(**PROMPTS)
def test_another_prompt_or_a_longer_one_never_takes_less_time(
    part: AcceleratorSpec, calibration: CalibrationSpec, tokens: float, context: float,
    more: float, variant: Any,
) -> None:  # fmt: skip
    longer_never_takes_less(part, calibration, tokens, context, more, variant)


@pytest.mark.parametrize(("part", "calibration"), ENGINES, ids=lambda p: p.name)
@FEW
@given(**PROMPTS)
def test_a_longer_prompt_never_takes_less_time_under_an_engine(
    part: AcceleratorSpec, calibration: CalibrationSpec, tokens: float, context: float,
    more: float, variant: Any,
) -> None:  # fmt: skip
    longer_never_takes_less(part, calibration, tokens, context, more, variant)


def longer_never_takes_less(
    part: AcceleratorSpec, calibration: CalibrationSpec, tokens: float, context: float,
    more: float, variant: Any,
) -> None:  # fmt: skip
    """Check another prompt in the batch, and a longer one, against the prompt alone."""
    pairs = tokens * (context + tokens / 2)
    op = AttentionPrefill(
        "x", tokens, pairs, pairs, 4 * 128 * 8, 2 * 128 * 8, variant=variant, heads=8.0,
        key_elements=256.0, longest_tokens=context + tokens,
    )  # fmt: skip
    grown = pairs + more * more / 2
    batch = replace(op, tokens=tokens + more, pairs=grown, capped_pairs=grown)
    further = replace(
        op, pairs=pairs + tokens * more, capped_pairs=pairs + tokens * more,
        longest_tokens=context + more + tokens,
    )  # fmt: skip
    alone = op_time(op, part, calibration)
    alone_s = float(alone.time_s)
    assert alone_s >= max(float(alone.compute_s), float(alone.memory_s))
    for larger in (batch, further):
        assert alone_s <= float(op_time(larger, part, calibration).time_s) * (1 + 1e-9)


def test_the_mean_context_is_the_chain_of_decode() -> None:
    op = AttentionDecode("x", 4.0, 6e4, 4e4, 2e5, 1e3, 1e5)
    assert work_depth(op) == pytest.approx(1e4)
    assert work_depth(AttentionDecode("x", 0.0, 0.0, 0.0, 2e5, 1e3, 1e5)) == 0.0


@pytest.mark.parametrize("variant", ["gqa", "gqa_fp8_cache", "mla_fp8_cache"])
def test_a_kernel_with_shares_of_its_own_is_timed_by_them(variant: Any) -> None:
    calibration = files.load_calibration("h200-sxm")
    op = AttentionDecode("x", 8, 8e3, 8e3, 2e5, 1e3, 1e5, variant=variant)
    assert achieved(op, calibration) == calibration.attention_decode_variants[variant]
    assert (
        achieved(op, files.load_calibration("gaudi3"))
        == files.load_calibration("gaudi3").attention_decode
    )


def test_blends_lie_between_the_larger_time_and_the_sum() -> None:
    times = [float(blended(3.0, 4.0, blend)) for blend in ("max", "root4", "root2", "sum")]
    assert times == pytest.approx([4.0, (81 + 256) ** 0.25, 5.0, 7.0])
    assert times == sorted(times)


def ops(part: AcceleratorSpec, m: Any, k: float, n: float) -> list[Any]:
    """Every family in every format of the part, of a batch of ``m``."""
    touched = float(-256 * np.expm1(m * np.log1p(-8 / 256)))  # of next to no tokens, too
    found: list[Any] = [
        *(
            AttentionDecode(
                "x",
                m,
                4096 * m,
                4096 * m,
                2 * 128 * 1088.0,
                1152.0,
                128 * 1088.0,
                variant=v,
                heads=96.0,
                cached_heads=8.0,
            )
            for v in VARIANTS
        ),
        *(
            AttentionPrefill("x", m, m * m / 2, m * m / 2, 2e5, 128 * 320.0, variant=v)
            for v in (None, "gqa", "gqa_64", "gqa_256", "gqa_fp8_cache", "mla_fp8_cache")
        ),
        Elementwise("x", n * m),
    ]
    for precision in part.dense_flop_per_s.precisions():
        width = {"bf16": 2.0, "fp4": 0.5625}.get(precision, 1.0)
        found.append(Gemm("x", m, k, n, precision, width))  # type: ignore[arg-type]
        found.append(
            GroupedGemm("x", 8 * m, touched, k, n, precision, width)  # type: ignore[arg-type]
        )
    return found


@pytest.mark.parametrize(("part", "calibration"), PAIRS, ids=lambda p: p.name)
@given(a=M, b=M, k=SIDE, n=SIDE)
def test_more_never_takes_less_time_than_less_nor_than_light(
    part: AcceleratorSpec, calibration: CalibrationSpec, a: float, b: float, k: float, n: float
) -> None:
    more_never_takes_less(part, calibration, (a, b), k, n)


@pytest.mark.parametrize(("part", "calibration"), ENGINES, ids=lambda p: p.name)
@FEW
@given(a=M, b=M, k=SIDE, n=SIDE)
def test_more_never_takes_less_time_under_an_engine(
    part: AcceleratorSpec, calibration: CalibrationSpec, a: float, b: float, k: float, n: float
) -> None:
    more_never_takes_less(part, calibration, (a, b), k, n)


def test_engines_attend_on_every_part_that_has_laws_of_theirs() -> None:
    parts = {calibration.name for _, calibration in ENGINES}
    assert {"a100-80g-sxm", "gb200-nvl72", "b300-sxm", "h100-sxm", "rtx-4090"} <= parts
    assert len(ENGINES) == 2 * len(parts)


def more_never_takes_less(
    part: AcceleratorSpec, calibration: CalibrationSpec, sizes: tuple[float, float],
    k: float, n: float,
) -> None:  # fmt: skip
    """Check every operator of two sizes, and each against its products and its transfers."""
    few, many = sorted(sizes)
    for less, more in zip(ops(part, few, k, n), ops(part, many, k, n), strict=True):
        short, long = (op_time(op, part, calibration) for op in (less, more))
        assert float(short.time_s) <= float(long.time_s) * (1 + 1e-9)
        assert float(long.time_s) >= max(float(long.compute_s), float(long.memory_s))


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda c: c.name)
def test_no_shipped_share_exceeds_one(calibration: CalibrationSpec) -> None:
    laws = [*calibration.gemm.values(), *calibration.grouped_gemm.values()]
    laws += [calibration.attention_decode, calibration.attention_prefill, calibration.elementwise]
    laws += calibration.attention_decode_variants.values()
    laws += calibration.attention_prefill_variants.values()
    laws += calibration.stored_experts.values()
    for library in calibration.expert_kernels.values():
        laws += library.values()
    for kernels in calibration.attention_kernels.values():
        laws += [*kernels.prefill.values(), *kernels.decode.values()]
    known = files.references()
    for law in laws:
        assert 0 < law.compute_share <= 1
        assert 0 < law.memory_share <= 1
        for each in (law.compute_curve, law.memory_curve):
            if each:
                sizes = np.geomspace(each.sizes[0] / 10, each.sizes[-1] * 10, 500)
                shares = np.asarray(share_at(each, sizes))
                assert shares.max() <= 1
                assert shares.min() > 0
                assert set(each.source.split(", ")) <= set(known)
        if law.compute_curve:
            assert law.compute_share == max(law.compute_curve.shares)
        assert law.query_share is None or 0 < law.query_share <= 1


def test_queries_fill_tiles_but_what_is_picked_for_them_does_not() -> None:
    """12 of 16 queries take as long as 16: 1.5 of 2 us are padded by a third."""
    call = Call(2e-6, 1e-6, 1.0, 1e6, 64.0, queries=12.0, indexed_s=5e-7)
    assert call.shaped(shaped_law(tile_queries=16)).compute_s == pytest.approx(2.5e-6)
    many = Call(2e-6, 1e-6, 1.0, 1e6, 64.0, queries=np.array([8.0, 17.0]))
    assert many.shaped(shaped_law(tile_queries=16)).compute_s == pytest.approx(
        [4e-6, 2e-6 * 32 / 17]
    )
