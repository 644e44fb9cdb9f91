"""Grouped products whose kernels are given more tokens than their experts have rows of."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.calibrate import tables
from planner.calibrate.calls import stated_peaks
from planner.calibrate.features import works
from planner.calibrate.laws import Sample, fit_law
from planner.calibrate.layers import planned_rows
from planner.calibrate.rows import Origin, Table
from planner.calibrate.screen import screen
from planner.ops import Elementwise, Given, GroupedGemm, layer
from planner.ops.laws import rounds, untuned_rows
from planner.ops.tiles import LOAD_SPREAD, tile_height, tiled_rows
from planner.roofline import call_of, op_time
from planner.shard import shard
from planner.sourced import Sourced
from planner.specs.calibration import Achieved
from planner.specs.deployment import Parallelism, Pool
from planner.specs.tilings import Heights

PART = files.load_accelerator("b200-sxm")
PEAKS = stated_peaks(PART)
PLANNED = {"distribution": "balanced", "includes": "layer", "tiles": "planned"}


def law(**more: Any) -> Achieved:
    one = Sourced(1.0, "test")
    floor = Sourced(2e-6, "test")
    return Achieved(compute_share=one, memory_share=one, floor_s=floor, **more)


PASS_S = Sourced(1e-12, "test")
TALL = law(tallest_rows=128, height_s=Sourced(4e-8, "test"), token_s=Sourced(1e-13, "test"))


def product(pairs: float, touched: float, planned: float = 0.0, given: float = 0.0) -> GroupedGemm:
    """``planned`` rows an expert of the tokens that it is ``given`` elements of."""
    whole = Given(given / 4096, planned * touched, given, touched, 256.0)
    return GroupedGemm("x", pairs, touched, 4096, 4096, "fp4", 0.5625, given=whole)


def time_s(op: GroupedGemm, of: Achieved = TALL) -> float:
    return float(call_of(op, PART, of).time_s(of))


def layers(labels: dict[str, str] = PLANNED, **columns: Any) -> Table:
    usual = {
        "group_tokens": 32.0, "experts": 256.0, "local_experts": 1.0, "top_k": 8.0,
        "hidden": 4096.0, "intermediate": 2048.0,
    }  # fmt: skip
    arrays = {k: np.atleast_1d(np.asarray(v, float)) for k, v in {**usual, **columns}.items()}
    rows = max(map(len, arrays.values()))
    arrays = {k: np.broadcast_to(v, rows) for k, v in arrays.items()}
    return Table("moe_layer", "nvfp4", "k", Origin("b200-sxm", "t"), arrays, np.ones(rows), labels)


def test_an_expert_with_one_row_computes_the_tile_that_was_planned() -> None:
    """One expert of 4096 x 4096 in NVFP4 is 9.4 MB, 1.2 us; 32 rows are 1.1 GFLOP, 0.12 us."""
    weights_s = (4096 * 4096 * 0.5625 + 4096 * 0.5 + 2 * 4096) / 8e12
    assert time_s(product(1, 1)) == pytest.approx(weights_s + 1 * 4e-8 + 2e-6)
    assert time_s(product(1, 1, planned=32)) == pytest.approx(weights_s + 32 * 4e-8 + 2e-6)
    assert time_s(product(1, 1, planned=256)) == pytest.approx(weights_s + 128 * 4e-8 + 2e-6)
    summed = law(tallest_rows=128, blend="sum")
    compute_s = 2 * 128 * 4096**2 / float(PART.peak_flop_per_s("fp4"))
    assert time_s(product(1, 1, planned=256), summed) == pytest.approx(weights_s + compute_s + 2e-6)


MARLIN = Heights(rows=(8, 16, 32, 48, 64), fullness=0.9)


@pytest.mark.parametrize(
    ("planned", "high"), [(0.1, 8), (7.2, 8), (7.3, 16), (43.2, 48), (43.3, 64), (500, 64)]
)
def test_the_lowest_tile_is_chosen_that_what_is_planned_fills_to_nine_tenths(
    planned: float, high: float
) -> None:
    assert tile_height(planned, MARLIN) == high
    assert np.asarray(tile_height(np.array([planned, 1.0]), MARLIN)).tolist() == [high, 8]


def test_experts_alike_compute_whole_tiles() -> None:
    """1, 64, 65 and 200 rows of experts all alike are 1, 1, 2 and 4 tiles of 64."""
    rows = np.array([1.0, 64.0, 65.0, 200.0])
    assert np.asarray(tiled_rows(rows, 64.0, alike=True)).tolist() == [64, 64, 128, 256]


@pytest.mark.parametrize("mean", [2.0, 20.0, 45.0, 64.0, 100.0, 300.0])
def test_experts_whose_loads_differ_compute_what_drawn_loads_do(mean: float) -> None:
    """Loads drawn from log-normal popularities; experts without rows have no tile."""
    rng = np.random.default_rng(1)
    popular = np.exp(LOAD_SPREAD * rng.standard_normal(200_000) - LOAD_SPREAD**2 / 2)
    rows = rng.poisson(mean * popular)
    rows = rows[rows > 0]
    drawn = 64 * float(np.mean(np.ceil(rows / 64)))
    assert tiled_rows(float(rows.mean()), 64.0, alike=False) == pytest.approx(drawn, rel=0.025)


def test_a_product_of_whole_tiles_by_hand() -> None:
    """65 rows of each of 100 experts all alike take two tiles of 64, and every row of height."""
    high = {"heights": Heights(rows=(16, 32, 64))}
    of, lone = law(**high), law(**high, height_s=Sourced(4e-8, "test"))
    tile_s = 2 * 64 * 4096**2 / float(PART.peak_flop_per_s("fp4"))
    for rows, tiles in ((64.0, 100), (65.0, 200)):
        op = replace(product(100 * rows, 100), alike=True)
        call = call_of(op, PART, of).shaped(of)
        assert call.compute_s == pytest.approx(tiles * tile_s)
        assert call.size == 64 * tiles / 100
        assert time_s(op, lone) - time_s(op, of) == pytest.approx(64 * 4e-8)


def test_tokens_whose_experts_are_elsewhere_are_passed_over() -> None:
    more = time_s(product(8, 1, given=16384 * 4096)) - time_s(product(8, 1))
    assert more == pytest.approx(16384 * 4096 * 1e-13)


def test_pairs_of_experts_held_elsewhere_are_passed_over() -> None:
    """64 pairs given, 8 of them held here: 56 rows of 4096 elements that other devices compute."""
    passing, whole = law(foreign_s=Sourced(1e-12, "test")), Given(8.0, 64.0, 8 * 4096.0, 4.0, 32.0)
    few = GroupedGemm("x", 8.0, 4.0, 4096, 4096, "fp4", 0.5625, given=whole)
    alone = replace(few, given=replace(whole, pairs=8.0))
    assert time_s(few, passing) - time_s(alone, passing) == pytest.approx(56 * 4096 * 1e-12)
    assert time_s(few, law()) == time_s(alone, law())


@given(
    width=st.sampled_from([128, 256, 768, 2048, 7168]), tokens=st.integers(1, 16384),
    shares=st.tuples(*[st.floats(0.01, 1.0)] * 2), precision=st.sampled_from(["bf16", "fp8"]),
)  # fmt: skip
def test_a_rank_with_more_of_the_pairs_never_takes_less_time(
    width: int, tokens: int, shares: tuple[float, float], precision: Any
) -> None:
    """What it computes for a pair takes longer than passing it over, kernels beside included."""
    part, shipped = files.load_accelerator("h100-sxm"), files.load_calibration("h100-sxm")
    kernels = shipped.expert_kernels["triton"]
    calibration = shipped.model_copy(update={"grouped_gemm": kernels})
    given = Given(float(tokens), 8.0 * tokens, 4096.0 * tokens, 32.0, 128.0)
    times = []
    for share in sorted(shares):
        pairs, bytes_each = 8.0 * tokens * share, 2.0 if precision == "bf16" else 1.0
        touched = 32.0 * (1 - (1 - 1 / 32) ** pairs)
        ops = [
            GroupedGemm("up", pairs, touched, 4096, 2 * width, precision, bytes_each, given=given),
            GroupedGemm("down", pairs, touched, width, 4096, precision, bytes_each, given=given),
            Elementwise("permute", pairs * 4096 * 2 * bytes_each),
            Elementwise("gate", 5.0 * pairs * width),
            Elementwise("combine", pairs * 4096 * 4.0),
        ]
        times.append(sum(float(op_time(op, part, calibration).time_s) for op in ops))
    assert times[0] <= times[1] * (1 + 1e-9)


def test_tokens_that_choose_inside_take_rounds() -> None:
    """Top 8 of 256: 8 looks at 8 warps' widths; 148 x 4 warps choose at a time."""
    assert rounds(0.0, 8.0, 256.0, 148.0) == 64
    assert rounds(4 * 148.0, 8.0, 256.0, 148.0) == 128
    choosing, whole = law(choice_s=Sourced(1e-8, "test")), Given(592.0, 4736.0, 1.0, 256.0, 256.0)
    op = GroupedGemm("x", 4736.0, 256.0, 4096, 4096, "fp4", 0.5625, given=whole)
    units = float(PART.multiprocessors or 0)
    more = time_s(op, choosing) - time_s(op, law())
    assert more == pytest.approx(64 * (1 + 592 / (4 * units)) * 1e-8)


def test_weights_too_large_for_the_cache_are_read_for_every_tile() -> None:
    """28,672 x 4,096 in bf16 are 235 MB; half of B200's 126 MB of L2 holds 63 of them."""
    op = GroupedGemm("x", 8 * 512.0, 8.0, 4096, 28672, "bf16", 2.0)
    read, once = law(reread_rows=128, blend="sum"), law(blend="sum")
    missed = 28672 * 4096 * 2.0 - 63e6
    assert time_s(op, read) - time_s(op, once) == pytest.approx(3 * 8 * missed / 8e12)
    small = replace(op, n=2048)
    assert time_s(small, read) == time_s(small, once)
    one_tile = replace(op, pairs=8 * 128.0)
    assert time_s(one_tile, read) == time_s(one_tile, once)
    wide = layers(intermediate=[2048, 32768], hidden=4096)
    up = works(wide, PEAKS)[0]
    assert up.uncached_s is not None
    assert up.uncached_s.tolist() == [
        0.0, pytest.approx((65536 * 4096 * 0.5625 - 63e6) / PEAKS.bytes_per_s),
    ]  # fmt: skip


def test_tiles_that_nobody_tuned_have_16_or_64_rows() -> None:
    assert [float(untuned_rows(tokens, 32.0)) for tokens in (1.0, 32.0, 33.0)] == [16, 16, 64]
    assert np.asarray(untuned_rows(np.array([1.0, 40.0]), 32.0)).tolist() == [16, 64]
    of = law(tallest_rows=128, height_s=Sourced(4e-8, "test"), untuned_tiles=True)
    shapes = (Given(8.0, 64.0, 1.0, 32.0, 32.0), Given(64.0, 512.0, 1.0, 32.0, 32.0))
    low, high = (
        time_s(GroupedGemm("x", 8.0, 8.0, 4096, 4096, "fp4", 0.5625, given=each), of)
        for each in shapes
    )
    assert high - low == pytest.approx(48 * 4e-8)
    table = layers({**PLANNED, "tiles": "untuned"}, local_experts=[16, 64], group_tokens=32)
    assert planned_rows(table).tolist() == [64.0, 16.0]


def test_rows_of_passing_kernels_count_the_pairs_that_others_compute() -> None:
    table = layers({**PLANNED, "foreign": "passed", "routing": "inside"}, local_experts=[1, 256])
    up, down = works(table, PEAKS)[:2]
    assert up.foreign is not None
    assert down.foreign is not None
    assert up.rounds is not None
    assert up.foreign.tolist() == [255 * 2 * 2048.0, 0.0]  # 256 pairs given, one held
    assert down.foreign.tolist() == [255 * 4096.0, 0.0]
    assert up.rounds.tolist() == [64 * (1 + 32 / (4 * PEAKS.units))] * 2
    apart = works(layers({**PLANNED, "routing": "apart"}), PEAKS)[0]
    assert apart.rounds is not None
    assert not apart.rounds.any()


def test_the_time_of_passing_over_is_found_again_in_rows() -> None:
    grid = [(2.0**i, e) for i in range(13) for e in (1, 4, 16, 64, 256)]
    tokens, held = (np.array(each, float) for each in zip(*grid, strict=True))
    labels = {**PLANNED, "tiles": "tuned", "foreign": "passed"}
    found = works(layers(labels, group_tokens=tokens, local_experts=held), PEAKS)
    elementwise, of = files.load_calibration("b200-sxm").elementwise, law(foreign_s=PASS_S)
    times = sum(w.time_s(of if w.family == "grouped_gemm" else elementwise) for w in found)
    fixed = {("elementwise", ""): elementwise}
    fit = fit_law(("grouped_gemm", "fp4"), [Sample(found, np.asarray(times))], fixed, "test").law
    assert fit.foreign_s is not None
    assert float(fit.foreign_s) == pytest.approx(float(PASS_S), rel=0.05)


def test_rows_know_what_kernels_plan_for() -> None:
    """32 tokens x 8 experts on a rank with one of 256: one row, but tiles for 256."""
    table = layers(local_experts=[1, 256])
    assert planned_rows(table).tolist() == [256.0, 1.0]
    assert planned_rows(layers({"distribution": "balanced"})).tolist() == [1.0]
    up, down = works(table, PEAKS)[:2]
    assert up.planned is not None
    assert up.planned.tolist() == [256.0, 1.0]
    assert down.tokens is not None
    assert down.tokens.tolist() == [32 * 4096.0] * 2


def test_ranks_that_gather_all_tokens_plan_for_them_and_others_do_not() -> None:
    model = files.load_model("deepseek-r1")
    for exchange, rows, tokens in (("all-gather", 32.0, 128), ("", 4.0, 16)):
        pool = Pool(
            parallelism=Parallelism(attention_dp=8, moe_ep=8), weights="fp8", exchange=exchange
        )
        op = layer.expert_ops(shard(model, pool), 128.0)[0]
        assert isinstance(op, GroupedGemm)
        assert op.given is not None
        assert op.given.rows_each == pytest.approx(rows)  # 1024 pairs, 128 of them here, 32 experts
        assert op.given.elements == pytest.approx(7168 * tokens)
        assert (op.given.tokens, op.given.among) == (tokens, 256)


@given(
    a=st.tuples(*[st.floats(1, 1e4)] * 3), b=st.tuples(*[st.floats(1, 1e4)] * 3),
    experts=st.integers(1, 256),
)  # fmt: skip
def test_more_pairs_plans_or_tokens_never_take_less_time(a: Any, b: Any, experts: int) -> None:
    few, many = (tuple(f(pair) for pair in zip(a, b, strict=True)) for f in (min, max))
    shipped = files.load_calibration("b200-sxm").grouped_gemm["fp4"]
    shipped = shipped.model_copy(update={"choice_s": None})  # more tokens here choose fewer each
    for of in (TALL, law(heights=MARLIN), shipped):
        less, more = (
            time_s(product(experts * x, experts, y, z * 4096), of) for x, y, z in (few, many)
        )
        assert less <= more * (1 + 1e-9)


def in_whole_tiles() -> list[Any]:
    """Every shipped law of whole tiles, with its part and the format of its products."""
    found = []
    for name in files.accelerator_names():
        spec, part = files.load_calibration(name), files.load_accelerator(name)
        laws = [("stored", "bf16", law) for law in spec.stored_experts.values()]
        for library, kernels in spec.expert_kernels.items():
            laws += [(library, "bf16" if k == "mxfp4" else k, v) for k, v in kernels.items()]
        found += [
            pytest.param(part, precision, law, id=f"{name} {library} {precision}")
            for library, precision, law in laws
            if law.heights
        ]
    return found


@pytest.mark.parametrize(("part", "precision", "of"), in_whole_tiles())
@given(
    loads=st.tuples(*[st.tuples(*[st.floats(1, 1e4)] * 2)] * 2), alike=st.booleans(),
)  # fmt: skip
def test_shipped_whole_tiles_never_take_less_time_for_more(
    part: Any, precision: Any, of: Achieved, loads: Any, alike: bool
) -> None:
    """More rows of each expert, or more planned for, whether experts are alike or differ; what is
    passed over beside them is another test's."""
    of, times = of.model_copy(update={"foreign_s": None}), []
    for least in (min, max):
        rows, planned = (least(pair) for pair in zip(*loads, strict=True))
        whole = Given(4 * planned, 32 * planned, 4e3 * planned, 32.0, 256.0)
        op = GroupedGemm("x", 32 * rows, 32.0, 4096, 4096, precision, 0.5, given=whole, alike=alike)
        times.append(float(call_of(op, part, of).time_s(of)))
    assert times[0] <= times[1] * (1 + 1e-9)


@pytest.mark.parametrize("planned", [True, False])
def test_the_height_of_tiles_is_found_again_in_rows_and_not_made_up(planned: bool) -> None:
    """Rows by a law of 40 ns a row of height; without such labels a law has no tiles."""
    labels = PLANNED if planned else {**PLANNED, "tiles": ""}
    if not planned:
        labels = {k: v for k, v in labels.items() if k != "tiles"}
    grid = [(2.0**i, e) for i in range(13) for e in (1, 4, 16, 64, 256)]
    tokens, held = (np.array(each, float) for each in zip(*grid, strict=True))
    table = layers(labels, group_tokens=tokens, local_experts=held)
    found = works(table, PEAKS)
    elementwise = files.load_calibration("b200-sxm").elementwise
    of = TALL if planned else law()
    times = sum(w.time_s(of if w.family == "grouped_gemm" else elementwise) for w in found)
    fixed = {("elementwise", ""): elementwise}
    fit = fit_law(("grouped_gemm", "fp4"), [Sample(found, np.asarray(times))], fixed, "test").law
    if planned:
        assert fit.tallest_rows in (128, 256)
        assert fit.height_s is not None
        assert float(fit.height_s) * fit.tallest_rows == pytest.approx(128 * 4e-8, rel=0.2)
    else:
        assert fit.tallest_rows is None
        assert fit.height_s is None


@pytest.mark.parametrize(
    ("how", "heights"), [("marlin", MARLIN), ("tuned", Heights(rows=(16, 32, 64)))]
)
def test_whole_tiles_are_found_again_in_rows(how: str, heights: Heights) -> None:
    """Stairs of 64 rows, by a kernel that reaches a tenth of the peak."""
    grid = [(m * 2.0**i, e) for i in range(13) for m in (1, 1.5) for e in (1, 16, 256)]
    tokens, held = (np.array(each, float) for each in zip(*grid, strict=True))
    found = works(layers({**PLANNED, "tiles": how}, group_tokens=tokens, local_experts=held), PEAKS)
    update = {"compute_share": Sourced(0.1, "test"), "blend": "root2"}
    of = law(heights=heights).model_copy(update=update)
    elementwise = files.load_calibration("b200-sxm").elementwise
    times = sum(w.time_s(of if w.family == "grouped_gemm" else elementwise) for w in found)
    fixed = {("elementwise", ""): elementwise}
    sample = Sample(found, np.asarray(times))
    fit = fit_law(("grouped_gemm", "fp4"), [sample], fixed, "test").law
    assert fit.heights == heights
    assert fit.tallest_rows is None
    again = sum(w.time_s(fit if w.family == "grouped_gemm" else elementwise) for w in found)
    assert np.quantile(np.abs(again / sample.time_s - 1), 0.9) < 0.05


def test_a_layer_planned_for_more_is_not_behind_one_that_is_not() -> None:
    """One row in a tile of 128 rows takes longer than 32 in tiles of 8: that is no bad tiling."""
    table = layers(local_experts=[1, 32], group_tokens=[32, 32])
    slow = Table(
        table.op, table.dtype, table.kernel, table.origin, table.columns,
        np.array([120e-6, 90e-6]), table.labels,
    )  # fmt: skip
    assert "slower_than_more_work" not in screen(slow, PEAKS).refused
    tuned = Table(
        table.op, table.dtype, table.kernel, table.origin, table.columns,
        np.array([120e-6, 90e-6]), {**PLANNED, "tiles": "tuned"},
    )  # fmt: skip
    assert screen(tuned, PEAKS).refused["slower_than_more_work"] == 1


def test_a_model_whose_routing_collapses_is_refused_though_the_table_is_sound() -> None:
    tokens = 2.0 ** np.arange(14)
    tokens = np.concatenate([tokens] * 30)
    experts = np.repeat(np.where(np.arange(30) == 0, 128.0, 256.0), 14)
    table = layers(
        group_tokens=tokens, local_experts=experts, experts=experts,
        hidden=4096 + 128 * np.repeat(np.arange(30), 14),
    )  # fmt: skip
    bound = sum(np.maximum(w.compute_s, w.memory_s) for w in works(table, PEAKS)[:2])
    times = bound / 0.7 + 10e-6
    times[:14] = np.where(tokens[:14] >= 16, 0.9 * bound[:14], times[:14])
    fast = Table(
        table.op, table.dtype, table.kernel, table.origin, table.columns, times, table.labels
    )
    kept = screen(fast, PEAKS)
    assert kept.refused["shape_beats_roofline"] + kept.refused["beats_roofline"] == 14
    assert 4096.0 not in set(kept.table["hidden"])


def test_experts_without_a_gate_are_left_out_and_tiles_are_named() -> None:
    def column(*values: Any) -> Any:
        return np.array(values, dtype=object if isinstance(values[0], str) else None)

    data = {
        "moe_dtype": column(*["nvfp4"] * 2), "distribution": column(*["balanced"] * 2),
        "kernel_source": column(*["vllm_x_flashinfer_trtllm_y_modular"] * 2),
        "num_tokens": column(64, 64), "hidden_size": column(7168, 2688),
        "inter_size": column(2048, 1856), "topk": column(8, 6), "num_experts": column(256, 128),
        "moe_tp_size": column(1, 1), "moe_ep_size": column(1, 1), "latency": column(1.0, 1.0),
    }  # fmt: skip
    (table,) = tables._moe(data, Origin("b200-sxm", "t", "vllm 1"))
    assert table["hidden"].tolist() == [7168]
    assert (table.labels["tiles"], table.labels["routing"]) == ("planned", "apart")


@pytest.mark.parametrize(
    ("experts", "k", "n", "bytes_each", "measured_us"),
    [
        (30, 4096, 2048, 1, 81.9),
        (30, 4096, 2048, 2, 159.8),
        (72, 4096, 256, 1, 57.5),
        (72, 4096, 256, 2, 71.8),
        (72, 512, 4096, 1, 70.4),
    ],
)
def test_small_experts_wait_for_each_other_on_a_tpu(
    experts: int, k: int, n: int, bytes_each: int, measured_us: float
) -> None:
    """One core's times (tpu-inference issue 3520), of a chip with twice the experts on two.

    Products in a loop: what starts them in a model's layer, the floor, is not in these times.
    """
    part = files.load_accelerator("tpu-v7-ironwood")
    rows = 2 * experts * (3 if experts == 30 else 1)
    op = GroupedGemm("x", float(rows), 2.0 * experts, k, n, "bf16", float(bytes_each))
    calibration = files.load_calibration("tpu-v7-ironwood")
    started = float(calibration.grouped_gemm["bf16"].floor_s)
    found = float(op_time(op, part, calibration).time_s) - started
    assert found == pytest.approx(measured_us * 1e-6, rel=0.08)
