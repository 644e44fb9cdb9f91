"""The device backend: Triton kernels and torch's, on an NVIDIA GPU."""

import gc
import importlib
import math
from typing import Any

from . import compile_ahead, device, gpu_collectives, gpu_memory
from .case import CheckFailedError, measured
from .gpu_case import GpuCase, Way
from .gpu_cases import case_of
from .gpu_moe_points import MoePoints
from .gpu_timing import by_events, interpreted
from .operands import Gpu
from .points import Point
from .recorded import Recorded
from .rows import RunnerError
from .timing import Timed
from .tri import INTERPRETED

HELD_SHARE = 0.8
"""Share of the memory held by the allocator above which what is cached is given back."""


def open_cuda(seed: int, tiny: bool, recorded: Recorded | None = None) -> "CudaBackend":
    """Open the GPU, or the interpreter on the host for a self-test.

    Raises
    ------
    RunnerError
        Without torch, Triton or a device, saying which.
    """
    for name in ("torch", "triton"):
        if device.version(name) is None:
            raise RunnerError(f"--backend cuda needs {name}: install it, or use --backend cpu")
    torch = importlib.import_module("torch")
    if INTERPRETED and tiny:
        return CudaBackend("cpu", seed, tiny, recorded)
    if not torch.cuda.is_available():
        raise RunnerError("no CUDA device here (torch.cuda.is_available() is False): --backend cpu")
    return CudaBackend("cuda", seed, tiny, recorded)


class CudaBackend:
    """Check, choose among ways, and time: each point on the device."""

    name = "cuda"

    def __init__(self, where: str, seed: int, tiny: bool, recorded: Recorded | None = None) -> None:
        self.gpu = Gpu(where, seed, tiny)
        self._moe = MoePoints(self.gpu, seed, recorded)
        self._checked: dict[tuple[Any, ...], float | str] = {}
        self._clock = device.ClockReader()
        self._collectives = gpu_collectives.Collectives()
        self._compiling: compile_ahead.Ahead | None = None
        self._processors = 4
        if where == "cuda":
            torch = self.gpu.torch
            gc.disable()  # a collection while a graph is captured could free what it records
            torch.cuda.set_stream(torch.cuda.Stream())  # the default stream cannot be captured
            torch.backends.cuda.matmul.allow_tf32 = False
            self._properties = torch.cuda.get_device_properties(0)
            self._processors = int(self._properties.multi_processor_count)

    def header(self, seed: int, budget_s: float) -> dict[str, Any]:
        """First line of the rows."""
        if self.gpu.device != "cuda":
            return device.header("cuda", seed, budget_s, device="Triton's interpreter")
        found = self._properties
        return device.header(
            "cuda", seed, budget_s,
            device=found.name, memory_bytes=int(found.total_memory), driver=self._clock.driver(),
            clocks_mhz=device.smi_clocks(), capability=f"{found.major}.{found.minor}",
            processors=self._processors, l2_bytes=int(getattr(found, "L2_cache_size", 0)),
            cuda=self.gpu.torch.version.cuda, devices=self.gpu.torch.cuda.device_count(),
        )  # fmt: skip

    def prepare(self, points: list[Point]) -> None:
        """Compile ahead in other processes, and bring the clocks up."""
        for point in points:
            if point.op in ("grouped_gemm", "moe_layer"):
                names = ("local_experts", "hidden", "intermediate")
                each = math.prod(int(point.shape[name]) for name in names)
                self.gpu.want(point.dtype, 3 * each)
        self._collectives.plan(points)
        if self.gpu.device != "cuda":
            return
        capability = 10 * self._properties.major + self._properties.minor
        self._compiling = compile_ahead.start(points, capability)
        torch = self.gpu.torch
        x = self.gpu.normal((8192, 8192))
        for _ in range(400):
            torch.mm(x, x)
        self.gpu.sync()

    def close(self) -> None:
        """Stop compiling."""
        if self._compiling:
            self._compiling.stop()

    def measure(self, point: Point) -> dict[str, Any]:
        """Check each way against float64 on a small instance, then time the fastest that is right.

        Raises
        ------
        CheckFailedError
            If no way is right.
        """
        if point.op in gpu_collectives.OPS:
            kind = "nccl" if self.gpu.device == "cuda" else "gloo"
            return {**self._collectives.measure(point, kind), "clock_mhz": self._clock.mhz()}
        if self._compiling and point.kernel == "own" and not point.op.startswith("hbm_"):
            self._compiling.wait()
        if point.shape.get("variant") == "graph_replay" and self.gpu.device == "cuda":
            timed = gpu_memory.replay_times(self.gpu)
            note = f"host time of a graph of {gpu_memory.REPLAY_NODES} empty kernels, to its end"
            fields = {"bytes": 0, "flop": 0, "check_rel_err": None, "note": note}
            return {**timed.as_dict(), **fields, "clock_mhz": self._clock.mhz()}
        case = self.case(point)
        way, error = self._best(case)
        if way.setup:
            way.setup()
        timed = self._time(case, way)
        host = self._clock.mhz()
        note = ", ".join(part for part in (case.note, way.name) if part)
        row = {**measured(case.as_case(way.call), error, timed.as_dict()), "clock_mhz": host}
        row["note"] = note
        self._give_back()
        return row

    def case(self, point: Point) -> GpuCase:
        """Make a point ready; only points of the MoE layer share what the last one held."""
        if point.op in MoePoints.OPS:
            return self._moe.case(point)
        self._moe.drop()
        return case_of(self.gpu, point, self._processors)

    def _checked_error(self, way: Way) -> float | None:
        """Relative error of a way, from its probe; a kernel is probed once in a run."""
        if way.probe is None:
            return None
        found = self._checked.get(way.probe_key)
        if found is None:
            try:
                found = way.probe().check().passed()
            except Exception as error:
                if _lost(error):
                    raise
                found = f"{type(error).__name__}: {error}"
            self._checked[way.probe_key] = found
        if isinstance(found, str):
            raise CheckFailedError(found)
        return found

    def _best(self, case: GpuCase) -> tuple[Way, float | None]:
        right: list[tuple[Way, float | None]] = []
        wrong = []
        for way in case.ways:
            try:
                right.append((way, self._checked_error(way)))
            except CheckFailedError as error:
                wrong.append(f"{way.name}: {error}".strip(": "))
        if not right:
            raise CheckFailedError("; ".join(wrong) or "no way to run it")
        if len(right) == 1:
            return right[0]
        return min(right, key=lambda pair: self._quick_s(case, pair[0]))

    def _quick_s(self, case: GpuCase, way: Way) -> float:
        if way.setup:
            way.setup()
        return self._time(case, way, quick=True).time_s

    def _time(self, case: GpuCase, way: Way, quick: bool = False) -> Timed:
        if self.gpu.device != "cuda":
            return interpreted(way.call)
        return by_events(
            self.gpu.torch, way.call, case.sets, case.graph, quick, case.most_calls
        )  # fmt: skip

    def _give_back(self) -> None:
        if self.gpu.device == "cuda":
            held = self.gpu.torch.cuda.memory_reserved()
            if held > HELD_SHARE * self.gpu.memory_bytes():
                gc.collect()
                self.gpu.free()

    def recover(self, error: Exception) -> bool:
        """Free what the point held; False where the device takes no more work."""
        self._moe.drop()
        gc.collect()
        try:
            self.gpu.sync()
            self.gpu.free()
        except Exception:  # whatever it is: the device is gone
            return False
        return not _lost(error)


def _lost(error: Exception) -> bool:
    """Whether an error leaves the device unusable in this process."""
    if "out of memory" in str(error):
        return False
    text = str(error).lower()
    return any(words in text for words in ("illegal", "unspecified launch", "device-side assert"))
