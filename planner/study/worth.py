"""What knowing an unknown is worth before a fleet is chosen: in dollars, out of drawn worlds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SHUFFLES = 50
"""Random orders of the worlds: what an unknown that says nothing would seem to be worth."""


@dataclass(frozen=True, slots=True)
class Worth:
    """One unknown measured before the choice, nothing else known."""

    path: str
    usd_per_hour: float
    """Expected loss it would save, less what chance alone would show; at least 0."""
    by_chance_usd_per_hour: float
    """What that number would be of an unknown that says nothing, by so few worlds."""


def perfect_information(losses: FloatArray) -> float:
    r"""Expected loss that knowing the world would save.

    .. math:: EVPI = \min_a E[L(a, w)] - E[\min_a L(a, w)]

    Parameters
    ----------
    losses : what every fleet costs in every world, ``[worlds, fleets]``. [USD/h]

    References
    ----------
    .. [1] H. Raiffa, R. Schlaifer, "Applied Statistical Decision Theory", Harvard, 1961.
    """
    return float(losses.mean(axis=0).min() - losses.min(axis=1).mean())


def partial_information(losses: FloatArray, values: FloatArray) -> float:
    r"""Expected loss that knowing one unknown would save, by worlds sorted into groups of it.

    .. math:: EVPPI_i = \min_a E[L(a, w)] - E_{x_i}[\min_a E[L(a, w) \mid x_i]]

    with :math:`\sqrt{n}` groups of ``n`` worlds.

    Parameters
    ----------
    losses : ``[worlds, fleets]``. [USD/h]
    values : of the unknown, ``[worlds]``.

    References
    ----------
    .. [1] M. Strong, J. E. Oakley, "An Efficient Method for Computing Single-Parameter Partial
       Expected Value of Perfect Information", Med. Decis. Making 33(6), 2013.
    """
    ordered = losses[np.argsort(values, kind="stable")]
    groups = np.array_split(ordered, max(1, math.isqrt(len(ordered))))
    known = sum(len(group) * float(group.mean(axis=0).min()) for group in groups) / len(ordered)
    return max(0.0, float(losses.mean(axis=0).min()) - known)


def measure_first(
    losses: FloatArray, drawn: Sequence[Mapping[str, float]], seed: int
) -> tuple[Worth, ...]:
    """Unknowns by what measuring each is worth, the most valuable first.

    References
    ----------
    .. [1] :func:`partial_information`.
    """
    rng = np.random.default_rng([seed, 2])
    orders = [rng.permutation(len(drawn)).astype(float) for _ in range(SHUFFLES)]
    chance = float(np.mean([partial_information(losses, order) for order in orders]))
    found = [
        Worth(
            path,
            max(0.0, partial_information(losses, np.array([w[path] for w in drawn])) - chance),
            chance,
        )
        for path in drawn[0]
    ]
    return tuple(sorted(found, key=lambda worth: -worth.usd_per_hour))
