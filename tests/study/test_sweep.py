"""Sweeps: streamed, ended, resumed, over any workers, with workers that die."""

import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

import planner
from planner.errors import InputError
from planner.study import run as run_module
from planner.study import store as store_module
from planner.study.grid import Grid
from planner.study.run import run
from planner.study.store import read_rows
from planner.study.workers import Given, Here, Local, dask_workers, workers_of

VARY = {"workload.arrivals.concurrency": [1, 2, 3], "accelerator.memory_bytes_per_s*": [0.5, 1.0]}
HERE = Given(Here(), 1)


def swept(base, out, **options):
    return planner.sweep(base, VARY, out, **{"workers": HERE, **options})


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_sweep_leaves_one_file_with_every_row_in_order(base, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"rows{suffix}"
    assert swept(base, out) == 6
    rows = read_rows(out)
    assert [row["index"] for row in rows] == list(range(6))
    assert rows == list(planner.what_if(base, VARY, workers=1).rows)
    assert list(tmp_path.glob("rows*")) == [out]


def ended_half_way(base, out, monkeypatch, flush_rows=1):
    monkeypatch.setattr(store_module, "FLUSH_ROWS", flush_rows)

    def stop(done, total):
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(base, out, progress=stop)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_an_ended_sweep_resumes_to_the_same_bytes_and_repeats_nothing(
    base, tmp_path, monkeypatch, suffix
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    swept(base, whole)
    ended_half_way(base, broken, monkeypatch)
    assert not broken.exists()
    assert swept(base, broken, resume=True) == 3
    assert broken.read_bytes() == whole.read_bytes()


def test_an_unfinished_sweep_is_not_overwritten(base, tmp_path, monkeypatch):
    out = tmp_path / "rows.jsonl"
    ended_half_way(base, out, monkeypatch)
    with pytest.raises(InputError, match="go on with --resume"):
        swept(base, out)


def test_a_sweep_that_asks_something_else_is_not_resumed(base, tmp_path, monkeypatch):
    out = tmp_path / "rows.jsonl"
    ended_half_way(base, out, monkeypatch)
    other = planner.with_overrides(base, {"slo.tpot_p95_s": 0.04})
    with pytest.raises(InputError, match=r"slo.tpot_p95_s: 0.05 before, 0.04 now"):
        swept(other, out, resume=True)
    with pytest.raises(InputError, match=r"vary.workload.arrivals.concurrency"):
        planner.sweep(
            base, {**VARY, "workload.arrivals.concurrency": [1, 2]}, out, resume=True, workers=HERE
        )


def test_a_finished_file_is_not_written_again(base, tmp_path):
    out = tmp_path / "rows.jsonl"
    swept(base, out)
    with pytest.raises(InputError, match="is there already"):
        swept(base, out)


def test_a_full_disk_in_the_middle_loses_nothing(base, tmp_path, monkeypatch):
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(store_module, "FLUSH_ROWS", 1)
    real, written = store_module._write, []

    def full(path, rows, grid):
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, rows, grid)

    monkeypatch.setattr(store_module, "_write", full)
    with pytest.raises(InputError, match=r"No space left on device.*--resume"):
        swept(base, out)
    monkeypatch.setattr(store_module, "_write", real)
    assert swept(base, out, resume=True) == 4
    assert len(read_rows(out)) == 6


def test_an_unwritable_place_and_a_strange_suffix_are_refused(base, tmp_path):
    with pytest.raises(InputError, match="must end in"):
        swept(base, tmp_path / "rows.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        swept(base, tmp_path / "file" / "rows.jsonl")


def test_any_executor_gives_the_same_rows(base):
    cases = list(Grid.of(VARY))
    here = sorted(run(base, "simulate", cases, len(cases), HERE), key=lambda row: row["index"])
    with ThreadPoolExecutor(2) as pool:
        threads = sorted(
            run(base, "simulate", cases, len(cases), workers_of(pool, None)),
            key=lambda row: row["index"],
        )
    local = sorted(run(base, "simulate", cases, len(cases), Local(2)), key=lambda row: row["index"])
    assert here == threads == local


def lethal(base, ask, chunk):
    """As the real one, but case 2 kills its process, always."""
    if any(case.index == 2 for case in chunk):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_module.work(base, ask, chunk)


def once_lethal(base, ask, chunk):
    """Case 3 kills its process the first time."""
    from pathlib import Path

    mark = Path(os.environ["LETHAL_MARK"])
    if any(case.index == 3 for case in chunk) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run_module.work(base, ask, chunk)


class Swapped:
    """Loky's pool, with another function in the place of the real one."""

    def __init__(self, instead):
        self.count, self.chunk_s, self.instead = 2, 0.25, instead

    def executor(self):
        pool, instead = Local(2).executor(), self.instead

        class Pool:
            def submit(self, _, *args):
                return pool.submit(instead, *args)

        return Pool()


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_case_that_kills_its_worker_is_a_row_and_no_other_is_lost(base, monkeypatch, tmp_path):
    cases = list(Grid.of(VARY))
    rows = {row["index"]: row for row in run(base, "simulate", cases, len(cases), Swapped(lethal))}
    assert sorted(rows) == list(range(6))
    assert "worker died" in rows[2]["error"]
    assert all(rows[i]["error"] is None for i in rows if i != 2)


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_worker_that_dies_once_costs_nothing(base, monkeypatch, tmp_path):
    from loky import get_reusable_executor

    monkeypatch.setenv("LETHAL_MARK", str(tmp_path / "mark"))
    get_reusable_executor(max_workers=2, kill_workers=True, reuse=False)
    rows = list(run(base, "simulate", Grid.of(VARY), 6, Swapped(once_lethal)))
    assert sorted(row["index"] for row in rows) == list(range(6))
    assert (tmp_path / "mark").exists()
    assert all(row["error"] is None for row in rows)


def test_workers_are_at_least_one():
    with pytest.raises(InputError, match="1 or more"):
        workers_of(None, 0)


def test_a_scheduler_that_is_not_there_is_said_so(monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    monkeypatch.setattr("planner.study.workers.CONNECT_S", 1)
    with pytest.raises(InputError, match="no scheduler answers"), dask_workers("tcp://127.0.0.1:9"):
        pass


def chunks(workers, cases, each_s, monkeypatch):
    """Sizes of the chunks that are given, if a case takes so long."""
    given = []

    def work(base, ask, chunk):
        given.append(len(chunk))
        return [{"index": case} for case in chunk], each_s * len(chunk)

    monkeypatch.setattr(run_module, "work", work)
    assert len(list(run(None, "simulate", range(cases), cases, workers))) == cases
    return given


def test_chunks_take_the_time_wished_and_leave_the_last_ones_to_every_worker(monkeypatch):
    given = chunks(Given(Here(), 2, 2.0), 1000, 0.02, monkeypatch)
    assert given[:4] == [1, 1, 1, 1]  # nothing is known yet
    assert max(given) == 100
    assert given[4:] == sorted(given[4:], reverse=True)
    assert given[-4:] == [1, 1, 1, 1]


def test_cases_longer_than_a_chunk_go_one_by_one(monkeypatch):
    assert set(chunks(Given(Here(), 2, 2.0), 20, 5.0, monkeypatch)) == {1}


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_of_two_processes_gives_the_same_file(base, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    swept(base, here)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster, dask_workers(cluster.scheduler_address) as workers:  # fmt: skip
        assert workers.count == 2
        swept(base, there, workers=workers)
    assert here.read_bytes() == there.read_bytes()
