"""Compile the kernels of a plan in other processes while what needs none is measured.

A worker builds each kernel's probe on torch's ``meta`` device, which allocates nothing, and asks
Triton to compile for the device's capability: the results lie in Triton's cache on disk, where
the run finds them under the same key (source, types, divisibility, options).
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .gpu_case import Probe
from .gpu_cases import case_of
from .gpu_moe_points import MoePoints
from .operands import Gpu
from .points import Point

PROCESSORS = 132
"""Only decides which splits are tried; the kernels are the same for any number."""
PATIENCE_S = 60.0
"""Beyond this, what is not compiled ahead is compiled when it is needed."""


def kernels(points: list[Point], gpu: Gpu) -> Iterator[tuple[tuple[Any, ...], Probe]]:
    """Every kernel of our own that a plan launches, once each."""
    moe, seen = MoePoints(gpu, 0), set()
    for point in representatives(points):
        own = point.op in MoePoints.OPS
        case = moe.case(point) if own else case_of(gpu, point, PROCESSORS)
        for way in case.ways:
            if way.probe and way.probe_key not in seen:
                seen.add(way.probe_key)
                yield way.probe_key, way.probe()


def representatives(points: list[Point]) -> Iterator[Point]:
    """Points that between them use every kernel: one for each set of constants and tile range.

    Not those of recorded counts, which the workers do not have: their kernels are the others'.
    """
    seen = set()
    for point in points:
        if point.kernel != "own" or point.op in ("launch", "hbm_write", "hbm_copy", "host_copy"):
            continue
        shape = point.shape
        if shape.get("distribution") == "recorded":
            continue
        constants = tuple(
            shape.get(name)
            for name in ("variant", "hidden", "experts", "top_k", "heads", "kv_heads", "head_dim")
        )
        size = int(shape.get("group_tokens", shape.get("m", 0)))
        key = (point.op, point.dtype, constants, shape.get("local_experts"), size.bit_length())
        if key not in seen and size <= 4096:
            seen.add(key)
            yield point


class Ahead:
    """Workers at work."""

    def __init__(self, workers: list[subprocess.Popen[bytes]]) -> None:
        self._workers = workers
        self._until = time.monotonic() + PATIENCE_S

    def wait(self) -> None:
        """Wait until they are done, or for so long and no longer."""
        for worker in self._workers:
            try:
                worker.wait(max(0.0, self._until - time.monotonic()))
            except subprocess.TimeoutExpired:
                break
        self.stop()

    def stop(self) -> None:
        """End those still running."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.terminate()
                worker.wait(10)
        self._workers = []


def start(points: list[Point], capability: int, most: int = 8) -> Ahead:
    """Start workers on a plan; each compiles every n-th kernel."""
    count = max(1, min(most, (os.cpu_count() or 2) // 2))
    package = __package__ or ""
    root = Path(__file__).parents[package.count(".") + 1]
    plan = json.dumps([[p.op, p.dtype, p.fields, p.kernel, p.rank] for p in points])
    workers = []
    for number in range(count):
        code = f"import {__name__} as m; m.work({capability}, {number}, {count})"
        worker = subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert worker.stdin
        worker.stdin.write(plan.encode())
        worker.stdin.close()
        workers.append(worker)
    return Ahead(workers)


def work(capability: int, number: int, count: int) -> int:
    """Compile every ``count``-th kernel of the plan on standard input; return how many."""
    plan = [
        Point(op, dtype, tuple((name, value) for name, value in fields), kernel, rank)
        for op, dtype, fields, kernel, rank in json.load(sys.stdin)
    ]
    tri = importlib.import_module(f"{__package__}.tri")
    tri.compile_for(capability)
    done = 0
    for place, (_, probe) in enumerate(kernels(plan, Gpu("meta", 0))):
        if place % count == number:
            probe.launch()
            done += 1
    return done
