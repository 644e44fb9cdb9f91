"""Measure, fit, check on this machine; and what the shipped calibrations say of themselves."""

import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner import files
from planner.calibrate.check import check, check_rows
from planner.calibrate.compare import compare
from planner.calibrate.own_rows import best_seen, fit_rows, part_of, write_rows_fit
from planner.calibrate.rows import read_rows
from planner.errors import InputError

FIELDS = {
    "part", "family", "dtype", "split", "n", "median_abs_error", "p90_abs_error", "bias",
    "source", "stored",
}  # fmt: skip


def measured(folder: Path) -> Path:
    """Real times of this processor: products and copies, a second in all."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [{"op": "header", "device": "test cpu", "date": "2026-01-01"}]
    for k, n in ((256, 256), (512, 256), (256, 768), (1024, 512), (768, 1024)):
        weights = rng.standard_normal((k, n), dtype=np.float32)
        for m in (1, 4, 16, 64, 128, 256, 512):
            x = rng.standard_normal((m, k), dtype=np.float32)
            x @ weights
            best = min(timed(lambda x=x, w=weights: x @ w) for _ in range(5))  # type: ignore[misc]
            rows.append({
                "op": "gemm", "dtype": "fp32", "kernel": "own", "m": m, "k": k, "n": n,
                "time_s": best, "flop": 2 * m * k * n, "bytes": 4 * (m * k + k * n + m * n),
            })  # fmt: skip
    source = np.ones(1 << 23, dtype=np.float32)
    target = np.empty_like(source)
    best = min(timed(lambda: np.copyto(target, source)) for _ in range(5))
    rows.append({"op": "hbm_copy", "dtype": "fp32", "bytes": 2 * source.nbytes, "time_s": best})
    rows.append({"op": "end"})
    path = folder / "cpu.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_measure_fit_check_on_this_processor(tmp_path: Path) -> None:
    path = measured(tmp_path)
    found = check_rows(path)
    assert {r["split"] for r in found} == {"interpolation", "shape"}
    for record in found:
        assert set(record) == FIELDS
        assert (record["part"], record["family"]) == ("test cpu", "gemm")
        assert record["median_abs_error"] >= 0
    fitted = fit_rows(path)
    law = fitted.found.laws[("gemm", "fp32")]
    assert 0 < law.compute_share <= 1
    write_rows_fit(tmp_path / "fit.json", fitted)
    said = json.loads((tmp_path / "fit.json").read_text("utf-8"))
    assert said["rows"] == 36
    assert set(said["laws"]) == {"elementwise", "gemm/fp32"}


def test_peaks_of_an_unknown_device_are_the_best_seen(tmp_path: Path) -> None:
    file = read_rows(measured(tmp_path))
    peaks = best_seen(file.tables)
    (gemm,) = (t for t in file.tables if t.op == "gemm")
    assert peaks.rate("fp32") == pytest.approx(np.max(gemm["flop"] / gemm.time_s))
    assert part_of(file) is None


def test_a_file_with_nothing_to_fit_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"op": "header", "device": "x"}\n', "utf-8")
    with pytest.raises(InputError, match="need products"):
        fit_rows(path)


def test_stored_figures_of_every_fitted_part() -> None:
    found = check(refit=False)
    assert all(set(record) == FIELDS and record["stored"] for record in found)
    parts = {record["part"] for record in found}
    assert {"h100-sxm", "h200-sxm", "h800-sxm", "b200-sxm", "gb200-nvl72", "l40s"} <= parts
    assert {record["split"] for record in found} >= {"interpolation", "shape", "ep_degree", "part"}
    assert json.loads(json.dumps(found)) == found


def test_a_part_that_carried_rows_describe_can_be_fitted_anywhere() -> None:
    (grouped, *_) = (
        r for r in check(["h800-sxm"], refit=None) if r["family"] == "grouped_gemm"
    )  # fmt: skip
    assert grouped["median_abs_error"] < 0.15


def test_two_sources_side_by_side() -> None:
    for record in compare("published", "published", "h800-sxm"):
        if record["family"] == "all_to_all":
            continue  # two versions of one library are carried
        assert record["median_ratio"] == 1.0
        assert record["n"] > 0
    with pytest.raises(InputError):
        compare("published", "published", "gaudi3")


def test_provenance_names_every_fitted_family() -> None:
    for name in files.accelerator_names():
        calibration = files.load_calibration(name)
        provenance = calibration.provenance
        if provenance is None or provenance.transferred_from:
            continue
        assert provenance.rows
        assert provenance.residual_sigma
        assert calibration.accelerators == (name,)
        for sigma in provenance.residual_sigma.values():
            assert 0 < sigma < 0.4


def test_attention_in_a_file_of_rows_is_fitted_kernel_by_kernel(tmp_path: Path) -> None:
    """Grouped queries of two widths and MLA, as the runner writes them: three laws."""
    part = files.load_accelerator("h200-sxm")
    shapes = [
        {"variant": "gqa", "heads": 64, "kv_heads": 8, "head_dim": width} for width in (64, 128)
    ]
    shapes.append({"variant": "mla", "heads": 128, "kv_lora_rank": 512, "rope_dim": 64})
    lines: list[dict[str, object]] = [{"op": "header", "device": "NVIDIA H200", "part": "h200-sxm"}]
    for shape in shapes:
        for sequences, context in product((1, 4, 16, 64, 256), (512, 2048, 8192)):
            kept = 576 if shape["variant"] == "mla" else 16 * int(str(shape["head_dim"]))
            lines.append({
                "op": "attention_decode", "dtype": "bf16", "kernel": "own", "kv_dtype": "bf16",
                "sequences": sequences, "context_tokens": sequences * context, **shape,
                "time_s": 8e-6 + 2 * kept * sequences * context / 3e12,
            })  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    fitted = fit_rows(path, part)
    kinds = {kind for _, kind in fitted.found.laws}
    assert kinds == {"", "gqa", "gqa_64"}
    assert all(held.median_abs_error < 0.03 for held in fitted.found.held_out)
