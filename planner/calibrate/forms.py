"""What is tried, rather than fitted, of the law of a family: its parameters, blend and shape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np

from planner.calibrate.calls import Work
from planner.calibrate.rows import FloatArray
from planner.ops.call import SHAPED, Shaping
from planner.ops.splits import uneven
from planner.specs.tilings import Heights, RowWaves, Splits

Blend = Literal["max", "root4", "root2", "sum"]
Chain = Literal["sum", "root1.5", "root2"]
Parts = Literal["down", "up"]

KNOTS: dict[str, tuple[float, ...]] = {
    "gemm": tuple(4.0**i * 128 * 128 for i in range(-1, 8)),
    "grouped_gemm": (1.0, 16.0, 128.0, 1024.0),
}
"""Sizes at which the compute share of a family is free."""
BYTE_KNOTS = (2e6, 8e6, 32e6, 128e6, 512e6)
"""Bytes of one call at which the memory share is free."""
CACHE_KNOTS = (1e6, 4e6, 16e6, 64e6, 256e6, 1024e6)
"""Bytes of the cache read by one call of decode attention, the same."""
PROMPT_KNOTS = (8e6, 32e6, 128e6, 512e6)
"""Bytes of queries, keys and results of prompts at which keys' share is free: fewer than tens of
MB stay on chip."""
ALL_KNOTS = (8e6, 32e6, 64e6, 128e6, 512e6)
"""The same at which that of all three is: between a half and twice of caches of 50 to 126 MB."""
PROMPT_FLOP = (1e9, 1e10, 1e11, 1e12, 1e13)
"""FLOP of prompts at which their products' share is free, 1 us to 10 ms at the peak of an H100:
few leave units idle, and long kernels run at a lower clock."""
PROMPT_TILES = (None, 256)
"""Queries of the smallest tile of a prompt: two of 128, which kernels of datacenter Blackwell
multiply in turn (CUTLASS CuTeDSL blackwell/fmha.py, FlashAttention-4). Where nothing says so, rows
of 128 tokens look like it as well, and 256 come out too fast."""
TILES = (64, 128, None)
"""Rows of the smallest tile that matrix units of Hopper and Blackwell multiply, or none."""
SPLITS = (None, 8192)
"""Inner dimension from which libraries split products of few tiles."""
KEYS = (None, 256)
"""Keys of the smallest tile of a context in decode attention, where kernels compute whole ones: on
B200 128 take as long as 256."""
QUERIES = (None, 8, 16, 64, 128)
"""Queries of the smallest tile of a cached head in decode attention: rows of one instruction (8 or
16), or of MLA's kernels (64 in FlashMLA, 128 in TensorRT-LLM's decoderXQAConstants.h)."""
XQA = {"keys": 128, "root": 8, "waves": 8}
"""How TensorRT-LLM's XQA divides contexts (``kMinHistoryTokensPerBlock``, ``kTargetWaveFactor`` and
``computeMultiBlockCount``); that it is left for another kernel while all parts fill less than a
quarter of the units is not in the law: those rows are residual."""
LAST_WAVES = (0.25, 0.35, 0.5, 0.7, 1.0)
"""Parts of the units that, alone, fill the memory, where decode attention has rows in waves."""
TELLING = 1.3
"""Time of rows in waves over even sharing, with the last of these, from which they tell them apart:
powers of two stay under it on 132 to 152 units."""
DOUBLINGS = (2048, 512, 8192, None)
"""Context of which each doubling adds as much to decode attention, where kernels split it."""
FILLS = (None, 128, 256, 512)
"""Steps to fill and drain a pipeline of two to eight stages of 64 or 128."""
SHORT = 1024.0
"""Inner dimension that some rows must stay under for a filling pipeline to be seen: beside 2,048
steps it looks like any other loss, and read off those alone it makes narrow slices far too slow."""
LEAST_FILL = 128
"""Fill of grouped products where no row is narrow: the least of those that show one."""
SCORES = (None, 128, 192, 256, 512)
"""FLOP in the time of one exponential: 256 at 3.9 T a second beside 989 TFLOP/s (H100)."""
TALLEST = (128, 64, 256)
"""Rows of the tallest tile of a grouped product: one or two instructions of 128; Marlin's is 64."""
EIGHT_UP, SIXTEEN_UP = (8, 16, 32, 64, 128, 256), (16, 32, 64, 128, 256)
HEIGHTS: dict[str, tuple[Heights | None, ...]] = {
    "planned": (None, *(Heights(rows=EIGHT_UP[:n]) for n in (4, 5, 6))),
    "powers": (Heights(rows=SIXTEEN_UP[:4]),),
    "marlin": (Heights(rows=(8, 16, 32, 48, 64), fullness=0.9),),
    "tuned": (None, *(Heights(rows=SIXTEEN_UP[:n]) for n in (3, 4, 5))),
    "untuned": (None, Heights(rows=(16, 64))),
}
"""How the heights of tiles are chosen (``tiles`` of a table's labels) -> those a kernel may have
(:func:`planner.ops.tiles.tile_height`): one where its source says so."""
REREAD = (None, 64, 128, 256)
"""Rows of a tile for which weights are read again where the last cache does not hold them."""
KEPT = (0.75, 0.5, 1.0)
"""Shares of the last cache in which queries, keys and results of prompts stay between kernels:
repeats of L40S and RTX PRO 6000 pass twice the memory's rate up to 85 MB, half of it beyond."""
WRITTEN = (None, 512)
"""Elements of a token's cached keys that a block of vLLM's writing kernel has threads for."""
COMPUTE_STARTS = (0.6, 0.08)
"""First guesses of the compute share: where transfer binds everywhere there is no slope to it."""
SPLIT_KEYS = (1e-9,)
"""A key of a short context in decode: 256 of them are a split, joined in a quarter of a us. [s]"""
CHAINS = (1e-10, 5e-8)
"""A key of a sequence's context where kernels split it over units, and where they do not. [s]"""
BLENDS: tuple[Blend, ...] = ("max", "root4", "root2", "sum")
JOINED: tuple[Chain, ...] = ("sum", "root1.5", "root2")
"""How the chain of a prompt, or of a tile's inner dimension, joins the work of all units."""


@dataclass(frozen=True, slots=True)
class Form:
    """Which parameters the law of a family has beside two shares and a floor."""

    compute: tuple[float, ...] = ()
    """Knots of the compute share; none: a constant."""
    memory: tuple[float, ...] = ()
    blends: tuple[Blend, ...] = ("max",)
    depth: bool = False
    depths: tuple[float, ...] = (1e-10,)
    """First guesses of the time a step of depth; the best end is kept. [s]"""
    starts: tuple[float, ...] = (0.6,)
    """First guesses of the compute share, the same."""
    tile_rows: tuple[int | None, ...] = (None,)
    tile_keys: tuple[int | None, ...] = (None,)
    split_depth: tuple[int | None, ...] = (None,)
    doubling_depth: tuple[int | None, ...] = (None,)
    fill_depth: tuple[int | None, ...] = (None,)
    score_flop: tuple[int | None, ...] = (None,)
    tallest_rows: tuple[int | None, ...] = (None,)
    heights: tuple[Heights | None, ...] = (None,)
    reread_rows: tuple[int | None, ...] = (None,)
    written_elements: tuple[int | None, ...] = (None,)
    written_power: tuple[int | None, ...] = (None,)
    splits: tuple[Splits | None, ...] = (None,)
    row_waves: tuple[RowWaves | None, ...] = (None,)
    tile_queries: tuple[int | None, ...] = (None,)
    kept_part: tuple[float | None, ...] = (None,)
    chain: tuple[Chain, ...] = ("sum",)
    waves: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None
    """Rows and columns of tiles that run in waves, and parts of the inner dimension."""
    tiles: str = ""
    """Rows whose tiles in waves these are (``tiles`` of a table's labels); empty: of all others."""
    step: bool = False
    edge: bool = False
    cell: bool = False
    join: bool = False
    query: bool = False
    row: bool = False
    height: bool = False
    token: bool = False
    key: bool = False
    """Whether keys take a time on the chip, and what crosses its edge is what it has not kept."""
    foreign: bool = False
    choice: bool = False
    rising: bool = False
    """Whether the memory share may not fall: rows whose operands stay on chip look too good."""


FORMS = {
    "gemm": Form(
        KNOTS["gemm"], BYTE_KNOTS, BLENDS, depth=True, tile_rows=TILES, split_depth=SPLITS
    ),
    "grouped_gemm": Form(
        KNOTS["grouped_gemm"],
        BYTE_KNOTS,
        BLENDS,
        depth=True,
        fill_depth=FILLS,
        tallest_rows=TALLEST,
        reread_rows=REREAD,
        row=True,
        height=True,
        token=True,
        foreign=True,
        choice=True,
    ),
    "attention_decode": Form(
        (),
        CACHE_KNOTS,
        ("max", "sum"),  # lines, along which the event loop walks
        True,
        SPLIT_KEYS,
        COMPUTE_STARTS,
        tile_keys=KEYS,
        tile_queries=QUERIES,
        doubling_depth=DOUBLINGS,
        query=True,
        rising=True,
    ),
    "attention_prefill": Form(
        PROMPT_FLOP,
        tile_rows=PROMPT_TILES,
        blends=("max", "sum"),
        depth=True,
        depths=CHAINS,
        score_flop=SCORES,
        written_elements=WRITTEN,
        written_power=(None, 2),
        chain=JOINED,
        query=True,
        row=True,
        token=True,
    ),
}
"""Family -> form of its law; any other, or few rows: the plain one."""
ROWS, NARROW = (64, 128, 256), (32, 64, 96, 128)
"""Sides of tiles that 8-bit libraries choose among, as DeepGEMM does by their waves."""
FLAT, EVEN = (16, 32, 64, 128, 256), (64, 128, 256)
"""Sides of tiles for few rows that AMD's AITER tunes among, by the names of the kernels in its
tables (aiter/configs, a8w8_blockscale_bpreshuffle_tuned_gemm.csv), without its 48, 80 and 96."""
SIDES = (64, 128, 192, 256)
"""Sides of cuBLAS's large tiles, by the names of its kernels in public profiles since CUDA 12.8
(nvjet_tst_128x256, _192x192, _256x128; NVIDIA's developer forum, topic 348958); that each goes
with each is assumed."""
FOUR_BITS, WIDE = (128, 256), (128,)
"""Sides of tiles of workstation Blackwell in NVFP4, as TensorRT-LLM has them
(fp4_gemm_template.h, ``dispatchNVFP4xNVFP4GemmCTAShapeSm120``)."""
PARTS = (1, 4, 16)
"""Parts of an inner dimension that libraries split over units: an assumption, in steps of four."""
LASTING = (3e9, 2e10, 6e10, 3e11, 2e12, 2e13)
"""FLOP at which the compute share of tiles in waves is free, to fall: up to 10 ms at the peak of
an H100 in 8 bits, which runs long products at a lower clock."""
_TILES = Form(
    LASTING, BYTE_KNOTS, BLENDS[:3], depth=True, step=True, edge=True, cell=True, chain=JOINED[1:]
)
ALSO = {
    "gemm": (
        replace(_TILES, waves=(ROWS, NARROW, (1,))),
        replace(_TILES, waves=(FLAT, EVEN, (1,))),
        replace(_TILES, waves=(SIDES, SIDES, PARTS), join=True),
        replace(_TILES, waves=(FOUR_BITS, WIDE, (1,)), tiles="nvfp4"),
    ),
    "attention_decode": (
        replace(FORMS["attention_decode"], row=True),
        replace(FORMS["attention_decode"], row=True, blends=("root2",)),
        replace(FORMS["attention_decode"], chain=("root2",), doubling_depth=(None, 2048)),
    ),
    "attention_prefill": (
        replace(FORMS["attention_prefill"], memory=PROMPT_KNOTS),
        replace(FORMS["attention_prefill"], memory=ALL_KNOTS, query=False),
        replace(FORMS["attention_prefill"], kept_part=KEPT, query=False, key=True),
    ),
}
"""Family -> other forms; those in waves for parts whose units are counted; what fits best is
kept."""


@dataclass(frozen=True, slots=True)
class Begin:
    """What is tried rather than fitted: how a law is made, and from where its fit starts."""

    blend: Blend
    depth_s: float
    compute_share: float
    shaping: Shaping
    chain: Chain = "sum"


Change = Callable[[Begin], Begin]


def told_by(form: Form, depths: Sequence[FloatArray]) -> Form:
    """``form`` with the fills that rows of these inner dimensions tell apart. [elements]"""
    least = min((float(each.min()) for each in depths if len(each)), default=0.0)
    return (
        replace(form, fill_depth=(LEAST_FILL,)) if form.fill_depth[1:] and least > SHORT else form
    )


def divided(form: Form, rule: str, units: int | None) -> Form:
    """``form`` with the parts of contexts that a kernel's ``rule`` makes, where its rows count."""
    if rule != "xqa" or units is None or not form.row:
        return form
    return replace(form, splits=(Splits(**XQA, units=units),))


def in_waves(form: Form, works: Sequence[Work], lent: RowWaves | None) -> Form:
    """``form`` with rows of decode attention in waves, where some leave most units idle.

    Parameters
    ----------
    lent : waves of another law of the same kernels, for rows that do not tell: heads that share
        keys come in powers of two, of which all fill their waves alike.
    """
    units, each = works[0].units, [w.head_rows for w in works if w.head_rows is not None]
    if units is None or not each:
        return form
    parts: Parts = "down" if works[0].tiles == "keys" else "up"
    ways = [RowWaves(units=units, fill=fill, parts=parts) for fill in LAST_WAVES]
    if np.any(uneven(np.concatenate(each), ways[-1]) > TELLING):
        return replace(form, row_waves=(None, *ways))
    return replace(form, row_waves=(lent,))


def tiled(form: Form) -> list[Form]:
    """``form`` with even tiles, and with whole ones, where a kernel may have either."""
    known = tuple(each for each in form.heights if each)
    whole = replace(form, heights=known, tallest_rows=(None,), height=True)
    even = [replace(form, heights=(None,))] if None in form.heights else []
    return [*even, whole] if known else even


def first_of(form: Form) -> Begin:
    """The first of everything that may be tried."""
    shaping = Shaping(**{name: getattr(form, name)[0] for name in SHAPED})
    return Begin(form.blends[0], form.depths[0], form.starts[0], shaping, form.chain[0])


def others(form: Form) -> list[list[Change]]:
    """Changes to try, one kind after the other."""
    blends: list[Change] = [partial(_changed, blend=each) for each in form.blends[1:]]
    found: list[list[Change]] = [
        _whole(form) if form.heights[1:] else blends,
        [partial(_changed, depth_s=each) for each in form.depths[1:]],
        _together(form) if form.starts[1:] else [],
        [partial(_changed, chain=each) for each in form.chain[1:]],
    ]
    shapes: list[list[Change]] = [
        [partial(_reshaped, **{name: each}) for each in getattr(form, name)[1:]]
        for name in SHAPED
        if name != "heights"
    ]
    return found + shapes


def _together(form: Form) -> list[Change]:
    """Every blend from every start with every chain: one is right only with the others."""
    choices = product(form.starts, form.blends, form.doubling_depth)
    return [partial(_started, start, blend, depth) for start, blend, depth in choices]


def _whole(form: Form) -> list[Change]:
    """Every height of whole tiles with every blend: their stairs show where it is the right one."""
    return [partial(_tiles, each, blend) for each, blend in product(form.heights, form.blends)]


def _tiles(heights: Heights | None, blend: Blend, begin: Begin) -> Begin:
    return replace(begin, blend=blend, shaping=replace(begin.shaping, heights=heights))


def _started(start: float, blend: Blend, depth: int | None, begin: Begin) -> Begin:
    shaping = replace(begin.shaping, doubling_depth=depth)
    return replace(begin, compute_share=start, blend=blend, shaping=shaping)


def _changed(begin: Begin, **values: Any) -> Begin:
    return replace(begin, **values)


def _reshaped(begin: Begin, **values: Any) -> Begin:
    return replace(begin, shaping=replace(begin.shaping, **values))
