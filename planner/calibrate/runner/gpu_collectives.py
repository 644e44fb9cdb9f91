"""Collectives between the GPUs of one machine: a process a device, timed together.

``bytes`` is what each rank brings: its whole buffer (all-reduce), its part (all-gather), or all it
sends, its own share included (all-to-all).
"""

import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .case import CheckFailedError
from .points import Point

OPS = ("all_reduce", "all_gather", "all_to_all")
REPEATS = 9
PATIENCE_S = 120.0


class Collectives:
    """Measures all collective points of a plan at the first that is asked for."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._found: dict[str, Any] = {}

    def plan(self, points: list[Point]) -> None:
        """Say which points will be asked for."""
        self._points = [point for point in points if point.op in OPS]

    def measure(self, point: Point, backend: str) -> dict[str, Any]:
        """Fields of a row.

        Raises
        ------
        CheckFailedError
            If what the ranks end with is not what they should.
        RuntimeError
            If the processes did not answer.
        """
        if point.label() not in self._found:
            asked = self._points if point in self._points else [point]
            self._found.update(run_ranks(asked, backend))
        found = dict(self._found[point.label()])
        if not found.pop("right"):
            raise CheckFailedError(f"{point.op}: a rank ended with something else")
        return found


def run_ranks(points: list[Point], backend: str) -> dict[str, Any]:
    """Start one process a rank and collect what the first of them timed."""
    ranks = int(points[0].shape["ranks"])
    package = __package__ or ""
    root = Path(__file__).parents[package.count(".") + 1]
    wanted = json.dumps([(p.label(), p.op, int(p.shape["bytes"])) for p in points])
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", f"import {__name__} as m; m.work()"], cwd=root,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env={
                    **os.environ, "RUNNER_RANK": str(rank), "RUNNER_RANKS": str(ranks),
                    "RUNNER_FOLDER": folder, "RUNNER_BACKEND": backend, "RUNNER_POINTS": wanted,
                },
            )
            for rank in range(ranks)
        ]  # fmt: skip
        until = time.monotonic() + PATIENCE_S
        try:
            said = [p.communicate(timeout=max(1.0, until - time.monotonic()))[1] for p in processes]
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
        result = Path(folder, "result.json")
        if not result.exists():
            last = b"".join(said).decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"no rank answered: {''.join(last)[:300]}")
        found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return found


def work() -> None:
    """One rank: what ``run_ranks`` starts."""
    torch: Any = importlib.import_module("torch")
    group: Any = importlib.import_module("torch.distributed")
    rank, ranks = int(os.environ["RUNNER_RANK"]), int(os.environ["RUNNER_RANKS"])
    folder, backend = os.environ["RUNNER_FOLDER"], os.environ["RUNNER_BACKEND"]
    if backend == "nccl":
        torch.cuda.set_device(rank)
    where = f"cuda:{rank}" if backend == "nccl" else "cpu"
    group.init_process_group(
        backend, init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    found = {}
    for label, op, size in json.loads(os.environ["RUNNER_POINTS"]):
        found[label] = _one(torch, group, op, size, (rank, ranks, where))
    if rank == 0:
        Path(folder, "result.json").write_text(json.dumps(found), "utf-8")
    group.barrier()
    group.destroy_process_group()


def _one(torch: Any, group: Any, op: str, size: int, me: tuple[int, int, str]) -> dict[str, Any]:
    rank, ranks, where = me
    count = max(ranks, size // 2 // ranks * ranks)

    def drawn(of: int) -> Any:
        seed = torch.Generator().manual_seed(of)
        return torch.randint(0, 8, (count,), generator=seed).to(torch.bfloat16).to(where)

    mine = drawn(rank)
    out = torch.empty(count * (ranks if op == "all_gather" else 1), dtype=mine.dtype, device=where)

    def call() -> None:
        if op == "all_reduce":
            group.all_reduce(out)
        elif op == "all_gather":
            group.all_gather_into_tensor(out, mine)
        else:
            group.all_to_all_single(out, mine)

    out[:count].copy_(mine)
    call()
    every = torch.stack([drawn(of) for of in range(ranks)])
    share = slice(rank * count // ranks, (rank + 1) * count // ranks)
    expected = {
        "all_reduce": every.float().sum(0),
        "all_gather": every.flatten(),
        "all_to_all": every[:, share].flatten(),
    }[op]
    right = torch.tensor([float(torch.equal(out.float(), expected.float()))], device=where)
    group.all_reduce(right)
    # repeated sums saturate the format, which takes no longer
    samples, inner = _times(torch, group, call, where)
    moved = 2 * count * (ranks if op == "all_gather" else 1)
    return {
        "time_s": statistics.median(samples), "min_s": min(samples), "repeats": len(samples),
        "inner": inner, "timing": "eager", "flop": 0, "check_rel_err": 0.0,
        "traffic_bytes": moved, "note": f"{ranks} ranks", "right": float(right) == ranks,
    }  # fmt: skip


def _times(torch: Any, group: Any, call: Any, where: str) -> tuple[list[float], int]:
    """Seconds of a call; a barrier starts the ranks of every repeat together."""

    def sync() -> None:
        if where != "cpu":
            torch.cuda.synchronize()

    def batch(inner: int) -> float:
        group.barrier()
        sync()
        start = time.perf_counter()
        for _ in range(inner):
            call()
        sync()
        return (time.perf_counter() - start) / inner

    batch(2)
    estimate = torch.tensor([batch(3)], device=where)
    group.all_reduce(estimate, op=group.ReduceOp.MAX)
    inner = max(1, min(200, math.ceil(5e-3 / float(estimate))))
    return [batch(inner) for _ in range(REPEATS)], inner
