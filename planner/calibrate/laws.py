"""Achieved shares as a vector of parameters, fitted to measured times.

The residual is the logarithm of measured over predicted time under a robust loss, so that a
factor two weighs the same at a microsecond and at a second and a glitch weighs little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.calibrate.calls import Work
from planner.calibrate.features import predict_s
from planner.calibrate.forms import (
    ALSO,
    FORMS,
    HEIGHTS,
    Begin,
    Form,
    divided,
    first_of,
    in_waves,
    others,
    tiled,
    told_by,
)
from planner.calibrate.rows import FloatArray, Mask
from planner.calibrate.shapes import Key, Limits, Plain, Shape
from planner.errors import InputError
from planner.specs.calibration import Achieved

CLEARLY = 1e-3
"""Part of the cost that a change must save to be made."""
SETTLED = CLEARLY / 100
"""Part of the cost by which a fit that ends still moves."""
ANOTHER = 0.05
"""Part of the cost that another form must save to be taken."""
LOSS_SCALE = 0.1
"""Error at which the loss turns from squared to linear, in logarithms."""
STEP = float(np.finfo(float).eps) ** 0.5
"""Step of a parameter's logarithm by which slopes are read."""
MOST_ROWS = 4000
"""Rows of one fit; more are sampled."""
FEWEST_ROWS = 3
PLANNED = 1.01
"""Rows planned for over rows an expert has, from which a kernel is given more than it computes."""
USUAL = Limits()
"""Where nothing else is known."""


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
    limits: Limits = USUAL,
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
    depths = [w.depth for w in own]
    forms = [Form()]
    if curved:
        counted = all(w.units for w in own)
        also = [form for form in ALSO.get(key[0], ()) if _tells(form, own, counted)]
        alike = fixed.get(ungrouped(key))
        shown = [told_by(_shown(f, own, alike), depths) for f in (FORMS.get(key[0], Form()), *also)]
        forms = [each for form in shown for each in tiled(form)]
    found = [_best(Shape(key, form, own), samples, fixed, limits) for form in forms]
    best, begin, shape = found[0]
    for other in found[1:]:
        if other[0][0] < best[0] * (1 - ANOTHER):
            best, begin, shape = other
    _, x, jacobian = best
    law = shape.law(x, begin, source)
    errors = _log_errors(samples, {**fixed, key: law})
    sigma = float(np.diff(np.quantile(errors, [1 / 6, 5 / 6]))[0] / (2 * 0.9674))
    covariance = np.asarray(np.linalg.pinv(jacobian.T @ jacobian), float) * max(sigma, 1e-3) ** 2
    return Fit(key, law, shape.names, covariance, sigma, sum(map(len, samples)))


def _tells(form: Form, works: Sequence[Work], counted: bool) -> bool:
    """Whether rows can tell another form from the usual one.

    Parameters
    ----------
    counted : the part's units are, in which tiles would run in waves.
    """
    if form.waves:
        return counted and all(w.tiles == form.tiles for w in works)
    if form.key:
        return all(w.cache_bytes is not None and np.all(w.cache_bytes > 0) for w in works)
    return not form.row or all(w.head_rows is not None for w in works)


def ungrouped(key: Key) -> Key:
    """Law of heads that share no keys, of the same width and cache as those of ``key``."""
    return (key[0], key[1].replace("gqa", "mha"))


def _shown(form: Form, works: Sequence[Work], sibling: Achieved | None) -> Form:
    """``form`` without what these rows do not show: tiles, tokens, a cache written apart.

    Parameters
    ----------
    sibling : law of heads that share no keys, where these do.
    """
    if any("written" not in w.tiles for w in works):
        form = replace(form, written_elements=(None,), written_power=(None,))
    if any(w.queries is None or float(np.max(w.queries, initial=1.0)) == 1.0 for w in works):
        form = replace(form, tile_queries=(None,))
    if any(w.tiles != "keys" for w in works):
        form = replace(form, tile_keys=(None,))
    if works[0].family == "attention_prefill" and any("paired" not in w.tiles for w in works):
        form = replace(form, tile_rows=(None,))
    given = all(w.tokens is not None for w in works)
    if works[0].family == "gemm":
        return replace(form, token=given)
    if works[0].family == "attention_decode":
        form = in_waves(form, works, sibling.row_waves if sibling else None)
        return divided(form, works[0].tiles, works[0].units)
    if works[0].family != "grouped_gemm":
        return form
    passed = all(w.foreign is not None for w in works) and any(np.any(w.foreign) for w in works)
    chosen = all(w.rounds is not None for w in works) and any(np.any(w.rounds) for w in works)
    form = replace(form, token=given, foreign=passed, choice=chosen)
    if any(w.uncached_s is None for w in works):
        form = replace(form, reread_rows=(None,))
    form = replace(form, heights=HEIGHTS.get(works[0].tiles, (None,)))
    if any(w.planned is not None and np.any(w.planned > PLANNED * w.size) for w in works):
        return form
    return replace(form, tallest_rows=(None,), height=False)


Solved = tuple[float, FloatArray, FloatArray]
"""Cost, parameters and Jacobian."""


def _best(
    shape: Shape, samples: Sequence[Sample], fixed: Mapping[Key, Achieved], limits: Limits
) -> tuple[Solved, Begin, Shape]:
    """The best point of one form: what may be tried, tried one kind after the other."""
    begin = first_of(shape.form)
    if shape.waves is not None and limits.waves_floor_s is not None:
        limits = replace(limits, floor_s=limits.waves_floor_s)
    best = _solve(shape, begin, samples, fixed, limits)
    for kind in others(shape.form):
        known = begin
        for change in kind:
            changed = change(known)
            found = _solve(shape, changed, samples, fixed, limits)
            if found[0] < best[0] * (1 - CLEARLY):
                best, begin = found, changed
    return best, begin, shape


def _log_errors(samples: Sequence[Sample], laws: Mapping[Key, Achieved]) -> FloatArray:
    return np.concatenate([np.log(s.time_s / predict_s(s.works, laws)) for s in samples])


def _solve(
    shape: Shape,
    begin: Begin,
    samples: Sequence[Sample],
    fixed: Mapping[Key, Achieved],
    limits: Limits,
) -> Solved:
    """Cost, parameters and Jacobian of the rows at the best point from one begin."""
    from scipy.optimize import least_squares

    key = shape.key
    plain = Plain(shape, begin.blend, begin.chain)
    rest = [
        sum((w.time_s(fixed[w.key]) for w in s.works if w.key != key), np.zeros(len(s)))
        for s in samples
    ]
    own = [[w.shaped(begin.shaping) for w in s.works if w.key == key] for s in samples]
    logs = [np.log(s.time_s) for s in samples]

    def errors(x: FloatArray) -> FloatArray:
        parts = []
        for works, other, target in zip(own, rest, logs, strict=True):
            beside, wanted = (each.reshape(-1, *(1,) * (x.ndim - 1)) for each in (other, target))
            total = beside + sum(plain.time_s(x, work) for work in works)
            parts.append(np.log(total) - wanted)
        return np.concatenate(parts)

    def residual(x: FloatArray) -> FloatArray:
        return np.concatenate([errors(x), shape.prior(x)])

    low, high = shape.bounds(limits)

    def jacobian(x: FloatArray) -> FloatArray:
        step = STEP * np.maximum(1.0, np.abs(x))
        step = np.where(x + step > high, -step, step)
        moved = residual(np.column_stack([x, x[:, None] + np.diag(step)]))
        return np.asarray((moved[:, 1:] - moved[:, :1]) / step)

    start = np.clip(
        shape.start(np.concatenate([s.time_s for s in samples]), begin), low + 1e-6, high - 1e-6
    )
    found: Any = least_squares(
        residual, start, "2-point" if plain.alone else jacobian, bounds=(low, high),
        x_scale="jac", ftol=SETTLED, loss="soft_l1", f_scale=LOSS_SCALE, max_nfev=60,
    )  # fmt: skip
    return float(found.cost), np.asarray(found.x), np.asarray(found.jac)
