"""What a part's kernels and links reach of what its maker states: fitted, or assumed."""

from collections.abc import Container
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.sourced import Confidence
from planner.specs.base import Count, Share, Spec
from planner.specs.hardware import OverheadS, Precision
from planner.specs.links import DirectLaw, ExchangeLaw, RingLaw
from planner.specs.provenance import Provenance
from planner.specs.tilings import Heights, RowWaves, Splits, Waves

Stored = Literal["mxfp4", "int4"]
"""Format of experts' weights that kernels expand, or convert activations for, themselves."""

OpFamily = Literal["gemm", "grouped_gemm", "attention_prefill", "attention_decode", "elementwise"]


class Curve(Spec):
    """Share of a peak over one physical size, between measured knots; flat outside them.

    Interpolated in the logarithm of both.  The share may rise no faster than the size, so that
    work proportional to the size never takes less time when there is more of it.
    """

    sizes: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)]
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    source: str
    note: str = ""
    confidence: Confidence = "derived"

    @model_validator(mode="after")
    def _knots_are_a_curve(self) -> Self:
        if len(self.sizes) != len(self.shares):
            raise ValueError(f"{len(self.sizes)} sizes but {len(self.shares)} shares")
        for i in range(1, len(self.sizes)):
            grows, rises = (
                self.sizes[i] / self.sizes[i - 1],
                self.shares[i] / self.shares[i - 1],
            )
            if grows <= 1:
                raise ValueError(f"sizes must increase, got {self.sizes[i]:g} as number {i + 1}")
            if rises > grows * (1 + 1e-9):
                raise ValueError(
                    f"shares rise faster than sizes at {self.sizes[i]:g}: more would take less time"
                )
        return self


class Achieved(Spec):
    """Share of the binding peak that one family of operators reaches, and its floor.

    ``time = max(flop / (compute_share * peak), bytes / (memory_share * bandwidth)) + floor_s``

    A curve, where there is one, takes the place of its share; ``blend`` and ``depth_s`` say how
    far computation and transfer overlap and what a long inner dimension costs.  Decode attention
    has a curve over the bytes of the cache only, straight time between its knots and a root of
    squares in straight lines, because the event loop reads its time as lines in the context;
    prefill attention may have one over the bytes of queries, keys and results, and one of its
    products over their FLOP.
    """

    compute_share: Share
    """Where there is a curve: its highest."""
    memory_share: Share
    floor_s: OverheadS
    """Fixed cost of one kernel inside a captured graph. [s]"""
    compute_curve: Curve | None = None
    """``compute_share`` over elements of the result (gemm), rows a group (grouped_gemm), or FLOP of
    the call (prefill attention)."""
    memory_curve: Curve | None = None
    """``memory_share`` over the bytes of one call (decode attention: of its cache). [bytes]"""
    blend: Literal["max", "root4", "root2", "sum"] = "max"
    """How the times of computation and transfer join: the larger one; fourth root of fourth
    powers; root of squares; sum (no overlap)."""
    depth_s: OverheadS | None = None
    """Time of one step along what cannot be spread over units, which nothing runs beside: the
    inner dimension of a product, the prompt in prefill attention, the mean context that a sequence
    reads in decode attention. [s]"""
    query_share: Share | None = None
    """Attention: share of the bandwidth at which queries and results move, beside the cache (in
    prefill beside keys and values); None: they are part of its bytes."""
    tile_rows: Count | None = None
    """Rows of the smallest tile: a product, or a prompt, of fewer computes that many. [rows]"""
    tile_keys: Count | None = None
    """Decode attention: keys of the smallest tile of a context, computed whole. [tokens]"""
    tile_queries: Count | None = None
    """Decode attention: queries of the smallest tile of a cached head, multiplied whole. [rows]"""
    split_depth: Count | None = None
    """Inner dimension beyond which it is split over more units, so that a step along it no longer
    adds to the chain and units are busy as by a result that many times larger. [elements]"""
    doubling_depth: Count | None = None
    """Decode attention: mean context of which each doubling adds as much to the chain, where a
    longer one is split over more units (:func:`planner.ops.laws.doubled`); None: every token of it
    does. [tokens]"""
    fill_depth: Count | None = None
    """Steps of the inner dimension that filling and draining a tile's pipeline takes, beside the
    product's own. [elements]"""
    tallest_rows: Count | None = None
    """Grouped products: rows of the tallest tile.  Tiles are as high as the rows an expert that
    the kernel plans for, up to this, and every expert with a row computes a whole one. [rows]"""
    heights: Heights | None = None
    """Grouped products: in place of ``tallest_rows`` where the heights of tiles are known."""
    untuned_tiles: bool = False
    """Tiles are as high as where nobody tuned them for the shape, whatever the rows an expert
    (:func:`planner.ops.laws.untuned_rows`)."""
    height_s: OverheadS | None = None
    """With ``tallest_rows`` or ``heights``: time of one row of a tile's height, which nothing
    hides. [s]"""
    expert_s: OverheadS | None = None
    """Grouped products: time of one expert touched whose weights are few, one after the other,
    joined to that of their transfer as a root of squares. [s]"""
    multiplies: Precision | None = None
    """Format the kernel multiplies in, where it is not that of the op: attention on an 8-bit cache
    where the part has such units.  Shares are of that peak."""
    score_flop: Count | None = None
    """Prefill attention: FLOP that take as long as the exponential of one score. [FLOP]"""
    row_s: OverheadS | None = None
    """Prefill attention: time of one head's row (a query) beside its products: what starting and
    finishing its tile takes, spread over all units; decode attention: the same of one cached head
    of one sequence, or of each part of it (``splits``): after all else, or with ``blend`` root2
    with the products, beside the transfer.  Grouped products: time of one element of the result,
    that of the passes over rows before and after them. [s]"""
    token_s: OverheadS | None = None
    """Prefill attention: time of one token whatever its heads: what all of them share is read and
    written to the cache.  Dense products: of one row whatever its length, which is converted first.
    Grouped products: of one element of all tokens that the kernel is given, whoever holds their
    experts. [s]"""
    written_elements: Count | None = None
    """Prefill attention: elements of a token's cached keys that a block of the kernel which writes
    them has threads for.  A token of fewer takes that part of ``token_s``; None: all of it."""
    written_power: Count | None = None
    """With it: power of that part, where fewer threads let more blocks run at a time; None: 1."""
    kept_part: Annotated[float, Field(gt=0, le=1)] | None = None
    """Prefill attention: part of the last cache in which the kernels before left queries, keys
    and values, and in which results stay for those after: what it serves does not cross HBM
    (:func:`planner.ops.laws.crossing`)."""
    key_s: OverheadS | None = None
    """Prefill attention: time of one element of a token's keys, with that of its value, beside all
    else: on their way between tiles of queries and the last cache. [s]"""
    foreign_s: OverheadS | None = None
    """Grouped products: time of one element of the result of a pair whose expert another device
    holds.  Kernels that sort all pairs they are given write zeros for those, and what follows
    reads and writes them again. [s]"""
    reread_rows: Count | None = None
    """Grouped products: rows for which the weights of an expert that the last cache does not hold
    are read once more; None: they are read once. [rows]"""
    choice_s: OverheadS | None = None
    """Grouped products: time of one look at a warp's width of experts where the kernel lets tokens
    choose them (:func:`planner.ops.laws.rounds`), half of it with each of a layer's two. [s]"""
    splits: Splits | None = None
    """Decode attention: parts of a context, each of which takes ``row_s``; None: one."""
    row_waves: RowWaves | None = None
    """Decode attention: more cached heads than units go in waves, the last of which leaves some
    idle; None: units share the cache evenly."""
    waves: Waves | None = None
    """Dense products: tiles in waves.  The compute share is then of a whole wave of whole tiles,
    its curve over the FLOP of the call, and may not rise: a part's clock falls in long products."""
    step_s: OverheadS | None = None
    """With waves: time of a step of the inner dimension of a tile beside its products. [s]"""
    edge_s: OverheadS | None = None
    """The same for every row and column of the tile, which are loaded. [s]"""
    cell_s: OverheadS | None = None
    """With waves: time of an element of a tile's result when its products are done. [s]"""
    join_s: OverheadS | None = None
    """With waves: time to join the parts of a split inner dimension. [s]"""
    chain: Literal["sum", "root1.5", "root2"] = "sum"
    """Attention, and products in waves: how ``depth_s`` joins the rest: after it; or beside
    it, as a root of powers, since the longest prompt's last tile, or the steps of one tile of a
    product, decide only where few tiles keep units busy."""

    @model_validator(mode="after")
    def _longer_is_not_faster(self) -> Self:
        curve = self.compute_curve
        if self.waves and curve and list(curve.shares) != sorted(curve.shares, reverse=True):
            raise ValueError("compute_curve: with waves a share may not rise with the FLOP")
        return self


NARROW_HEADS = 64
"""Heads of a device from which MLA decode multiplies whole tiles of them; fewer run the kernel of
``mla_narrow``, where a part has one."""

AttentionVariant = Literal[
    "mla_fp8_cache", "mla_narrow", "mla_narrow_fp8_cache",
    "gqa", "gqa_fp8_cache", "mha", "mha_fp8_cache",
    "gqa_64", "gqa_64_fp8_cache", "mha_64", "mha_64_fp8_cache",
    "gqa_192", "gqa_192_fp8_cache", "mha_192", "mha_192_fp8_cache",
    "gqa_256", "gqa_256_fp8_cache", "mha_256", "mha_256_fp8_cache",
]  # fmt: skip
"""Kernels with shares of their own beside MLA on a 16-bit cache; ``mha``: heads that share no
keys, ``mla_narrow``: fewer than 64 heads, where a calibration tells them from the others.  Kernels
are compiled for a width of heads: ``_64`` up to 64, none up to 128, ``_192`` up to 192, ``_256``
over that."""

KIN: dict[AttentionVariant, tuple[AttentionVariant, ...]] = {
    "mla_narrow_fp8_cache": ("mla_fp8_cache",),
    "gqa_fp8_cache": ("gqa",),
    "mha": ("gqa",),
    "mha_fp8_cache": ("gqa_fp8_cache", "mha", "gqa"),
    "gqa_64": ("gqa",),
    "gqa_64_fp8_cache": ("gqa_64", "gqa_fp8_cache", "gqa"),
    "mha_64": ("gqa_64", "mha", "gqa"),
    "mha_64_fp8_cache": ("gqa_64_fp8_cache", "mha_64", "gqa_64", "gqa_fp8_cache", "gqa"),
    "gqa_192": ("gqa_256", "gqa"),
    "gqa_192_fp8_cache": ("gqa_192", "gqa_256_fp8_cache", "gqa_256", "gqa_fp8_cache", "gqa"),
    "mha_192": ("gqa_192", "mha_256", "gqa_256", "mha", "gqa"),
    "mha_192_fp8_cache": (
        "gqa_192_fp8_cache",
        "mha_192",
        "gqa_192",
        "mha_256_fp8_cache",
        "gqa_256_fp8_cache",
        "mha_256",
        "gqa_256",
        "gqa_fp8_cache",
        "gqa",
    ),
    "gqa_256": ("gqa",),
    "gqa_256_fp8_cache": ("gqa_256", "gqa_fp8_cache", "gqa"),
    "mha_256": ("gqa_256", "mha", "gqa"),
    "mha_256_fp8_cache": ("gqa_256_fp8_cache", "mha_256", "gqa_256", "gqa_fp8_cache", "gqa"),
}
"""Kernel -> those that stand in for it where a part has no shares of it, closest first: the same
width before the same cache."""


def standing_in(known: Container[Any], variant: AttentionVariant) -> AttentionVariant | None:
    """Kernel whose shares time ``variant``: itself, else the closest of its kin that is known."""
    return next((v for v in (variant, *KIN.get(variant, ())) if v in known), None)


def width_suffix(head_width: float) -> Literal["", "_64", "_192", "_256"]:
    """What the kernel of heads this wide is called after its kind (``AttentionVariant``)."""
    if head_width <= 64:
        return "_64"
    if head_width <= 128:
        return ""
    return "_192" if head_width <= 192 else "_256"


class AttentionKernels(Spec):
    """Attention as one engine calls it, where its tables tell it from the part's own.

    Keys are those of ``attention_prefill_variants`` and ``attention_decode_variants``; ``mla`` is
    MLA on a 16-bit cache.
    """

    prefill: dict[AttentionVariant | Literal["mla"], Achieved] = Field(default_factory=dict)
    decode: dict[AttentionVariant | Literal["mla"], Achieved] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _times_are_lines(self) -> Self:
        for name in ("prefill", "decode"):
            laws: dict[str, Achieved] = getattr(self, name)
            _require_lines(f"attention_{name}", tuple(laws.values()))
        return self


def _require_lines(family: str, laws: tuple[Achieved, ...]) -> None:
    """Raise where a law of attention is none that the event loop can walk along."""
    for law in laws:
        decode = family == "attention_decode"
        blends = ("max", "sum", "root2") if decode else ("max", "sum")
        if law.blend not in blends or law.waves:
            raise ValueError(f"{family}: no waves, and blend {' or '.join(blends)}")
        if decode and (law.compute_curve or law.chain == "root1.5"):
            raise ValueError(f"{family}: no compute_curve, and chain sum or root2")
        if law.row_waves and not decode:
            raise ValueError(f"{family}: row_waves are of cached heads in decode attention")
        if law.split_depth:
            raise ValueError(f"{family}: split_depth is of products; of attention fit it again")


class LinkShares(Spec):
    """Share of a link's stated bandwidth that a collective reaches."""

    scale_up_share: Share
    scale_out_share: Share
    all_to_all_scale_up_share: Share
    all_to_all_scale_out_share: Share
    collective_floor_s: OverheadS | None = None
    """Fixed time of one collective beside ``latency_s`` a step: launch, flags. [s]"""
    all_to_all_floor_s: OverheadS | None = None
    """The same of one expert dispatch or combine. [s]"""
    rings: dict[Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"], RingLaw] = (
        Field(default_factory=dict)
    )
    """Collectives of a library inside one domain, as measured; the shares above without."""
    direct: DirectLaw | None = None
    """All-reduce of the serving engines inside one domain."""
    exchanges: dict[str, ExchangeLaw] = Field(default_factory=dict)
    """Expert exchange by library and mode, as measured."""
    low_latency: str = ""
    """Which of them decode uses; empty: the shares above."""
    normal: str = ""
    """Which of them prefill uses."""
    provenance: Provenance | None = None
    """How ``rings``, ``direct`` and ``exchanges`` were made."""

    @model_validator(mode="after")
    def _names_an_exchange(self) -> Self:
        for field in ("low_latency", "normal"):
            name = getattr(self, field)
            if name and name not in self.exchanges:
                known = ", ".join(self.exchanges) or "none"
                raise ValueError(f"{field}: {name!r} is not among exchanges; there are: {known}")
        return self


class CalibrationSpec(Spec):
    """Achieved shares for some parts.  Until measured, every number here is an assumption."""

    name: str
    accelerators: tuple[str, ...] = ()
    """Parts this applies to; empty: every part without its own."""
    gemm: dict[Precision, Achieved]
    grouped_gemm: dict[Precision, Achieved]
    expert_kernels: dict[str, dict[Precision | Stored, Achieved]] = Field(default_factory=dict)
    """Library -> format -> its grouped products, where they are not those of ``grouped_gemm`` or
    ``stored_experts``."""
    tuned_experts: tuple[tuple[int, int], ...] = ()
    """(Experts held, their width) that a library's tiles were tuned for; others are run by its
    ``...-untuned`` shares, where there are such."""
    stored_experts: dict[Stored, Achieved] = Field(default_factory=dict)
    """Grouped products of weights stored in a format that is expanded, or that activations are
    converted for, inside the kernel; a format that is missing: as what it is multiplied in."""
    attention_prefill: Achieved
    attention_decode: Achieved
    """MLA on a 16-bit cache, and every kernel that has none of its own below."""
    attention_prefill_variants: dict[AttentionVariant, Achieved] = Field(default_factory=dict)
    attention_decode_variants: dict[AttentionVariant, Achieved] = Field(default_factory=dict)
    attention_kernels: dict[str, AttentionKernels] = Field(default_factory=dict)
    """Engine -> attention as it calls it; what one has no shares of is the part's own."""
    elementwise: Achieved
    links: LinkShares
    idle_power_share: Share
    """Idle power over maximum power of the device."""
    step_overhead_s: OverheadS
    """Host time of one engine step that nothing hides (schedule, launch, sample). [s]"""
    kernels_of: str = ""
    """Part that products and attention cores were measured on, if another; set by a scenario."""
    experts_of: dict[Precision | Stored, str] = Field(default_factory=dict)
    """Library whose products stand in ``grouped_gemm`` or ``stored_experts``, by format; set by a
    deployment."""
    attention_of: str = ""
    """Engine whose attention stands in the fields above; set by a deployment."""
    provenance: Provenance | None = None
    """Absent where the numbers were read off published figures by hand."""

    @model_validator(mode="after")
    def _attention_is_lines(self) -> Self:
        for name in ("attention_prefill", "attention_decode"):
            variants: dict[str, Achieved] = getattr(self, f"{name}_variants")
            _require_lines(name, (getattr(self, name), *variants.values()))
        return self
