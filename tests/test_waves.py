"""Products in whole waves of whole tiles: by hand, and never less for more."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from planner import files
from planner.ops import Gemm
from planner.ops.waves import TileTimes, wave_counts, waves_s
from planner.roofline import call_of
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, Curve
from planner.specs.tilings import Heights, Waves

PART = files.load_accelerator("h100-sxm")
FOUR = Waves(rows=(64, 128), columns=(128,), units=4)


def test_tiles_that_are_started_are_whole_and_so_are_waves() -> None:
    """129 rows are 3 tiles of 64 or 2 of 128; by 3 of columns 9 and 6 tiles: 3 and 2 waves of 4."""
    assert wave_counts(129.0, 300.0, FOUR) == [
        (3.0, 64.0, 128.0, 1), (2.0, 128.0, 128.0, 1),
    ]  # fmt: skip
    assert wave_counts(0.0, 300.0, FOUR) == [(1.0, 64.0, 128.0, 1)]
    assert wave_counts(64.0, 300.0, FOUR) == [(1.0, 64.0, 128.0, 1)]  # a taller one wastes more
    columns = np.array([128.0, 129.0, 256.0, 257.0])
    (few, *_), (many, *_) = wave_counts(256.0, columns, FOUR)
    assert few.tolist() == [1, 2, 2, 3]  # type: ignore[union-attr]
    assert many.tolist() == [1, 1, 1, 2]  # type: ignore[union-attr]


def test_the_tile_that_takes_least_is_chosen() -> None:
    """64 x 128: 8,192 elements of 1 ns and 192 sides of 10 ns and 1 us: 11.112 us, thrice; 128 x
    128: 16,384 + 2,560 + 1,000 ns, twice.  Ends of 0.5 ns an element lengthen both."""
    counted = wave_counts(129.0, 300.0, FOUR)
    tile = TileTimes(1e-9, 1e-6, 10e-9, 0.0)
    assert waves_s(counted, tile) == pytest.approx(min(3 * 11.112e-6, 2 * 19.944e-6))
    ended = TileTimes(1e-9, 1e-6, 10e-9, 0.5e-9)
    assert waves_s(counted, ended) == pytest.approx(3 * 15.208e-6)


def test_a_long_inner_dimension_may_be_split_over_units() -> None:
    """A tile on four units: 25 us of steps each, not 100, its end and joining apart; nine tiles
    are three waves whole, nine of 41 us split."""
    one = Waves(rows=(128,), columns=(128,), splits=(1, 4), units=4)
    tile = TileTimes(0.0, 100e-6, 0.0, 1e-9, 20e-6)
    assert waves_s(wave_counts(100.0, 100.0, one), tile) == pytest.approx(61.384e-6)
    dear = TileTimes(0.0, 100e-6, 0.0, 1e-9, 90e-6)
    assert waves_s(wave_counts(100.0, 100.0, one), dear) == pytest.approx(116.384e-6)
    assert waves_s(wave_counts(300.0, 300.0, one), tile) == pytest.approx(3 * 116.384e-6)


def law(**more: Any) -> Achieved:
    number = Sourced(0.5, "t")
    return Achieved(
        compute_share=number, memory_share=number, floor_s=Sourced(1e-6, "t"),
        waves=Waves(rows=(64, 128, 256), columns=(32, 128), units=132),
        step_s=Sourced(7e-10, "t"), edge_s=Sourced(1e-12, "t"), cell_s=Sourced(6e-11, "t"), **more,
    )  # fmt: skip


def test_a_product_of_one_wave_by_hand() -> None:
    """128 x 16,896 x 4,096 is 132 tiles of 128 x 128, or of 64 x 128 two waves, in which each unit
    multiplies at half of its 1/132 of the peak."""
    own = law().model_copy(update={"memory_share": Sourced(1.0, "t")})
    call = call_of(Gemm("x", 128.0, 4096, 16896, "fp8", 1.0), PART)
    products_s = 2 * 128 * 128 * 4096 / (1978.9e12 / 132) / 0.5
    beside_s = 4096 * (7e-10 + 256e-12) + 128 * 128 * 6e-11
    assert call.memory_s < products_s + beside_s
    assert call.time_s(own) == pytest.approx(products_s + beside_s + 1e-6)
    further = call_of(Gemm("x", 129.0, 4096, 16896, "fp8", 1.0), PART).time_s(own)
    assert further > 1.3 * (products_s + beside_s)


SIDE = st.sampled_from([512.0, 4096.0, 7168.0, 16384.0, 65536.0])
ROWS = st.floats(0, 40_000)


@given(a=st.tuples(ROWS, SIDE, SIDE), b=st.tuples(ROWS, SIDE, SIDE))
def test_more_rows_columns_or_depth_never_take_less_time(a: Any, b: Any) -> None:
    falling = Curve(sizes=(6e10, 2e13), shares=(0.9, 0.6), source="t")
    own = law(compute_curve=falling, blend="root2", join_s=Sourced(2e-6, "t"))
    own = own.model_copy(update={"waves": own.waves.model_copy(update={"splits": (1, 2, 4, 8)})})
    short, long = (
        float(call_of(Gemm("x", m, k, n, "fp8", 1.0), PART).time_s(own))
        for m, k, n in (
            (pick(x, y) for x, y in zip(a, b, strict=True)) for pick in (min, max)
        )
    )  # fmt: skip
    assert short <= long * (1 + 1e-9)


def test_a_share_that_rises_with_the_work_is_refused_beside_waves() -> None:
    rising = Curve(sizes=(6e10, 2e13), shares=(0.6, 0.9), source="t")
    with pytest.raises(ValidationError, match="may not rise with the FLOP"):
        Achieved.model_validate(law().model_dump() | {"compute_curve": rising.model_dump()})


def test_sides_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"columns\n.*must rise, got \[128, 64\]"):
        Waves(rows=(64,), columns=(128, 64), units=4)
    with pytest.raises(ValidationError, match=r"rows\n.*must rise, got \[64, 64\]"):
        Heights(rows=(64, 64))


def test_the_steps_of_a_tile_run_beside_the_waves_of_all() -> None:
    """30 us of waves and 40 us of steps take 50 us where squares add up, 70 where they follow."""
    call = call_of(Gemm("x", 128.0, 4096, 16896, "fp8", 1.0), PART)
    waves_only_s = call.time_s(law()) - 1e-6
    steps = {"depth_s": Sourced(waves_only_s * 4 / 3 / 4096, "t")}
    assert call.time_s(law(**steps)) == pytest.approx(waves_only_s * 7 / 3 + 1e-6)
    assert call.time_s(law(chain="root2", **steps)) == pytest.approx(waves_only_s * 5 / 3 + 1e-6)


@pytest.mark.parametrize(("part", "precision"), [("h100-sxm", "fp8"), ("b200-sxm", "bf16")])
@given(m=ROWS, k=SIDE, n=SIDE)
def test_one_call_and_many_are_timed_alike(
    part: str, precision: Any, m: float, k: float, n: float
) -> None:
    """One call leaves out tiles that waste more than another; many are timed by all."""
    known, spec = files.load_calibration(part), files.load_accelerator(part)
    law = known.gemm[precision]
    assert law.waves is not None
    alone = call_of(Gemm("x", m, k, n, precision, 1.0), spec).time_s(law)
    together = call_of(Gemm("x", np.array([m]), k, n, precision, 1.0), spec).time_s(law)
    assert np.asarray(together)[0] == pytest.approx(alone, rel=1e-12)
