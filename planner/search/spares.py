"""Replicas beyond those that the load needs, for the hours in which some are down."""

from math import exp, lgamma, log, log1p

from planner.errors import InputError
from planner.specs.scenario import Reliability

MOST = 300
"""Spares after which the search is given up."""


def up_share(wish: Reliability, nodes: float) -> float:
    r"""Share of time in which a replica over ``nodes`` nodes is up.

    It is down when any of its nodes is: :math:`a = m / (m + n r)`, with mean time between failures
    of a node ``m`` and recovery time ``r``.

    References
    ----------
    .. [1] R. E. Barlow, F. Proschan, "Statistical Theory of Reliability and Life Testing", 1975,
       chapter 7 (steady availability of a series system, one repair at a time).
    """
    return wish.node_mtbf_h / (wish.node_mtbf_h + max(1.0, nodes) * wish.recovery_h)


def at_least(needed: int, total: int, up: float) -> float:
    r"""Probability that ``needed`` of ``total`` independent replicas are up.

    .. math:: \sum_{j \le N - n} \binom{N}{j} (1 - a)^j a^{N - j}

    References
    ----------
    .. [1] As :func:`up_share`, chapter 2 (k out of n).
    """
    logs = (
        lgamma(total + 1) - lgamma(down + 1) - lgamma(total - down + 1)
        + down * log1p(-up) + (total - down) * log(up)
        for down in range(total - needed + 1)
    )  # fmt: skip
    return min(1.0, sum(map(exp, logs)))


def spares(wish: Reliability | None, needed: int, nodes: float) -> int:
    """Fewest spare replicas with which ``needed`` are up for the share of time that is wished.

    Parameters
    ----------
    nodes : nodes of one replica; part of a node counts as one.

    Raises
    ------
    InputError
        Replicas are down so often that no number of spares will do.
    """
    if wish is None:
        return 0
    up = up_share(wish, nodes)
    for more in range(MOST):
        if at_least(needed, needed + more, up) >= wish.availability:
            return more
    raise InputError(
        "", "space.reliability.availability",
        f"{wish.availability:g} takes more than {MOST} spare replicas of {nodes:g} nodes, each up "
        f"{up:.3g} of the time",
    )  # fmt: skip
