"""Files of rows: what is read, and what is refused with file and line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import stated_peaks
from planner.calibrate.choice import RUNNER
from planner.calibrate.features import bound_s
from planner.calibrate.published import published_files, published_tables
from planner.calibrate.rows import read_rows
from planner.calibrate.screen import screen
from planner.errors import InputError

HEADER = {"op": "header", "device": "some cpu", "backend": "cpu", "date": "2026-01-02"}
PREFILL = {
    "op": "attention_prefill", "dtype": "bf16", "kernel": "own", "sequences": 1, "tokens": 64,
    "head_dim": 64, "time_s": 1e-5,
}  # fmt: skip
LAYER = {
    "op": "moe_layer", "dtype": "bf16", "kernel": "own", "group_tokens": 8, "experts": 16,
    "local_experts": 16, "top_k": 2, "hidden": 64, "intermediate": 32, "time_s": 1e-5,
}  # fmt: skip
GEMM = {"op": "gemm", "dtype": "bf16", "kernel": "own", "m": 8, "k": 64, "n": 32, "time_s": 1e-5}


def written(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "rows.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def test_rows_of_one_operation_format_and_kernel_are_one_table(tmp_path: Path) -> None:
    other = GEMM | {"m": 16, "time_s": 2e-5}
    failed = {"op": "error", "point": {"op": "gemm"}, "error": "out of memory"}
    file = read_rows(
        written(tmp_path, HEADER, GEMM, other, GEMM | {"dtype": "fp8_block"}, failed, {"op": "end"})
    )
    first, second = file.tables
    assert (first.op, first.dtype, len(first)) == ("gemm", "bf16", 2)
    assert first["m"].tolist() == [8, 16]
    assert first.time_s.tolist() == [1e-5, 2e-5]
    assert second.dtype == "fp8_block"
    assert (file.rows, file.errors, file.complete) == (3, ("out of memory",), True)
    assert first.origin.part == "some cpu"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"op": "gemm", "m": 8, "k"', r"rows\.jsonl:3: is not JSON .* cut short or edited"),
        (GEMM | {"time_s": float("nan")}, r":3: time_s: must be a finite time > 0, got nan"),
        (GEMM | {"time_s": -1e-6}, r":3: time_s: must be a finite time > 0, got -1e-06"),
        (GEMM | {"time_s": "fast"}, r":3: time_s: must be a time in seconds, got 'fast'"),
        (GEMM | {"time_s": None}, r":3: time_s: must be a time in seconds, got None"),
        (GEMM | {"op": "gemn"}, r":3: op: 'gemn' is not known; known: .*gemm"),
        (GEMM | {"m": "many"}, r":3: m: must be a finite size >= 1, got 'many'"),
        (GEMM | {"k": None}, r":3: k: is missing from a row of gemm"),
        (GEMM | {"device": "other"}, r":3: device: 'other' among rows of 'some cpu'"),
        (GEMM | {"backend": "cuda"}, r":3: backend: 'cuda' among rows of 'cpu': one device"),
        (GEMM | {"op": []}, r":3: op: \[\] is not known; known: .*gemm"),
        (GEMM | {"dtype": "fp99"}, r":3: dtype: 'fp99' is not known; known: fp32, bf16"),
        (GEMM | {"dtype": ["bf16"]}, r":3: dtype: must be a word, got \['bf16'\]"),
        (GEMM | {"m": 0}, r":3: m: must be a finite size >= 1, got 0"),
        (GEMM | {"m": float("inf")}, r":3: m: must be a finite size >= 1, got inf"),
        (GEMM | {"time_s": 1e-12}, r":3: time_s: must be a time between .* got 1e-12"),
        (PREFILL, r":3: heads: is missing from a row of attention_prefill"),
        ("[" * 100_000, r":3: is not JSON .* cut short or edited"),
        (HEADER, r":3: op: a second header: rows of two runs in one file"),
        ({"m": 1}, r":3: op: is missing"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    tmp_path: Path, line: dict[str, Any] | str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(written(tmp_path, HEADER, GEMM, line))


def test_a_row_said_twice_is_one_row_and_counted(tmp_path: Path) -> None:
    again = dict(reversed(GEMM.items()))
    other = GEMM | {"time_s": 2e-5}
    (table,) = read_rows(written(tmp_path, HEADER, GEMM, other, again, GEMM)).tables
    assert table.time_s.tolist() == [1e-5, 2e-5]
    assert table.repeated == 2
    assert table.place.endswith("rows.jsonl:2")


def test_rows_that_say_their_routing_and_rows_that_do_not_are_apart(tmp_path: Path) -> None:
    """Else the second would be read as rows of an unknown number of experts."""
    counted = LAYER | {"pairs": 16, "touched": 7}
    half = LAYER | {"group_tokens": 9, "pairs": 18, "touched": None}
    one, two = read_rows(written(tmp_path, HEADER, counted, LAYER, half)).tables
    assert (len(one), len(two)) == (1, 2)
    assert "touched" not in two.columns
    assert all(np.all(np.isfinite(c)) for t in (one, two) for c in t.columns.values())


def test_a_file_without_header_or_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":1: op: expected the header line"):
        read_rows(written(tmp_path, GEMM))
    with pytest.raises(InputError, match="is empty"):
        read_rows(written(tmp_path, ""))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_rows(tmp_path / "none.jsonl")


def test_carried_rows_are_of_known_parts_and_sources() -> None:
    known = files.references()
    for file in published_files():
        assert file.complete
        assert file.header["part"] in files.accelerator_names()
        assert file.header["source"] in known
    published = [file for file in published_files() if "driver" not in file.header]
    assert sum(file.rows for file in published) == 3898


def test_carried_files_are_small() -> None:
    for path in (files.profile_root() / "measurements").iterdir():
        assert path.stat().st_size < 1e6


def test_few_carried_rows_beat_the_roofline_or_fall_behind_larger_ones() -> None:
    refused: dict[str, int] = {}
    for table in published_tables():
        if table.op in ("all_to_all", "all_gather", "reduce_scatter") or table.kernel in RUNNER:
            continue
        peaks = stated_peaks(files.load_accelerator(table.origin.part))
        kept = screen(table, peaks)
        assert np.all(bound_s(kept.table, peaks) <= kept.table.time_s)
        for rule, count in kept.refused.items():
            refused[rule] = refused.get(rule, 0) + count
    assert refused == {"beats_roofline": 1, "slower_than_more_work": 92}


def test_carried_numbers_read_by_hand() -> None:
    """DeepGEMM's README: M 64, N 2112, K 7168 at 206 TFLOP/s; DeepEP: EP8 dispatch 77 us."""
    (gemm,) = (t for t in published_tables("h800-sxm") if t.op == "gemm")
    first = (gemm["m"] == 64) & (gemm["n"] == 2112) & (gemm["k"] == 7168)
    assert gemm.time_s[first] == pytest.approx([2 * 64 * 2112 * 7168 / 206e12], rel=1e-4)
    (dispatch,) = (
        t for t in published_tables("h800-sxm")
        if t.kernel == "deepep-low-latency" and t.labels["phase"] == "dispatch"
        and t.origin.version == "2025-06"
    )  # fmt: skip
    assert dispatch.time_s[dispatch["ranks"] == 8] == pytest.approx([77e-6])
