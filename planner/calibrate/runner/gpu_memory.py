"""Launches, memory bandwidth, row-wise kernels and copies from and to the host."""

import time
from typing import Any

from . import kernels_rows, work
from .case import Check
from .gpu_case import GpuCase, Probe, Way
from .gpu_timing import capture
from .operands import Gpu, expanded, quantised_store
from .points import Point
from .timing import Timed, summary
from .tri import launch, power_of_two

READ_BLOCK = 8192
REPLAY_NODES = 100
MOST_SETS = 4096
"""Many, so that small buffers too are out of the cache when their turn comes."""
HEAD_SIZE = 128


def launch_case(gpu: Gpu, point: Point) -> GpuCase:
    """Launch an empty kernel, as a node of a graph or from the host."""
    x = gpu.normal((1024,), "fp32")
    way = Way(lambda _: launch(kernels_rows.empty_kernel, (1,), x))
    in_graph = point.shape["variant"] == "graph_node"
    note = "one node, back to back" if in_graph else "launched by Python: bound by the host"
    return GpuCase([way], work.Work(0, 0), 1, {}, note, in_graph, 1000)


def replay_times(gpu: Gpu) -> Timed:
    """Host time from the replay of a graph to its end. [s]"""
    x = gpu.normal((1024,), "fp32")

    def call(turn: int) -> None:
        launch(kernels_rows.empty_kernel, (1,), x)

    call(0)
    graph = capture(gpu.torch, call, 1, REPLAY_NODES)
    samples = []
    for _ in range(21):
        start = time.perf_counter()
        graph.replay()
        gpu.sync()
        samples.append(time.perf_counter() - start)
    graph.reset()
    return summary(samples, 1, "graph")


def memory_case(gpu: Gpu, point: Point) -> GpuCase:
    """Read, write or copy so many bytes; operands rotate past the cache."""
    moved = int(point.shape["bytes"])
    size = moved // 2 if point.op == "hbm_copy" else moved
    if size > gpu.memory_bytes() / 8:
        raise MemoryError(f"{size / 1e9:.1f} GB is more than an eighth of this device's memory")
    count = size // 4
    sets = gpu.sets(size, MOST_SETS)
    done = work.Work(0, moved)
    target = gpu.empty((sets, count), "fp32")
    if point.op == "hbm_write":
        return GpuCase(
            [Way(lambda i: target[i].fill_(1.5), "fill_")], done, sets, most_calls=max(200, sets)
        )
    source = gpu.normal((sets, count), "fp32")
    if point.op == "hbm_copy":
        return GpuCase(
            [Way(lambda i: target[i].copy_(source[i]), "copy_")],
            done,
            sets,
            most_calls=max(200, sets),
        )
    block = 256 if gpu.small else READ_BLOCK
    way = Way(
        lambda i: _read(source[i], target[0], block), "", None, ("read", block),
        lambda: read_probe(gpu, block),
    )  # fmt: skip
    return GpuCase([way], done, sets, most_calls=max(200, sets))


def _read(source: Any, sums: Any, block: int) -> None:
    grid = (source.numel() // block,)
    launch(kernels_rows.read_kernel, grid, source, sums, block=block, num_warps=8)


def read_probe(gpu: Gpu, block: int) -> Probe:
    """Sums of three blocks."""
    x, sums = gpu.normal((3 * block,), "fp32") + 1, gpu.empty((3,), "fp32")

    def check() -> Check:
        _read(x, sums, block)
        gpu.sync()
        return gpu.compare(sums, x.double().view(3, -1).sum(1), "fp32")

    return Probe(lambda: _read(x, sums, block), check)


# --- row-wise kernels --------------------------------------------------------------------------


class Rows:
    """A kernel over ``[tokens, hidden]``: rms_norm, rope, quantise or silu_mul."""

    def __init__(self, gpu: Gpu, variant: str, dtype: str, sizes: tuple[int, int, int]) -> None:
        self.gpu, self.variant, self.dtype = gpu, variant, dtype
        sets, self.tokens, self.hidden = sizes
        wide = 2 * self.hidden if variant == "silu_mul" else self.hidden
        self.x = gpu.normal((sets, self.tokens, wide))
        self.out = gpu.empty((sets, self.tokens, self.hidden), dtype)
        self.scales = gpu.uniform((self.tokens, max(1, self.hidden // 128)))
        self.weight = gpu.normal((self.hidden,))
        self.angles = gpu.uniform((self.tokens, HEAD_SIZE // 2), 0, 6)
        self.ids = gpu.space(1)

    def run(self, turn: int) -> None:
        """Run on one set."""
        x, out, hidden = self.x[turn], self.out[turn], self.hidden
        match self.variant:
            case "rms_norm":
                launch(
                    kernels_rows.rms_norm_kernel, (self.tokens,), x, self.weight, out, hidden,
                    block=power_of_two(hidden), num_warps=8,
                )  # fmt: skip
            case "rope":
                heads = hidden // HEAD_SIZE
                launch(
                    kernels_rows.rope_kernel, (self.tokens,), x, self.angles, out, heads,
                    most_heads=power_of_two(heads), half=HEAD_SIZE // 2,
                )  # fmt: skip
            case _:
                store = quantised_store(self.gpu, out)
                launch(
                    kernels_rows.activate_kernel, (self.tokens, -(-hidden // 1024)), x, self.ids,
                    store, self.scales, hidden, gated=self.variant == "silu_mul",
                    local_only=False, quantised=self.dtype == "fp8_block", groups=8,
                )  # fmt: skip
                if store is not out:
                    out.copy_(store.to(out.dtype))

    def check(self) -> Check:
        """Compare the first set with float64."""
        self.run(0)
        self.gpu.sync()
        torch, x, out = self.gpu.torch, self.x[0].double(), self.out[0]
        got = expanded(out, self.scales) if self.dtype == "fp8_block" else out
        match self.variant:
            case "rms_norm":
                norm = (x.square().mean(1, keepdim=True) + 1e-6).rsqrt()
                reference = x * norm * self.weight.double()
            case "rope":
                first, second = x.view(self.tokens, -1, 2, HEAD_SIZE // 2).unbind(2)
                angle = self.angles.double()[:, None]
                turned = (
                    first * angle.cos() - second * angle.sin(),
                    second * angle.cos() + first * angle.sin(),
                )
                reference = torch.stack(turned, 2).view(self.tokens, -1)
            case "silu_mul":
                gate, up = x.chunk(2, 1)
                reference = torch.nn.functional.silu(gate) * up
            case _:
                reference = x
        return self.gpu.compare(got, reference, self.dtype)


def rows_work(variant: str, dtype: str, tokens: int, hidden: int) -> work.Work:
    """Traffic of a row-wise kernel."""
    if variant == "silu_mul":
        return work.silu_mul(tokens, hidden, dtype)
    if variant == "quantise":
        return work.quantise(tokens, hidden)
    return work.Work(0, 4 * tokens * hidden)


def rows_case(gpu: Gpu, point: Point) -> GpuCase:
    """Make a row-wise kernel ready."""
    variant, tokens, hidden = (point.shape[n] for n in ("variant", "tokens", "hidden"))
    done = rows_work(str(variant), point.dtype, int(tokens), int(hidden))
    sets = gpu.sets(done.traffic_bytes)
    rows = Rows(gpu, str(variant), point.dtype, (sets, int(tokens), int(hidden)))
    way = Way(
        rows.run, "", None, ("rows", variant, point.dtype, hidden),
        lambda: rows_probe(gpu, str(variant), point.dtype, int(hidden)),
    )  # fmt: skip
    return GpuCase([way], done, sets)


def rows_probe(gpu: Gpu, variant: str, dtype: str, hidden: int) -> Probe:
    """Few rows of the width that is timed."""
    rows = Rows(gpu, variant, dtype, (1, 5, hidden))
    return Probe(lambda: rows.run(0), rows.check)


# --- the host ----------------------------------------------------------------------------------


def host_case(gpu: Gpu, point: Point) -> GpuCase:
    """Copy from or to pinned memory of the host."""
    torch, size = gpu.torch, int(point.shape["bytes"])
    pinned = gpu.device == "cuda"
    host = torch.randint(0, 255, (size,), dtype=torch.uint8, pin_memory=pinned)
    device = torch.randint(0, 255, (size,), dtype=torch.uint8, device=gpu.device)
    to, source = (device, host) if point.shape["variant"] == "h2d" else (host, device)
    way = Way(lambda _: to.copy_(source, non_blocking=True), "pinned")
    return GpuCase([way], work.Work(0, size), 1, {}, "", True, 20)
