"""The shipped files are what the package makes again."""

from pathlib import Path

import pytest

from planner import files
from planner.calibrate.check import check
from planner.calibrate.goals import goal, meets_goal
from planner.calibrate.parts import _as_called, transfer
from planner.calibrate.ship import (
    CORES,
    ESTIMATED,
    HELD_AGAINST,
    MEASURED,
    OTHER_CHIP,
    TRANSFERRED,
    _tried,
    _with_estimates,
    ship,
)
from planner.report.calibration import errors_markdown
from planner.report.goal_tables import goals_markdown
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import Precision
from planner.specs.provenance import BORROWED


def test_a_transferred_calibration_is_made_again_as_it_ships(tmp_path: Path) -> None:
    (path,) = ship(tmp_path, ["gh200"])
    shipped = files.profile_root() / "calibrations" / "gh200.yaml"
    assert path.read_text("utf-8") == shipped.read_text("utf-8")


def test_a_transferred_part_takes_the_date_of_its_sibling() -> None:
    measured, own = files.load_calibration("l40s"), files.load_calibration("rtx-4090")
    assert measured.provenance
    assert own.provenance
    later = measured.provenance.model_copy(update={"fitted": "2099-01-01"})
    made = transfer(own, own.name, own.accelerators, measured.model_copy(
        update={"provenance": later}
    )).provenance  # fmt: skip
    assert made
    assert made.fitted == "2099-01-01"
    assert made.transferred_from == "l40s"


@pytest.mark.parametrize("name", [name for name in TRANSFERRED if name not in ESTIMATED])
def test_what_a_part_without_rows_takes_is_tried_elsewhere(name: str) -> None:
    """34 records of H200 by H100's shares; of MI300X's kind three; none of another chip."""
    sibling = files.load_calibration(str(TRANSFERRED[name]))
    held = _tried(name, sibling.name, sibling, {})
    assert {h.split for h in held} == (set() if name in OTHER_CHIP else {"elsewhere"})
    assert len(held) == {"dgx-spark-gb10": 0, "mi325x": 3}.get(name, 34)
    assert all(h.source.startswith("h200-sxm: ") for h in held)
    assert all(meets_goal(h.model_dump()) is None for h in held)


def test_no_shipped_part_meets_a_goal_on_rows_of_another() -> None:
    for name in {**MEASURED, **TRANSFERRED}:
        provenance = files.load_calibration(name).provenance
        assert provenance
        borrowed = [h for h in provenance.held_out if ": " in h.source]
        assert {h.split for h in borrowed} <= set(BORROWED)
        assert {h for h in provenance.held_out if h.split in BORROWED} == set(borrowed)
        sibling = files.load_calibration(TRANSFERRED.get(name) or name).provenance
        assert sibling
        assert provenance.fitted == sibling.fitted


def test_every_part_that_is_made_has_its_own_file() -> None:
    for name, sibling in {**MEASURED, **TRANSFERRED}.items():
        calibration = files.load_calibration(name)
        assert calibration.accelerators == (name,)
        assert calibration.provenance is not None
        if name in TRANSFERRED:
            assert calibration.provenance.transferred_from == sibling
            taken: Precision = "fp8" if sibling == "mi300x" else "bf16"
            units = {files.load_accelerator(n).multiprocessors for n in (name, str(sibling))}
            if name not in CORES and len(units) == 1:
                assert calibration.gemm[taken] == files.load_calibration(str(sibling)).gemm[taken]


def test_fewer_multiprocessors_of_the_same_kind_are_filled_by_smaller_results() -> None:
    """An H100 PCIe has 114 of an H100's 132; its clock is lower, too, for what is lost as well."""
    own, h100 = (files.load_calibration(name).gemm["fp8"] for name in ("h100-pcie", "h100-sxm"))
    assert own.waves
    assert h100.waves
    assert (own.waves.units, h100.waves.units) == (114, 132)
    assert own.waves == h100.waves.model_copy(update={"units": 114})
    assert own.compute_share == h100.compute_share
    assert own.compute_curve
    assert h100.compute_curve
    assert own.compute_curve.sizes[0] == pytest.approx(h100.compute_curve.sizes[0] * 114 / 132)
    assert own.compute_curve.shares == h100.compute_curve.shares


def test_only_nvfp4_of_the_graphics_parts_is_a_law_of_waves() -> None:
    """Their siblings of fewer multiprocessors take these laws, and would take the tiles, too."""
    laws = {
        (name, precision): law.waves
        for name in ("l40s", "rtx-pro-6000")
        for precision, law in files.load_calibration(name).gemm.items()
    }
    assert {key for key, waves in laws.items() if waves} == {("rtx-pro-6000", "fp4")}
    waves = laws["rtx-pro-6000", "fp4"]
    assert waves
    assert (waves.rows, waves.columns, waves.units) == ((128, 256), (128,), 188)


def test_rows_of_a_kernel_are_held_against_the_laws_of_that_kernel() -> None:
    """FlashAttention-3 is what vLLM runs on Hopper; other rows by the part's own laws."""
    h100 = files.load_calibration("h100-sxm")
    theirs = _as_called(h100, "flashattention-3")
    assert theirs.attention_decode_variants == {
        kind: law for kind, law in h100.attention_kernels["vllm"].decode.items() if kind != "mla"
    }
    assert theirs.attention_decode == h100.attention_decode
    assert _as_called(h100, "default") is h100


def test_engines_on_h20_attend_by_its_own_rows_and_else_as_on_h100() -> None:
    own = files.load_calibration("h20")
    for kernels in own.attention_kernels.values():
        assert kernels.decode["gqa_256"] == own.attention_decode_variants["gqa_256"]
        assert kernels.prefill["gqa_256"] == own.attention_prefill_variants["gqa_256"]
        assert kernels.decode["gqa"] != own.attention_decode_variants["gqa"]
        assert "loss as time" in kernels.decode["gqa"].compute_share.note


def test_a_context_is_divided_over_the_units_a_part_has() -> None:
    """132 on an H100, 114 on an H100 PCIe, 78 on an H20, each part of it on one."""
    laws = {
        name: files.load_calibration(name).attention_decode_variants["gqa"]
        for name in ("h100-sxm", "h100-pcie", "h20")
    }
    assert [law.splits and law.splits.units for law in laws.values()] == [132, 114, 78]
    rows = [float(law.row_s or 0) * law.splits.units for law in laws.values() if law.splits]
    assert rows == pytest.approx([rows[0]] * 3, rel=1e-3)


def test_a_sibling_of_a_part_with_rows_of_one_format_keeps_its_own_shares_of_others() -> None:
    """MI325X: AITER's rows of 304 units are FP8; its own bf16 rate was published."""
    own, measured = files.load_calibration("mi325x"), files.load_calibration("mi300x")
    assert own.gemm["bf16"].compute_share == 0.604
    assert own.gemm["bf16"] != measured.gemm["bf16"]
    assert own.grouped_gemm["fp8"] == measured.grouped_gemm["fp8"]
    assert own.provenance
    assert {(h.family, h.dtype) for h in own.provenance.held_out} == {
        ("gemm", "fp8_block"), ("moe_layer", "fp8_block"), ("attention_prefill", "bf16 gqa"),
    }  # fmt: skip


def test_the_errors_of_an_estimate_take_the_place_of_those_of_another_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("planner.calibrate.ship.HELD_AGAINST", ())
    name = next(iter(ESTIMATED))
    spec = files.load_calibration(name)
    assert spec.provenance
    assert any(h.split == "assumed" for h in spec.provenance.held_out)
    made = _with_estimates(spec).provenance
    assert made
    assert list(made.held_out) == [h for h in spec.provenance.held_out if h.split != "assumed"]


def test_amd_parts_are_fitted_to_carried_rows_and_again_as_they_ship(tmp_path: Path) -> None:
    (path,) = ship(tmp_path, ["mi300x"])
    again = files.load_spec(path, CalibrationSpec)
    for family in ("gemm", "grouped_gemm"):
        one = getattr(again, family)["fp8"]
        two = getattr(files.load_calibration("mi300x"), family)["fp8"]
        assert one.compute_curve
        assert two.compute_curve
        assert one.compute_curve.shares == pytest.approx(two.compute_curve.shares, rel=0.05)


def test_rows_that_are_carried_give_the_part_that_ships(tmp_path: Path) -> None:
    """H800 is fitted to carried rows alone, so that no optional package is needed."""
    (path,) = ship(tmp_path, ["h800-sxm"])
    again = files.load_spec(path, CalibrationSpec)
    shipped = files.load_calibration("h800-sxm")
    for one, two in (
        (again.grouped_gemm["fp8"], shipped.grouped_gemm["fp8"]),
        (again.attention_decode, shipped.attention_decode),
    ):
        assert abs(one.compute_share / two.compute_share - 1) < 0.02
        assert abs(one.memory_share / two.memory_share - 1) < 0.02


LINKS = ("collective", "all_to_all")


def test_the_documented_errors_are_those_that_are_stored() -> None:
    documented = (files.profile_root().parent / "docs" / "calibration.md").read_text("utf-8")
    records = [r for r in check(list(MEASURED), refit=False) if r["family"] not in LINKS]
    for line in errors_markdown(records).splitlines():
        assert line in documented


def test_the_documented_goals_are_those_that_are_stored() -> None:
    documented = (files.profile_root().parent / "docs" / "calibration.md").read_text("utf-8")
    records = check(refit=False)
    limits, met = [goal(r) for r in records], [meets_goal(r) for r in records]
    assert goals_markdown(records, limits, met) in documented


def test_estimates_say_what_such_estimates_are_worth() -> None:
    """TPUs: dense products have rows; attention and experts are held against parts with tables."""
    for name in ESTIMATED:
        provenance = files.load_calibration(name).provenance
        assert provenance is not None
        read_off = [h for h in provenance.held_out if h.family != "gemm"]
        assert {held.split for held in read_off} == {"assumed"}
        assert {h.source.split(":")[0] for h in read_off} == set(HELD_AGAINST)


@pytest.mark.parametrize(
    ("name", "median", "p90"),
    [("tpu-v5e", 0.02, 0.08), ("tpu-v7-ironwood", 0.03, 0.08)],
)
def test_tpu_products_are_close_on_sizes_left_out(name: str, median: float, p90: float) -> None:
    provenance = files.load_calibration(name).provenance
    assert provenance
    (held,) = (h for h in provenance.held_out if h.split == "interpolation")
    assert held.median_abs_error < median
    assert held.p90_abs_error < p90


def test_a_tpu_of_another_generation_loses_the_same_time_a_core() -> None:
    """v6e: 918 TFLOP/s a core against v5e's 197, so 0.959 of the peak becomes 0.833; on its own
    rows, which no fit saw, that is off by a tenth."""
    calibration = files.load_calibration("tpu-v6e")
    assert float(calibration.gemm["bf16"].compute_share) == pytest.approx(
        1 / (1 + 918 / 197 * (1 / 0.9588 - 1)), rel=1e-3
    )
    assert calibration.provenance
    held = next(h for h in calibration.provenance.held_out if h.family == "gemm")
    assert held.split == "part"
    assert held.median_abs_error < 0.12


def test_eight_bits_lose_the_same_time_as_sixteen() -> None:
    """TPU7x multiplies 8 bits twice as fast: 0.953 of the peak becomes 1 / (1 + 2 x 0.0496)."""
    gemm = files.load_calibration("tpu-v7-ironwood").gemm
    sixteen = float(gemm["bf16"].compute_share)
    assert float(gemm["fp8"].compute_share) == pytest.approx(1 / (1 + 2 * (1 / sixteen - 1)), 1e-3)
    assert gemm["fp8"].compute_share.confidence == "assumed"


def test_few_large_products_take_the_memory_of_copies() -> None:
    """TPU7x's rows are all bound by computation: its memory gives what copies reach."""
    calibration = files.load_calibration("tpu-v7-ironwood")
    copied = float(calibration.elementwise.memory_share)
    assert 0.98 * copied < float(calibration.gemm["bf16"].memory_share) <= copied
