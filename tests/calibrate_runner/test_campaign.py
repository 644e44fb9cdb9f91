"""The one command for the GPU machine, tried on this one."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import planner
from planner.calibrate.runner.plan_cpu import tiny_cpu_plan

SCRIPT = Path(planner.__file__).parents[1] / "scripts" / "gpu_campaign.py"


def campaign(script: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_one_command_leaves_rows_and_a_page(tmp_path: Path) -> None:
    done = campaign(SCRIPT, str(tmp_path / "out"), "--self-test")
    assert done.returncode == 0, done.stderr
    (packed,) = (tmp_path / "out").glob("rows-*.jsonl.gz")
    rows = [json.loads(line) for line in gzip.decompress(packed.read_bytes()).splitlines()]
    assert rows[0]["op"] == "header"
    assert len(rows) == len(tiny_cpu_plan()) + 2
    page = (tmp_path / "out" / "summary.md").read_text("utf-8")
    assert page in done.stdout
    assert f"{len(tiny_cpu_plan())} points measured, 0 failed, 0 left" in page
    assert len(page.splitlines()) < 60


def test_a_second_call_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    for only in ("gemm", "gemm,launch"):
        assert campaign(SCRIPT, str(tmp_path), "--self-test", "--only", only).returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [row["op"] for row in rows] == ["header", "gemm", "launch", "end"]


def test_script_and_folder_travel_without_the_rest(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    runner = Path(planner.__file__).parent / "calibrate" / "runner"
    shutil.copytree(runner, tmp_path / "runner")
    done = campaign(tmp_path / SCRIPT.name, str(tmp_path / "out"), "--self-test", "--only", "gemm")
    assert done.returncode == 0, done.stderr
    assert "1 points measured" in done.stdout


def test_recorded_counts_reach_the_runner(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("40,25,10,10,5,5,5,0", "utf-8")
    out = tmp_path / "out"
    options = ("--self-test", "--only", "moe_layer", "--counts", str(counts))
    assert campaign(SCRIPT, str(out), *options).returncode == 0
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [row.get("distribution") for row in rows].count("recorded") == 2


def test_a_file_that_was_edited_is_refused_in_a_line_and_kept(tmp_path: Path) -> None:
    assert campaign(SCRIPT, str(tmp_path), "--self-test", "--only", "gemm").returncode == 0
    rows = tmp_path / "rows.jsonl"
    text = rows.read_text("utf-8").replace('"m": 8', '"m": []')
    for content in (text, text + "nonsense\n", text.replace('"kernel": "own", ', "") + "[]\n"):
        rows.write_text(content, "utf-8")
        done = campaign(SCRIPT, str(tmp_path), "--self-test", "--only", "gemm")
        assert (done.returncode, done.stderr) == (2, "")
        assert done.stdout.startswith("the runner did not start: error: ")
        assert "rows.jsonl:2: m: must be a finite size >= 1, got []" in done.stdout
        assert rows.read_text("utf-8") == content


def test_what_cannot_be_run_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious", "utf-8")
    for options, message in (
        (("out", "--budget", "3"), "--budget must be at least 15 s, got 3"),
        (("out", "--budget", "nan"), "--budget must be at least 15 s, got nan"),
        (("file",), "give a folder that can be written"),
    ):
        done = campaign(SCRIPT, str(tmp_path / options[0]), "--self-test", *options[1:])
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text("utf-8") == "precious"


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = campaign(SCRIPT, str(tmp_path), "--only", "launch")
    if done.returncode == 0:
        return  # there is a GPU here
    assert done.returncode == 2
    assert "nothing was measured: error:" in done.stdout
