"""Points of the MoE layer: its steps, the whole, and the library's grouped products."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import kernels_moe, work
from .case import Check
from .gpu_case import GpuCase, Probe, Way
from .gpu_moe import MoeBatch, Tile, Widths, fitting_tiles, tile_way
from .operands import FP8_SPREAD, Gpu
from .points import Point
from .recorded import Recorded
from .routing import Routed, route
from .tri import launch, power_of_two

DEEPSEEK_GROUPS = (8, 4)


@dataclass(slots=True)
class _Held:
    """The last batch made: neighbouring points are of the same one."""

    key: tuple[Any, ...] = ()
    batch: MoeBatch | None = None


def routed(point: Point, seed: int, recorded: Recorded | None = None) -> Routed:
    """Picks of a point, the same in every run with this seed."""
    names = ("group_tokens", "experts", "local_experts", "top_k")
    tokens, experts, local, top_k = (int(point.shape[name]) for name in names)
    distribution = str(point.shape["distribution"])
    words = [seed, tokens, experts, local, top_k, *distribution.encode()]
    by = recorded if recorded and distribution == "recorded" else distribution
    return route(tokens, experts, local, top_k, by, np.random.default_rng(words))


def counts_of(here: Routed) -> dict[str, int]:
    """Fields of a row that the routing decides."""
    largest = int(here.counts.max())
    return {
        "tokens": here.tokens, "pairs": here.pairs, "touched": here.touched, "largest": largest
    }  # fmt: skip


class MoePoints:
    """Make cases of MoE points."""

    OPS = ("grouped_gemm", "moe_layer", "moe_permute", "moe_combine", "moe_router")

    def __init__(self, gpu: Gpu, seed: int, recorded: Recorded | None = None) -> None:
        self._gpu, self._seed, self._recorded = gpu, seed, recorded
        self._held = _Held()

    def drop(self) -> None:
        """Free the held batch."""
        self._held = _Held()

    def _batch(self, point: Point) -> MoeBatch:
        names = (
            "group_tokens", "experts", "local_experts", "top_k", "hidden", "intermediate",
            "distribution",
        )  # fmt: skip
        key = (point.dtype, *(point.shape[name] for name in names))
        if self._held.batch is None or self._held.key != key:
            self.drop()
            self._gpu.free()
            here = routed(point, self._seed, self._recorded)
            if not here.pairs:
                raise ValueError("no token of this batch picks an expert of this device")
            widths = Widths(int(point.shape["hidden"]), int(point.shape["intermediate"]))
            self._held = _Held(key, MoeBatch(self._gpu, point.dtype, widths, here))
        assert self._held.batch is not None
        return self._held.batch

    def case(self, point: Point) -> GpuCase:
        """Make a point of the layer or of one of its steps ready."""
        if point.op == "moe_router":
            return self._router(point)
        if point.op == "grouped_gemm" and point.kernel == "library":
            return self._library(point)
        batch = self._batch(point)
        here, widths = batch.here, batch.widths
        tiles = fitting_tiles(point.dtype, here.pairs / here.touched)
        if self._gpu.small:
            tiles = tiles[:1]
        extra, sets = counts_of(here), len(batch.sets)
        done: work.Work
        match point.op:
            case "moe_permute":
                rows = tiles[0].rows
                ways = [tile_way(batch, tiles[0], lambda _: batch.permute(rows))]
                done = work.permute(batch.slots, batch.experts)
            case "moe_combine":
                ways = [tile_way(batch, tiles[0], lambda _: batch.combine())]
                done = work.combine(here.tokens, here.pairs, widths.hidden, point.dtype)
            case "moe_layer":
                ways = [tile_way(batch, tile, partial(_layer, batch, tile)) for tile in tiles]
                sizes = (here.tokens, here.pairs, here.touched)
                done = work.moe_layer(*sizes, widths.hidden, widths.intermediate, point.dtype)
            case _:
                ways, done = self._product(point, batch, tiles)
        note = "quantise, permute, products, SiLU, sum" if point.op == "moe_layer" else ""
        return GpuCase(ways, done, sets, extra, note)

    def _product(
        self, point: Point, batch: MoeBatch, tiles: list[Tile]
    ) -> tuple[list[Way], work.Work]:
        k, n, here = int(point.shape["k"]), int(point.shape["n"]), batch.here
        is_up = (k, n) == (batch.widths.hidden, 2 * batch.widths.intermediate)
        step = batch.up if is_up else batch.down
        ways = [tile_way(batch, tile, partial(_step, step, tile)) for tile in tiles]
        rows = here.tokens if is_up else here.pairs
        return ways, work.grouped_gemm(rows, here.pairs, here.touched, k, n, point.dtype)

    # --- the library's ---------------------------------------------------------------------------

    def _library(self, point: Point) -> GpuCase:
        gpu, here = self._gpu, routed(point, self._seed, self._recorded)
        k, n = int(point.shape["k"]), int(point.shape["n"])
        self.drop()
        sets = gpu.weight_sets(point.dtype, ((len(here.counts), n, k),))
        call, _ = library_product(gpu, point.dtype, here.counts, k, [parts[0] for parts in sets])
        return GpuCase(
            [
                Way(
                    call, "", None, ("library grouped", point.dtype),
                    lambda: library_probe(gpu, point.dtype),
                )
            ],
            work.grouped_gemm(here.pairs, here.pairs, here.touched, k, n, point.dtype),
            len(sets), counts_of(here), "rows gathered before",
        )  # fmt: skip

    # --- the router ------------------------------------------------------------------------------

    def _router(self, point: Point) -> GpuCase:
        names = ("tokens", "experts", "top_k")
        tokens, experts, top_k = (int(point.shape[name]) for name in names)
        variant = str(point.shape["variant"])
        sets = self._gpu.sets(4.0 * tokens * experts)
        pick, _ = router(self._gpu, variant, (sets, tokens, experts, top_k))
        way = Way(
            pick, "", None, ("router", variant, experts, top_k),
            lambda: router_probe(self._gpu, variant, experts, top_k),
        )  # fmt: skip
        return GpuCase([way], work.router(tokens, experts, top_k), sets)


def _layer(batch: MoeBatch, tile: Tile, turn: int) -> None:
    batch.layer(turn, (tile, tile))


def _step(step: Callable[[int, Tile], None], tile: Tile, turn: int) -> None:
    step(turn, tile)


def library_product(
    gpu: Gpu, dtype: str, counts: Any, k: int, weights: list[Any]
) -> tuple[Callable[[int], Any], tuple[Any, ...]]:
    """Torch's grouped product over rows already sorted by expert, and its operands."""
    torch = gpu.torch
    pairs = int(counts.sum())
    ends = gpu.ints(np.cumsum(counts))
    x = gpu.activations((pairs, k), dtype)
    if dtype == "bf16":
        grouped = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
        return (lambda i: grouped(x, weights[i].transpose(-2, -1), offs=ends)), (x,)
    row_scale = gpu.uniform((pairs,)) / FP8_SPREAD
    column_scale = gpu.uniform(tuple(weights[0].shape[:2])) / FP8_SPREAD / k**0.5

    def call(turn: int) -> Any:
        return torch._scaled_grouped_mm(
            x, weights[turn].transpose(-2, -1), row_scale, column_scale,
            offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True,
        )  # fmt: skip

    return call, (x, row_scale, column_scale)


def library_probe(gpu: Gpu, dtype: str) -> Probe:
    """Compare torch's grouped product with float64, one expert without tokens."""
    counts = np.array([16, 0, 40, 8])
    k, n = (64, 64) if gpu.small else (512, 256)
    (weights,) = gpu.weight_sets(dtype, ((4, n, k),))[0]
    call, (x, *scales) = library_product(gpu, dtype, counts, k, [weights])

    def check() -> Check:
        got = call(0)
        expert = gpu.torch.as_tensor(np.repeat(np.arange(4), counts), device=gpu.device)
        reference = gpu.torch.einsum("sk,snk->sn", x.double(), weights.double()[expert])
        if scales:
            reference *= scales[0].double()[:, None] * scales[1].double()[expert]
        return gpu.compare(got, reference, dtype)

    return Probe(lambda: call(0), check)


def router(
    gpu: Gpu, variant: str, sizes: tuple[int, int, int, int]
) -> tuple[Callable[[int], None], tuple[Any, ...]]:
    """Return the router's call over ``(sets, tokens, experts, top_k)``, and its operands."""
    sets, tokens, experts, top_k = sizes
    logits = gpu.normal((sets, tokens, experts), "fp32")
    bias = gpu.uniform((experts,), -0.02, 0.02)
    ids, weights = gpu.space(tokens * top_k), gpu.empty((tokens * top_k,), "fp32")
    groups, kept = DEEPSEEK_GROUPS if variant == "sigmoid_grouped" else (1, 1)

    def pick(turn: int) -> None:
        launch(
            kernels_moe.router_kernel, (tokens,), logits[turn], bias, ids, weights, experts,
            sigmoid=variant != "softmax", groups=groups, kept_groups=kept, top_k=top_k,
            width=power_of_two(experts), most=power_of_two(top_k), num_warps=4,
        )  # fmt: skip

    return pick, (logits, bias, ids, weights)


def router_probe(gpu: Gpu, variant: str, experts: int, top_k: int) -> Probe:
    """Compare the weights picked, and what they were picked from, with float64."""
    tokens = 5 if gpu.small else 200
    pick, (logits, bias, ids, weights) = router(gpu, variant, (1, tokens, experts, top_k))

    def check() -> Check:
        pick(0)
        gpu.sync()
        torch = gpu.torch
        score, choice = logits[0].double(), logits[0].double()
        if variant != "softmax":
            score = score.sigmoid()
            choice = score + bias.double()
        if variant == "sigmoid_grouped":
            groups, kept = DEEPSEEK_GROUPS
            table = choice.view(tokens, groups, -1)
            best = table.topk(2, 2).values.sum(2).topk(kept, 1).indices
            keep = torch.zeros_like(table[:, :, 0]).scatter_(1, best, 1.0).bool()
            choice = torch.where(keep[:, :, None], table, -torch.inf).view(tokens, experts)
        chosen = choice.topk(top_k, 1).indices
        share = score.gather(1, chosen)
        share = share.softmax(1) if variant == "softmax" else share / share.sum(1, keepdim=True)
        shape = (tokens, experts)
        reference = torch.zeros(shape, dtype=torch.float64, device=gpu.device)
        got = reference.clone().scatter_(
            1, ids.view(tokens, top_k).long(), weights.view(tokens, top_k).double()
        )
        return gpu.compare(got, reference.scatter_(1, chosen, share), "fp32")

    return Probe(lambda: pick(0), check)
