"""When things break and when they are back: devices, nodes and links as alternating renewals.

A component is up for a time of mean MTBF, down for a time of mean MTTR, and so on; components are
independent.  Nothing here knows a clock or a request.

References
----------
.. [1] R. E. Barlow, F. Proschan, "Mathematical Theory of Reliability", 1965: availability
       MTBF / (MTBF + MTTR); a series system is up while all its parts are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.errors import InputError

MOST_SPARES = 1_000

ComponentKind = Literal["device", "node", "link"]


@dataclass(frozen=True, slots=True)
class Failing:
    """Components of one kind that break independently of each other."""

    kind: ComponentKind
    count: int
    mtbf_s: float
    """Mean time from a repair to the next failure, of one component; exponential. [s]"""
    mttr_s: float
    """Mean time from a failure until it is back. [s]"""
    repair: Literal["exponential", "fixed"] = "exponential"
    speed_share: float = 0.0
    """Speed while broken: 0 is dead, 0.5 a link or a device (a straggler) at half speed."""

    def __post_init__(self) -> None:
        for name, value in (("mtbf_s", self.mtbf_s), ("mttr_s", self.mttr_s)):
            if not 0 < value < math.inf:
                raise InputError("", f"failures.{name}", f"must be > 0 and finite, got {value}")
        if self.count < 0:
            raise InputError("", "failures.count", f"must not be negative, got {self.count}")
        if not 0 <= self.speed_share < 1:
            raise InputError(
                "", "failures.speed_share", f"must be in [0, 1), got {self.speed_share}"
            )

    @property
    def availability(self) -> float:
        """Share of time one component is up."""
        return self.mtbf_s / (self.mtbf_s + self.mttr_s)


def alternating(failing: Failing, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Outages of one component one after the other, without end: (begin, end). [s]

    It may be down at time 0 already, with what is left of a repair.
    """
    drawn = failing.repair == "exponential"
    now_s = 0.0
    if rng.random() >= failing.availability:
        now_s = rng.exponential(failing.mttr_s) if drawn else rng.uniform(0, failing.mttr_s)
        yield 0.0, now_s
    while True:
        begin_s = now_s + rng.exponential(failing.mtbf_s)
        now_s = begin_s + (rng.exponential(failing.mttr_s) if drawn else failing.mttr_s)
        yield begin_s, now_s


def spares_needed(groups: int, availability: float, promise: float) -> int:
    r"""Fewest spare groups that keep ``groups`` of them up with probability ``promise``.

    .. math:: \sum_{k=0}^{s} \binom{n+s}{k} (1-A)^k A^{n+s-k} \ge p

    Parameters
    ----------
    groups : groups that must be up (replicas); spares are like them and fail alike.
    availability : of one group, in (0, 1].
    promise : in (0, 1).

    Examples
    --------
    >>> spares_needed(10, 0.99, 0.99), spares_needed(10, 1.0, 0.999)
    (1, 0)
    """
    if not 0 < availability <= 1 or not 0 < promise < 1 or groups < 1:
        raise InputError(
            "", "spares", "needs at least one group, 0 < availability <= 1 and 0 < promise < 1"
        )
    if availability == 1.0:
        return 0
    log_lost, log_up = math.log(1.0 - availability), math.log(availability)
    for spares in range(MOST_SPARES):
        total = groups + spares
        up = math.fsum(
            math.exp(
                math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
                + k * log_lost + (total - k) * log_up
            )
            for k in range(spares + 1)
        )  # fmt: skip
        if up >= promise:
            return spares
    raise InputError("", "spares", f"no {MOST_SPARES:,} spares keep a promise of {promise:g}")
