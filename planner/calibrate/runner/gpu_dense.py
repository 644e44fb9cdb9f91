"""Dense products: the library's in every format it takes, and our own with block scales."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import work
from .case import Check
from .gpu_case import GpuCase, Probe, Way
from .gpu_moe import MoeBatch, Tile, Widths, fitting_tiles, tile_way
from .operands import FP8_SPREAD, Gpu, expanded
from .points import Point
from .routing import Routed

Product = Callable[[Any, Any, Any, Any], Any]
"""Activations, weights ``[n, k]`` and the scales of both, to bf16."""


def products(gpu: Gpu, dtype: str) -> dict[str, Product]:
    """Ways to ask the library for a product; which of them exist depends on its version."""
    torch = gpu.torch

    def old(fast: bool, turned: Callable[[Any], Any] = lambda scale: scale) -> Product:
        return lambda x, w, xs, ws: torch._scaled_mm(
            x, w.t(), scale_a=xs, scale_b=turned(ws), out_dtype=torch.bfloat16, use_fast_accum=fast
        )

    def new(x: Any, w: Any, xs: Any, ws: Any) -> Any:
        kinds = torch.nn.functional.ScalingType
        return torch.nn.functional.scaled_mm(
            x, w.t(), xs, kinds.BlockWise1x128, ws.t(), kinds.BlockWise128x128,
            output_dtype=torch.bfloat16,
        )  # fmt: skip

    if dtype != "fp8_block":
        return {"_scaled_mm fast": old(True), "_scaled_mm": old(False)}
    return {
        "_scaled_mm": old(False, lambda s: s.t()),
        "scaled_mm": new,
        "_scaled_mm contiguous": old(False, lambda s: s.t().contiguous()),
    }


def scales(gpu: Gpu, dtype: str, m: int, k: int, n: int) -> tuple[Any, Any]:
    """Scales of activations and of weights ``[n, k]``, as the library wants them laid out."""
    size = 1 / FP8_SPREAD
    if dtype == "fp8_tensor":
        return gpu.uniform((1,))[0] * size, gpu.uniform((1,))[0] * size / k**0.5
    if dtype == "fp8_row":
        return gpu.uniform((m, 1)) * size, gpu.uniform((1, n)) * size / k**0.5
    activations = (gpu.uniform((k // 128, m)) * size).t()  # outer dimension last in memory
    return activations, gpu.uniform((-(-n // 128), k // 128)) * size / k**0.5


def product_probe(gpu: Gpu, dtype: str, product: Product | None) -> Probe:
    """Compare one way to multiply with float64."""
    m, k, n = (16, 128, 128) if gpu.small else (48, 512, 256)
    x, weights = gpu.activations((m, k), dtype), gpu.activations((n, k), dtype)
    x_scale, scale = scales(gpu, dtype, m, k, n)

    def call() -> Any:
        return product(x, weights, x_scale, scale) if product else gpu.torch.mm(x, weights.t())

    def check() -> Check:
        left, right = x.double(), weights.double()
        if dtype == "fp8_block":
            left, right = expanded(x, x_scale), expanded(weights, scale)
        elif product:
            left, right = left * x_scale.double(), right * scale.double().reshape(-1, 1)
        return gpu.compare(call(), left @ right.t(), "bf16")

    return Probe(call, check)


def dense_case(gpu: Gpu, point: Point) -> GpuCase:
    """Make a dense product ready."""
    m, k, n = (int(point.shape[name]) for name in ("m", "k", "n"))
    done = work.gemm(m, k, n, point.dtype)
    if point.kernel == "own":
        return _own(gpu, point, (m, k, n), done)
    sets = [parts[0] for parts in gpu.weight_sets(point.dtype, ((n, k),))]
    x = gpu.activations((m, k), point.dtype)
    if point.dtype in ("bf16", "fp16"):
        out = gpu.empty((m, n), point.dtype)
        ways = [
            Way(
                lambda i: gpu.torch.mm(x, sets[i].t(), out=out), "mm", None,
                ("dense", point.dtype), lambda: product_probe(gpu, point.dtype, None),
            )
        ]  # fmt: skip
        return GpuCase(ways, done, len(sets))
    x_scale, scale = scales(gpu, point.dtype, m, k, n)
    ways = [
        Way(
            partial(_scaled, product, (x, sets, x_scale, scale)), name, None,
            ("dense", point.dtype, name), partial(product_probe, gpu, point.dtype, product),
        )
        for name, product in products(gpu, point.dtype).items()
    ]  # fmt: skip
    return GpuCase(ways, done, len(sets))


def _own(gpu: Gpu, point: Point, dims: tuple[int, int, int], done: work.Work) -> GpuCase:
    """Our grouped kernel with one expert that gets every token."""
    m, k, n = dims
    here = Routed(np.zeros((m, 1), dtype=np.int32), np.array([m]))
    batch = MoeBatch(gpu, point.dtype, Widths(k, n // 2), here)
    ways = [
        tile_way(batch, tile, partial(_up, batch, tile))
        for tile in fitting_tiles(point.dtype, m)[: 1 if gpu.small else None]
    ]
    return GpuCase(ways, done, len(batch.sets))


def _up(batch: MoeBatch, tile: Tile, turn: int) -> None:
    batch.up(turn, tile)


def _scaled(product: Product, operands: tuple[Any, ...], turn: int) -> Any:
    x, sets, x_scale, scale = operands
    return product(x, sets[turn], x_scale, scale)
