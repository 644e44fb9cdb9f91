"""A law as a vector of parameters: which it has, their bounds, and the time they say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.calibrate.calls import Work
from planner.calibrate.forms import Begin, Blend, Chain, Form
from planner.calibrate.rows import FloatArray
from planner.ops.call import SHAPED
from planner.ops.laws import blended, chained
from planner.ops.waves import Counted, wave_counts
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, Curve
from planner.specs.tilings import Waves

Key = tuple[str, str]

SMOOTH = 0.5
"""Typical change of slope of a curve from knot to knot, in logarithms: a weak prior."""
EXTRA = {
    "depth": "depth_s", "query": "query_share", "row": "row_s", "token": "token_s",
    "key": "key_s", "height": "height_s", "foreign": "foreign_s", "choice": "choice_s",
    "step": "step_s", "edge": "edge_s", "cell": "cell_s", "join": "join_s",
}  # fmt: skip
BOUNDS = {
    "depth": (1e-13, 1e-6), "query": (0.02, 1.0), "row": (1e-16, 1e-6), "token": (1e-17, 1e-7),
    "height": (1e-13, 1e-6), "foreign": (1e-17, 1e-7), "choice": (1e-12, 1e-7),
    "key": (1e-16, 1e-9), "step": (1e-14, 1e-8), "edge": (1e-15, 1e-9), "cell": (1e-14, 1e-8),
    "join": (1e-8, 1e-4),
}  # fmt: skip
"""Lowest and highest of the parameters that only some laws have."""
ONE_WIDTH = 0.01
"""Spread of the logarithm of bytes a row below which heads have one width, or share alike."""
FIRST = {
    "query": 0.5,
    "row": 1e-10,
    "token": 1e-9,
    "height": 1e-8,
    "foreign": 1e-12,
    "choice": 2e-9,
    "key": 1e-12,
    "step": 6e-10,
    "edge": 2e-12,
    "cell": 6e-11,
    "join": 2e-6,
}
"""First guesses of them."""
ELEMENT_S = 1e-12
"""First guess of the time an element of a grouped product's result, or of a token."""
PART_S = 1e-8
"""The same of a part of a context in decode attention: where it is far below what rows show, they
do not tell in which direction to go."""
MOST_BELOW = 0.2
"""Share of the rows that may be smaller than the first knot."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fit may not pass: the highest shares and the lowest floor."""

    compute_share: float = 1.0
    memory_share: float = 1.0
    floor_s: float = 1.5e-6
    """A kernel inside a captured graph costs no less. [s]"""
    waves_floor_s: float | None = None
    """The same of a product in waves of tiles; None: as others. [s]"""
    least_memory_share: float = 1e-3
    """Where something else of the part tells what its memory gives."""


class Shape:
    """Which parameters a law has, and the way between them and the law."""

    def __init__(self, key: Key, form: Form, works: Sequence[Work] = ()) -> None:
        self.key, self.form = key, form
        self.multiplies = works[0].multiplies if works else None
        self.units = works[0].units if works else None
        self.untuned = any(work.tiles == "untuned" for work in works)
        self.sizes = form.compute
        if form.waves is None:
            self.sizes = _reaching(form.compute, [w.size for w in works])
        self.bytes = _reaching(form.memory, [w.call_bytes for w in works])
        self.compute = max(1, len(self.sizes))
        self.memory = max(1, len(self.bytes))
        labels = [f"compute_share@{s:g}" for s in self.sizes] or ["compute_share"]
        labels += [f"memory_share@{b:g}B" for b in self.bytes] or ["memory_share"]
        self.shares = len(labels)
        hidden = _hidden(works, form)
        extra = [n for n in EXTRA if getattr(form, n) and n not in hidden]
        self.names = (*labels, "floor_s", *(EXTRA[name] for name in extra))
        self.at = {name: self.shares + 1 + i for i, name in enumerate(extra)}

    def start(self, times: FloatArray, begin: Begin) -> FloatArray:
        """First guess, as logarithms."""
        shares = [np.log(begin.compute_share)] * self.compute + [np.log(0.8)] * self.memory
        floor = [np.log(max(1e-7, 0.5 * float(np.min(times))))]
        first = {**FIRST, "depth": begin.depth_s}
        if self.key[0] == "attention_decode":
            first["row"] = PART_S
        if self.key[0] == "grouped_gemm":
            first["row"] = first["token"] = first["foreign"] = ELEMENT_S
        return np.array(shares + floor + [float(np.log(first[name])) for name in self.at])

    def bounds(self, limits: Limits) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest of each parameter, as logarithms."""
        low = [np.log(1e-3)] * self.compute + [np.log(limits.least_memory_share)] * self.memory
        low += [np.log(limits.floor_s)]
        high = [np.log(limits.compute_share)] * self.compute
        high += [np.log(limits.memory_share)] * self.memory + [np.log(1e-2)]
        low += [float(np.log(BOUNDS[name][0])) for name in self.at]
        high += [float(np.log(BOUNDS[name][1])) for name in self.at]
        return np.array(low), np.array(high)

    @property
    def waves(self) -> Waves | None:
        """Tiles that run in waves over the units of these rows' part."""
        if self.form.waves is None or not self.units:
            return None
        rows, columns, splits = self.form.waves
        return Waves(rows=rows, columns=columns, splits=splits, units=self.units)

    def value(self, name: str, x: FloatArray) -> float | None:
        """Parameter that a law may not have."""
        return float(np.exp(x[self.at[name]])) if name in self.at else None

    def law(self, x: FloatArray, begin: Begin, source: str) -> Achieved:
        """Build the law of a parameter vector, its curves made monotone in time."""
        compute, memory = x[: self.compute], x[self.compute : self.compute + self.memory]
        floor, more = float(np.exp(x[self.shares])), {n: self.value(n, x) for n in EXTRA}

        def number(value: float, note: str) -> Sourced:
            return Sourced(float(f"{value:.4g}"), source, note, "derived")

        def curve(sizes: tuple[float, ...], logs: FloatArray) -> Curve | None:
            if not sizes:
                return None
            found = no_steeper(np.log(sizes), logs)
            if self.waves is not None and sizes is self.sizes:
                found = np.minimum.accumulate(found)
            shares = tuple(float(f"{v:.4g}") for v in found)
            return Curve(sizes=sizes, shares=shares, source=source)

        ups, downs = curve(self.sizes, compute), curve(self.bytes, memory)
        top_c = max(ups.shares) if ups else float(np.exp(compute[0]))
        top_m = max(downs.shares) if downs else float(np.exp(memory[0]))
        return Achieved(
            compute_share=number(top_c, "highest of the curve" if ups else "fitted"),
            memory_share=number(top_m, "highest of the curve" if downs else "fitted"),
            floor_s=number(floor, "fitted"),
            compute_curve=ups,
            memory_curve=downs,
            blend=begin.blend,
            chain=begin.chain,
            multiplies=self.multiplies,
            waves=self.waves,
            untuned_tiles=self.untuned,
            **{name: getattr(begin.shaping, name) for name in SHAPED},
            **{EXTRA[n]: number(v, "fitted") for n, v in more.items() if v is not None},
        )

    def prior(self, x: FloatArray) -> FloatArray:
        """Pull of the curves towards straight lines, and off slopes where time would fall.

        Of one vector of parameters, or of one in each column.
        """
        pulls = []
        for sizes, part in (
            (self.sizes, x[: self.compute]),
            (self.bytes, x[self.compute : self.shares]),
        ):
            if not sizes:
                continue
            slopes = (np.diff(part, axis=0).T / np.diff(np.log(sizes))).T
            if self.waves is not None and sizes is self.sizes:
                pulls.append(np.maximum(0, slopes) * 100)
            if len(sizes) < 3:
                continue
            pulls.append(np.maximum(0, slopes - 0.98) * 100)
            if self.form.rising and sizes is self.bytes:
                pulls += [np.minimum(0, slopes) * 100, slopes / 2]
            else:
                pulls += [np.diff(slopes, axis=0) / SMOOTH, slopes[[0, -1]]]
        return np.concatenate(pulls) if pulls else np.zeros((0, *x.shape[1:]))


def _hidden(works: Sequence[Work], form: Form) -> tuple[str, ...]:
    """Parameters that these rows of attention cannot tell from others.

    Where heads have one width, rows and queries of a head are one thing, and where they share no
    keys those are too; where widths differ, what heads share is among the bytes of keys, but for
    what a kernel of its own takes to write them.  In decode, rows are those of cached heads: as
    many as queries where they share no keys.
    """
    own = [w for w in works if w.family == "attention_prefill" and len(w.memory_s)]
    if works and works[0].family == "attention_decode" and form.row:
        tiles = [w.head_rows / w.query_s for w in works if w.head_rows is not None]
        return ("query",) if float(np.ptp(np.log(np.concatenate(tiles)))) < ONE_WIDTH else ()
    if not own:
        return ()
    widths = [np.asarray(w.head_rows / w.query_s) for w in own if w.head_rows is not None]
    sharing = np.concatenate([w.query_s / w.memory_s for w in own])
    one_width = float(np.ptp(np.log(np.concatenate(widths)))) < ONE_WIDTH
    if one_width and float(np.ptp(np.log(sharing))) < ONE_WIDTH:
        return ("row", "query")
    if form.key:
        return ("key",) if float(np.ptp(np.log(sharing))) < ONE_WIDTH else ()
    written = all("written" in w.tiles for w in own)
    return ("row",) if one_width else () if written else ("token",)


def _reaching(knots: tuple[float, ...], sizes: Sequence[FloatArray]) -> tuple[float, ...]:
    """Knots as they are, or spread anew where many sizes lie below them (a small device)."""
    if not sizes or not knots:
        return knots
    every = np.concatenate(sizes)
    if np.mean(every < knots[0]) <= MOST_BELOW:
        return knots
    low, high = np.quantile(every, (0.02, 0.98))
    count = min(len(knots), 6)
    return tuple(float(f"{x:.4g}") for x in np.geomspace(low, max(high, 2 * low), count))


def no_steeper(log_sizes: FloatArray, log_shares: FloatArray) -> FloatArray:
    """Shares lifted where they would rise faster than the size."""
    logs = np.minimum(log_shares, 0.0).copy()
    for i in range(len(logs) - 1, 0, -1):
        logs[i - 1] = max(logs[i - 1], logs[i] - 0.999 * (log_sizes[i] - log_sizes[i - 1]))
    return np.exp(logs)


def _alike(counted: Counted) -> tuple[FloatArray, FloatArray]:
    """Fewest waves of tiles as high as others are wide; and what is alike of those.

    Returns
    -------
    Waves, one row a kind of tile, and of each kind area, rows and columns together, parts.
    """
    fewest: dict[tuple[float, float, int], FloatArray] = {}
    for count, high, wide, parts in counted:
        kind, waves = (high * wide, high + wide, parts), np.asarray(count)
        fewest[kind] = np.minimum(fewest.get(kind, waves), waves)
    return np.stack(list(fewest.values())), np.array(list(fewest))


def _weights(at: FloatArray, knots: FloatArray) -> FloatArray:
    """Weights of the knots in what is interpolated at each place: one row a place."""
    return np.stack([np.interp(at, knots, each) for each in np.eye(len(knots))], axis=1)


class Plain:
    """The law's formula on bare parameters, without building specs at every step.

    Of one vector of parameters, times of all rows; of one in each column, one column of times each.
    """

    def __init__(self, shape: Shape, blend: Blend, chain: Chain) -> None:
        self.shape, self.blend, self.chain = shape, blend, chain
        self._counts: dict[int, tuple[FloatArray, FloatArray]] = {}
        self._between: dict[int, tuple[FloatArray, FloatArray]] = {}

    @property
    def alone(self) -> bool:
        """Whether only one vector of parameters can be asked at a time."""
        return self.shape.waves is not None

    def time_s(self, x: FloatArray, work: Work) -> FloatArray:
        """Time of one kernel of each row. [s]"""
        c, m = self.shape.compute, self.shape.memory

        def rows(values: FloatArray) -> FloatArray:
            return values if x.ndim == 1 else values[:, None]

        of_size, of_bytes = self._interpolated(work)
        memory_s, query_s = rows(work.memory_s), rows(work.query_s)
        query = self._value("query", x)
        if query is None:
            memory_s, query_s = memory_s + query_s, np.zeros_like(query_s)
        else:
            query_s = query_s / query
        compute_s = rows(work.compute_s) / np.exp(of_size @ x[:c])
        if (waves := self.shape.waves) is not None:
            compute_s = self._waves_s(x, work, waves, compute_s)
        if work.call.lines and m > 1:
            knots = np.asarray(self.shape.bytes)
            inside = np.clip(work.call_bytes, knots[0], knots[-1])
            share = rows(inside) / (of_bytes @ (rows(knots) / np.exp(x[c : c + m])))
        else:
            share = np.exp(of_bytes @ x[c : c + m])
        memory_s = memory_s / share
        rows_s: FloatArray | float = 0.0
        if work.head_rows is not None:
            row_s = self._value("row", x)
            rows_s = 0.0 if row_s is None else rows(work.head_rows) * row_s
        lines = work.call.lines
        if lines and self.blend == "root2":
            compute_s, rows_s = compute_s + rows_s, 0.0
        busy = blended(compute_s, memory_s, self.blend, lines) + query_s + rows_s
        elements = (
            ("token", work.tokens), ("key", work.keys),
            ("foreign", work.foreign), ("choice", work.rounds), ("height", work.planned),
        )  # fmt: skip
        for name, each in elements:
            if each is not None and (time_s := self._value(name, x)) is not None:
                busy = busy + rows(each) * time_s
        depth_s = self._value("depth", x)
        chain_s = rows(work.depth) * (0.0 if depth_s is None else depth_s)
        joined = chained(busy, chain_s, self.chain, lines)
        return np.asarray(joined + np.exp(x[c + m]))

    def _value(self, name: str, x: FloatArray) -> FloatArray | None:
        """Parameter that a law may not have, of each column."""
        at = self.shape.at.get(name)
        return None if at is None else np.exp(x[at])

    def _interpolated(self, work: Work) -> tuple[FloatArray, FloatArray]:
        """Weights of the knots of the compute and of the memory share in each row."""
        if id(work) not in self._between:
            shape = self.shape
            size = work.size if shape.waves is None else 2 * work.size * work.depth
            logs = [np.log(np.maximum(each, 1e-30)) for each in (size, work.call_bytes)]
            of_size = _weights(logs[0], np.log(shape.sizes or (1.0,)))
            of_bytes = _weights(logs[1], np.log(shape.bytes or (1.0,)))
            if work.call.lines and shape.memory > 1:
                of_bytes = _weights(work.call_bytes, np.asarray(shape.bytes))
            self._between[id(work)] = of_size, of_bytes
        return self._between[id(work)]

    def _waves_s(
        self, x: FloatArray, work: Work, waves: Waves, compute_s: FloatArray
    ) -> FloatArray:
        """:func:`planner.ops.waves.waves_s`, all tiles at once and their waves counted once."""
        if id(work) not in self._counts:
            assert work.rows is not None
            assert work.columns is not None
            self._counts[id(work)] = _alike(wave_counts(work.rows, work.columns, waves))
        count, sides = self._counts[id(work)]
        area, edges, parts = sides.T[:, :, None]
        step, edge, cell, join = (
            self.shape.value(n, x) or 0.0 for n in ("step", "edge", "cell", "join")
        )
        element_s = compute_s / np.maximum(work.size, 1e-30) * waves.units
        steps_s = area * element_s + work.depth * (step + edges * edge)
        times = count * (steps_s / parts + area * cell) + join * (parts > 1)
        return np.asarray(np.min(times, axis=0))
