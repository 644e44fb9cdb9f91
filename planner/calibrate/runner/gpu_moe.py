"""The MoE layer on the device: our own Triton kernels from the picks to the weighted sum."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import kernels_moe, kernels_rows
from .gpu_case import Probe, Way
from .operands import FP8_SPREAD, Gpu, expanded, quantised_store
from .routing import Routed, route
from .tri import INTERPRETED, launch


class Tile(NamedTuple):
    """Rows and columns of one program's result, and how its loop is pipelined."""

    rows: int
    columns: int
    warps: int
    stages: int
    swapped: bool = False

    def __str__(self) -> str:
        """Say it in a row's note."""
        turned = " swapped" if self.swapped else ""
        return f"{self.rows}x{self.columns} w{self.warps} s{self.stages}{turned}"


TILES: dict[str, tuple[Tile, ...]] = {
    "fp8_block": (
        Tile(16, 128, 4, 5, True),
        Tile(16, 64, 4, 6, True),
        Tile(32, 128, 4, 4, True),
        Tile(64, 128, 4, 4),
        Tile(128, 128, 8, 3),
    ),
    "bf16": (
        Tile(16, 128, 4, 4, True),
        Tile(16, 64, 4, 5, True),
        Tile(32, 128, 4, 4, True),
        Tile(64, 128, 4, 4),
        Tile(128, 128, 8, 3),
        Tile(128, 256, 8, 3),
    ),
}
"""Few, so that they compile in seconds; a wgmma has at least 64 rows, hence ``swapped``."""
ALIGN_BLOCK = 1024
BAND = 8
"""Tiles of rows that share a column of weights while it is in the L2."""


def fitting_tiles(dtype: str, rows_each: float) -> list[Tile]:
    """Tiles worth trying at so many rows an expert.

    >>> [t.rows for t in fitting_tiles("bf16", 1.0)], [t.rows for t in fitting_tiles("bf16", 500.0)]
    ([16, 16], [64, 128, 128])
    """
    low, high = min(rows_each, 128) / 2, max(16.0, 2 * rows_each)
    return [tile for tile in TILES[dtype] if low <= tile.rows <= high]


@dataclass(frozen=True, slots=True)
class Widths:
    """Dimensions of one expert."""

    hidden: int
    intermediate: int


class MoeBatch:
    """One device's part of a MoE layer: buffers, and the steps on them."""

    def __init__(self, gpu: Gpu, dtype: str, widths: Widths, here: Routed) -> None:
        self.gpu, self.dtype, self.widths, self.here = gpu, dtype, widths, here
        self.block_scaled = dtype == "fp8_block"
        self.tokens, self.picks = here.ids.shape
        self.slots, self.experts = here.ids.size, len(here.counts)
        hidden, width = widths.hidden, widths.intermediate
        self.ids = gpu.ints(here.ids.ravel())
        self.counts, self.padded = gpu.space(self.experts), gpu.space(1)
        most_rows = max(tile.rows for tile in TILES[dtype])
        self.places = gpu.space(max(self.most_tiles(16) * 16, self.most_tiles(most_rows) * 256))
        self.tile_expert = gpu.space(self.most_tiles(16) + 1)
        self.picked = gpu.uniform((self.slots,))
        self.x = gpu.normal((self.tokens, hidden))
        self.xq = gpu.empty((self.tokens, hidden), dtype) if self.block_scaled else self.x
        self.x_scale = gpu.uniform((self.tokens, max(1, hidden // 128)))
        self.h = gpu.empty((self.slots, 2 * width))
        self.y = gpu.empty((self.slots, width), dtype)
        self.y_scale = gpu.uniform((self.slots, max(1, width // 128)))
        self.o = gpu.empty((self.slots, hidden))
        self.out = gpu.empty((self.tokens, hidden))
        self.sets = gpu.weight_sets(
            dtype, ((self.experts, 2 * width, hidden), (self.experts, hidden, width))
        )
        spread = 1 / FP8_SPREAD
        self.up_scale = self._scales(2 * width, hidden, spread / hidden**0.5)
        self.down_scale = self._scales(hidden, width, spread / width**0.5)

    def _scales(self, n: int, k: int, size: float) -> Any:
        shape = (self.experts, max(1, n // 128), max(1, k // 128))
        return self.gpu.uniform(shape, 0.5 * size, 1.5 * size)

    def most_tiles(self, rows: int) -> int:
        """Upper bound of tiles, known without asking the device."""
        return (self.slots + min(self.experts, self.slots) * (rows - 1)) // rows

    def permute(self, rows: int) -> None:
        """Sort slots by expert, padded to tiles of so many rows."""
        grid = (self.experts,)
        launch(kernels_moe.count_kernel, grid, self.ids, self.counts, self.slots, block=ALIGN_BLOCK)
        launch(
            kernels_moe.place_kernel, grid, self.ids, self.counts, self.places, self.tile_expert,
            self.padded, self.slots, self.experts, rows,
            most_experts=512, most_rows=128, block=ALIGN_BLOCK,
        )  # fmt: skip

    def quantise(self) -> None:
        """Convert the tokens to the format of the product."""
        if self.block_scaled:
            self._activate(self.x, self.xq, self.x_scale, self.widths.hidden, gated=False)

    def activate(self) -> None:
        """SiLU of gate times up, in the format of the next product."""
        self._activate(self.h, self.y, self.y_scale, self.widths.intermediate, gated=True)

    def _activate(self, x: Any, out: Any, scales: Any, width: int, gated: bool) -> None:
        store = quantised_store(self.gpu, out)
        launch(
            kernels_rows.activate_kernel, (len(out), -(-width // 1024)), x, self.ids, store,
            scales, width, gated=gated, local_only=gated, quantised=self.block_scaled, groups=8,
        )  # fmt: skip
        if store is not out:
            out.copy_(store.to(out.dtype))

    def _product(self, x: Any, weights: Any, out: Any, scales: tuple[Any, Any], how: Any) -> None:
        tile, picks = how
        n, k = weights.shape[1:]
        grid = (self.most_tiles(tile.rows) * -(-n // tile.columns),)
        launch(
            kernels_moe.grouped_gemm_kernel, grid, x, weights, out, *scales, self.places,
            self.tile_expert, self.padded, self.slots, picks, n, k,
            block_scaled=self.block_scaled, swapped=tile.swapped,
            whole_n=n % tile.columns == 0, upcast=INTERPRETED,
            bm=tile.rows, bn=tile.columns, bk=128 if self.block_scaled else 64, band=BAND,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    def up(self, turn: int, tile: Tile) -> None:
        """Gate and up product."""
        scales = (self.x_scale, self.up_scale)
        self._product(self.xq, self.sets[turn][0], self.h, scales, (tile, self.picks))

    def down(self, turn: int, tile: Tile) -> None:
        """Down product."""
        scales = (self.y_scale, self.down_scale)
        self._product(self.y, self.sets[turn][1], self.o, scales, (tile, 1))

    def combine(self) -> None:
        """Weighted sum of each token's local experts."""
        hidden = self.widths.hidden
        launch(
            kernels_moe.combine_kernel, (self.tokens, -(-hidden // 1024)), self.o, self.ids,
            self.picked, self.out, self.picks, hidden, block=1024,
        )  # fmt: skip

    def layer(self, turn: int, tiles: tuple[Tile, Tile]) -> None:
        """All of it; both products share the alignment, so their tiles have equal rows."""
        self.quantise()
        self.permute(tiles[0].rows)
        self.up(turn, tiles[0])
        self.activate()
        self.down(turn, tiles[1])
        self.combine()


def tile_way(batch: MoeBatch, tile: Tile, call: Callable[[int], object]) -> Way:
    """Make ``call`` a way to run a point on a batch aligned and filled for one tile."""
    dims = (batch.widths.hidden, 2 * batch.widths.intermediate)
    whole = all(n % tile.columns == 0 for n in dims)
    return Way(
        call, str(tile), partial(batch.layer, 0, (tile, tile)),
        ("moe", batch.dtype, tile, whole),
        partial(moe_probe, batch.gpu, batch.dtype, tile, whole),
    )  # fmt: skip


def moe_probe(gpu: Gpu, dtype: str, tile: Tile, whole_n: bool) -> Probe:
    """Make a layer small enough for float64: one expert without tokens, some picks elsewhere."""
    hidden, width = (256, 256) if whole_n else (320, 320)
    experts, tokens = (3, 9) if gpu.small else (8, 150)
    here = route(tokens, 2 * experts, experts, 2, "zipf", np.random.default_rng(0))
    ids = np.where(here.ids == 1, -1, here.ids)
    ids[0] = (0, -1)
    here = Routed(ids, np.bincount(ids[ids >= 0], minlength=experts))
    batch = MoeBatch(gpu, dtype, Widths(hidden, width), here)
    return Probe(lambda: batch.layer(0, (tile, tile)), lambda: _layer_error(batch, tile))


def _layer_error(batch: MoeBatch, tile: Tile) -> Any:
    """Worst error of the stages (each against its own input) and of the whole."""
    gpu = batch.gpu
    batch.layer(0, (tile, tile))
    gpu.sync()
    torch, local = gpu.torch, batch.ids.long()
    here = local >= 0
    up, down = batch.sets[0]
    x, y = batch.xq.double(), batch.y.double()
    if batch.block_scaled:
        up, down = expanded(up, batch.up_scale), expanded(down, batch.down_scale)
        x = expanded(batch.xq, batch.x_scale)
        y = expanded(batch.y, batch.y_scale)
    rows = x.repeat_interleave(batch.picks, 0)
    h = torch.einsum("sk,snk->sn", rows[here], up.double()[local[here]])
    gate, linear = batch.h[here].double().chunk(2, 1)
    activated = torch.nn.functional.silu(gate) * linear
    o = torch.einsum("sk,snk->sn", y[here], down.double()[local[here]])
    whole = torch.zeros_like(batch.o, dtype=torch.float64)
    exact_gate, exact_linear = h.chunk(2, 1)
    mixed = torch.nn.functional.silu(exact_gate) * exact_linear
    whole[here] = torch.einsum("sk,snk->sn", mixed, down.double()[local[here]])
    whole = (whole * batch.picked.double()[:, None]).view(batch.tokens, batch.picks, -1).sum(1)
    dtype = batch.dtype
    return max(
        gpu.compare(batch.h[here], h, "bf16"),
        gpu.compare(y[here], activated, dtype),
        gpu.compare(batch.o[here], o, "bf16"),
        gpu.compare(batch.xq.double() if not batch.block_scaled else x, batch.x, dtype),
        gpu.compare(batch.out, whole, dtype),
        key=lambda check: check.relative_error / check.tolerance,
    )
