"""The runner's command line: measure points in order of value until they or the time run out."""

import argparse
import importlib
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .backend_cpu import CpuBackend
from .case import Backend, CheckFailedError
from .plan_cpu import cpu_plan, tiny_cpu_plan
from .points import Point, selected
from .recorded import Recorded, read_counts
from .rows import RowsFile, RunnerError

MEASURED, NO_DEVICE, DEVICE_LOST, STOPPED = 0, 2, 3, 130
"""Exit status: 2 is also any other reason not to start."""
RECENT = 20
"""The longest of so many last points is what the next may take."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command line."""
    made = argparse.ArgumentParser(
        prog="moe-planner calibrate run",
        description="Measure the operations of MoE inference on this device; JSON lines out.",
    )
    made.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--out", type=Path, default=Path("rows.jsonl"), help="file of rows")
    made.add_argument(
        "--budget", type=float, default=240.0, metavar="SECONDS", help="stop before this has passed"
    )
    made.add_argument("--only", metavar="OP[:DTYPE],...", help="these operations alone")
    made.add_argument("--seed", type=int, default=0, help="of operands and routing")
    made.add_argument(
        "--counts", type=Path, metavar="FILE",
        help="tokens of each expert of one layer (JSON or CSV): route some points as those were",
    )  # fmt: skip
    made.add_argument("--retry", action="store_true", help="try points again that failed")
    made.add_argument("--list", action="store_true", help="print the points and stop")
    made.add_argument("--self-test", action="store_true", help="tiny points of every operation")
    return made


def run(argv: list[str], clock: Callable[[], float] = time.monotonic) -> int:
    """Run the command line; return its exit status.

    ``clock`` is what the budget is read from. [s]
    """
    options = parser().parse_args(argv)
    try:
        recorded = read_counts(options.counts) if options.counts else None
        points = selected(plan(options.backend, options.self_test, recorded), options.only)
        if options.list:
            sys.stdout.writelines(p.label() + "\n" for p in points)
            return MEASURED
        if not options.budget > 0:
            raise RunnerError(f"--budget must be > 0 s, got {options.budget:g}")
        if options.seed < 0:
            raise RunnerError(f"--seed must be >= 0, got {options.seed}")
        start = clock()
        backend = open_backend(options.backend, options.seed, options.self_test, recorded)
        try:
            header = backend.header(options.seed, options.budget)
            header["counts"] = recorded.said if recorded else None
            with RowsFile(options.out, header, options.retry) as rows:
                return measure_all(points, backend, rows, options.budget, clock, start)
        finally:
            backend.close()
    except (RunnerError, ValueError, OSError) as error:
        say(f"error: {error}")
        return NO_DEVICE
    except KeyboardInterrupt:
        say(f"stopped; start again with --out {options.out} to go on")
        return STOPPED


def plan(backend: str, tiny: bool, recorded: Recorded | None = None) -> list[Point]:
    """Points of a backend.

    Raises
    ------
    RunnerError
        If no planned layer can be routed as the recorded counts.
    """
    if backend == "cpu":
        points = tiny_cpu_plan(recorded) if tiny else cpu_plan(recorded)
    else:
        from .plan_cuda import cuda_plan, tiny_cuda_plan

        points = tiny_cuda_plan(recorded) if tiny else cuda_plan(cuda_devices(), recorded)
    shapes = [p.shape for p in points if "distribution" in p.shape]
    if recorded and all(shape["distribution"] != "recorded" for shape in shapes):
        layers = sorted({(int(s["experts"]), int(s["top_k"])) for s in shapes})
        there = ", ".join(f"{experts} (top {top_k})" for experts, top_k in layers)
        raise RunnerError(
            f"--counts: {len(recorded.counts)} experts, the busiest with "
            f"{max(recorded.counts) / sum(recorded.counts):.1%} of the tokens, are those of no "
            f"planned layer; there are {there}; of top k no expert can have over 1/k"
        )
    return points


def cuda_devices() -> int:
    """GPUs that can talk to each other here; 1 without torch, so that a plan can be listed."""
    try:
        return max(1, int(importlib.import_module("torch").cuda.device_count()))
    except ImportError:
        return 1


def open_backend(name: str, seed: int, tiny: bool, recorded: Recorded | None = None) -> Backend:
    """Open a device.

    Raises
    ------
    RunnerError
        If it is not there, saying what would do.
    """
    if name == "cpu":
        return CpuBackend(seed, quick=tiny, recorded=recorded)
    from .backend_cuda import open_cuda

    return open_cuda(seed, tiny, recorded)


def say(message: str) -> None:
    """Tell a person."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def measure_all(
    points: list[Point],
    backend: Backend,
    rows: RowsFile,
    budget_s: float,
    clock: Callable[[], float],
    start_s: float,
) -> int:
    """Measure what is not yet in the file, best first, and say in the end what was left out."""
    for note in rows.notes:
        say(f"{rows.path}: {note}")
    todo = [p for p in points if p.key not in rows.done]
    tally = Counter(present=len(points) - len(todo))
    say(f"{len(todo)} points to measure, {tally['present']} already in {rows.path}")
    lost = not _prepare(backend, todo, rows)
    taken: list[float] = []
    for position, point in enumerate(todo):
        before = clock()
        if lost or before - start_s + max(taken[-RECENT:], default=0.0) >= budget_s:
            tally["left"] = len(todo) - position
            break
        rows.begin(point)
        try:
            result = backend.measure(point)
        except Exception as error:  # a point that fails is listed, and the run goes on
            rows.write({"op": "error", "point": point.as_dict(), "error": describe(error)})
            tally["failed"] += 1
            say(f"  failed: {point.label()}: {describe(error)}")
            lost = not backend.recover(error)
            continue
        row = {**point.as_dict(), "backend": backend.name, **result, **point.shape}
        rows.write(row)
        tally["measured"] += 1
        taken.append(clock() - before)
        say(
            f"[{clock() - start_s:6.1f} s] {position + 1}/{len(todo)} "
            f"{point.label()}: {row['time_s'] * 1e6:.2f} us"
        )
    return _finish(rows, tally, clock() - start_s, lost)


def _prepare(backend: Backend, todo: list[Point], rows: RowsFile) -> bool:
    try:
        backend.prepare(todo)
    except Exception as error:  # what was to help failed: the points say what works without it
        say(f"  preparing failed: {describe(error)}")
        return backend.recover(error)
    return True


def _finish(rows: RowsFile, tally: Counter[str], wall_s: float, lost: bool) -> int:
    counts = {name: tally[name] for name in ("measured", "present", "failed", "left")}
    if lost:
        say("the device was lost: start again with the same --out to go on")
        return DEVICE_LOST
    rows.write({"op": "end", **counts, "wall_s": round(wall_s, 3)})
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{said} after {wall_s:.1f} s; rows in {rows.path}")
    return MEASURED


def describe(error: Exception) -> str:
    """Say an error in one line."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {text}"
