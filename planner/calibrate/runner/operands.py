"""Tensors for the device backend: drawn afresh when small, cut from one random pool when large.

The same code runs on a GPU, on the host under Triton's interpreter (tests), and on torch's
``meta`` device, where nothing is allocated or launched and kernels are only compiled.
"""

import importlib
import math
from typing import Any

from .case import TOLERANCE, Check
from .tri import INTERPRETED

L2_BYTES = 400e6
"""Operands rotate over this much: several times the L2 of any part. [bytes]"""
POOL_SHARE = 0.45
"""Share of the device's memory that the pools of random weights may take together."""
CHUNK = 1 << 27
FP8_SPREAD = 64.0
"""Standard deviation of stored FP8 numbers: they use the format's range."""
WEIGHT_SPREAD = 1 / 64


class Gpu:
    """A torch device and the random numbers on it."""

    def __init__(self, device: str, seed: int, small: bool = False) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.device = device
        self.small = small
        self.meta = device == "meta"
        self.rotate_bytes = 4e5 if small else L2_BYTES
        self._pools: dict[str, Any] = {}
        self._wanted: dict[str, int] = {}
        if not self.meta:
            self.torch.manual_seed(seed)

    def kind(self, dtype: str) -> Any:
        """Torch's name of a format."""
        names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
        return getattr(self.torch, names.get(dtype, "float8_e4m3fn"))

    def empty(self, shape: tuple[int, ...], dtype: str = "bf16") -> Any:
        """Uninitialised memory, poisoned so that what a kernel leaves out shows."""
        made = self.torch.empty(shape, dtype=self.kind(dtype), device=self.device)
        return made if self.meta or dtype not in ("fp32", "bf16") else made.fill_(math.nan)

    def ints(self, values: Any) -> Any:
        """32-bit integers from numpy."""
        made = self.torch.as_tensor(values, dtype=self.torch.int32)
        return made.to(self.device)

    def space(self, count: int) -> Any:
        """Room for 32-bit integers."""
        return self.torch.empty(count, dtype=self.torch.int32, device=self.device)

    def normal(self, shape: tuple[int, ...], dtype: str = "bf16", spread: float = 1.0) -> Any:
        """Fresh normal numbers, never zeros; FP8 clamped to its range."""
        made = self.torch.empty(shape, dtype=self.kind(dtype), device=self.device)
        if self.meta:
            return made
        flat = made.view(-1)
        for start in range(0, flat.numel(), CHUNK):
            part = flat[start : start + CHUNK]
            drawn = self.torch.randn(part.numel(), device=self.device) * spread
            part.copy_(drawn.clamp_(-448, 448) if dtype.startswith("fp8") else drawn)
        return made

    def activations(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Numbers as a layer sees them."""
        return self.normal(shape, dtype, FP8_SPREAD if dtype.startswith("fp8") else 1.0)

    def uniform(self, shape: tuple[int, ...], low: float = 0.5, high: float = 1.5) -> Any:
        """Fresh fp32 numbers in a range: scales and expert weights."""
        made = self.torch.empty(shape, dtype=self.torch.float32, device=self.device)
        return made if self.meta else made.uniform_(low, high)

    # --- the pools -----------------------------------------------------------------------------

    def want(self, dtype: str, elements: int) -> None:
        """Say ahead how large the largest operand of a format will be."""
        storage = "fp8" if dtype.startswith("fp8") else dtype
        self._wanted[storage] = max(self._wanted.get(storage, 0), elements)

    def pool(self, dtype: str, elements: int) -> Any:
        """At least ``elements`` random weights, with room to rotate past the cache.

        Raises
        ------
        MemoryError
            If the device is too small for them.
        """
        storage = "fp8" if dtype.startswith("fp8") else dtype
        size = self.kind(dtype).itemsize
        most = int(self.memory_bytes() * POOL_SHARE / 3 * (1 if size == 1 else 2)) // size
        wanted = max(elements, self._wanted.get(storage, 0), 2 * int(self.rotate_bytes) // size)
        if elements > most:
            raise MemoryError(
                f"{elements * size / 1e9:.1f} GB of weights; {most * size / 1e9:.1f} GB are kept "
                "for them on this device"
            )
        held = self._pools.get(storage)
        if held is None or held.numel() < elements:
            self._pools[storage] = None
            spread = FP8_SPREAD if storage == "fp8" else WEIGHT_SPREAD
            self._pools[storage] = held = self.normal((min(wanted, most),), dtype, spread)
        return held

    def weight_sets(self, dtype: str, shapes: tuple[tuple[int, ...], ...]) -> list[list[Any]]:
        """Sets of weights of these shapes, as many as keep the cache cold."""
        sizes = [math.prod(shape) for shape in shapes]
        each = sum(sizes)
        pool = self.pool(dtype, each)
        wanted = math.ceil(self.rotate_bytes / max(1, each * self.kind(dtype).itemsize))
        sets = []
        for number in range(max(1, min(64, wanted, pool.numel() // each))):
            at, parts = number * each, []
            for shape, size in zip(shapes, sizes, strict=True):
                parts.append(pool[at : at + size].view(shape))
                at += size
            sets.append(parts)
        return sets

    def memory_bytes(self) -> int:
        """Memory of the device; a nominal size where there is none. [bytes]"""
        if self.device != "cuda":
            return 1 << 47 if self.meta else 1 << 30
        return int(self.torch.cuda.get_device_properties(0).total_memory)

    # --- running and comparing -----------------------------------------------------------------

    def sync(self) -> None:
        """Wait for the device; an error of an earlier kernel is raised here."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def free(self) -> None:
        """Give cached memory back."""
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def sets(self, operand_bytes: float, most: int = 64) -> int:
        """Sets of operands to rotate over."""
        return max(1, min(most, math.ceil(self.rotate_bytes / max(operand_bytes, 1.0))))

    def compare(self, got: Any, reference: Any, dtype: str) -> Check:
        """Norm of the error over the norm of the float64 reference."""
        got, reference = got.double(), reference.double()
        error = (got - reference).norm() / reference.norm().clamp_min(1e-300)
        return Check(float(error), TOLERANCE[dtype])


def quantised_store(gpu: Gpu, out: Any) -> Any:
    """What a kernel writes FP8 into: ``out``, or fp32 under the interpreter.

    The interpreter's conversion to FP8 drops the carry of the rounding; torch's does not.
    """
    if INTERPRETED and out.dtype.itemsize == 1:
        return gpu.torch.empty(out.shape, dtype=gpu.torch.float32, device=out.device)
    return out


def expanded(values: Any, scales: Any) -> Any:
    """FP8 numbers times their 1x128 or 128x128 scales, in float64."""
    tall = values.shape[-2] // scales.shape[-2]
    wide = scales.repeat_interleave(128, -1)
    if tall > 1:
        wide = wide.repeat_interleave(tall, -2)
    return values.double() * wide.double()
