"""One call of a kernel, and its time by achieved shares."""

from dataclasses import dataclass, fields

from planner.ops.laws import blended, chained, crossing, doubled, share_at, streamed_share
from planner.ops.op import Real, larger, smaller
from planner.ops.splits import parts, uneven
from planner.ops.tiles import tile_height, tiled_rows
from planner.ops.waves import TileTimes, wave_counts, waves_s
from planner.specs.calibration import Achieved
from planner.specs.tilings import Heights, RowWaves, Splits


@dataclass(frozen=True, slots=True)
class Shaping:
    """The part of a law that says what a kernel makes of a call (``Achieved``)."""

    tile_rows: int | None = None
    tile_keys: int | None = None
    split_depth: int | None = None
    doubling_depth: int | None = None
    fill_depth: int | None = None
    score_flop: int | None = None
    tallest_rows: int | None = None
    heights: Heights | None = None
    reread_rows: int | None = None
    written_elements: int | None = None
    written_power: int | None = None
    splits: Splits | None = None
    row_waves: RowWaves | None = None
    tile_queries: int | None = None
    kept_part: float | None = None


SHAPED = tuple(each.name for each in fields(Shaping))
"""Parts of a law that make another call of the one given."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel: its time at the stated peaks, and what its shares depend on.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """

    compute_s: Real
    memory_s: Real
    """Without queries and results of decode attention."""
    size: Real
    """Result elements (gemm), rows a group (grouped_gemm), FLOP (prefill attention)."""
    moved_bytes: Real
    depth: Real
    """Length of what cannot be spread over units: inner dimension, a prompt."""
    query_s: Real = 0.0
    """Queries and results of decode attention at the stated bandwidth."""
    lines: bool = False
    """Whether time is straight between the knots of ``memory_curve`` (decode attention)."""
    rows: Real = 1.0
    """Rows of a product's result; of prompts twice the keys that a query sees in the mean, which is
    their length where nothing was computed before."""
    step_s: Real = 0.0
    """Operands of one step of the inner dimension at the stated bandwidth."""
    scores_s: Real = 0.0
    """One FLOP a score (pair of query and key, head) at the stated peak."""
    head_rows: Real = 0.0
    """Queries of all heads in prefill attention; cached heads of all sequences in decode attention;
    elements of a grouped product's result."""
    tokens: Real = 0.0
    """Tokens of prefill attention, whatever their heads, or of a dense product; elements of the
    tokens that a grouped product is given."""
    columns: Real = 1.0
    """Columns of a dense product's result."""
    planned: Real = 0.0
    """Rows an expert that the tiles of a grouped product are planned for."""
    touched: Real = 0.0
    """Experts of a grouped product with a row."""
    foreign: Real = 0.0
    """Elements of the result that pairs of experts held elsewhere would have."""
    rounds: Real = 0.0
    """Looks at experts until the tokens of a grouped product have chosen theirs."""
    uncached_s: Real = 0.0
    """Weights of a grouped product that the last cache does not hold, at the stated bandwidth."""
    key_width: Real = 0.0
    """Elements of a prompt token's cached keys."""
    keys: Real = 0.0
    """Elements of the keys of all prompt tokens."""
    cache_bytes: Real = 0.0
    """Last cache on the chip, in which operands of prefill attention may have stayed."""
    queries: Real = 1.0
    """Queries that share a cached head in decode attention."""
    indexed_s: Real = 0.0
    """Part of ``compute_s`` that picks what decode attention reads, in tiles of its own."""
    alike: bool = False
    """Whether every expert of a grouped product has as many rows; else they are the mean."""

    @property
    def crossing_s(self) -> Real:
        """Least time for what crosses the memory's edge: not what the last cache can have kept. [s]

        References
        ----------
        .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009, section on
           compulsory traffic; a cache of ``C`` bytes saves no more than ``C``.
        """
        moved_s = self.memory_s + self.query_s
        if isinstance(self.cache_bytes, float) and not self.cache_bytes:
            return moved_s
        return moved_s * larger(0.0, 1.0 - self.cache_bytes / larger(self.moved_bytes, 1e-30))

    def time_s(self, law: Achieved) -> Real:
        r"""Time by ``law``. [s]

        .. math:: t = \mathrm{blend}\left( \frac{t_c}{\eta_c}, \frac{t_m}{\eta_m} \right)
           + \frac{t_q}{\eta_q} + r\,\rho + n\,\nu + k\,\xi + f\,\phi + c\,\kappa + d\,\tau + t_0

        (``t_c / eta_c`` is :func:`waves_s` where the law has tiles in waves)
        with the call's times at the stated peaks, achieved shares ``eta`` (constants, or curves
        over the call's size), rows of heads ``r``, time a row ``rho``, tokens ``n``, time a token
        ``nu``, elements of their keys ``k``, time of one ``xi``, elements of other devices'
        results ``f``, time to pass one over ``phi``, looks at experts ``c``, time of one
        ``kappa``, depth ``d``, time a step of it ``tau`` and floor ``t_0``, of the call that the
        kernel makes of it (:meth:`shaped`); where the law says so the chain ``d tau`` is joined
        to what stands before it as a root of powers (:func:`chained`).

        References
        ----------
        .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
        """
        call = self.shaped(law)
        compute: Real = law.compute_share
        memory: Real = law.memory_share
        if law.compute_curve is not None:
            flop = 2 * call.size * call.depth
            compute = share_at(law.compute_curve, call.size if law.waves is None else flop)
        if law.memory_curve is not None:
            share = streamed_share if self.lines else share_at
            memory = share(law.memory_curve, call.moved_bytes)
        memory_s, query_s = call.memory_s, call.query_s
        if law.query_share is None:
            memory_s, query_s = memory_s + query_s, 0.0
        else:
            query_s = query_s / law.query_share
        memory_s = memory_s / memory
        if law.expert_s:
            memory_s = (memory_s**2 + (call.touched * law.expert_s) ** 2) ** 0.5
        compute_s = call.compute_s / compute
        if law.waves is not None:
            element_s = call.compute_s / larger(call.size, 1e-30) * law.waves.units
            tile = TileTimes(
                element_s / compute, call.depth * (law.step_s or 0.0),
                call.depth * (law.edge_s or 0.0), float(law.cell_s or 0.0),
                float(law.join_s or 0.0),
            )  # fmt: skip
            compute_s = waves_s(wave_counts(call.rows, call.columns, law.waves), tile)
        rows_s = call.head_rows * (law.row_s or 0.0)
        if self.lines and law.blend == "root2":  # rows take the units as products do
            compute_s, rows_s = compute_s + rows_s, 0.0
        busy = blended(compute_s, memory_s, law.blend, self.lines) + query_s + rows_s
        busy = busy + call.tokens * (law.token_s or 0.0)
        busy = busy + call.keys * (law.key_s or 0.0)
        busy = busy + call.foreign * (law.foreign_s or 0.0) + call.rounds * (law.choice_s or 0.0)
        if law.height_s:
            busy = busy + call.planned * law.height_s
        chain_s = call.depth * (law.depth_s or 0.0)
        return chained(busy, chain_s, law.chain, self.lines) + law.floor_s

    def shaped(self, law: "Achieved | Shaping") -> "Call":
        """Return the call with what tiles, pipelines and exponentials add to it.

        * ``tile_keys``: no shorter contexts are read and multiplied.
        * ``tile_rows``: no fewer rows are computed, and units are busy as by that many.
        * ``tallest_rows``: no fewer rows an expert are computed than a tile is planned high.
        * ``heights``: whole tiles of the height chosen for what is planned are computed.
        * ``reread_rows``: weights that the last cache does not hold are read so many rows a time.
        * ``fill_depth``: so many steps more of the inner dimension.
        * ``split_depth``: a longer inner dimension keeps more units busy, and the chain ends there.
        * ``tile_queries``: whole tiles of the queries that share a cached head are multiplied.
        * ``row_waves``: what decode attention moves takes as long as its last wave of rows.
        * ``splits``: each row of decode attention is as many as the parts of its context.
        * ``doubling_depth``: each doubling of a context adds as much to the chain.
        * ``score_flop``: exponentials beside the products.
        * ``kept_part``: what the last cache has kept does not cross the memory's edge.
        * ``written_elements``: tokens of fewer cached keys start that part of a block's threads,
          which takes that part of its time, or (``written_power`` 2) of that, since as many more
          blocks fit a unit at a time.

        References
        ----------
        .. [1] NVIDIA, "Matrix Multiplication Background User's Guide", 2023 (tiles, split-K).
        .. [2] J. Shah et al., "FlashAttention-3", arXiv:2407.08608, section 3 (exponentials take
           as long as products at small head dimensions).
        .. [3] vLLM, csrc/cache_kernels.cu, ``reshape_and_cache_flash`` (a block a token, as many
           threads as its keys have elements, at most 512).
        .. [4] NVIDIA, "CUDA C++ Programming Guide", table of technical specifications (2,048
           threads a multiprocessor at a time).
        """
        if not any(getattr(law, name) for name in SHAPED):
            return self
        compute_s, memory_s, size, depth = self.compute_s, self.memory_s, self.size, self.depth
        tokens, moved, head_rows = self.tokens, self.moved_bytes, self.head_rows
        padded, planned = self._padding(law)
        compute_s = (compute_s - self.indexed_s) * padded + self.indexed_s
        size = size * padded
        if law.tile_keys:
            longer = larger(1.0, law.tile_keys / larger(depth, 1e-30))
            compute_s, memory_s, moved = compute_s * longer, memory_s * longer, moved * longer
            depth = larger(depth, float(law.tile_keys))
        if law.splits:
            head_rows = head_rows * parts(depth, larger(head_rows, 1e-30), law.splits)
        if law.reread_rows:
            more = larger(0.0, self.size / law.reread_rows - 1.0)
            memory_s = memory_s + more * self.uncached_s
        if law.fill_depth:
            compute_s = compute_s * (1 + law.fill_depth / depth)
            memory_s = memory_s + law.fill_depth * self.step_s
        if law.split_depth:
            size = size * larger(1.0, depth / law.split_depth)
            depth = smaller(depth, float(law.split_depth))
        if law.doubling_depth:
            depth = doubled(depth, float(law.doubling_depth))
        if law.score_flop:
            compute_s = compute_s + law.score_flop * self.scores_s * padded
        moving = self._moving(law, moved)
        if law.written_elements:
            threads = smaller(1.0, self.key_width / law.written_elements)
            tokens = tokens * threads ** (law.written_power or 1)
        return Call(
            compute_s, memory_s * moving, size, moved, depth, self.query_s * moving, self.lines,
            self.rows, self.step_s, self.scores_s, head_rows, tokens, self.columns,
            planned, self.touched, self.foreign, self.rounds, self.uncached_s, self.key_width,
            self.keys, self.cache_bytes, self.queries, self.indexed_s, self.alike,
        )  # fmt: skip

    def _moving(self, law: "Achieved | Shaping", moved: Real) -> Real:
        """Time to move ``moved`` bytes over that of all, shared evenly by the units."""
        if law.kept_part:
            return crossing(moved, law.kept_part * self.cache_bytes)
        if law.row_waves:
            return uneven(self.head_rows, law.row_waves)
        return 1.0

    def _padding(self, law: "Achieved | Shaping") -> tuple[Real, Real]:
        """Rows that tiles compute over those there are, and rows that tiles are planned for."""
        rows = larger(self.size, 1e-30)
        if law.tile_queries:
            tiles = -(-self.queries // law.tile_queries)
            return tiles * law.tile_queries / self.queries, self.planned
        if law.tile_rows:
            return larger(1.0, law.tile_rows / larger(self.rows, 1e-30)), self.planned
        if law.heights:
            planned = tile_height(self.planned, law.heights)
            return tiled_rows(self.size, planned, self.alike) / rows, planned
        if law.tallest_rows:
            planned = smaller(self.planned, float(law.tallest_rows))
            return larger(1.0, planned / rows), planned
        return 1.0, self.planned
