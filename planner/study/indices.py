"""Which unknown moves the answer: one at a time (tornado), and all together (Sobol indices)."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.specs.scenario import Scenario
from planner.study.draws import Unknown, Unknowns, unknowns_of
from planner.study.grid import Case
from planner.study.row import COLUMNS, Ask, Row, what_to_ask
from planner.study.table import Table

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Swing:
    """What one unknown does to the answer on its own, the others at their middle."""

    path: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def swing(self) -> float:
        """How far the answer moves."""
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Index:
    """Share of the answer's variance that one unknown accounts for, with 95 % intervals."""

    path: str
    first: float
    """On its own: what knowing it would take off the variance, on average."""
    first_low: float
    first_high: float
    total: float
    """With everything it acts together with."""
    total_low: float
    total_high: float


@dataclass(frozen=True)
class Sensitivity:
    """How an answer depends on what is not known, the most important first."""

    base: Scenario
    quantity: str
    at_middle: float
    swings: tuple[Swing, ...]
    indices: tuple[Index, ...]
    answers: int
    """Scenarios that were worked out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scenario": self.base.name,
            "quantity": self.quantity,
            "at_middle": self.at_middle,
            "swings": [{**asdict(swing), "swing": swing.swing} for swing in self.swings],
            "indices": [asdict(index) for index in self.indices],
            "answers": self.answers,
        }


def sensitivity(  # noqa: PLR0913
    base: Scenario,
    unknowns: Unknowns,
    *,
    quantity: str = "usd_per_million_output_tokens",
    samples: int = 0,
    ask: Ask | None = None,
    seed: int = 1,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Sensitivity:
    """Say which unknown is worth measuring first.

    Parameters
    ----------
    quantity : a column of numbers.
    samples : base samples of the Sobol indices, a power of two; 0 leaves them out.  Takes
        ``samples * (unknowns + 2)`` scenarios beside the tornado's ``2 * unknowns + 1``.

    Raises
    ------
    InputError
        No such quantity, ranges that do not rise, samples that are no power of two, or a
        scenario on the way that has no answer.

    References
    ----------
    .. [1] A. Saltelli et al., "Variance based sensitivity analysis of model output", Comput.
       Phys. Commun. 181, 2010 (estimators).
    """
    ranges = unknowns_of(base, unknowns)
    if COLUMNS.get(quantity) not in (int, float):
        numbers = ", ".join(name for name, kind in COLUMNS.items() if kind in (int, float))
        raise InputError("--quantity", quantity, f"is no column of numbers; there are {numbers}")
    if samples and (samples < 2 or samples & (samples - 1)):
        raise InputError("--samples", str(samples), "must be a power of two")
    question = _Question(base, ask or what_to_ask(base), quantity, ranges, executor, workers)
    middle, swings = question.tornado()
    indices = question.sobol(samples, seed) if samples else ()
    return Sensitivity(
        base, quantity, middle,
        tuple(sorted(swings, key=lambda s: -s.swing)),
        tuple(sorted(indices, key=lambda index: -index.total)),
        1 + 2 * len(ranges) + samples * (len(ranges) + 2),
    )  # fmt: skip


@dataclass(frozen=True)
class _Question:
    base: Scenario
    ask: Ask
    quantity: str
    ranges: tuple[Unknown, ...]
    executor: Executor | None
    workers: int | None

    def values(self, changes: Sequence[dict[str, float]]) -> FloatArray:
        """The quantity in every world; an error where one has no answer."""
        cases = tuple(Case(i, change) for i, change in enumerate(changes))
        paths = tuple(unknown.path for unknown in self.ranges)
        table = Table(self.base, cases, paths, self.ask, self.executor, self.workers, cache=False)
        return np.array([self._value(row) for row in table.rows])

    def _value(self, row: Row) -> float:
        value = row[self.quantity]
        if value is None:
            at = ", ".join(f"{u.path}={row[u.path]:.4g}" for u in self.ranges)
            why = row["error"] or f"{self.quantity} has no value"
            raise InputError("--vary", at, f"no answer there: {why}; narrow the range")
        return float(value)

    def tornado(self) -> tuple[float, list[Swing]]:
        middle = {unknown.path: unknown.middle for unknown in self.ranges}
        changes = [middle]
        for unknown in self.ranges:
            changes += [
                {**middle, unknown.path: end}
                for end in (unknown.plain(unknown.low), unknown.plain(unknown.high))
            ]
        values = self.values(changes)
        pairs = values[1:].reshape(-1, 2)
        return float(values[0]), [
            Swing(unknown.path, unknown.low, unknown.high, float(low), float(high))
            for unknown, (low, high) in zip(self.ranges, pairs, strict=True)
        ]

    def sobol(self, samples: int, seed: int) -> list[Index]:
        first, total = sobol(self._at_quantiles, len(self.ranges), samples, seed)
        return [
            Index(unknown.path, *map(float, first[:, i]), *map(float, total[:, i]))
            for i, unknown in enumerate(self.ranges)
        ]

    def _at_quantiles(self, quantiles: FloatArray) -> FloatArray:
        """Quantity at quantiles of the unknowns, ``[n, unknowns]`` -> ``[n]``."""
        columns = [u.at(q) for u, q in zip(self.ranges, quantiles.T, strict=True)]
        changes = [
            {u.path: u.plain(value) for u, value in zip(self.ranges, row, strict=True)}
            for row in zip(*columns, strict=True)
        ]
        return self.values(changes)


RESAMPLES = 300


def sobol(
    quantity: Callable[[FloatArray], FloatArray], unknowns: int, samples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """First-order and total Sobol indices with their 95 % intervals, each ``[3, unknowns]``.

    Rows: estimate, low, high.  The intervals come from resampling the same answers.

    Parameters
    ----------
    quantity : points of the unit cube, ``[n, unknowns]`` -> values ``[n]``; called once, with
        ``n = samples * (unknowns + 2)``.

    References
    ----------
    .. [1] A. Saltelli et al., Comput. Phys. Commun. 181, 2010 (estimators: its table 2, b and f).
    .. [2] G. Archer, A. Saltelli, I. Sobol, "Sensitivity measures, ANOVA-like techniques and the
       use of bootstrap", J. Stat. Comput. Simul. 58, 1997.
    """
    from scipy.stats import qmc

    points = qmc.Sobol(2 * unknowns, rng=np.random.default_rng(seed)).random(samples)
    a, b = points[:, :unknowns], points[:, unknowns:]
    mixed = [np.where(np.arange(unknowns) == i, b, a) for i in range(unknowns)]
    values = quantity(np.concatenate([a, b, *mixed])).reshape(unknowns + 2, samples)
    estimate = _estimate(values, np.arange(samples))
    rng = np.random.default_rng([seed, 1])
    again = [_estimate(values, rng.integers(0, samples, samples)) for _ in range(RESAMPLES)]
    low, high = np.percentile(np.array(again), [2.5, 97.5], axis=0)
    return np.array([estimate[0], low[0], high[0]]), np.array([estimate[1], low[1], high[1]])


def _estimate(values: FloatArray, at: NDArray[np.int64]) -> FloatArray:
    r"""First and total indices, ``[2, unknowns]``, from the samples ``at``.

    .. math:: S_i = \frac{\overline{f_B (f_{AB_i} - f_A)}}{V}, \qquad
              T_i = \frac{\overline{(f_A - f_{AB_i})^2}}{2V}
    """
    f = values[:, at] - values[:2, at].mean()
    f_a, f_b, mixed = f[0], f[1], f[2:]
    variance = f[:2].var()
    if not variance:  # nothing moves: nothing is to blame
        return np.zeros((2, len(mixed)))
    first = (f_b * (mixed - f_a)).mean(axis=1) / variance
    total = ((f_a - mixed) ** 2).mean(axis=1) / (2 * variance)
    return np.array([first, total])
