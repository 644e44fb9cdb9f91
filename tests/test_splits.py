"""Parts of a context in decode attention, and the root of squares in straight lines."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.ops.laws import rounded
from planner.ops.splits import parts, parts_line, uneven
from planner.specs.tilings import RowWaves, Splits

XQA = Splits(keys=128, root=8, waves=8, units=132)


@pytest.mark.parametrize(
    ("context", "rows", "expected"),
    [
        (0, 1, 1), (100, 1, 1), (128, 1, 1), (512, 1, 4), (1024, 1, 8),
        (2048, 1, 8 * math.sqrt(2)), (1536, 1, 4 + 4 * math.sqrt(2)), (4096, 1, 16),
        (131_072, 1, 64 * math.sqrt(2)),
        (131_072, 66, 16), (512, 264, 4), (512, 512, 132 / 64), (512, 4000, 1),
    ],
)  # fmt: skip
def test_parts_by_hand(context: float, rows: float, expected: float) -> None:
    """By root(8 x 128) = 32 at most at 16,384 tokens; 1,056 of all rows together."""
    assert parts(float(context), float(rows), XQA) == pytest.approx(expected)
    many = parts(np.array([float(context)]), np.array([float(rows)]), XQA)
    assert np.asarray(many).tolist() == pytest.approx([expected])


@given(st.floats(0, 2e6), st.floats(1, 1e5), st.floats(0, 1))
def test_a_line_of_parts_holds_to_its_end(context: float, rows: float, way: float) -> None:
    value, slope, end = parts_line(context, rows, XQA)
    there = context + way * ((end if end < math.inf else context + 1e6) - context)
    assert end > context
    assert parts(there, rows, XQA) == pytest.approx(value + slope * (there - context), rel=1e-9)
    exact = max(1.0, min(context / 128, math.sqrt(context / 16), 8 * 132 / rows))
    assert 0.985 * exact <= value <= exact * (1 + 1e-12)


@given(st.floats(0, 1e6), st.floats(1, 1e4), st.floats(1, 4), st.floats(1, 4))
def test_more_of_either_is_no_fewer_parts_in_all(
    context: float, rows: float, longer: float, more: float
) -> None:
    few = rows * float(parts(context, rows, XQA))
    assert rows * float(parts(context * longer, rows, XQA)) >= few * (1 - 1e-12)
    assert rows * more * float(parts(context, rows * more, XQA)) >= few * (1 - 1e-12)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_rounded_time_is_near_the_root_and_never_falls(a: float, b: float, more: float) -> None:
    exact = math.hypot(a, b)
    assert math.cos(math.pi / 24) * exact - 1e-12 <= rounded(a, b) <= exact + 1e-12
    assert rounded(a, 0.0) == a
    assert rounded(0.0, b) == pytest.approx(b)
    assert rounded(a + more, b) >= rounded(a, b)
    assert rounded(a, b + more) >= rounded(a, b)


DOWN = RowWaves(units=148, fill=0.35)
UP = RowWaves(units=132, fill=0.5, parts="up")


@pytest.mark.parametrize(
    ("waves", "rows", "expected"),
    [
        (DOWN, 0, 1), (DOWN, 80, 1), (DOWN, 148, 1), (DOWN, 296, 1),
        (DOWN, 160, (148 + math.sqrt(12**2 + 0.35**2 * (148**2 - 12**2))) / 160),
        (DOWN, 320, (296 + math.sqrt(24**2 + 0.35**2 * (148**2 - 24**2))) / 320),
        (UP, 0, 1), (UP, 1e-308, 1), (UP, 40, 1), (UP, 64, 1), (UP, 132, 1),
        (UP, 48, 60 / 48), (UP, 96, (132 + math.sqrt(60**2 + 0.5**2 * (132**2 - 60**2))) / 192),
        (UP, 160, (132 + math.sqrt(28**2 + 0.5**2 * (132**2 - 28**2))) / 160),
    ],
)  # fmt: skip
def test_rows_in_waves_by_hand(waves: RowWaves, rows: float, expected: float) -> None:
    """160 rows on 148 units are one wave and 12 of another; 48 on 132 in three parts one and 12
    parts, but no longer than 60 rows, which in two parts each are one wave; 96 in two 192."""
    assert uneven(float(rows), waves) == pytest.approx(expected)
    assert np.asarray(uneven(np.array([float(rows)]), waves)).tolist() == pytest.approx([expected])


@given(
    st.integers(1, 200),
    st.floats(0.01, 1),
    st.sampled_from(("down", "up")),
    st.floats(0.1, 2000),
    st.floats(1, 3),
)
def test_more_rows_never_take_less_and_never_the_time_of_another_wave_more(
    units: int, fill: float, how: str, rows: float, more: float
) -> None:
    waves = RowWaves(units=units, fill=fill, parts=how)  # type: ignore[arg-type]
    time_s = rows * float(uneven(rows, waves))
    assert rows * (1 - 1e-12) <= time_s <= rows + units
    assert more * rows * float(uneven(more * rows, waves)) >= time_s * (1 - 1e-9)
