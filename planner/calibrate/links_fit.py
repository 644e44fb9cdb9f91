"""Parameters of a link law from rows: log error, robust loss, covariance kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.calibrate.links_rows import Rows
from planner.calibrate.rows import FloatArray
from planner.errors import InputError
from planner.sourced import Sourced

LOSS_SCALE = 0.1
"""Error at which the loss turns from squared to linear, in logarithms."""
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of a law and where it may lie."""

    name: str
    start: float
    low: float
    high: float
    plain: bool = False
    """Fitted as it is, not its logarithm: it may be zero or negative."""
    other: float = 0.0
    """A second start, where one may end in a lesser minimum; 0: none."""
    sigma: float = 0.0
    """Spread of a weak prior around ``start``, for what the rows may not tell; 0: none."""


@dataclass(frozen=True, slots=True)
class LinkFit:
    """Fitted numbers, how certain they are, and how far rows lie from them."""

    values: Mapping[str, float]
    names: tuple[str, ...]
    covariance: FloatArray
    """Of the parameters, or their logarithms, in the order of ``names``."""
    sigma: float
    """Standard deviation of log(measured / predicted), from its middle two thirds."""
    rows: int

    def sourced(self, name: str, source: str, note: str = "fitted") -> Sourced:
        """One number as a calibration holds it."""
        return Sourced(float(f"{self.values[name]:.4g}"), source, note, "derived")


def fit(
    parameters: Sequence[Parameter],
    rows: Sequence[Rows],
    predict: Callable[[Values, Rows], FloatArray],
    fixed: Values | None = None,
) -> LinkFit:
    """Find the numbers with which ``predict`` comes closest to the rows.

    Every group of rows weighs by its number of rows.

    Raises
    ------
    InputError
        Fewer rows than parameters.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Ann. Math. Stat. 35(1), 1964.
    """
    from scipy.optimize import least_squares

    count = sum(map(len, rows))
    if count < len([p for p in parameters if not p.sigma]):
        raise InputError("", "rows", f"{count} rows cannot fix {len(parameters)} numbers")
    known = dict(fixed or {})

    def values(x: FloatArray) -> dict[str, float]:
        found = {
            p.name: float(v) if p.plain else float(np.exp(v))
            for p, v in zip(parameters, x, strict=True)
        }
        return {**known, **found}

    start = np.array([p.start if p.plain else np.log(p.start) for p in parameters])
    low = np.array([p.low if p.plain else np.log(p.low) for p in parameters])
    high = np.array([p.high if p.plain else np.log(p.high) for p in parameters])
    weak = np.array([p.sigma for p in parameters])

    def errors(x: FloatArray) -> FloatArray:
        now = values(x)
        return np.concatenate([np.log(predict(now, r) / r.time_s) for r in rows])

    def residual(x: FloatArray) -> FloatArray:
        prior = (x - start)[weak > 0] / weak[weak > 0] * LOSS_SCALE
        return np.concatenate([errors(x), prior])

    def solved(first: FloatArray) -> Any:
        inside = np.clip(first, low + 1e-9, high - 1e-9)
        return least_squares(
            residual, inside, bounds=(low, high), loss="soft_l1", f_scale=LOSS_SCALE, max_nfev=200
        )

    second = np.array([
        s if not p.other else p.other if p.plain else np.log(p.other)
        for p, s in zip(parameters, start, strict=True)
    ])  # fmt: skip
    tries = [solved(start)] + ([solved(second)] if np.any(second != start) else [])
    found: Any = min(tries, key=lambda t: t.cost)
    left = errors(found.x)
    sigma = float(np.diff(np.quantile(left, [1 / 6, 5 / 6]))[0] / (2 * 0.9674))
    covariance = np.asarray(np.linalg.pinv(found.jac.T @ found.jac), float) * max(sigma, 1e-3) ** 2
    return LinkFit(values(found.x), tuple(p.name for p in parameters), covariance, sigma, count)
