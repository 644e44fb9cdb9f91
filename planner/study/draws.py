"""What is not known for sure, as ranges and distributions, and samples of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.specs.scenario import Scenario
from planner.study.change import value_at

FloatArray = NDArray[np.float64]

Unknowns = Mapping[str, Sequence[float]]
"""Dotted path (or ``path*`` for a factor) -> ``(low, high)``: anything between, equally likely;
``(low, mid, high)``: a triangle with its peak at ``mid``."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """One quantity that is not known for sure."""

    path: str
    low: float
    mid: float | None
    high: float
    whole: bool = False
    """A count: values are rounded."""

    @classmethod
    def of(cls, path: str, values: Sequence[Any], *, whole: bool = False) -> "Unknown":
        """Check a range.

        Raises
        ------
        InputError
            Not two or three numbers that rise.
        """
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        rises = all(a <= b for a, b in pairwise(numbers))
        if len(numbers) != len(values) or len(numbers) not in (2, 3) or not rises:
            raise InputError(
                "--unknown", path, f"needs low,high or low,mid,high that rise, got {list(values)}"
            )
        if numbers[0] == numbers[-1]:
            raise InputError("--unknown", path, f"low and high are both {numbers[0]:g}")
        mid = float(numbers[1]) if len(numbers) == 3 else None
        return cls(path, float(numbers[0]), mid, float(numbers[-1]), whole)

    def at(self, quantile: FloatArray) -> FloatArray:
        r"""Value below which the quantity lies with this probability, shape as given.

        Of a triangle over :math:`[a, b]` with its peak at ``c``, with :math:`F_c = (c-a)/(b-a)`:

        .. math:: x(q) = a + \sqrt{q (b-a)(c-a)} \;(q \le F_c), \quad
                  b - \sqrt{(1-q)(b-a)(b-c)} \;(q > F_c)

        References
        ----------
        .. [1] S. Kotz, J. R. van Dorp, "Beyond Beta", World Scientific, 2004, chapter 1.
        """
        low, high, mid = self.low, self.high, self.mid
        width = high - low
        if mid is None:
            return self._rounded(low + quantile * width)
        rising = low + np.sqrt(quantile * width * (mid - low))
        falling = high - np.sqrt((1 - quantile) * width * (high - mid))
        return self._rounded(np.where(quantile <= (mid - low) / width, rising, falling))

    def plain(self, value: float) -> float:
        """A drawn value as a scenario takes it."""
        return round(value) if self.whole else float(value)

    def _rounded(self, values: FloatArray) -> FloatArray:
        return np.round(values) if self.whole else values

    @property
    def middle(self) -> float:
        """The peak, or the middle of the range."""
        middle = self.mid if self.mid is not None else (self.low + self.high) / 2
        return round(middle) if self.whole else middle


def unknowns_of(base: Scenario, unknowns: Unknowns) -> tuple[Unknown, ...]:
    """Check every range; at least one.  A path that leads to a count is drawn in whole numbers."""
    if not unknowns:
        raise InputError("--unknown", "", "nothing is unknown; give path=low,high or low,mid,high")
    data = base.model_dump(mode="json")

    def counts(path: str) -> bool:
        return not path.endswith("*") and isinstance(value_at(data, path), int)

    return tuple(
        Unknown.of(path, tuple(values), whole=counts(path)) for path, values in unknowns.items()
    )


def worlds(unknowns: Sequence[Unknown], count: int, seed: int) -> tuple[dict[str, float], ...]:
    """Draw ``count`` worlds: a Latin hypercube, every unknown once in each of ``count`` strata.

    References
    ----------
    .. [1] M. McKay, R. Beckman, W. Conover, "A Comparison of Three Methods for Selecting Values
       of Input Variables", Technometrics 21(2), 1979.
    """
    rng = np.random.default_rng(seed)
    columns = [
        unknown.at((rng.permutation(count) + rng.random(count)) / count) for unknown in unknowns
    ]
    return tuple(
        {
            unknown.path: unknown.plain(column[i])
            for unknown, column in zip(unknowns, columns, strict=True)
        }
        for i in range(count)
    )
