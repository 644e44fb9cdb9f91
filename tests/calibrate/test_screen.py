"""Rows that cannot be true are refused by rule, and counted."""

from dataclasses import replace

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import stated_peaks
from planner.calibrate.features import bound_s
from planner.calibrate.rows import FloatArray, Origin, Table
from planner.calibrate.screen import PASSED_BYTES, screen

PEAKS = stated_peaks(files.load_accelerator("h200-sxm"))


def gemms(factor: FloatArray) -> Table:
    """Products at ``factor`` times the least time the part allows."""
    m = np.geomspace(1, 8192, len(factor))
    side = np.full(len(factor), 4096.0)
    table = Table(
        "gemm", "bf16", "k", Origin("h200-sxm", "t"), {"m": m, "k": side, "n": side},
        np.ones(len(factor)),
    )  # fmt: skip
    return with_time(table, bound_s(table, PEAKS) * factor)


def with_time(table: Table, time_s: FloatArray) -> Table:
    return Table(
        table.op, table.dtype, table.kernel, table.origin, table.columns, time_s, table.labels
    )


def layers(degrees: tuple[int, ...], slow: dict[int, float]) -> Table:
    """MoE layers that run at 0.7 of the bound plus 10 us, some degrees ``slow`` times slower."""
    tokens = [float(2**i) for i in range(15)]
    grid = [(t, float(d)) for d in degrees for t in tokens]
    each, degree = (np.array(column) for column in zip(*grid, strict=True))
    one = np.ones(len(each))
    columns = {
        "group_tokens": each, "experts": 256 * one, "local_experts": 256 / degree,
        "top_k": 8 * one, "hidden": 7168 * one, "intermediate": 2048 * one,
    }  # fmt: skip
    table = Table(
        "moe_layer", "fp8_block", "k", Origin("h200-sxm", "t"), columns, one,
        {"distribution": "balanced"},
    )  # fmt: skip
    factor = np.array([slow.get(int(d), 1.0) for d in degree])
    return with_time(table, (bound_s(table, PEAKS) / 0.7 + 10e-6) * factor)


def test_a_row_faster_than_the_part_is_refused_alone() -> None:
    factor = np.full(100, 1.3)
    factor[3] = 0.9
    kept = screen(gemms(factor), PEAKS)
    assert dict(kept.refused) == {"beats_roofline": 1}
    assert len(kept.table) == 99


def test_a_kernel_that_often_beats_the_part_is_not_believed_at_all() -> None:
    factor = np.full(100, 1.3)
    factor[::10] = 0.9
    kept = screen(gemms(factor), PEAKS)
    assert dict(kept.refused) == {"table_beats_roofline": 100}
    assert len(kept.table) == 0


def test_rows_that_stayed_in_the_cache_go_and_larger_ones_stay() -> None:
    sizes = np.geomspace(512, 16384, 60)
    table = Table(
        "gemm", "bf16", "k", Origin("h200-sxm", "t"),
        {"m": np.full(60, 8.0), "k": sizes, "n": sizes}, np.ones(60),
    )  # fmt: skip
    small = 2 * sizes**2 < 48e6
    table = with_time(table, bound_s(table, PEAKS) * np.where(small, 0.6, 1.2))
    kept = screen(table, PEAKS)
    assert set(kept.refused) == {"cache_resident"}
    assert kept.refused["cache_resident"] >= small.sum()
    assert np.all(2 * kept.table["k"] ** 2 > 48e6)
    assert len(kept.table) >= 15


@pytest.mark.parametrize(("cache_bytes", "resident"), [(50e6, True), (0.0, False)])
def test_few_rows_in_the_cache_are_judged_among_their_like(
    cache_bytes: float, resident: bool
) -> None:
    """4 of 100 rows beat the part, a fifth of the 20 that its cache holds: all 20 go; where the
    cache is not known, only those four."""
    sizes = np.geomspace(512, 65536, 100)
    table = Table(
        "gemm", "bf16", "k", Origin("h200-sxm", "t"),
        {"m": np.full(100, 8.0), "k": sizes, "n": sizes}, np.ones(100),
    )  # fmt: skip
    factor = np.full(100, 1.2)
    factor[20:24] = 0.6
    kept = screen(
        with_time(table, bound_s(table, PEAKS) * factor), replace(PEAKS, cache_bytes=cache_bytes)
    )
    moved = 2 * sizes**2
    assert moved[23] < 50e6 < moved[50]
    if resident:
        assert set(kept.refused) == {"cache_resident"}
        assert np.all(2 * kept.table["k"] ** 2 > moved[23])
        assert kept.refused["cache_resident"] >= np.sum(moved <= 32e6)
    else:
        assert dict(kept.refused) == {"beats_roofline": 4}


def test_prompts_that_stay_on_chip_do_not_beat_the_part() -> None:
    """17 MB at twice the memory's rate stay in 50 MB; 1.1 GB at 1.2 times it do not."""
    one = np.ones(2)
    columns = {
        "sequences": np.array([8.0, 512.0]), "tokens": np.array([1024.0, 65536.0]),
        "heads": 16 * one, "kv_heads": 16 * one, "head_dim": 128 * one, "v_head_dim": 128 * one,
    }  # fmt: skip
    table = Table(
        "attention_prefill", "bf16", "k", Origin("h200-sxm", "t"), columns, one, {"variant": "gqa"}
    )
    bytes_moved = columns["tokens"] * 16 * 128 * 2 * 4
    assert bytes_moved == pytest.approx([16.8e6, 1074e6], rel=0.01)
    fast = with_time(table, bytes_moved / PEAKS.bytes_per_s / np.array([2.0, 1.2]))
    believed = [len(screen(fast.take(fast["tokens"] == n), PEAKS).table) for n in (1024, 65536)]
    assert believed == [1, 0]


def test_ranks_that_take_as_long_as_one_device_are_refused_by_degree() -> None:
    kept = screen(layers((1, 2, 4), {4: 3.0}), PEAKS)
    assert dict(kept.refused) == {"ranks_repeat_one_device": 15}
    assert sorted(set((256 / kept.table["local_experts"]).tolist())) == [1.0, 2.0]


def test_ranks_that_pass_over_the_pairs_of_others_are_not_taken_for_slow() -> None:
    """What a rank spends on rows of experts that it does not hold is no work of one device."""
    table = layers((1, 16), {})
    table = table.take((table["group_tokens"] == 1) | (table["group_tokens"] >= 1024))
    foreign = table["group_tokens"] * 8 * (1 - table["local_experts"] / 256)
    written = 2 * 2048 + 7168  # elements a pair: both products' results
    passing_s = PASSED_BYTES * foreign * written / PEAKS.bytes_per_s
    slow = with_time(table, table.time_s + passing_s)
    named = replace(slow, labels={**slow.labels, "foreign": "passed"})
    assert dict(screen(slow, PEAKS).refused) == {"ranks_repeat_one_device": 6}
    assert dict(screen(named, PEAKS).refused) == {}


def test_honest_ranks_are_kept() -> None:
    assert dict(screen(layers((1, 2, 4, 8), {}), PEAKS).refused) == {}


def test_a_shape_that_never_comes_near_the_bound_is_refused() -> None:
    heads = np.repeat([16.0, 128.0], 30)
    context = np.tile(np.geomspace(1e5, 1e7, 30), 2)
    one = np.ones(60)
    table = Table(
        "attention_decode", "bf16", "k", Origin("h200-sxm", "t"),
        {"heads": heads, "context_tokens": context, "sequences": 64 * one,
         "kv_lora_rank": 512 * one, "rope_dim": 64 * one},
        one, {"variant": "mla"},
    )  # fmt: skip
    table = with_time(table, bound_s(table, PEAKS) * np.where(heads == 16, 10.0, 1.3))
    kept = screen(table, PEAKS)
    assert dict(kept.refused) == {"far_from_roofline": 30}
    assert set(kept.table["heads"]) == {128.0}


def test_a_layer_that_a_larger_one_outruns_is_refused() -> None:
    """The layer on one device at 256 tokens takes longer than at 512: not its best tiling."""
    table = layers((1, 8), {})
    times = table.time_s.copy()
    row = (table["group_tokens"] == 256) & (table["local_experts"] == 256)
    times[row] *= 1.6
    kept = screen(with_time(table, times), PEAKS)
    assert dict(kept.refused) == {"slower_than_more_work": 1}


def test_a_layer_that_calls_on_parts_of_its_experts_outrun_is_refused() -> None:
    table = layers((1, 2, 4, 8), {})
    times = table.time_s.copy()
    halves = table["local_experts"] == 64
    whole = (table["local_experts"] == 128) & (table["group_tokens"] == 4096)
    times[whole] = 2.4 * times[halves & (table["group_tokens"] == 4096)]
    kept = screen(with_time(table, times), PEAKS)
    assert dict(kept.refused) == {"slower_than_its_parts": 1}
    assert len(kept.table) == len(table) - 1


def test_models_whose_routing_touches_too_few_experts_are_refused_alone() -> None:
    good, bad = layers((1,), {}), layers((1,), {1: 0.5})
    other = {**bad.columns, "hidden": 0 * bad["hidden"] + 6144.0}
    columns = {name: np.concatenate([good[name], other[name]]) for name in good.columns}
    table = Table(
        good.op, good.dtype, good.kernel, good.origin, columns,
        np.concatenate([good.time_s, bad.time_s * 6144 / 7168]), good.labels,
    )  # fmt: skip
    kept = screen(table, PEAKS)
    assert dict(kept.refused) == {"shape_beats_roofline": len(bad)}
    assert set(kept.table["hidden"]) == {7168.0}


def test_a_product_that_a_larger_one_outruns_is_refused() -> None:
    factor = np.full(100, 1.3)
    table = gemms(factor)
    times = np.maximum.accumulate(table.time_s)
    times[40] *= 1.5 * times[41] / times[40]
    kept = screen(with_time(table, times), PEAKS)
    assert dict(kept.refused) == {"slower_than_more_work": 1}


def decoding(heads: FloatArray, context: FloatArray, again: bool = True) -> Table:
    """Latent attention of 64 sequences at 0.8 of the bound plus 10 us."""
    one = np.ones(len(heads))
    labels = {"variant": "mla"} | ({"operands": "again"} if again else {})
    table = Table(
        "attention_decode", "bf16", "k", Origin("h200-sxm", "t"),
        {"heads": heads, "context_tokens": 64 * context, "sequences": 64 * one,
         "kv_lora_rank": 512 * one, "rope_dim": 64 * one},
        one, labels,
    )  # fmt: skip
    return with_time(table, bound_s(table, PEAKS) / 0.8 + 10e-6)


def test_decode_that_reads_its_cache_again_from_the_chip_is_refused() -> None:
    """64 sequences of 256 tokens keep 19 MB, of 512 38 MB, of 1,024 75 MB; an H200 keeps 50 MB.

    At 5 us and 10 us beside a floor of 10 both would take a quarter of the time and more.
    """
    context = np.array([16.0, 256.0, 512.0, 1024.0, 2048.0])
    table = decoding(np.full(5, 16.0), context)
    kept = screen(table, PEAKS)
    assert dict(kept.refused) == {"cache_resident": 2}
    assert (kept.table["context_tokens"] / 64).tolist() == [16, 1024, 2048]
    assert dict(screen(decoding(np.full(5, 16.0), context, again=False), PEAKS).refused) == {}


def test_heads_that_more_heads_outrun_are_refused_and_contexts_are_not() -> None:
    heads, context = np.repeat([16.0, 32.0, 64.0], 4), np.tile([2048.0, 4096, 8192, 16384], 3)
    table = decoding(heads, context)
    times = np.where(heads == 32, 1.4, 1.0) * table.time_s
    times[context == 4096] *= 2.2  # slower than twice the context: a kernel switches
    kept = screen(with_time(table, times), PEAKS)
    assert dict(kept.refused) == {"slower_than_more_work": 4}
    assert set(kept.table["heads"]) == {16.0, 64.0}
