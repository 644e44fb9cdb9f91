"""The runner on this processor: real timings, sound rows, runs that go on where they stopped."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import planner.calibrate.runner as package
from planner.calibrate.runner import main
from planner.calibrate.runner.backend_cpu import CpuBackend
from planner.calibrate.runner.case import Case, Check, CheckFailedError
from planner.calibrate.runner.plan_cpu import cpu_plan, tiny_cpu_plan
from planner.calibrate.runner.points import KEYS, key_of, point, selected

TINY = ["--backend", "cpu", "--self-test"]
POINTS = len(tiny_cpu_plan())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def measured(path: Path) -> list[dict]:
    return [row for row in lines(path) if row["op"] in KEYS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    assert main.run([*TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "rows.jsonl"))


def test_every_operation_is_timed_and_right(whole: Path) -> None:
    rows = measured(whole)
    assert len(rows) == POINTS
    for row in rows:
        assert 0 < row["min_s"] <= row["time_s"] < 1
        assert row["repeats"] >= 7
        assert row["inner"] >= 1
        assert row["timing"] == "clock"
        assert (row["backend"], row["kernel"]) == ("cpu", "own")
        assert row["check_rel_err"] is None or 0 <= row["check_rel_err"] < 2e-4


def test_a_file_begins_with_its_device_and_ends_with_its_count(whole: Path) -> None:
    first, *_, last = lines(whole)
    assert first["op"] == "header"
    assert first["backend"] == "cpu"
    assert first["device"]
    for name in ("driver", "torch", "numpy", "python", "date", "git", "memory_bytes", "seed"):
        assert name in first
    assert (last["op"], last["measured"], last["left"]) == ("end", POINTS, 0)


def test_work_is_that_of_the_row_s_own_routing(whole: Path) -> None:
    for row in measured(whole):
        if row["op"] == "grouped_gemm":
            assert row["flop"] == 2 * row["pairs"] * row["k"] * row["n"]
        if row["op"] == "moe_layer" and row["local_experts"] == row["experts"]:
            assert row["pairs"] == row["tokens"] * row["top_k"]
        if row["op"] == "moe_layer":
            assert row["touched"] <= row["local_experts"]
            assert row["largest"] * row["touched"] >= row["pairs"]


def test_a_second_run_measures_nothing_twice(copy: Path) -> None:
    before = measured(copy)
    assert main.run([*TINY, "--out", str(copy)]) == 0
    assert measured(copy) == before
    assert lines(copy)[-1]["present"] == POINTS
    assert [row["op"] for row in lines(copy)].count("end") == 1


@pytest.mark.parametrize("cut", [40, 400, 3000])
def test_a_killed_run_loses_nothing_and_repeats_nothing(
    copy: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    content = copy.read_bytes()[:-200]  # into the last line but one
    copy.write_bytes(content[:-cut])
    kept = [json.loads(line) for line in copy.read_bytes().split(b"\n")[:-1]]
    assert main.run([*TINY, "--out", str(copy)]) == 0
    assert "was cut short and is dropped" in capsys.readouterr().err
    assert lines(copy)[: len(kept)] == kept
    keys = [key_of(row) for row in measured(copy)]
    assert len(keys) == len(set(keys)) == POINTS


def test_the_run_stops_before_its_budget(tmp_path: Path) -> None:
    ticks = itertools.count()
    out = tmp_path / "rows.jsonl"
    clock = lambda: float(next(ticks))  # noqa: E731
    assert main.run([*TINY, "--out", str(out), "--budget", "20"], clock) == 0
    end = lines(out)[-1]
    assert 0 < end["measured"] < POINTS
    assert end["measured"] + end["left"] == POINTS
    assert end["wall_s"] <= 20


def test_a_longer_budget_measures_more(tmp_path: Path) -> None:
    counts = []
    for budget in ("5", "15", "30"):
        ticks = itertools.count()
        out = tmp_path / f"{budget}.jsonl"
        main.run([*TINY, "--out", str(out), "--budget", budget], lambda t=ticks: float(next(t)))
        counts.append(len(measured(out)))
    assert counts == sorted(set(counts))


def test_only_names_operations(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert main.run([*TINY, "--only", "gemm, hbm_read:fp32", "--out", str(out)]) == 0
    assert {row["op"] for row in measured(out)} == {"gemm", "hbm_read"}


def test_the_list_of_points_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    assert main.run([*TINY, "--list", "--out", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == POINTS
    assert not out.exists()


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "rows.jsonl:1: not JSON"),
        ('{"op": "gemm", "time_s": 1}\n', "expected the header"),
        ('{"op": "header", "device": "H200", "backend": "cuda"}\n', "give another --out"),
        ("{header}" + '{"op": "conv", "time_s": 1}\n', "rows.jsonl:2: op is 'conv'"),
        (
            "{header}" + '{"op": "launch", "time_s": -1}\n',
            "time_s: must be a finite time > 0, got -1",
        ),
        (
            "{header}" + '{"op": "launch", "time_s": NaN}\n',
            "time_s: must be a finite time > 0, got nan",
        ),
        ("{header}{header}", "a second header"),
        ("{header}" + '{"op": "error", "error": "?"}\n', "without the point"),
    ],
)
def test_a_bad_file_of_rows_is_refused_and_kept(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    header = whole.read_text("utf-8").splitlines(keepends=True)[0]
    bad = tmp_path / "rows.jsonl"
    bad.write_text(content.replace("{header}", header), "utf-8")
    before = bad.read_bytes()
    assert main.run([*TINY, "--out", str(bad)]) == 2
    assert message in capsys.readouterr().err
    assert bad.read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--budget", "0"], "--budget must be > 0 s"),
        (["--only", "conv"], "no operation 'conv'; there are launch"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
    ],
)
def test_a_bad_option_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main.run([*TINY, *argv, "--out", str(tmp_path / "rows.jsonl")]) == 2
    assert message in capsys.readouterr().err


def test_a_failed_point_is_listed_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("no room for 1 TB")

    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(CpuBackend, "_gemm", refuse)
    assert main.run([*TINY, "--out", str(out)]) == 0
    (error,) = (row for row in lines(out) if row["op"] == "error")
    assert error["point"]["op"] == "gemm"
    assert error["error"] == "MemoryError: no room for 1 TB"
    assert lines(out)[-1]["failed"] == 1
    monkeypatch.undo()
    assert main.run([*TINY, "--out", str(out)]) == 0
    assert len(measured(out)) == POINTS - 1
    assert main.run([*TINY, "--out", str(out), "--retry"]) == 0
    assert len(measured(out)) == POINTS


def test_a_run_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(CpuBackend, "_gemm", stop)
    assert main.run([*TINY, "--out", str(out)]) == main.STOPPED
    assert f"start again with --out {out} to go on" in capsys.readouterr().err
    kept = measured(out)
    assert {row["op"] for row in kept} >= {"launch", "hbm_read"}
    monkeypatch.undo()
    assert main.run([*TINY, "--out", str(out)]) == 0
    assert measured(out)[: len(kept)] == kept
    assert len(measured(out)) == POINTS


def test_a_wrong_result_is_never_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = "planner.calibrate.runner.cpu_kernels.silu_mul"
    monkeypatch.setattr(kernels, lambda x: x[:, : x.shape[1] // 2])
    out = tmp_path / "rows.jsonl"
    assert main.run([*TINY, "--out", str(out)]) == 0
    failed = [row for row in lines(out) if row["op"] == "error"]
    assert {row["point"]["op"] for row in failed} == {"moe_layer", "elementwise"}
    assert all("against float64" in row["error"] for row in failed)
    assert not any(row["op"] == "moe_layer" for row in measured(out))


@pytest.mark.parametrize("error", [0.1, float("nan")])
def test_an_error_too_large_or_none_does_not_pass(error: float) -> None:
    with pytest.raises(CheckFailedError):
        Check(error, 0.01).passed()
    assert Case(lambda _: None, work=None).check is None  # type: ignore[arg-type]


# --- the plan ----------------------------------------------------------------------------------


def test_no_point_is_planned_twice() -> None:
    for plan in (cpu_plan(), tiny_cpu_plan()):
        assert len({p.key for p in plan}) == len(plan)


def test_the_first_round_touches_every_kind_of_time_that_binds() -> None:
    first = {p.op for p in cpu_plan() if p.rank == 0}
    assert {"launch", "hbm_read", "gemm", "grouped_gemm", "moe_layer"} <= first
    ranks = [p.rank for p in selected(cpu_plan(), None)]
    assert ranks == sorted(ranks)


def test_the_same_seed_plans_and_routes_the_same(tmp_path: Path) -> None:
    counts = []
    for name in "ab":
        out = tmp_path / name
        main.run([*TINY, "--only", "moe_layer", "--seed", "5", "--out", str(out)])
        counts.append([(row["pairs"], row["touched"], row["largest"]) for row in measured(out)])
    assert counts[0] == counts[1]


def test_a_point_is_found_again_by_its_fields() -> None:
    one = point("gemm", "fp32", m=1, k=2, n=3)
    assert one.key == key_of({**one.as_dict(), "time_s": 1.0})
    assert one.key != point("gemm", "fp32", 0, "library", m=1, k=2, n=3).key


# --- travelling alone --------------------------------------------------------------------------


def test_the_folder_runs_alone(tmp_path: Path) -> None:
    shutil.copytree(Path(package.__file__).parent, tmp_path / "runner")
    command = [sys.executable, "-m", "runner", *TINY, "--out", "rows.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(measured(tmp_path / "rows.jsonl")) == POINTS


def test_the_embedded_backend_needs_numpy_alone() -> None:
    code = (
        "import sys; from planner.calibrate.runner import main, backend_cpu, plan_cpu;"
        "print(sorted({'torch', 'triton', 'pydantic', 'yaml', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
