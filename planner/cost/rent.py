"""Rented hours and useful hours: what interruptions and idle commitments add to a price."""

MONTH_H = 8760 / 12


def spot_useful_share(interruptions_per_hour: float, nodes: int, recovery_s: float) -> float:
    r"""Share of paid time in which a replica on spot nodes serves.

    A replica lives until the first of its ``n`` nodes is taken, on average :math:`1/(n\lambda)`,
    then is paid for and useless while it recovers for ``r``:

    .. math:: u = \frac{1/(n\lambda)}{1/(n\lambda) + r} = \frac{1}{1 + n \lambda r}

    Parameters
    ----------
    interruptions_per_hour : of one node. [1/h]
    nodes : nodes a replica spans; losing one stops it.
    recovery_s : from the loss to the first token served again. [s]

    References
    ----------
    .. [1] S. M. Ross, "Stochastic Processes", 2nd ed., theorem 3.4.4 (alternating renewal).
    """
    return 1 / (1 + nodes * interruptions_per_hour * recovery_s / 3600)


def useful_usd_per_hour(usd_per_hour: float, useful_share: float) -> float:
    """Price of an hour of service where only a share of paid hours serves. [USD/h]

    References
    ----------
    .. [1] Definition.
    """
    return usd_per_hour / useful_share
