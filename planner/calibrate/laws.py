"""Achieved shares as a vector of parameters, fitted to measured times.

The residual is the logarithm of measured over predicted time under a robust loss, so that a
factor two weighs the same at a microsecond and at a second and a glitch weighs little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.calibrate.features import Work, predict_s
from planner.calibrate.forms import (
    FORMS,
    SHAPED,
    Begin,
    Blend,
    Chain,
    Form,
    first_of,
    others,
    told_by,
)
from planner.calibrate.rows import FloatArray, Mask
from planner.errors import InputError
from planner.roofline import blended, chained
from planner.sourced import Sourced
from planner.specs.hardware import Achieved, Curve

Key = tuple[str, str]

SMOOTH = 0.5
"""Typical change of slope of a curve from knot to knot, in logarithms: a weak prior."""
CLEARLY = 1e-3
"""Part of the cost that a change must save to be made."""
LOSS_SCALE = 0.1
"""Error at which the loss turns from squared to linear, in logarithms."""
EXTRA = {"depth": "depth_s", "query": "query_share", "row": "row_s", "token": "token_s"}
LOWEST = {
    name: float(np.log(least))
    for name, least in {"depth": 1e-13, "query": 0.02, "row": 1e-16, "token": 1e-13}.items()
}
HIGHEST = {
    name: float(np.log(most))
    for name, most in {"depth": 1e-6, "query": 1.0, "row": 1e-8, "token": 1e-7}.items()
}
"""Bounds of the parameters that only some laws have, as logarithms."""
ONE_WIDTH = 0.01
"""Spread of the logarithm of bytes a row below which heads have one width, or share alike."""
ROW = {"attention_prefill": float(np.log(1e-10)), "grouped_gemm": float(np.log(1e-12))}
"""First guess of the time a row of a head, or an element of a result, as a logarithm."""
TOKEN = float(np.log(1e-9))
"""The same of the time a token."""
MOST_BELOW = 0.2
"""Share of the rows that may be smaller than the first knot."""
MOST_ROWS = 4000
"""Rows of one fit; more are sampled."""
FEWEST_ROWS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of one table as work and time."""

    works: list[Work]
    time_s: FloatArray

    def take(self, keep: Mask) -> "Sample":
        """Rows where ``keep``."""
        return Sample([w.take(keep) for w in self.works], self.time_s[keep])

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fit may not pass: the highest shares and the lowest floor."""

    compute_share: float = 1.0
    memory_share: float = 1.0
    floor_s: float = 1.5e-6
    """A kernel inside a captured graph costs no less. [s]"""


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted shares with how certain they are."""

    key: Key
    law: Achieved
    names: tuple[str, ...]
    covariance: FloatArray
    """Of the parameters' logarithms, in the order of ``names``."""
    sigma: float
    """Standard deviation of log(measured / predicted), from its middle two thirds."""
    rows: int


def thinned(samples: Sequence[Sample], most: int, seed: int = 0) -> list[Sample]:
    """At most ``most`` rows in all, the same number from each sample where they have it."""
    rng, each, found = np.random.default_rng(seed), most // max(1, len(samples)), []
    for sample in samples:
        keep = np.ones(len(sample), bool)
        if len(sample) > each:
            keep[:] = False
            keep[rng.choice(len(sample), each, replace=False)] = True
        found.append(sample.take(keep))
    return found


def fit_law(
    key: Key,
    samples: Sequence[Sample],
    fixed: Mapping[Key, Achieved],
    source: str,
    limits: Limits = Limits(),
    curved: bool = True,
) -> Fit:
    """Fit the shares of ``key`` to rows, the other kernels of a row taken as ``fixed``.

    Parameters
    ----------
    curved : shares over the size of the work, a blend and a time by depth; else two constant
        shares and a floor.

    Raises
    ------
    InputError
        Too few rows.
    """
    samples = [s for s in thinned(samples, MOST_ROWS) if len(s)]
    if sum(map(len, samples)) < FEWEST_ROWS:
        raise InputError("", "/".join(key), f"fewer than {FEWEST_ROWS} rows to fit")
    own = [w for s in samples for w in s.works if w.key == key]
    form = told_by(FORMS.get(key[0], Form()), [w.depth for w in own]) if curved else Form()
    shape = _Shape(key, form, own)
    begin = first_of(form)
    best = _solve(shape, begin, samples, fixed, limits)
    for kind in others(form):
        known = begin
        for change in kind:
            changed = change(known)
            found = _solve(shape, changed, samples, fixed, limits)
            if found[0] < best[0] * (1 - CLEARLY):
                best, begin = found, changed
    _, x, jacobian = best
    law = shape.law(x, begin, source)
    errors = _log_errors(samples, {**fixed, key: law})
    sigma = float(np.diff(np.quantile(errors, [1 / 6, 5 / 6]))[0] / (2 * 0.9674))
    covariance = np.asarray(np.linalg.pinv(jacobian.T @ jacobian), float) * max(sigma, 1e-3) ** 2
    return Fit(key, law, shape.names, covariance, sigma, sum(map(len, samples)))


def _log_errors(samples: Sequence[Sample], laws: Mapping[Key, Achieved]) -> FloatArray:
    return np.concatenate([np.log(s.time_s / predict_s(s.works, laws)) for s in samples])


class _Shape:
    """Which parameters a law has, and the way between them and the law."""

    def __init__(self, key: Key, form: Form, works: Sequence[Work] = ()) -> None:
        self.key, self.form = key, form
        self.multiplies = works[0].multiplies if works else None
        self.sizes = _reaching(form.compute, [w.size for w in works])
        self.bytes = _reaching(form.memory, [w.call_bytes for w in works])
        self.compute = max(1, len(self.sizes))
        self.memory = max(1, len(self.bytes))
        labels = [f"compute_share@{s:g}" for s in self.sizes] or ["compute_share"]
        labels += [f"memory_share@{b:g}B" for b in self.bytes] or ["memory_share"]
        self.shares = len(labels)
        hidden = _hidden(works)
        extra = [n for n in EXTRA if getattr(form, n) and n not in hidden]
        self.names = (*labels, "floor_s", *(EXTRA[name] for name in extra))
        self.at = {name: self.shares + 1 + i for i, name in enumerate(extra)}

    def start(self, times: FloatArray, begin: Begin) -> FloatArray:
        """First guess, as logarithms."""
        shares = [np.log(begin.compute_share)] * self.compute + [np.log(0.8)] * self.memory
        floor = [np.log(max(1e-7, 0.5 * float(np.min(times))))]
        first = {
            "depth": np.log(begin.depth_s), "query": np.log(0.5), "token": TOKEN,
            "row": ROW.get(self.key[0], 0.0),
        }  # fmt: skip
        return np.array(shares + floor + [float(first[name]) for name in self.at])

    def bounds(self, limits: Limits) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest of each parameter, as logarithms."""
        low = [np.log(1e-3)] * self.shares + [np.log(limits.floor_s)]
        high = [np.log(limits.compute_share)] * self.compute
        high += [np.log(limits.memory_share)] * self.memory + [np.log(1e-2)]
        low += [LOWEST[name] for name in self.at]
        high += [HIGHEST[name] for name in self.at]
        return np.array(low), np.array(high)

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
            shares = tuple(float(f"{v:.4g}") for v in _no_steeper(np.log(sizes), logs))
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
            **{name: getattr(begin.shaping, name) for name in SHAPED},
            **{EXTRA[n]: number(v, "fitted") for n, v in more.items() if v is not None},
        )

    def prior(self, x: FloatArray) -> FloatArray:
        """Pull of the curves towards straight lines, and off slopes where time would fall."""
        pulls = []
        for sizes, part in (
            (self.sizes, x[: self.compute]),
            (self.bytes, x[self.compute : self.shares]),
        ):
            if len(sizes) < 3:
                continue
            slopes = np.diff(part) / np.diff(np.log(sizes))
            pulls.append(np.maximum(0, slopes - 0.98) * 100)
            if self.form.rising and sizes is self.bytes:
                pulls += [np.minimum(0, slopes) * 100, slopes / 2]
            else:
                pulls += [np.diff(slopes) / SMOOTH, slopes[[0, -1]]]
        return np.concatenate(pulls) if pulls else np.zeros(0)


def _hidden(works: Sequence[Work]) -> tuple[str, ...]:
    """Parameters that these rows of prefill attention cannot tell from others.

    Where heads have one width, rows and queries of a head are one thing, and where they share no
    keys those are too; else what heads share is among the bytes of keys.
    """
    own = [w for w in works if w.family == "attention_prefill" and len(w.memory_s)]
    if not own:
        return ()
    widths = [np.asarray(w.head_rows / w.query_s) for w in own if w.head_rows is not None]
    one_width = float(np.ptp(np.log(np.concatenate(widths)))) < ONE_WIDTH
    sharing = np.concatenate([w.query_s / w.memory_s for w in own])
    if one_width and float(np.ptp(np.log(sharing))) < ONE_WIDTH:
        return ("row", "query")
    return ("row", "token") if one_width else ("token",)


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


def _no_steeper(log_sizes: FloatArray, log_shares: FloatArray) -> FloatArray:
    """Shares lifted where they would rise faster than the size."""
    logs = np.minimum(log_shares, 0.0).copy()
    for i in range(len(logs) - 1, 0, -1):
        logs[i - 1] = max(logs[i - 1], logs[i] - 0.999 * (log_sizes[i] - log_sizes[i - 1]))
    return np.exp(logs)


def _solve(
    shape: _Shape,
    begin: Begin,
    samples: Sequence[Sample],
    fixed: Mapping[Key, Achieved],
    limits: Limits,
) -> tuple[float, FloatArray, FloatArray]:
    """Cost, parameters and Jacobian of the rows at the best point from one begin."""
    from scipy.optimize import least_squares

    key = shape.key
    plain = _Plain(shape, begin.blend, begin.chain)
    rest = [
        sum((w.time_s(fixed[w.key]) for w in s.works if w.key != key), np.zeros(len(s)))
        for s in samples
    ]
    own = [[w.shaped(begin.shaping) for w in s.works if w.key == key] for s in samples]
    logs = [np.log(s.time_s) for s in samples]

    def errors(x: FloatArray) -> FloatArray:
        parts = []
        for works, other, target in zip(own, rest, logs, strict=True):
            total = other + sum(plain.time_s(x, work) for work in works)
            parts.append(np.log(total) - target)
        return np.concatenate(parts)

    def residual(x: FloatArray) -> FloatArray:
        return np.concatenate([errors(x), shape.prior(x)])

    low, high = shape.bounds(limits)
    start = np.clip(
        shape.start(np.concatenate([s.time_s for s in samples]), begin), low + 1e-6, high - 1e-6
    )
    found: Any = least_squares(
        residual, start, bounds=(low, high), loss="soft_l1", f_scale=LOSS_SCALE, max_nfev=60
    )
    return float(found.cost), np.asarray(found.x), np.asarray(found.jac)


class _Plain:
    """The law's formula on a bare parameter vector, without building specs at every step."""

    def __init__(self, shape: _Shape, blend: Blend, chain: Chain) -> None:
        self.shape, self.blend, self.chain = shape, blend, chain
        self.log_sizes, self.log_bytes = (
            np.log(shape.sizes or (1.0,)),
            np.log(shape.bytes or (1.0,)),
        )

    def time_s(self, x: FloatArray, work: Work) -> FloatArray:
        """Time of one kernel of each row. [s]"""
        c, m = self.shape.compute, self.shape.memory
        compute = np.interp(np.log(np.maximum(work.size, 1e-30)), self.log_sizes, x[:c])
        memory_s, query_s = work.memory_s, work.query_s
        query = self.shape.value("query", x)
        if query is None:
            memory_s, query_s = memory_s + query_s, np.zeros_like(query_s)
        else:
            query_s = query_s / query
        memory = self._memory(x[c : c + m], work)
        busy = blended(work.compute_s / np.exp(compute), memory_s / memory, self.blend) + query_s
        for name, each in (("row", work.head_rows), ("token", work.tokens)):
            if each is not None and (time_s := self.shape.value(name, x)):
                busy = busy + each * time_s
        depth_s = work.depth * (self.shape.value("depth", x) or 0.0)
        return np.asarray(chained(busy, depth_s, self.chain) + np.exp(x[c + m]))

    def _memory(self, logs: FloatArray, work: Work) -> FloatArray:
        """Share of the bandwidth of each row."""
        if work.call.lines and len(logs) > 1:
            knots = np.asarray(self.shape.bytes)
            inside = np.clip(work.call_bytes, knots[0], knots[-1])
            return np.asarray(inside / np.interp(inside, knots, knots / np.exp(logs)))
        sizes = np.log(np.maximum(work.call_bytes, 1e-30))
        return np.asarray(np.exp(np.interp(sizes, self.log_bytes, logs)))
