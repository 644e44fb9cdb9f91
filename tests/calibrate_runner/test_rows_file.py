"""What a run does with a file that is already there: take it up, or leave it as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner.calibrate.runner import main
from planner.calibrate.runner.rows import RowsFile, RunnerError
from planner.calibrate.runner.sound import FORMATS, fault

HEADER = {
    "op": "header", "device": "some gpu", "backend": "cuda", "driver": "580.1", "cuda": "13.0",
    "torch": "2.11.0", "triton": "3.6.0", "numpy": "2.4.0", "python": "3.11.7", "git": "abc",
    "date": "2026-12-01", "seed": 0,
}  # fmt: skip
GEMM = {
    "op": "gemm", "dtype": "bf16", "kernel": "own", "m": 8, "k": 64, "n": 32, "time_s": 1e-5
}  # fmt: skip
MLA = {
    "op": "attention_decode", "dtype": "bf16", "kernel": "own", "variant": "mla", "sequences": 1,
    "context_tokens": 64, "heads": 16, "kv_lora_rank": 512, "rope_dim": 64, "time_s": 1e-5,
}  # fmt: skip
PREFILL = {
    "op": "attention_prefill", "dtype": "bf16", "kernel": "own", "variant": "gqa", "sequences": 1,
    "tokens": 64, "heads": 16, "kv_heads": 2, "head_dim": 64, "v_head_dim": 64, "time_s": 1e-5,
}  # fmt: skip
LAYER = {
    "op": "moe_layer", "dtype": "bf16", "kernel": "own", "group_tokens": 8, "experts": 16,
    "local_experts": 16, "top_k": 2, "hidden": 64, "intermediate": 32, "distribution": "zipf",
    "pairs": 16, "touched": 9, "time_s": 1e-5,
}  # fmt: skip


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}', b"hello", b"\xff\xfe\x00x", b"{", b'{"op": "gemm", "time_s": 1}',
        b"\xff\xfe\x00x\n", b'{"a": 1}\n{"b"', b"[1, 2]\n", b"\n", b'{"op": {}}\n',
    ],
)  # fmt: skip
def test_a_file_that_is_no_rows_is_never_written_to(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious.json"
    precious.write_bytes(content)
    assert main.run(["--self-test", "--only", "launch", "--out", str(precious)]) == 2
    assert precious.read_bytes() == content
    assert "precious.json:1: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [precious]


def test_a_header_cut_short_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(HEADER).encode()[:60])
    with RowsFile(path, HEADER) as rows:
        assert rows.notes == ["line 1 was cut short and is dropped"]
    assert lines(path) == [HEADER]


def test_a_whole_last_line_that_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + json.dumps(GEMM), "utf-8")
    with RowsFile(path, HEADER) as rows:
        assert (rows.notes, len(rows.rows)) == ([], 1)
        rows.write(GEMM | {"m": 16})
    assert lines(path) == [HEADER, GEMM, GEMM | {"m": 16}]


@pytest.mark.parametrize(
    ("field", "other"),
    [("device", "another gpu"), ("driver", "570.0"), ("cuda", "12.8"), ("torch", "1.0"),
     ("triton", "2.0")],
)  # fmt: skip
def test_rows_of_other_versions_are_not_added(tmp_path: Path, field: str, other: str) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER | {field: other}, GEMM)
    said = f"rows of {field} '{other}', this is '{HEADER[field]}': give another --out"
    with pytest.raises(RunnerError, match=said):
        RowsFile(path, HEADER)
    assert lines(path) == [HEADER | {field: other}, GEMM]


def test_numpy_decides_times_of_a_processor_and_not_of_a_gpu(tmp_path: Path) -> None:
    for backend, refused in (("cpu", True), ("cuda", False)):
        now = HEADER | {"backend": backend}
        path = written(tmp_path / backend, now | {"numpy": "1.0"}, GEMM)
        if refused:
            with pytest.raises(RunnerError, match=r"rows of numpy '1\.0', this is '2\.4\.0'"):
                RowsFile(path, now)
        else:
            RowsFile(path, now).__exit__(None, None, None)


def test_another_revision_and_seed_stand_before_the_rows_they_are_of(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER | {"git": "old", "seed": 7}, GEMM)
    for m in (16, 32):
        with RowsFile(path, HEADER) as rows:
            rows.write(GEMM | {"m": m})
    section = {"op": "section", "date": "2026-12-01", "git": "abc", "seed": 0}
    assert lines(path)[1:] == [GEMM, section, GEMM | {"m": 16}, GEMM | {"m": 32}]


def test_a_run_that_adds_no_row_adds_no_section(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER | {"git": "old"}, GEMM)
    with RowsFile(path, HEADER) as rows:
        rows.write({"op": "end", "measured": 0})
    assert [row["op"] for row in lines(path)] == ["header", "gemm", "end"]


def test_a_driver_that_was_not_known_is_no_other_driver(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER | {"driver": None}, GEMM)
    with RowsFile(path, HEADER) as rows:
        rows.write(GEMM | {"m": 16})
    assert lines(path)[2] == {"op": "section", "date": "2026-12-01", "driver": "580.1"}


# --- rows that were edited -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GEMM | {"op": []}, r"op is \[\]; expected one of header"),
        (GEMM | {"m": [1]}, r"m: must be a finite size >= 1, got \[1\]"),
        (GEMM | {"kernel": {}}, r"kernel: must be a word, got \{\}"),
        ({"op": "error", "point": {"op": "gemm", "m": []}}, r"m: must be a finite size"),
        ({"op": "error", "point": {"op": []}}, "an error without the point"),
    ],
)
def test_a_row_that_cannot_be_taken_up_is_refused_by_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER, GEMM, row)
    with pytest.raises(RunnerError, match=rf"rows\.jsonl:3: {message}"):
        RowsFile(path, HEADER)
    assert lines(path) == [HEADER, GEMM, row]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"op": "gemm", "m": ' + "1" * 5000 + "}"])
def test_a_line_too_deep_or_long_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "rows.jsonl", HEADER)
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(RunnerError, match=r"rows\.jsonl:2: not JSON"):
        RowsFile(path, HEADER)


@pytest.mark.parametrize("row", [GEMM, MLA, PREFILL, LAYER])
def test_a_sound_row_has_no_fault(row: dict[str, Any]) -> None:
    assert fault(row) is None


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        (GEMM, "m", "missing"), (MLA, "kv_lora_rank", "missing"), (MLA, "rope_dim", "missing"),
        (MLA | {"variant": "gqa", "head_dim": 64}, "kv_heads", "missing"),
        (PREFILL, "heads", "missing"), (PREFILL, "tokens", "missing"),
        (PREFILL, "kv_heads", "missing"), (LAYER, "touched", "missing"),
        ({"op": "hbm_read", "dtype": "fp32", "time_s": 1e-5}, "bytes", "missing"),
        ({"op": "all_reduce", "dtype": "bf16", "ranks": 2, "time_s": 1e-5}, "bytes", "missing"),
        ({"op": "elementwise", "dtype": "bf16", "time_s": 1e-5}, "bytes", "missing"),
        (GEMM | {"m": 0}, "m", "size >= 1, got 0"),
        (GEMM | {"m": float("inf")}, "m", "size >= 1, got inf"),
        (GEMM | {"m": float("nan")}, "m", "size >= 1, got nan"),
        (GEMM | {"m": 10**400}, "m", "size >= 1, got 1000"),
        (GEMM | {"m": True}, "m", "size >= 1, got True"),
        (GEMM | {"dtype": "fp99"}, "dtype", "'fp99' is not known; known: fp32"),
        (GEMM | {"time_s": 1e-12}, "time_s", "between 5e-08 and 10000 s"),
        (GEMM | {"time_s": 10**400}, "time_s", "between"),
        (MLA | {"variant": "flash"}, "variant", "'flash' is not known; known: mla, gqa"),
        (PREFILL | {"kv_heads": 32}, "kv_heads", "at most heads, got 32 of 16"),
        (LAYER | {"touched": 17}, "touched", "at most pairs, got 17 of 16"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_field(row: dict[str, Any], field: str, problem: str) -> None:
    if problem == "missing":
        row = {name: value for name, value in row.items() if name != field}
    found = fault(row)
    assert found is not None
    assert found[0] == field
    assert problem in found[1]


def test_formats_are_those_that_the_fit_knows() -> None:
    from planner.calibrate.calls import ACTIVATION_BYTES

    assert set(FORMATS) == set(ACTIVATION_BYTES)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("gemm:fp99", "no gemm:fp99 here; there are gemm:fp32"),
        ("gemm,launch:fp32", "no launch:fp32 here; there are launch:none"),
        ("all_reduce", "nothing to measure of all_reduce here; of launch, "),
        (",", "--only names no operation; there are launch, "),
    ],
)
def test_a_choice_of_nothing_is_refused(
    tmp_path: Path, only: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    assert main.run(["--self-test", "--only", only, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
