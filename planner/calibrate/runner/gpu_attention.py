"""Attention on the device: decode by our own kernels over a paged cache, prefill by the library."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from . import kernels_attention, work
from .case import Check
from .gpu_case import GpuCase, Probe, Way
from .operands import Gpu
from .points import Point
from .tri import INTERPRETED, launch

PAGE = 64
"""Tokens in a page of the cache."""
LOG2_E = 1.4426950408889634
MOST_SPLITS = 64


class Block(NamedTuple):
    """Heads and tokens of one step, and how its loop is pipelined."""

    heads: int
    tokens: int
    warps: int
    stages: int

    def __str__(self) -> str:
        """Say it in a row's note."""
        return f"{self.heads}x{self.tokens} w{self.warps} s{self.stages}"


class Shape(NamedTuple):
    """What a decode kernel attends: sequences of equal length."""

    sequences: int
    context: int
    heads: int
    kv_heads: int
    size: int
    """Width of a cached row: latent, or one head."""
    rope: int = 0


def mla_blocks(heads: int) -> tuple[Block, ...]:
    """Blocks worth trying, none of which spills registers; a wgmma has at least 64 heads."""
    if heads >= 64:
        return (Block(64, 64, 8, 2), Block(64, 32, 8, 2))
    return (Block(16, 32, 4, 2), Block(16, 64, 8, 2))


GQA_BLOCKS = (Block(16, 64, 4, 3), Block(16, 128, 4, 2))


class Decode:
    """One new token a sequence against its cached pages."""

    def __init__(self, gpu: Gpu, shape: Shape) -> None:
        self.gpu, self.shape = gpu, shape
        self.latent = shape.rope > 0
        width = (shape.size + shape.rope) if self.latent else shape.kv_heads * shape.size
        self.most_pages = -(-shape.context // PAGE)
        each = shape.sequences * self.most_pages
        halves = 1 if self.latent else 2
        pool = gpu.pool("bf16", halves * each * PAGE * width)
        pages = pool.numel() // (halves * PAGE * width)
        self.caches = [
            pool[half * pages * PAGE * width : (half + 1) * pages * PAGE * width]
            for half in range(halves)
        ]
        self.sets = max(1, min(gpu.sets(2.0 * halves * each * PAGE * width), pages // each))
        torch = gpu.torch
        order = torch.randperm(pages if not gpu.meta else 1, device="cpu")[: self.sets * each]
        shaped = (self.sets, shape.sequences, self.most_pages)
        self.pages = gpu.space(self.sets * each).view(shaped)
        if not gpu.meta:
            self.pages.copy_(order.view(shaped).to(torch.int32))
        self.lengths = gpu.ints([shape.context] * shape.sequences)
        row = shape.size + shape.rope
        self.query = gpu.normal((shape.sequences, shape.heads, row), "bf16", 4.0)
        self.out = gpu.empty((shape.sequences * shape.heads, shape.size))
        self.scale = row**-0.5

    def room(self, splits: int) -> tuple[Any, Any]:
        """Buffers of the partial results."""
        rows = self.shape.sequences * self.shape.heads * splits
        return self.gpu.empty((rows, self.shape.size), "fp32"), self.gpu.empty((rows,), "fp32")

    def run(self, turn: int, block: Block, splits: int, room: tuple[Any, Any]) -> None:
        """Attend in splits, then join them."""
        shape = self.shape
        common = (self.pages[turn], self.lengths, *room, self.scale * LOG2_E)
        options = {"num_warps": block.warps, "num_stages": block.stages}
        sizes = {"page": PAGE, "bh": block.heads, "bn": block.tokens, "upcast": INTERPRETED}
        if self.latent:
            launch(
                kernels_attention.mla_split_kernel,
                (shape.sequences, -(-shape.heads // block.heads), splits),
                self.query, self.caches[0], *common, shape.heads, self.most_pages, splits,
                latent=shape.size, rope=shape.rope, **sizes, **options,
            )  # fmt: skip
        else:
            launch(
                kernels_attention.gqa_split_kernel, (shape.sequences, shape.kv_heads, splits),
                self.query, *self.caches, *common, shape.kv_heads, self.most_pages, splits,
                group=shape.heads // shape.kv_heads, size=shape.size, **sizes, **options,
            )  # fmt: skip
        launch(
            kernels_attention.merge_kernel, (shape.sequences * shape.heads,), *room, self.out,
            splits, size=shape.size, num_warps=4,
        )  # fmt: skip

    def reference(self) -> Any:
        """Attention of the first set, in float64."""
        shape, torch = self.shape, self.gpu.torch
        results = []
        for sequence in range(shape.sequences):
            pages = self.pages[0, sequence].long()
            length = int(self.lengths[sequence])
            found = [
                cache.view(-1, PAGE, shape.kv_heads, shape.size + shape.rope)[pages]
                .flatten(0, 1)[:length].double()
                for cache in self.caches
            ]  # fmt: skip
            keys, values = found[0], found[-1][..., : shape.size]
            group = shape.heads // shape.kv_heads
            keys, values = (part.repeat_interleave(group, 1) for part in (keys, values))
            score = torch.einsum("hd,thd->ht", self.query[sequence].double(), keys) * self.scale
            results.append(torch.einsum("ht,thd->hd", score.softmax(1), values))
        return torch.cat(results)


def decode_probe(gpu: Gpu, shape: Shape, block: Block) -> Probe:
    """Check three sequences of unequal length, three splits, one of them empty for the shortest."""
    tried = shape._replace(sequences=3, context=192 if gpu.small else 960)
    decode = Decode(gpu, tried)
    decode.lengths = gpu.ints([37, tried.context - 60, tried.context])
    room = decode.room(3)

    def check() -> Check:
        decode.run(0, block, 3, room)
        gpu.sync()
        return gpu.compare(decode.out, decode.reference(), "bf16")

    return Probe(lambda: decode.run(0, block, 3, room), check)


def decode_case(gpu: Gpu, point: Point, processors: int) -> GpuCase:
    """Make a decode point ready: blocks and splits to choose from."""
    fields = point.shape
    sequences, total = int(fields["sequences"]), int(fields["context_tokens"])
    heads, context = int(fields["heads"]), total // sequences
    if fields["variant"] == "mla":
        latent, rope = int(fields["kv_lora_rank"]), int(fields["rope_dim"])
        shape = Shape(sequences, context, heads, 1, latent, rope)
        done = work.mla_decode(sequences, total, heads, latent, rope, point.dtype)
        blocks = mla_blocks(heads)
    else:
        kv_heads, size = int(fields["kv_heads"]), int(fields["head_dim"])
        shape = Shape(sequences, context, heads, kv_heads, size)
        done = work.gqa_decode(sequences, total, heads, kv_heads, size, point.dtype)
        blocks = GQA_BLOCKS
        if point.kernel == "library":
            return _library_decode(gpu, shape, done)
    decode = Decode(gpu, shape)
    ways = []
    for block in blocks[:1] if gpu.small else blocks:
        programs = sequences * (-(-heads // block.heads) if decode.latent else shape.kv_heads)
        most = max(1, min(MOST_SPLITS, context // block.tokens))
        wanted = {max(1, min(most, round(f * processors / programs))) for f in (1, 2, 4)}
        wanted = set(sorted(wanted)[: 1 if gpu.small else None])
        ways += [_way(gpu, decode, block, splits) for splits in sorted(wanted)]
    return GpuCase(ways, done, decode.sets)


def _way(gpu: Gpu, decode: Decode, block: Block, splits: int) -> Way:
    room = decode.room(splits)
    shape = decode.shape
    alike = shape._replace(sequences=0, context=0, kv_heads=shape.kv_heads if shape.rope else 2)
    alike = alike._replace(heads=shape.heads // shape.kv_heads * alike.kv_heads)
    return Way(
        lambda i: decode.run(i, block, splits, room), f"{block}, {splits} splits", None,
        ("decode", alike, block), lambda: decode_probe(gpu, alike, block),
    )  # fmt: skip


# --- the library's -----------------------------------------------------------------------------


def attend(gpu: Gpu, backend: str, causal: bool) -> Callable[[Any, Any, Any], Any]:
    """Return torch's attention, held to one of its backends (any on the host)."""
    torch = gpu.torch
    module = importlib.import_module("torch.nn.attention")
    product = torch.nn.functional.scaled_dot_product_attention

    def call(query: Any, keys: Any, values: Any) -> Any:
        grouped = query.shape[1] != keys.shape[1]
        if gpu.device != "cuda":
            return product(query, keys, values, is_causal=causal, enable_gqa=grouped)
        with module.sdpa_kernel([getattr(module.SDPBackend, backend)]):
            return product(query, keys, values, is_causal=causal, enable_gqa=grouped)

    return call


def attend_probe(gpu: Gpu, backend: str, causal: bool, dims: tuple[int, int, int]) -> Probe:
    """Check two sequences and four heads of ``(key width, value width, heads a key)``."""
    keys_wide, values_wide, group = dims
    length = 32 if gpu.small else 256
    query = gpu.normal((2, 4 * group, length if causal else 1, keys_wide))
    keys, values = (gpu.normal((2, 4, length, wide)) for wide in (keys_wide, values_wide))
    call = attend(gpu, backend, causal)

    def check() -> Check:
        got = call(query, keys, values)
        k, v = (part.double().repeat_interleave(group, 1) for part in (keys, values))
        score = query.double() @ k.transpose(-1, -2) * keys_wide**-0.5
        if causal:
            hidden = gpu.torch.ones(length, length, device=gpu.device).triu(1).bool()
            score = score.masked_fill(hidden, -1e30)
        return gpu.compare(got, score.softmax(-1) @ v, "bf16")

    return Probe(lambda: call(query, keys, values), check)


def _library_decode(gpu: Gpu, shape: Shape, done: work.Work) -> GpuCase:
    sequences, context, heads, kv_heads, size, _ = shape
    query = gpu.normal((sequences, heads, 1, size))
    stored = (sequences, kv_heads, context, size)
    sets = gpu.weight_sets("bf16", (stored, stored))
    call = attend(gpu, "FLASH_ATTENTION", causal=False)
    group = heads // kv_heads
    way = Way(
        lambda i: call(query, *sets[i]), "FLASH_ATTENTION, contiguous cache", None,
        ("attend", size, group),
        partial(attend_probe, gpu, "FLASH_ATTENTION", False, (size, size, group)),
    )  # fmt: skip
    return GpuCase([way], done, len(sets))


def _ignoring_turn(call: Callable[..., Any], operands: tuple[Any, ...], turn: int) -> Any:
    return call(*operands)


def prefill_case(gpu: Gpu, point: Point) -> GpuCase:
    """Prefill of fresh prompts of one length: the library's kernels, the fastest of those right."""
    names = ("sequences", "tokens", "heads", "kv_heads", "head_dim", "v_head_dim")
    sequences, tokens, heads, kv_heads, wide, v_wide = (int(point.shape[n]) for n in names)
    length = tokens // sequences
    query = gpu.normal((sequences, heads, length, wide))
    keys = gpu.normal((sequences, kv_heads, length, wide))
    values = gpu.normal((sequences, kv_heads, length, v_wide))
    ways = []
    for backend in ("CUDNN_ATTENTION", "FLASH_ATTENTION"):
        padded = backend == "FLASH_ATTENTION" and wide != v_wide  # it takes one width alone
        v = gpu.normal((sequences, kv_heads, length, wide)) if padded else values
        call = attend(gpu, backend, causal=True)
        dims = (wide, wide if padded else v_wide, heads // kv_heads)
        ways.append(
            Way(
                partial(_ignoring_turn, call, (query, keys, v)),
                backend + (", values padded" if padded else ""), None,
                ("prefill", backend, *dims), partial(attend_probe, gpu, backend, True, dims),
            )
        )  # fmt: skip
    pairs = work.causal_pairs(sequences, length)
    done = work.prefill(tokens, pairs, heads, kv_heads, (wide, v_wide), point.dtype)
    return GpuCase(ways, done, 1, {"pairs": pairs})
