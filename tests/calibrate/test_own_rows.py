"""Fits of a file of the runner's rows: which rows make peaks, and what is said of the others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import files
from planner.calibrate.own_rows import DEVICES, best_seen, fit_rows
from planner.calibrate.plausible import TOO_FAST, believed, too_fast
from planner.calibrate.rows import read_rows
from planner.errors import InputError

PEAK_FLOP_PER_S, PEAK_BYTES_PER_S = 1e12, 1e11


def time_s(flop: float, moved: float) -> float:
    """Of a device at 80 % of these peaks behind a microsecond. [s]"""
    return 1e-6 + max(flop / PEAK_FLOP_PER_S, moved / PEAK_BYTES_PER_S) / 0.8


def gemm(m: int, k: int, n: int) -> dict[str, Any]:
    took = time_s(2 * m * k * n, 4 * (m * k + k * n + m * n))
    return {
        "op": "gemm", "dtype": "fp32", "kernel": "own", "backend": "cpu", "m": m, "k": k, "n": n,
        "flop": 2 * m * k * n, "bytes": 1, "time_s": took,
    }  # fmt: skip


def read(size: int) -> dict[str, Any]:
    return {
        "op": "hbm_read",
        "dtype": "fp32",
        "kernel": "own",
        "bytes": size,
        "time_s": time_s(0, size),
    }


ROWS = [gemm(m, k, n) for k, n in ((1024, 512), (512, 4096)) for m in (1, 4, 16, 64, 256, 1024)]
READS = [read(1 << n) for n in (16, 25, 26, 27)]
HEADER = {"op": "header", "device": "a processor", "backend": "cpu"}


def written(folder: Path, *rows: dict[str, Any], device: str = "a processor") -> Path:
    path = folder / "rows.jsonl"
    lines = [HEADER | {"device": device}, *rows, {"op": "end"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def edited(place: int, **fields: Any) -> list[dict[str, Any]]:
    return [row | fields if i == place else row for i, row in enumerate(ROWS)]


def test_peaks_are_of_the_sizes_whatever_a_row_says_of_its_work(tmp_path: Path) -> None:
    """1024 x 512 x 4096: 4.29 GFLOP in 5.37 ms, 0.8 of 1 TFLOP/s."""
    sound = best_seen(read_rows(written(tmp_path, *ROWS)).tables)
    assert sound.flop_per_s["fp32"] == pytest.approx(0.8e12, rel=0.001)
    rows = edited(3, flop=None)
    rows[4].pop("flop")
    assert best_seen(read_rows(written(tmp_path, *rows)).tables) == sound
    assert best_seen(read_rows(written(tmp_path, *edited(5, flop=10**14))).tables) == sound


@pytest.mark.parametrize("place", range(len(ROWS)))
def test_one_row_a_thousand_times_too_fast_makes_no_peak(tmp_path: Path, place: int) -> None:
    sound = fit_rows(written(tmp_path, *ROWS, *READS))
    rows = edited(place, time_s=max(6e-8, ROWS[place]["time_s"] / 1000))
    fitted = fit_rows(written(tmp_path, *rows, *READS))
    assert fitted.peaks.flop_per_s["fp32"] == pytest.approx(
        sound.peaks.flop_per_s["fp32"], rel=0.25
    )
    assert fitted.peaks.bytes_per_s == pytest.approx(sound.peaks.bytes_per_s, rel=0.25)
    refused = [count.refused for count in fitted.found.rows]
    assert {"faster_than_its_neighbours": 1} in refused
    assert fitted.as_dict()["counts"][-1]["refused"] == {"faster_than_its_neighbours": 1}


def test_one_copy_a_thousand_times_too_fast_makes_no_bandwidth(tmp_path: Path) -> None:
    reads = [*READS[:2], READS[2] | {"time_s": READS[2]["time_s"] / 1000}, READS[3]]
    fitted = fit_rows(written(tmp_path, *ROWS, *reads))
    assert fitted.peaks.bytes_per_s < PEAK_BYTES_PER_S


def test_no_sound_row_is_refused(tmp_path: Path) -> None:
    tables = read_rows(written(tmp_path, *ROWS, *READS)).tables
    assert [len(t) for t in believed(tables)] == [len(t) for t in tables]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e3, 1e12), st.floats(1e3, 1e9)), min_size=3, max_size=30),
    st.integers(0, 2**32 - 1),
)
def test_noise_within_a_factor_of_three_refuses_nothing(
    sizes: list[tuple[float, float]], seed: int
) -> None:
    done, moved = np.array(sizes).T
    noise = np.random.default_rng(seed).uniform(1, 3, len(done))
    took = np.array([time_s(f, b) for f, b in sizes]) * noise
    assert not too_fast(done, moved, took).any()


def test_one_row_that_waited_does_not_make_its_neighbours_too_fast() -> None:
    done = np.array([1e9, 2e9, 3e9, 4e9])
    took = np.array([1.0, 2.0 * 3 * TOO_FAST, 3.0, 4.0])
    assert not too_fast(done, done / 10, took).any()


def test_rows_said_twice_are_counted(tmp_path: Path) -> None:
    once = fit_rows(written(tmp_path, *ROWS))
    twice = fit_rows(written(tmp_path, *ROWS, *ROWS))
    assert twice.rows == once.rows == len(ROWS)
    assert twice.found.laws == once.found.laws
    assert twice.found.rows[-1].refused == {"repeated": len(ROWS)}


# --- what is said ----------------------------------------------------------------------------


def test_products_that_a_part_has_no_units_for_are_named_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, *READS, *ROWS, device="NVIDIA H200")
    message = (
        r"rows\.jsonl:6: dtype: h200-sxm has no fp32 matrix units, it multiplies in bf16, .*"
        r"has 12 such rows of gemm: delete them"
    )
    with pytest.raises(InputError, match=message):
        fit_rows(path, files.load_accelerator("h200-sxm"))


def test_a_file_without_products_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"rows\.jsonl: op: no row multiplies; need products .* gemm"
    ):
        fit_rows(written(tmp_path, *READS))


def test_devices_are_of_parts_with_profiles() -> None:
    assert set(DEVICES.values()) <= set(files.accelerator_names())
    assert all(name.startswith("NVIDIA ") for name in DEVICES)


def test_tables_keep_their_place_when_rows_are_taken(tmp_path: Path) -> None:
    (table,) = read_rows(written(tmp_path, *ROWS)).tables
    some = table.take(table["m"] > 4)
    assert some.place == table.place
    assert replace(some, place="") != some
