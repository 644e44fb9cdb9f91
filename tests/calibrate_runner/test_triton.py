"""Our Triton kernels without a GPU: right in the interpreter, and compiled to tensor cores."""

import json
import os
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest

import planner

HERE = Path(__file__).parent
ROOT = Path(planner.__file__).parents[1]
SHARED_BYTES = {"90": 232_448, "100": 232_448}
"""Shared memory one block may ask for."""


def missing(for_interpreter: bool) -> str:
    if absent := [name for name in ("torch", "triton") if find_spec(name) is None]:
        return f"needs {' and '.join(absent)}"
    old = tuple(map(int, metadata.version("triton").split(".")[:2])) < (3, 7)
    if for_interpreter and old and tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4):
        return "Triton 3.6's interpreter needs numpy < 2.4"
    return ""


needs_triton = pytest.mark.skipif(bool(missing(False)), reason=missing(False))
needs_interpreter = pytest.mark.skipif(bool(missing(True)), reason=missing(True))


def said(script: list[str], folder: Path, **extra: str) -> list[dict]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder), **extra}
    done = subprocess.run(
        [sys.executable, *script], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@needs_interpreter
def test_every_kernel_computes_what_float64_does(tmp_path: Path) -> None:
    rows = said([str(HERE / "probe_kernels.py")], tmp_path, TRITON_INTERPRET="1")
    assert len(rows) > 35
    wrong = [row for row in rows if not 0 <= row["error"] <= row["tolerance"]]
    assert wrong == []


@needs_interpreter
def test_the_whole_device_backend_runs_in_the_interpreter(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    argv = ["--backend", "cuda", "--self-test", "--out", str(out)]
    said(["-m", "planner.calibrate.runner", *argv], tmp_path / "cache", TRITON_INTERPRET="1")
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row for row in rows if row["op"] == "error"] == []
    assert rows[-1]["left"] == 0
    ops = {row["op"] for row in rows}
    assert {"moe_layer", "grouped_gemm", "attention_decode", "all_reduce", "host_copy"} <= ops
    for row in rows[1:-1]:
        assert row["time_s"] > 0
        assert row["backend"] == "cuda"
        assert row["bytes"] >= 0


@needs_triton
@pytest.mark.parametrize(("capability", "unit"), [("90", "wgmma"), ("100", "tcgen05")])
def test_grouped_products_multiply_on_tensor_cores(
    tmp_path: Path, capability: str, unit: str
) -> None:
    rows = said([str(HERE / "compile_kernels.py"), capability, "moe"], tmp_path)
    products = [row for row in rows if row["kernel"] == "grouped_gemm_kernel"]
    assert len({row["probe"] for row in products}) >= 15
    for row in products:
        assert row[unit] > 0, row
        assert row["mma"] == 0, row
        assert row["shared"] <= SHARED_BYTES[capability]
        assert row["fp8"] == ("fp8_block" in row["probe"])


@needs_triton
def test_decode_attention_multiplies_on_tensor_cores_and_fits(tmp_path: Path) -> None:
    rows = said([str(HERE / "compile_kernels.py"), "90", "decode"], tmp_path)
    splits = [row for row in rows if row["kernel"].endswith("split_kernel")]
    assert {row["kernel"] for row in splits} == {"mla_split_kernel", "gqa_split_kernel"}
    for row in splits:
        assert row["wgmma"] + row["mma"] > 0, row
        assert row["shared"] <= SHARED_BYTES["90"]
    wide = [row for row in splits if "heads=128" in row["probe"] and "mla" in row["kernel"]]
    assert wide
    assert all(row["wgmma"] for row in wide)


@needs_triton
def test_what_is_compiled_ahead_is_found_again(tmp_path: Path) -> None:
    script = [str(HERE / "compile_kernels.py"), "90", "rows"]
    said(script, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cubin")}
    said(script, tmp_path)
    assert made
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cubin")}


@needs_triton
def test_workers_share_the_kernels_between_them(tmp_path: Path) -> None:
    code = (
        "from planner.calibrate.runner import compile_ahead as c, plan_cuda as p\n"
        "a = c.start([x for x in p.cuda_plan() if x.op == 'elementwise'], 90, 2)\n"
        "a.wait(); print('{}')"
    )
    said(["-c", code], tmp_path)
    names = {path.stem for path in tmp_path.rglob("*.cubin")}
    assert names == {"activate_kernel", "rms_norm_kernel", "rope_kernel"}
