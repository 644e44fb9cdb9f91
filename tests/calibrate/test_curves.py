"""Shares over a size: between knots, outside them, and what may not be a curve."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from planner import files
from planner.ops import AttentionDecode, AttentionPrefill, Elementwise, Gemm, GroupedGemm
from planner.roofline import blended, op_time, share_at
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec, Curve

CALIBRATIONS = [
    files.load_spec(path, CalibrationSpec)
    for path in sorted((files.profile_root() / "calibrations").glob("*.yaml"))
]
PAIRS = [
    (files.load_accelerator(name), c) for c in CALIBRATIONS for name in c.accelerators
]  # fmt: skip
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


def test_attention_may_not_have_a_curve() -> None:
    data: dict[str, Any] = CALIBRATIONS[0].model_dump()
    data["attention_decode"]["blend"] = "sum"
    with pytest.raises(ValidationError, match="attention_decode: constant shares and a floor"):
        CalibrationSpec.model_validate(data)


def test_blends_lie_between_the_larger_time_and_the_sum() -> None:
    times = [float(blended(3.0, 4.0, blend)) for blend in ("max", "root4", "root2", "sum")]
    assert times == pytest.approx([4.0, (81 + 256) ** 0.25, 5.0, 7.0])
    assert times == sorted(times)


def ops(part: AcceleratorSpec, m: Any, k: float, n: float) -> list[Any]:
    """Every family in every format of the part, of a batch of ``m``."""
    touched = 256 * (1 - (1 - 8 / 256) ** m)
    found: list[Any] = [
        AttentionDecode("x", m, 4096 * m, 4096 * m, 2 * 128 * 1088.0, 1152.0, 128 * 1088.0),
        AttentionPrefill("x", m, m * m / 2, m * m / 2, 2 * 128 * 320.0, 128 * 320.0),
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
    few, many = sorted((a, b))
    for less, more in zip(ops(part, few, k, n), ops(part, many, k, n), strict=True):
        short, long = (op_time(op, part, calibration) for op in (less, more))
        assert float(short.time_s) <= float(long.time_s) * (1 + 1e-9)
        assert float(long.time_s) >= max(float(long.compute_s), float(long.memory_s))


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda c: c.name)
def test_no_shipped_share_exceeds_one(calibration: CalibrationSpec) -> None:
    laws = [*calibration.gemm.values(), *calibration.grouped_gemm.values()]
    laws += [calibration.attention_decode, calibration.attention_prefill, calibration.elementwise]
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
