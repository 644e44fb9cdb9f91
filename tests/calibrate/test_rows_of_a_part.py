"""The runner's rows of a part with a profile: fitted, checked, compared, and carried."""

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from planner import files
from planner.calibrate import tables as aic
from planner.calibrate.calls import stated_peaks
from planner.calibrate.choice import candidates, chosen
from planner.calibrate.compare import _kind, compare
from planner.calibrate.features import law_of, predict_s, works
from planner.calibrate.fit import ELEMENTWISE, conversion_law
from planner.calibrate.links_rows import ring_rows
from planner.calibrate.packed import read_packed
from planner.calibrate.published import published_files, published_tables
from planner.calibrate.rows import read_rows
from planner.calibrate.runner import device
from planner.calibrate.runner.plan_cuda import cuda_plan
from planner.calibrate.runner.points import Point, selected
from planner.cli import main
from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, CalibrationSpec

PART = "h200-sxm"
FITTED = (
    "gemm", "grouped_gemm", "moe_layer", "attention_decode", "attention_prefill", "elementwise",
)  # fmt: skip
ROW_WISE = Achieved(
    compute_share=Sourced(1.0, "t"), memory_share=Sourced(0.62, "t"), floor_s=Sourced(2.5e-6, "t")
)
"""Shares of the small kernels: not those that the shipped calibration assumes."""
ELSE_S = 1e-5
"""Time of a point that no law describes. [s]"""


def row_of(point: Point) -> dict[str, Any]:
    """What the runner says of a point beside its time."""
    row: dict[str, Any] = {**point.as_dict(), "backend": "cuda", "repeats": 7, "timing": "graph"}
    shape: Mapping[str, Any] = point.shape
    if "group_tokens" in shape:
        share = shape["local_experts"] / shape["experts"]
        row["pairs"] = max(1, round(shape["group_tokens"] * shape["top_k"] * share))
        row["touched"] = min(shape["local_experts"], row["pairs"])
    if point.op == "elementwise":
        row["bytes"] = 4 * shape["tokens"] * shape["hidden"]
    return {**row, "flop": 0, "time_s": ELSE_S}


def written(path: Path, only: str | None = None, devices: int = 1) -> Path:
    """Write rows as the runner does on an H200, their times by the shipped laws.

    Of the whole plan, or of ``only``; gzipped where the name says so.
    """
    header = device.header("cuda", 0, 470.0, device="NVIDIA H200", date="2026-12-01")
    rows = [row_of(point) for point in selected(cuda_plan(devices), only)]
    draft = path.with_name("draft.jsonl")
    draft.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)), "utf-8")
    times: dict[str, list[float]] = {}
    peaks, calibration = stated_peaks(files.load_accelerator(PART)), files.load_calibration(PART)
    calibration = calibration.model_copy(update={"elementwise": ROW_WISE})
    for table in read_rows(draft).tables:
        seconds = [ELSE_S] * len(table)
        if table.op in FITTED:
            parts = works(replace(table, origin=replace(table.origin, part=PART)), peaks)
            laws = {w.key: law_of(calibration, w.key) for w in parts if w.family != "conversion"}
            laws["conversion", ""] = conversion_law(0.6, ROW_WISE)
            seconds = predict_s(parts, laws).tolist()
        times.setdefault(group(table.op, table.dtype, table.kernel, table.labels), []).extend(
            seconds
        )
    for row in rows:
        named = {name: row.get(name) for name in ("variant", "distribution")}
        if named["variant"] == "gqa" and row["head_dim"] == 64:
            named["variant"] = "gqa_64"
        row["time_s"] = times[group(row["op"], row["dtype"], row["kernel"], named)].pop(0)
    lines = "".join(json.dumps(row) + "\n" for row in (header, *rows, {"op": "end"}))
    draft.unlink()
    packed = gzip.compress(lines.encode(), mtime=0) if path.suffix == ".gz" else lines.encode()
    path.write_bytes(packed)
    return path


def group(op: str, dtype: str, kernel: str, labels: Mapping[str, Any]) -> str:
    """Rows that a table holds in the order of the file."""
    return " ".join(
        [op, dtype, kernel, *(labels.get(n) or "" for n in ("variant", "distribution"))]
    )


BF16 = "elementwise,grouped_gemm:bf16,moe_layer:bf16,launch,hbm_read,host_copy"
needs_tables = pytest.mark.skipif(not aic.installed(), reason="the tables are not installed")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", *map(str, args)], catch_exceptions=False)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts in 16 bits and small kernels, as `rows-<date>.jsonl.gz` of a run holds them."""
    return written(tmp_path_factory.mktemp("h200") / "rows-2026-12-01.jsonl.gz", BF16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a run on a machine of eight measures."""
    return written(tmp_path_factory.mktemp("all") / "h200-sxm-own.jsonl.gz", devices=8)


def test_rows_become_a_calibration_of_the_part(packed: Path, tmp_path: Path) -> None:
    """What has rows is fitted, small kernels first; all else stays as it ships."""
    out = tmp_path / "h200-sxm.yaml"
    found = run("fit", packed, "--out", out)
    assert found.exit_code == 0, found.output
    made, shipped = files.load_spec(out, CalibrationSpec), files.load_calibration(PART)
    assert float(made.elementwise.memory_share) == pytest.approx(0.62, rel=1e-3)
    assert float(made.elementwise.floor_s) == pytest.approx(float(ROW_WISE.floor_s), rel=1e-2)
    assert made.elementwise.compute_share == shipped.elementwise.compute_share
    assert made.elementwise.memory_share.source != "assumption"
    assert made.grouped_gemm["bf16"] != shipped.grouped_gemm["bf16"]
    assert made.grouped_gemm["fp8"] == shipped.grouped_gemm["fp8"]
    assert (made.gemm, made.attention_decode) == (shipped.gemm, shipped.attention_decode)
    assert made.provenance
    assert {row.family for row in made.provenance.rows} == {
        "grouped_gemm", "moe_layer", "elementwise",
    }  # fmt: skip


def test_packed_rows_are_checked_like_plain_ones(packed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "rows-2026-12-01.jsonl"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    found = run("check", packed, "--json")
    assert found.output == run("check", plain, "--json").output
    records = json.loads(found.output)
    assert {"grouped_gemm", "moe_layer", "elementwise"} == {r["family"] for r in records}
    assert {r["split"] for r in records} >= {"interpolation", "shape"}
    for record in records:
        assert record["part"] == PART
        assert math.isfinite(record["median_abs_error"])
        assert record["median_abs_error"] < 0.05  # times are those of such a law
    assert "rows-2026-12-01.jsonl" not in run("check", packed).output


def test_packed_rows_that_are_not_sound_name_the_file(packed: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl.gz"
    short.write_bytes(packed.read_bytes()[:-200])
    assert "short.jsonl.gz: cannot be read: it is no whole gzip file" in run("fit", short).output
    bad = tmp_path / "bad.jsonl.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    bad.write_bytes(gzip.compress("\n".join([*lines[:4], "{"]).encode()))
    assert f"{bad}:5: is not JSON" in run("check", bad).output.replace("\n", "")
    assert "none.jsonl.gz: cannot be read: No such file" in run("fit", "none.jsonl.gz").output


def listed(path: Path, part: str, **changed: Any) -> Path:
    """A published table of decode attention: its cache is said to be in 16 bits."""
    header = {"op": "header", "device": part, "part": part, "source": "test"}
    size = {"sequences": 32, "context_tokens": 32 * 4096, "heads": 128, "kv_lora_rank": 512}
    row = {"op": "attention_decode", "dtype": "bf16", "kernel": "flashmla", "variant": "mla"}
    rows = [{**row, **size, "rope_dim": 64, "kv_dtype": "bf16", "time_s": 2e-4, **changed}]
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *rows)), "utf-8")
    return path


def test_own_attention_is_compared_with_rows_that_name_their_cache(tmp_path: Path) -> None:
    own = written(tmp_path / "own.jsonl", "attention_decode")
    theirs = listed(tmp_path / "theirs.jsonl", PART)
    (record,) = compare(str(own), str(theirs), PART)
    (table,) = (t for t in read_packed(own).tables if t.labels["variant"] == "mla")
    same = (
        (table["sequences"] == 32) & (table["context_tokens"] == 131072) & (table["heads"] == 128)
    )
    assert (record["family"], record["n"]) == ("attention_decode", 1)
    assert record["median_ratio"] == pytest.approx(float(2e-4 / table.time_s[same][0]), rel=1e-3)
    eight = listed(tmp_path / "eight.jsonl", PART, kv_dtype="fp8")
    assert compare(str(own), str(eight), PART) == []
    few = replace(table, labels={"variant": "mla_narrow", "kv_dtype": "bf16"})
    assert _kind(few) == _kind(table)


def test_layers_of_another_width_are_not_the_same_point(tmp_path: Path) -> None:
    own = written(tmp_path / "own.jsonl", "moe_layer:bf16")
    lines = own.read_text("utf-8").splitlines()
    rows = [{**json.loads(line), "intermediate": 1024} for line in lines[1:-1]]
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join([lines[0], *map(json.dumps, rows)]) + "\n", "utf-8")
    assert compare(str(own), str(other), PART) == []
    assert compare(str(own), str(own), PART)[0]["median_ratio"] == 1.0


@needs_tables
def test_own_rows_have_points_in_common_with_the_tables_of_the_part(whole: Path) -> None:
    found = json.loads(run("compare", whole, "trtllm", "--part", PART, "--json").output)
    assert {"attention_decode", "attention_prefill"} <= {record["family"] for record in found}


@pytest.mark.parametrize(
    ("part", "message"),
    [("b200-sxm", "holds rows of h200-sxm (NVIDIA H200)"), ("nosuchpart", "nosuchpart")],
)
def test_rows_of_another_part_are_not_compared(packed: Path, part: str, message: str) -> None:
    found = run("compare", packed, packed, "--part", part)
    assert found.exit_code == 2
    (line,) = found.output.strip().splitlines()
    assert line.startswith(f"error: --part: {part}: ")
    assert message in line


def test_rows_of_a_device_without_a_profile_are_compared_by_its_name(tmp_path: Path) -> None:
    own = listed(tmp_path / "own.jsonl", "one processor")
    assert compare(str(own), str(own), "one processor")[0]["n"] == 1
    with pytest.raises(InputError, match="holds rows of one processor"):
        compare(str(own), str(own), "h200-sxm")


@pytest.fixture
def carried(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rows in the folder of measurements, beside those that are carried of the part."""
    folder = whole.parent / "measurements"
    folder.mkdir(exist_ok=True)
    others = (files.profile_root() / "measurements").glob(f"{PART}-*.jsonl")
    for path in (whole, *others):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(files, "profile_root", lambda: whole.parent)
    published_files.cache_clear()
    yield
    published_files.cache_clear()


@pytest.mark.usefixtures("carried")
def test_carried_rows_of_a_run_are_those_of_the_part() -> None:
    (file,) = (f for f in published_files() if f.header["device"] == "NVIDIA H200")
    assert (file.header["part"], file.header["source"]) == (PART, "h200-sxm-own")
    tables = [t for t in published_tables(PART) if t.origin.source == "h200-sxm-own"]
    assert sum(map(len, tables)) == file.rows > 1700
    assert published_tables("h100-sxm") == []


@pytest.mark.usefixtures("carried")
def test_one_kernel_of_a_run_is_chosen_for_each_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own kernels and libraries are two: no law is fitted to both."""
    monkeypatch.setattr(aic, "installed", lambda: False)
    found = {c.key: c.tables for c in chosen(candidates(PART), ("bf16", "fp8"))}
    kernels = {key: {table.kernel for table in tables} for key, tables in found.items()}
    assert all(len(each) == 1 for each in kernels.values())
    assert kernels["gemm", "bf16"] == {"library"}
    assert kernels["grouped_gemm", "bf16"] == kernels["attention_decode", ""] == {"own"}
    assert kernels["grouped_gemm", "fp8"] == {"sglang-0.5.10-deepep-moe"}
    assert {table.dtype for table in found[ELEMENTWISE]} == {"bf16", "fp8_block"}


@needs_tables
@pytest.mark.usefixtures("carried")
def test_a_part_with_own_rows_keeps_tables_of_the_kernels_that_engines_serve() -> None:
    """Dense products in 16 bits are the library's that engines call; of the rest only small
    kernels have no other rows."""
    others = [t for t in candidates(PART) if t.origin.source != "h200-sxm-own"]
    without = {choice.key for choice in chosen(others, ("bf16", "fp8"))}
    found = {c.key: c.tables for c in chosen(candidates(PART), ("bf16", "fp8"))}
    sources = {key: {table.origin.source for table in tables} for key, tables in found.items()}
    own, tables = {"h200-sxm-own"}, {"aiconfigurator-tables"}
    assert {key for key in sources if sources[key] == own} == {("gemm", "bf16"), ELEMENTWISE}
    assert {key for key in sources if sources[key] == tables} == without - {("gemm", "bf16")}


@pytest.mark.usefixtures("carried")
def test_collectives_of_a_run_are_read_as_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 KiB that a rank of eight sends, one eighth stays on it."""
    monkeypatch.setattr(aic, "installed", lambda: False)
    rows = {each.comm.kind: each for each in ring_rows(PART)}
    assert set(rows) == {"all_reduce", "all_gather", "all_to_all"}
    lengths = {kind: len(each) for kind, each in rows.items()}
    assert lengths == {"all_reduce": 7, "all_gather": 6, "all_to_all": 7}  # 600 MB at most
    sent = np.asarray(rows["all_to_all"].comm.bytes_per_rank)
    assert sent.min() == 4096 * 7 / 8
    assert rows["all_reduce"].comm.ranks == 8
