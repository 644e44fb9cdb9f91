"""A law that made the times is found again; files written are read back as they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import Peaks, stated_peaks
from planner.calibrate.carried import carried
from planner.calibrate.choice import Chosen
from planner.calibrate.features import predict_s, variant_of, works
from planner.calibrate.fit import (
    LEAST_FLOOR_S,
    PartFit,
    after_conversion,
    fit_tables,
    with_laws,
)
from planner.calibrate.forms import FORMS, LEAST_FILL, told_by
from planner.calibrate.laws import Fit, Sample, fit_law, thinned
from planner.calibrate.parts import fit_part, transfer
from planner.calibrate.published import published_tables
from planner.calibrate.rows import Origin, Table
from planner.calibrate.shapes import Limits, no_steeper
from planner.calibrate.splits import held_out, summary
from planner.calibrate.write import calibration_yaml, write_calibration
from planner.errors import InputError
from planner.ops.laws import doubled
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, CalibrationSpec, Curve
from planner.specs.tilings import Waves

PART, BASE = files.load_accelerator("h200-sxm"), files.load_calibration("gaudi3")
PEAKS = stated_peaks(PART)
LAW = files.load_calibration("h200-sxm").gemm["bf16"]


def made(noise: float = 0.03, dtype: str = "bf16") -> Table:
    """Times of products by a known law, with some noise and a glitch in a hundred."""
    rng = np.random.default_rng(0)
    grid = [
        (float(m), float(k), float(n))
        for m in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
        for k in (1024, 2048, 4096, 7168)
        for n in (1024, 2048, 7168)
    ]
    m, k, n = (np.array(column) for column in zip(*grid, strict=True))
    table = Table(
        "gemm", dtype, "k", Origin("h200-sxm", "aiconfigurator-tables", "t"),
        {"m": m, "k": k, "n": n}, np.ones(len(m)),
    )  # fmt: skip
    times = predict_s(works(table, PEAKS), {("gemm", "bf16"): LAW})
    times = times * np.exp(noise * rng.standard_normal(len(m)))
    times[::97] *= 30
    return Table(table.op, dtype, table.kernel, table.origin, table.columns, times)


def by_size() -> Achieved:
    """A law of products whose share rises with the elements of their result."""
    rising = Curve(sizes=(4096.0, 262_144.0, 16_777_216.0), shares=(0.01, 0.2, 0.62), source="t")
    return Achieved(
        compute_share=Sourced(0.62, "t"), memory_share=Sourced(0.8, "t"),
        floor_s=Sourced(4e-6, "t"), compute_curve=rising, blend="root4",
    )  # fmt: skip


def test_a_fit_finds_the_times_of_the_law_that_made_them() -> None:
    table = made()
    fit = fit_law(("gemm", "bf16"), [Sample(works(table, PEAKS), table.time_s)], {}, "t")
    error = np.abs(fit.law and predict_s(works(table, PEAKS), {("gemm", "bf16"): fit.law})
                   / table.time_s - 1)  # fmt: skip
    assert np.median(error) < 0.03
    assert fit.sigma == pytest.approx(0.03, rel=0.4)
    assert fit.covariance.shape == (len(fit.names),) * 2
    assert np.all(np.linalg.eigvalsh(fit.covariance) > -1e-9)


def test_points_held_out_are_predicted_about_as_well_as_the_others() -> None:
    found = fit_tables([Chosen(("gemm", "bf16"), (made(),))], PEAKS, BASE.elementwise)
    assert [h.split for h in found.held_out] == ["interpolation", "shape"]
    for held in found.held_out:
        assert held.median_abs_error < 0.05
        assert abs(held.bias) < 0.1
    (count,) = found.rows
    assert (count.used, count.refused) == (166, {"slower_than_more_work": 2})  # the glitches


def test_limits_are_kept() -> None:
    table = made()
    sample = [Sample(works(table, PEAKS), table.time_s)]
    law = fit_law(("gemm", "bf16"), sample, {}, "t", Limits(0.5, 0.6, 5e-6)).law
    assert law.compute_share <= 0.5
    assert law.memory_share <= 0.6
    assert law.floor_s >= 4.99e-6


def test_two_kernels_take_no_less_than_twice_what_one_does() -> None:
    """A conversion charged 3 us leaves the product nothing of 2 x 1.5; one of 2 us leaves 1."""
    charged = BASE.elementwise.model_copy(update={"floor_s": Sourced(3e-6, "t")})
    assert after_conversion(charged).waves_floor_s == LEAST_FLOOR_S
    charged = BASE.elementwise.model_copy(update={"floor_s": Sourced(2e-6, "t")})
    assert after_conversion(charged).waves_floor_s == pytest.approx(1e-6)


def test_products_of_whole_waves_are_found_where_units_are_counted() -> None:
    """The times of tiles in waves fit that law better than a curve; without units there is none."""
    number, noise = Sourced(0.8, "t"), np.random.default_rng(2).standard_normal(168)
    law = Achieved(
        compute_share=number, memory_share=number, floor_s=Sourced(2e-6, "t"),
        waves=Waves(rows=(64, 128, 256), columns=(32, 64, 96, 128), units=132),
        step_s=Sourced(7e-10, "t"), edge_s=Sourced(1e-12, "t"), cell_s=Sourced(6e-11, "t"),
    )  # fmt: skip
    table = made()
    times = predict_s(works(table, PEAKS), {("gemm", "bf16"): law}) * np.exp(0.02 * noise)
    found = fit_law(("gemm", "bf16"), [Sample(works(table, PEAKS), times)], {}, "t").law
    assert found.waves == law.waves
    again = predict_s(works(table, PEAKS), {("gemm", "bf16"): found})
    assert np.median(np.abs(again / times - 1)) < 0.03
    uncounted = replace(PEAKS, units=None)
    without = fit_law(("gemm", "bf16"), [Sample(works(table, uncounted), times)], {}, "t").law
    assert without.waves is None


def test_rows_that_are_converted_first_have_a_time_of_their_own() -> None:
    """A time a row is found beside the product's own and the conversion's, where one is timed."""
    a_row_s = 23e-9
    table = replace(made(), dtype="fp8_block", labels={"includes": "quantise"})
    own = {"token_s": Sourced(a_row_s, "t"), "floor_s": Sourced(4e-6, "t")}
    plain = by_size()
    beside = {("elementwise", ""): BASE.elementwise, ("conversion", ""): BASE.elementwise}
    key, parts = ("gemm", "fp8"), works(table, PEAKS)
    times = predict_s(parts, {**beside, key: plain.model_copy(update=own)})
    assert times - predict_s(parts, {**beside, key: plain}) == pytest.approx(table["m"] * a_row_s)
    noisy = times * np.exp(0.02 * np.random.default_rng(3).standard_normal(len(times)))
    found = fit_law(key, [Sample(parts, noisy)], beside, "t").law
    again = predict_s(parts, {**beside, key: found})
    assert np.median(np.abs(again / times - 1)) < 0.03
    assert found.token_s == pytest.approx(a_row_s, rel=0.15)
    alone = replace(table, labels={})
    assert fit_law(key, [Sample(works(alone, PEAKS), noisy)], beside, "t").law.token_s is None


def test_a_part_whose_rows_determine_no_law_keeps_its_sibling_s() -> None:
    fp8, h100 = (files.load_calibration(name).gemm["fp8"] for name in ("h800-sxm", "h100-sxm"))
    assert fp8.waves == h100.waves
    assert fp8.step_s == h100.step_s
    _, found = fit_part(files.load_accelerator("h800-sxm"), files.load_calibration("h800-sxm"))
    assert ("gemm", "fp8") not in found.fits
    assert ("grouped_gemm", "fp8") in found.fits


def test_too_few_rows_are_refused() -> None:
    few = made().take(np.arange(168) < 2)
    with pytest.raises(InputError, match="gemm/bf16: fewer than 3 rows"):
        fit_law(("gemm", "bf16"), [Sample(works(few, PEAKS), few.time_s)], {}, "t")


def test_rows_of_no_one_law_leave_the_part_as_it_was() -> None:
    wild = made()
    rng = np.random.default_rng(1)
    times = wild.time_s * np.exp(2 * np.abs(rng.standard_normal(len(wild))))
    wild = Table(wild.op, "fp32", wild.kernel, wild.origin, wild.columns, times)
    peaks = Peaks({"fp32": PEAKS.rate("bf16")}, PEAKS.bytes_per_s)
    found = fit_tables([Chosen(("gemm", "fp32"), (wild,))], peaks, BASE.elementwise)
    assert found.laws == {}
    (count,) = found.rows
    assert count.used == 0
    assert count.refused["no_one_law"] > 160


def test_curves_are_lifted_where_time_would_fall() -> None:
    shares = no_steeper(np.log([1.0, 2.0, 4.0]), np.log([0.01, 0.5, 0.6]))
    assert shares[2] == pytest.approx(0.6)
    assert shares[1] == pytest.approx(0.5)
    assert shares[0] == pytest.approx(0.25, rel=1e-2)


def test_thinning_keeps_small_samples_whole() -> None:
    table = made()
    big = Sample(works(table, PEAKS), table.time_s)
    small = big.take(np.arange(168) < 5)
    assert [len(s) for s in thinned([big, small], 40)] == [20, 5]


def test_held_out_sizes_have_neighbours_and_shapes_have_none() -> None:
    table = made()
    sizes, shapes = held_out(table, "interpolation"), held_out(table, "shape")
    assert sizes is not None
    assert shapes is not None
    assert not {1.0, 8192.0} & set(table["m"][sizes])
    assert len(set(table["k"][shapes])) == 1  # of four; columns are but three, too few to draw
    assert not set(table["k"][shapes]) & set(table["k"][~shapes])
    assert set(table["n"][shapes]) == set(table["n"])
    assert held_out(table, "ep_degree") is None


def test_products_held_out_have_a_side_that_was_not_fitted() -> None:
    k, n = (side.ravel() for side in np.meshgrid(*[2.0 ** np.arange(8, 16)] * 2))
    table = Table("gemm", "bf16", "k", Origin("made", "made"), {"k": k, "n": n}, np.ones(64))
    shapes = held_out(table, "shape")
    assert shapes is not None
    assert shapes.sum() == 64 - 6 * 6
    for name in ("k", "n"):
        assert len(set(table[name][~shapes])) == 6
    own = held_out(table.take(np.abs(np.log2(k / n)) <= 1), "shape")  # 22 pairs: of models, no grid
    assert own is not None
    assert own.sum() == 6


def test_a_model_is_held_out_with_all_its_slices() -> None:
    grid = [
        (*model, i, t)
        for model in ((2048, 128, 8), (4096, 8, 2), (6144, 384, 8), (7168, 256, 8))
        for i in (256, 512, 2048) for t in (1, 64)
    ]  # fmt: skip
    names = ("hidden", "experts", "top_k", "intermediate", "group_tokens")
    columns = dict(zip(names, np.array(grid, float).T, strict=True))
    origin = Origin("made", "made")
    table = Table("moe_layer", "bf16", "k", origin, columns, np.ones(len(grid)))
    shapes = held_out(table, "shape")
    assert shapes is not None
    assert shapes.sum() == 6
    assert len(set(table["hidden"][shapes])) == 1
    assert not set(table["hidden"][shapes]) & set(table["hidden"][~shapes])


def test_errors_are_of_predicted_over_measured() -> None:
    table = made(noise=0.0).take(np.arange(168) % 97 != 0)
    held = summary(table, table.time_s * 1.1, "shape")
    assert held.median_abs_error == pytest.approx(0.1)
    assert held.p90_abs_error == pytest.approx(0.1)
    assert held.bias == pytest.approx(0.1, abs=1e-3)


def fitted() -> tuple[CalibrationSpec, dict[tuple[str, str], Fit]]:
    found = fit_tables([Chosen(("gemm", "bf16"), (made(),))], PEAKS, BASE.elementwise)
    return with_laws(BASE, "test-part", ("h200-sxm",), found), found.fits


def test_a_written_calibration_is_read_back_as_it_was(tmp_path: Path) -> None:
    spec, fits = fitted()
    path = write_calibration(tmp_path, spec, "About it.\nMore.", fits)
    again = files.load_spec(path, CalibrationSpec)
    assert again == spec
    assert path.read_text("utf-8").startswith("# About it.\n# More.\nname: test-part\n")
    assert (tmp_path / "covariance" / "test-part.json").is_file()
    assert calibration_yaml(again, "About it.\nMore.") == path.read_text("utf-8")


def test_grouped_products_that_were_not_fitted_are_no_better_than_the_product() -> None:
    spec, _ = fitted()
    for precision, gemm in spec.gemm.items():
        grouped = spec.grouped_gemm[precision]
        assert grouped.compute_share <= gemm.compute_share
        assert grouped.memory_share <= gemm.memory_share
        assert grouped.floor_s >= gemm.floor_s


def test_a_transfer_takes_the_shares_and_says_from_where() -> None:
    spec, _ = fitted()
    moved = transfer(BASE, "sibling", ("gh200",), spec)
    assert moved.gemm["bf16"] == spec.gemm["bf16"]
    assert moved.provenance is not None
    assert moved.provenance.transferred_from == "test-part"
    assert moved.links == BASE.links


def test_what_a_kernel_loses_is_time_of_its_multiprocessors() -> None:
    """An H20 does 148 and 296 TFLOP/s on 78 of them, an H100 989.4 and 1,978.9 on 132.

    At a share of 0.62 an H100 loses 0.38 / 0.62 of the time of its products; on an H20 that is
    0.2532 times as much of them.
    """
    h100, h20 = files.load_accelerator("h100-sxm"), files.load_accelerator("h20")
    measured = files.load_calibration("h100-sxm")
    curved = by_size()
    measured = measured.model_copy(update={"gemm": {**measured.gemm, "bf16": curved}})
    law, moved = measured.gemm["bf16"], carried(measured, h100, h20).gemm["bf16"]
    rate = 148 / 989.4 * 132 / 78
    assert law.compute_curve is not None
    assert moved.compute_curve is not None
    for own, other in zip(law.compute_curve.shares, moved.compute_curve.shares, strict=True):
        assert other == pytest.approx(1 / (1 + rate * (1 / own - 1)), rel=1e-3)
    assert moved.compute_curve.sizes[0] == pytest.approx(law.compute_curve.sizes[0] * 78 / 132)
    prompts = carried(measured, h100, h20).attention_prefill.compute_curve
    assert prompts is not None
    assert prompts.sizes[0] == pytest.approx(1e9 * 148 / 989.4, rel=1e-3)
    law, moved = measured.gemm["fp8"], carried(measured, h100, h20).gemm["fp8"]
    assert law.waves is not None
    assert moved.waves == law.waves.model_copy(update={"units": 78})
    assert law.compute_curve is not None
    assert moved.compute_curve is not None
    assert moved.compute_curve.sizes[0] == pytest.approx(3e9 * 296 / 1978.9, rel=1e-3)
    assert moved.step_s == law.step_s  # a barrier takes a multiprocessor as long
    assert carried(measured, h100, files.load_accelerator("gaudi3")) == measured


def test_one_family_is_fitted_anew_and_the_others_stay() -> None:
    part, before = files.load_accelerator("h20"), files.load_calibration("h20")
    after, found = fit_part(part, before, ("attention_decode",))
    assert {key[0] for key in found.fits} == {"attention_decode"}
    assert after.gemm == before.gemm
    assert before.provenance is not None
    assert after.provenance is not None
    for family in ("gemm", "grouped_gemm", "attention_prefill"):
        kept = [h for h in before.provenance.held_out if h.family == family]
        assert [h for h in after.provenance.held_out if h.family == family] == kept
    assert after.provenance.residual_sigma.keys() == before.provenance.residual_sigma.keys()


def test_decode_kernels_that_were_not_fitted_do_not_take_the_shares_of_mla() -> None:
    law = files.load_calibration("h200-sxm").attention_decode
    found = PartFit(fits={("attention_decode", ""): Fit(("", ""), law, (), np.eye(1), 0.1, 9)})
    made_of = with_laws(BASE, "test-part", ("h200-sxm",), found)
    assert made_of.attention_decode == law
    own = BASE.attention_decode_variants.get("gqa", BASE.attention_decode)
    assert made_of.attention_decode_variants["gqa"] == own


@pytest.mark.parametrize(("first", "tile"), [(2048, None), (None, None), (2048, 256)])
def test_a_chain_over_the_mean_context_is_found_again(first: int | None, tile: int | None) -> None:
    """By its doublings where kernels split a context over units, else by every token; and the
    smallest tile of keys."""
    rng = np.random.default_rng(1)
    sequences, mean = (
        v.ravel() for v in np.meshgrid(2.0 ** np.arange(10), 2.0 ** np.arange(7, 18))
    )
    of = np.ones_like(sequences)
    columns = {
        "sequences": sequences, "context_tokens": sequences * mean, "heads": 8 * of,
        "kv_heads": of, "head_dim": 128 * of,
    }  # fmt: skip
    labels = {"variant": "gqa", "kv_dtype": "bf16"}
    origin = Origin("b200-sxm" if tile else "h200-sxm", "aiconfigurator-tables", "t")
    table = Table("attention_decode", "bf16", "k", origin, columns, of, labels)
    moved_s = works(table, PEAKS)[0].memory_s
    whole = np.maximum(mean, tile or 0)
    steps = doubled(whole, first) if first else whole
    exact = 1e-5 + moved_s * whole / mean / 0.8 + 3e-10 * steps
    times = exact * np.exp(0.01 * rng.standard_normal(len(of)))
    law = fit_law(("attention_decode", "gqa"), [Sample(works(table, PEAKS), times)], {}, "t").law
    assert (law.doubling_depth, law.tile_keys) == (first, tile)
    assert float(law.depth_s or 0) == pytest.approx(3e-10, rel=0.1)
    assert np.quantile(np.abs(predict_s(works(table, PEAKS), {("attention_decode", "gqa"): law})
                              / exact - 1), 0.9) < 0.03  # fmt: skip


def test_a_pipelines_fill_is_only_read_off_rows_that_show_it() -> None:
    form = FORMS["grouped_gemm"]
    wide, narrow = np.array([7168.0, 2048.0]), np.array([7168.0, 256.0])
    assert told_by(form, [wide]).fill_depth == (LEAST_FILL,)
    assert told_by(form, [wide, narrow]).fill_depth == form.fill_depth
    assert told_by(FORMS["gemm"], [wide]).fill_depth == FORMS["gemm"].fill_depth


def test_a_cache_written_by_blocks_of_threads_is_found_where_rows_include_it() -> None:
    """vLLM's prompts: a token takes 5 ns with four cached heads of 128 or more, 1.2 with one."""
    rng = np.random.default_rng(2)
    grid = np.meshgrid(2.0 ** np.arange(0, 7, 2), 2.0 ** np.arange(7, 14), [1.0, 4, 16], [2.0, 16])
    sequences, each, heads, group = (v.ravel() for v in grid)
    of = np.ones_like(sequences)
    columns = {
        "sequences": sequences, "tokens": sequences * each, "heads": group * heads,
        "kv_heads": heads, "head_dim": 128 * of, "v_head_dim": 128 * of,
    }  # fmt: skip
    labels = {"variant": "gqa", "kv_dtype": "bf16", "library": "vllm"}
    table = Table(
        "attention_prefill", "bf16", "k", Origin("h200-sxm", "t", "t"), columns, of, labels
    )
    (work,) = works(table, PEAKS)
    plain = 1e-5 + work.compute_s / 0.5 + (work.memory_s + work.query_s) / 0.8
    written = 5e-9 * table["tokens"] * np.minimum(1.0, heads * 128 / 512)
    times = (plain + written) * np.exp(0.01 * rng.standard_normal(len(of)))
    law = fit_law(("attention_prefill", "gqa"), [Sample([work], times)], {}, "t").law
    assert law.written_elements == 512
    assert law.written_power is None
    assert float(law.token_s or 0) == pytest.approx(5e-9, rel=0.1)
    crowded_s = 5e-9 * table["tokens"] * np.minimum(1.0, heads * 128 / 512) ** 2
    noisy = (plain + crowded_s) * np.exp(0.01 * rng.standard_normal(len(of)))
    squared = fit_law(("attention_prefill", "gqa"), [Sample([work], noisy)], {}, "t").law
    assert squared.written_power == 2
    assert float(squared.token_s or 0) == pytest.approx(5e-9, rel=0.1)
    (other,) = works(replace(table, labels={**labels, "library": "sglang"}), PEAKS)
    law = fit_law(("attention_prefill", "gqa"), [Sample([other], times)], {}, "t").law
    assert law.written_elements is None


@pytest.mark.parametrize(("library", "token_s"), [("sglang", 0.0), ("vllm", 5e-9)])
def test_prompts_that_stay_on_chip_are_found_where_its_cache_is_known(
    library: str, token_s: float
) -> None:
    """Times of a chip of 96 MB that keeps three quarters, with a time an element of keys; and
    beside it a time a token that is less where few keys of it are written."""
    part = files.load_accelerator("l40s")
    peaks, rng = stated_peaks(part), np.random.default_rng(4)
    grid = np.meshgrid(2.0 ** np.arange(0, 9), 2.0 ** np.arange(7, 14), [1.0, 4, 16], [16.0, 32])
    sequences, each, heads, queries = (v.ravel() for v in grid)
    of = np.ones_like(sequences)
    columns = {
        "sequences": sequences, "tokens": sequences * each, "heads": queries,
        "kv_heads": heads, "head_dim": 128 * of, "v_head_dim": 128 * of,
    }  # fmt: skip
    labels = {"variant": "gqa", "kv_dtype": "bf16", "library": library}
    table = Table("attention_prefill", "bf16", "k", Origin("l40s", "t", "t"), columns, of, labels)
    (work,) = works(table, peaks)
    missed = 1 - np.minimum(1.0, 0.75 * peaks.cache_bytes / work.call_bytes) ** 2
    moved_s = (work.memory_s + work.query_s) * missed / 0.7
    keys_s = 8e-12 * table["tokens"] * heads * 128
    rows_s = 1e-10 * table["tokens"] * queries
    written_s = token_s * table["tokens"] * np.minimum(1.0, heads * 128 / 512)
    times = 6e-6 + np.maximum(work.compute_s / 0.5, moved_s) + keys_s + rows_s + written_s
    noisy = times * np.exp(0.01 * rng.standard_normal(len(of)))
    key = ("attention_prefill", "gqa")
    law = fit_law(key, [Sample([work], noisy)], {}, "t").law
    assert law.kept_part == 0.75
    assert float(law.key_s or 0) == pytest.approx(8e-12, rel=0.1)
    assert law.query_share is None
    assert np.median(np.abs(work.time_s(law) / times - 1)) < 0.02
    (unknown,) = works(table, replace(peaks, cache_bytes=0.0))
    assert fit_law(key, [Sample([unknown], noisy)], {}, "t").law.kept_part is None


def test_tiles_of_two_hundred_and_fifty_six_queries_are_found_where_kernels_pair_them() -> None:
    """Prompts of 128 tokens that multiply as much as those of 256; and the curve of their clock."""
    grid = np.meshgrid(2.0 ** np.arange(0, 10), 2.0 ** np.arange(7, 14), [1.0, 8], [16.0, 64])
    sequences, each, heads, queries = (v.ravel() for v in grid)
    of, rng = np.ones_like(sequences), np.random.default_rng(6)
    columns = {
        "sequences": sequences, "tokens": sequences * each, "heads": queries,
        "kv_heads": heads, "head_dim": 128 * of, "v_head_dim": 128 * of,
    }  # fmt: skip
    labels = {"variant": "gqa", "kv_dtype": "bf16"}
    key = ("attention_prefill", "gqa")
    for part, tile in (("b200-sxm", 256), ("h200-sxm", None)):
        peaks = stated_peaks(files.load_accelerator(part))
        origin = Origin(part, "t", "t")
        table = Table("attention_prefill", "bf16", "k", origin, columns, of, labels)
        (work,) = works(table, peaks)
        flop = work.size * np.maximum(1.0, 256 / (each + 1))
        share = 0.7 * np.minimum(1.0, (flop / 1e12) ** -0.1)
        compute_s = work.compute_s * flop / work.size / share
        moved_s = (work.memory_s + work.query_s) / 0.6
        times = (6e-6 + compute_s + moved_s) * np.exp(0.01 * rng.standard_normal(len(of)))
        law = fit_law(key, [Sample([work], times)], {}, "t").law
        assert law.tile_rows == tile
        assert law.compute_curve is not None
        assert law.compute_curve.shares[-1] < 0.65
        if tile:
            assert np.median(np.abs(work.time_s(law) / times - 1)) < 0.02


def test_tiles_as_wide_as_each_other_are_tried_on_rows_that_say_so() -> None:
    """NVFP4 on workstation Blackwell: 128 or 256 rows by 128 columns, which others may not have."""
    number, noise = Sourced(0.8, "t"), np.random.default_rng(5).standard_normal(168)
    law = Achieved(
        compute_share=number, memory_share=number, floor_s=Sourced(2e-6, "t"),
        waves=Waves(rows=(128, 256), columns=(128,), units=132), cell_s=Sourced(6e-11, "t"),
    )  # fmt: skip
    table = made()
    times = predict_s(works(table, PEAKS), {("gemm", "bf16"): law}) * np.exp(0.01 * noise)
    told = replace(table, labels={"tiles": "nvfp4"})
    found = fit_law(("gemm", "bf16"), [Sample(works(told, PEAKS), times)], {}, "t").law
    assert found.waves == law.waves
    other = fit_law(("gemm", "bf16"), [Sample(works(table, PEAKS), times)], {}, "t").law
    assert other.waves is None or other.waves.columns != (128,)


def test_rows_of_grouped_queries_are_named_by_the_width_of_heads() -> None:
    """H20's were measured with heads of 256, MI350X's paged decode with heads of 64."""
    for part, kind in (("h20", "gqa_256"), ("mi355x", "gqa_64")):
        tables = [t for t in published_tables(part) if t.op == "attention_decode"]
        assert kind in {variant_of(t) for t in tables}
