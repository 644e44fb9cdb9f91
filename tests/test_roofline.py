"""From work to time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.errors import InputError
from planner.files import profiles
from planner.ops import AttentionDecode, AttentionPrefill, Elementwise, Gemm, GroupedGemm
from planner.roofline import op_time
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import AcceleratorSpec

H200 = files.load_hardware("hgx-h200")
SIZE = st.floats(1, 1e5)


def part(flop: float = 1.0, bandwidth: float = 1.0) -> AcceleratorSpec:
    """H200 with its peaks and its bandwidth times a factor."""
    data = H200.accelerator.model_dump()
    for peak in data["dense_flop_per_s"].values():
        if peak:
            peak["value"] *= flop
    data["memory_bytes_per_s"]["value"] *= bandwidth
    return AcceleratorSpec.model_validate(data)


def seconds(op: Any, on: AcceleratorSpec = H200.accelerator) -> Any:
    return op_time(op, on, H200.calibration).time_s


def every_op(m: Any, k: float = 512.0) -> list[Any]:
    return [
        Gemm("x", m, k, 1024.0, "fp8", 1.0),
        GroupedGemm("x", m, m, k, 1024.0, "fp8", 1.0),
        AttentionDecode("x", m, k * m, k * m, 1e4, 1152.0, 1e4, 1e4, 132.0, 1e5, 1e5),
        AttentionPrefill("x", m, k * m, k * m, 1e4, 1e4, 1e4, 1e5),
        Elementwise("x", k * m),
    ]


def test_time_is_the_larger_of_compute_and_memory_plus_the_floor() -> None:
    on = files.load_hardware("gaudi3-8")
    shares = on.calibration.gemm["fp8"]

    def gaudi3_s(op: Gemm) -> Any:
        return op_time(op, on.accelerator, on.calibration).time_s

    large = Gemm("x", 8192.0, 8192, 8192, "fp8", 1.0, count=3.0)
    flop = 2 * 8192.0**3
    expected = 3 * (flop / (1677e12 * shares.compute_share) + shares.floor_s)
    assert gaudi3_s(large) == pytest.approx(expected)
    thin = Gemm("x", 1.0, 8192, 8192, "fp8", 1.0)
    moved = 8192 + 8192**2 + 2 * 8192
    assert gaudi3_s(thin) == pytest.approx(moved / (3.7e12 * shares.memory_share) + shares.floor_s)


def test_a_curve_a_blend_and_a_depth_take_the_place_of_constants() -> None:
    """8192 cubed on an H200: share 0.8 of 989.4 TFLOP/s, 0.5 of 4.8 TB/s, 1 ns a step of k."""
    data = H200.calibration.model_dump()
    number = {"value": 0.9, "source": "test"}
    ends = {"sizes": (1.0, 1e3), "shares": (0.8, 0.8), "source": "test"}
    data["gemm"]["bf16"] = {
        "compute_share": number, "memory_share": number,
        "floor_s": {"value": 3e-6, "source": "test"},
        "compute_curve": ends, "memory_curve": ends | {"shares": (0.5, 0.5)},
        "blend": "sum", "depth_s": {"value": 1e-9, "source": "test"},
    }  # fmt: skip
    calibration = CalibrationSpec.model_validate(data)
    op = Gemm("x", 8192.0, 8192, 8192, "bf16", 2.0, count=2.0)
    compute_s = 2 * 8192.0**3 / (0.8 * 989.4e12)
    memory_s = 6 * 8192.0**2 / (0.5 * 4.8e12)
    assert op_time(op, H200.accelerator, calibration).time_s == pytest.approx(
        2 * (compute_s + memory_s + 3e-6 + 8192e-9)
    )


def test_stated_peaks_are_kept_beside_the_time() -> None:
    op = Gemm("x", 64.0, 100, 200, "bf16", 2.0, count=2.0)
    timed = op_time(op, H200.accelerator, H200.calibration)
    assert timed.compute_s == pytest.approx(2 * 2 * 64 * 100 * 200 / 989.4e12)
    assert timed.memory_s == pytest.approx(
        2 * (64 * 100 * 2 + 100 * 200 * 2 + 64 * 200 * 2) / 4.8e12
    )


def test_an_indexer_multiplies_in_fp8_where_the_part_can() -> None:
    op = AttentionDecode("x", 0.0, 1000.0, 10.0, 1e6, 1.0, 1.0, 1e6)
    on_h200 = op_time(op, H200.accelerator, H200.calibration)
    assert on_h200.compute_s == pytest.approx(1e7 / 989.4e12 + 1e9 / 1978.9e12)
    a100 = files.load_hardware("hgx-a100")
    on_a100 = op_time(op, a100.accelerator, a100.calibration)
    assert on_a100.compute_s == pytest.approx((1e7 + 1e9) / 312e12)


def test_a_precision_the_part_lacks_names_those_it_has() -> None:
    a100 = files.load_hardware("hgx-a100")
    with pytest.raises(InputError, match=r"no fp8 matrix units.*bf16, int8"):
        op_time(Gemm("x", 1.0, 8, 8, "fp8", 1.0), a100.accelerator, H200.calibration)


def test_a_precision_the_calibration_lacks_names_those_it_has() -> None:
    data = H200.calibration.model_dump()
    del data["gemm"]["fp8"]
    short = CalibrationSpec.model_validate(data)
    with pytest.raises(InputError, match=r"calibration h200-sxm: gemm: no shares for fp8; it has"):
        op_time(Gemm("x", 1.0, 8, 8, "fp8", 1.0), H200.accelerator, short)


@given(st.lists(SIZE, min_size=1, max_size=4))
def test_an_array_gives_what_its_elements_give(sizes: list[float]) -> None:
    for i, op in enumerate(every_op(np.array(sizes))):
        together = np.broadcast_to(seconds(op), len(sizes))
        alone = [float(seconds(every_op(m)[i])) for m in sizes]
        assert together.tolist() == pytest.approx(alone, rel=1e-12)


@given(SIZE, st.floats(1, 4), st.floats(1, 4))
def test_a_faster_part_never_takes_longer(m: float, flop: float, bandwidth: float) -> None:
    for op in every_op(m):
        assert seconds(op, part(flop, bandwidth)) <= seconds(op) * (1 + 1e-12)


@given(SIZE, SIZE)
def test_more_work_never_takes_less_time(a: float, b: float) -> None:
    few, many = sorted((a, b))
    for less, more in zip(every_op(few), every_op(many), strict=True):
        assert seconds(less) <= seconds(more) * (1 + 1e-12)


@given(SIZE)
def test_no_op_beats_the_stated_peaks(m: float) -> None:
    for op in every_op(m):
        timed = op_time(op, H200.accelerator, H200.calibration)
        assert timed.time_s >= max(timed.compute_s, timed.memory_s)


@pytest.mark.parametrize("name", profiles.accelerator_names())
def test_every_part_has_shares_for_every_precision_it_multiplies_in(name: str) -> None:
    accelerator = profiles.load_accelerator(name)
    calibration = profiles.load_calibration(name)
    for precision in accelerator.dense_flop_per_s.precisions():
        for op in (
            Gemm("x", 8.0, 64, 64, precision, 1.0),  # type: ignore[arg-type]
            GroupedGemm("x", 8.0, 2.0, 64, 64, precision, 1.0),  # type: ignore[arg-type]
        ):
            assert op_time(op, accelerator, calibration).time_s > 0
