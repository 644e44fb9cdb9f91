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


def timed(out: Path, cases: int, *more: str) -> float:
    """Seconds one sweep takes."""
    start_s = time.perf_counter()
    subprocess.run(command(out, cases, *more), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start_s


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


def with_dask(out: Path, cases: int) -> float:
    """Seconds over a real scheduler with two worker processes of one thread."""
    from distributed import LocalCluster

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
        one, two, dask, killed = (Path(folder) / f"{n}.parquet" for n in "1 2 dask killed".split())
        print(f"{cases} cases of {SCENARIO}; load before: {os.getloadavg()[0]:.2f}")
        single_s = timed(one, cases, "--workers", "1")
        print(f"1 worker : {single_s:7.1f} s, {cases / single_s:7.1f} cases/s")
        double_s = timed(two, cases, "--workers", "2")
        print(f"2 workers: {double_s:7.1f} s, {cases / double_s:7.1f} cases/s, "
              f"{single_s / double_s:.2f} times as fast")  # fmt: skip
        if asked.dask:
            dask_s = with_dask(dask, cases)
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
