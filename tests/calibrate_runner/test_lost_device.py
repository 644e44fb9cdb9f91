"""What becomes of a run whose device or process dies."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner.calibrate.runner import main
from planner.calibrate.runner.case import CheckFailedError
from planner.calibrate.runner.plan_cpu import tiny_cpu_plan
from planner.calibrate.runner.points import Point
from planner.calibrate.runner.rows import RowsFile

HEADER = {"op": "header", "device": "pretended", "backend": "cuda"}
RESULT = {"time_s": 1e-3, "min_s": 1e-3, "repeats": 7, "inner": 1, "timing": "graph"}


class Pretended:
    """A device that fails where it is told to."""

    name = "cuda"

    def __init__(self, **failures: Exception | BaseException) -> None:
        self.failures = failures
        self.lost = False
        self.measured: list[str] = []

    def header(self, seed: int, budget_s: float) -> dict[str, Any]:
        return HEADER

    def prepare(self, points: list[Point]) -> None:
        if "prepare" in self.failures:
            raise self.failures["prepare"]

    def measure(self, point: Point) -> dict[str, Any]:
        if point.op in self.failures:
            raise self.failures[point.op]
        self.measured.append(point.op)
        return RESULT

    def recover(self, error: Exception) -> bool:
        return "illegal" not in str(error)

    def close(self) -> None:
        pass


def run(path: Path, device: Pretended, **options: Any) -> int:
    with RowsFile(path, HEADER, **options) as rows:
        return main.measure_all(tiny_cpu_plan(), device, rows, 1e9, lambda: 0.0, 0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_out_of_memory_is_listed_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    device = Pretended(gemm=RuntimeError("CUDA out of memory"))
    assert run(path, device) == 0
    (error,) = (row for row in lines(path) if row["op"] == "error")
    assert error["error"] == "RuntimeError: CUDA out of memory"
    assert len(device.measured) == len(tiny_cpu_plan()) - 1


def test_a_lost_device_ends_the_run_and_the_next_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lost = Pretended(gemm=RuntimeError("an illegal memory access was encountered"))
    assert run(path, lost) == main.DEVICE_LOST
    assert lines(path)[-1]["op"] == "error"
    after = Pretended()
    assert run(path, after) == 0
    assert "gemm" not in after.measured
    assert not set(after.measured) & {"launch", "hbm_read"}
    assert lines(path)[-1]["op"] == "end"


def test_a_point_at_which_the_process_died_twice_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    marker = path.with_name("rows.jsonl.now")
    for died in (1, 2):
        with pytest.raises(SystemExit):
            run(path, Pretended(gemm=SystemExit()))  # the process is told to go: no death
        assert not marker.exists()
        marker.write_text(json.dumps({"point": tiny_cpu_plan()[4].as_dict(), "tries": died}))
    device = Pretended()
    assert run(path, device) == 0
    assert "gemm" not in device.measured
    (error,) = (row for row in lines(path) if row["op"] == "error")
    assert "died 2 times" in error["error"]


def test_preparing_may_fail(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    device = Pretended(prepare=OSError("no compiler"))
    assert run(path, device) == 0
    assert len(device.measured) == len(tiny_cpu_plan())


def test_a_failed_check_is_an_error_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    device = Pretended(moe_layer=CheckFailedError("relative error 1.0"))
    assert run(path, device) == 0
    failed = [row for row in lines(path) if row["op"] == "error"]
    assert {row["point"]["op"] for row in failed} == {"moe_layer"}
    assert not any(row["op"] == "moe_layer" for row in lines(path))
