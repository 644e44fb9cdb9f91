"""How a sweep scales over workers, and whether one killed half-way ends up the same.

    python scripts/bench_sweep.py [--cases 10000] [--dask]

Answers the same cases with one worker process, with two, and (with --dask) over a Dask scheduler
with two worker processes; then starts the sweep again, kills it with SIGKILL when half the rows
are there, resumes it, and compares the files byte by byte.  Seconds are of the wall clock: on a
shared machine run it alone, and read the load it prints.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENARIO = "r1-distill-7b-rtx5090"
SETS = ("run.requests=60", "run.warmup_requests=10")


def vary(cases: int) -> list[str]:
    """Two lists whose combinations are ``cases``: client counts, and bandwidths."""
    bandwidths = ",".join(f"{0.5 + 1.5 * i * 16 / cases:.6g}" for i in range(cases // 16))
    clients = ",".join(map(str, range(1, 17)))
    return [
        f"workload.arrivals.concurrency={clients}",
        f"accelerator.memory_bytes_per_s*={bandwidths}",
    ]


def command(out: Path, cases: int, *more: str) -> list[str]:
    """One sweep of the command line."""
    sets = [part for each in SETS for part in ("--set", each)]
    varied = [part for each in vary(cases) for part in ("--vary", each)]
    return [
        sys.executable, "-m", "planner.cli", "sweep", SCENARIO, *sets, *varied,
        "--out", str(out), "--json", *more,
    ]  # fmt: skip


def timed(out: Path, cases: int, *more: str) -> tuple[float, float]:
    """Seconds one sweep takes by the clock, and of the processor in it and its workers."""
    start_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command(out, cases, *more), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start_s, busy_s


def killed_and_resumed(out: Path, cases: int) -> int:
    """Kill a sweep when half of it is on disk, resume it; rows that were there at the kill."""
    from planner.study.store import read_rows

    parts = out.with_name(out.name + ".parts")
    sweep = subprocess.Popen(
        command(out, cases, "--workers", "2"), stdout=subprocess.DEVNULL, start_new_session=True
    )
    kept = 0
    while sweep.poll() is None and kept < cases // 2:
        time.sleep(0.5)
        kept = sum(len(read_rows(part)) for part in parts.glob("part-*.parquet"))
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    kept = sum(len(read_rows(part)) for part in parts.glob("part-*.parquet"))
    done = json.loads(
        subprocess.run(
            command(out, cases, "--workers", "2", "--resume"), check=True, capture_output=True
        ).stdout
    )
    assert done["new"] == cases // 16 * 16 - kept, (done, kept)
    return kept


def with_dask(out: Path, cases: int) -> tuple[float, float]:
    """Seconds over a real scheduler with two worker processes of one thread.

    Scheduler and client share the cores with the workers here, and Dask's profiler is off: it
    looks at every process a hundred times a second.
    """
    import dask
    from distributed import LocalCluster

    dask.config.set({"distributed.worker.profile.enabled": False})
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1",
    ) as cluster:  # fmt: skip
        return timed(out, cases, "--dask", cluster.scheduler_address)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=int, default=10_000)
    options.add_argument("--dask", action="store_true")
    asked = options.parse_args()
    cases = asked.cases
    with tempfile.TemporaryDirectory() as folder:
        names = ("one", "two", "dask", "killed")
        one, two, dask, killed = (Path(folder) / f"{name}.parquet" for name in names)
        print(f"{cases} cases of {SCENARIO}; load before: {os.getloadavg()[0]:.2f}")
        single_s, single_cpu_s = timed(one, cases, "--workers", "1")
        print(f"1 worker : {single_s:7.1f} s, {cases / single_s:7.1f} cases/s, "
              f"{single_cpu_s:.1f} s of processors")  # fmt: skip
        double_s, double_cpu_s = timed(two, cases, "--workers", "2")
        print(f"2 workers: {double_s:7.1f} s, {cases / double_s:7.1f} cases/s, "
              f"{double_cpu_s:.1f} s of processors, {single_s / double_s:.2f} times as fast; "
              f"{2 * single_cpu_s / double_cpu_s:.2f} with two idle cores")  # fmt: skip
        if asked.dask:
            dask_s, _ = with_dask(dask, cases)
            print(f"2 by Dask: {dask_s:7.1f} s, {cases / dask_s:7.1f} cases/s, "
                  f"{single_s / dask_s:.2f} times as fast")  # fmt: skip
        kept = killed_and_resumed(killed, cases)
        files = [path for path in (one, two, dask, killed) if path.exists()]
        same = len({digest(path) for path in files}) == 1
        print(f"killed with {kept} rows on disk and resumed; files identical: {same}")
        print(f"load after: {os.getloadavg()[0]:.2f}")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
