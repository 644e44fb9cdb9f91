"""When things break and when they are back: devices, nodes and links as alternating renewals.

A component is up for a time of mean MTBF, down for a time of mean MTTR, and so on; components are
independent.  Nothing here knows a clock or a request, and each component has a random stream of its
own, so the same seed breaks the same things whatever is served.

References
----------
.. [1] R. E. Barlow, F. Proschan, "Mathematical Theory of Reliability", 1965: availability
       MTBF / (MTBF + MTTR); a series system is up while all its parts are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.errors import InputError
from planner.specs.requests import Floats, Integers

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


@dataclass(frozen=True, eq=False)
class Outages:
    """Outages by the time they begin; a row each."""

    kind: ComponentKind
    component: Integers
    """Number of the component, 0 to ``count`` - 1."""
    begin_s: Floats
    """0 where it was down already when the run began. [s]"""
    end_s: Floats
    """May lie after the end of the run. [s]"""
    speed_share: float

    def __len__(self) -> int:
        return len(self.component)


def outages(failing: Failing, duration_s: float, seed: np.random.SeedSequence) -> Outages:
    """Draw what breaks in a run; stationary from its first second.

    Every component has a random stream of its own: more components, or a longer run, leave the
    outages of the others as they were.

    Parameters
    ----------
    duration_s : outages that begin before this. [s]
    seed : of this kind of component.
    """
    number, begin, end = [], [], []
    for component, own in enumerate(seed.spawn(failing.count)):
        begins, ends = _alternate(failing, duration_s, np.random.default_rng(own))
        number.append(np.full(len(begins), component))
        begin.append(begins)
        end.append(ends)
    if not number:
        empty = np.zeros(0)
        return Outages(failing.kind, empty.astype(np.int64), empty, empty, failing.speed_share)
    begin_s = np.concatenate(begin)
    order = np.argsort(begin_s, kind="stable")
    return Outages(
        failing.kind, np.concatenate(number)[order], begin_s[order],
        np.concatenate(end)[order], failing.speed_share,
    )  # fmt: skip


def _alternate(
    failing: Failing, duration_s: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Begins and ends of one component's outages."""
    begins, ends = [], []
    for begin_s, end_s in alternating(failing, rng):
        if begin_s >= duration_s:
            break
        begins.append(begin_s)
        ends.append(end_s)
    return np.array(begins), np.array(ends)


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


def group_outages(outages: Outages, per_group: int) -> Outages:
    """Outages of groups of consecutive components that need all their members.

    An expert-parallel group whose experts have no copy elsewhere stops when one device does; a
    node's devices stop with it.  Overlapping outages of members are one outage of the group.
    """
    if per_group < 1:
        raise InputError("", "per_group", f"must be at least 1, got {per_group}")
    group = outages.component // per_group
    order = np.lexsort((outages.begin_s, group))
    merged: list[tuple[int, float, float]] = []
    rows = zip(
        group[order].tolist(), outages.begin_s[order].tolist(), outages.end_s[order].tolist(),
        strict=True,
    )  # fmt: skip
    for number, begin_s, end_s in rows:
        if merged and merged[-1][0] == number and begin_s <= merged[-1][2]:
            merged[-1] = (number, merged[-1][1], max(merged[-1][2], end_s))
        else:
            merged.append((number, begin_s, end_s))
    merged.sort(key=lambda row: row[1])
    columns = list(zip(*merged, strict=True)) if merged else [(), (), ()]
    return Outages(
        outages.kind, np.array(columns[0], np.int64), np.array(columns[1], np.float64),
        np.array(columns[2], np.float64), outages.speed_share,
    )  # fmt: skip


def joined(parts: Sequence[Outages]) -> Outages:
    """Outages of the same components from several causes, by time: devices, and their nodes."""
    if len({part.speed_share for part in parts}) != 1:
        raise InputError("", "failures", "only outages of one speed can be joined")
    begin_s = np.concatenate([part.begin_s for part in parts])
    order = np.argsort(begin_s, kind="stable")
    return Outages(
        parts[0].kind, np.concatenate([part.component for part in parts])[order], begin_s[order],
        np.concatenate([part.end_s for part in parts])[order], parts[0].speed_share,
    )  # fmt: skip


def down_s(outages: Outages, duration_s: float) -> float:
    """Component-seconds lost in a run; outages of one component must not overlap. [s]"""
    ends = np.minimum(outages.end_s, duration_s)
    return float(np.maximum(0.0, ends - outages.begin_s).sum())


def group_availability(failing: Failing, members: int) -> float:
    r"""Share of time all ``members`` are up: :math:`A^{n}` for independent components."""
    return failing.availability**members


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
