r"""Whether a queue grows without bound, from what a run shows.

A request queues until its first token.  Below capacity the queue is a random walk held up at zero:
between equally long stretches of time its length changes by amounts whose mean is near 0.  Above
capacity they have the mean :math:`(\lambda - \mu) \Delta t`.  Forty changes are tested for a mean
above 0 with Student's :math:`t`; the limit is passed by chance in less than one run of a thousand
even at a load of exactly 1.  The first quarter of the window, in which slots fill, is left out.

References
----------
.. [1] W. Whitt, "Stochastic-Process Limits", 2002, chapter 9: the queue in heavy traffic is a
       reflected Brownian motion, its drift the load less 1.
.. [2] A. M. Law, "Simulation Modeling and Analysis", 5th ed., 2015, section 9.5.3 (batches).
"""

import math
from dataclasses import dataclass

import numpy as np

from planner.specs.requests import Floats

BATCHES = 40
MOST_T = 3.65
"""Student's t (39 degrees of freedom) above which a queue is said to grow: p = 0.0004."""
FEWEST = 100
"""Arrivals below which nothing is said."""
SETTLING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Overload:
    """A queue that grows without bound."""

    growth_requests_per_s: float
    load_share: float
    """Requests that come over those that get a first token."""
    queued: int
    """Requests without a first token at the end of the window."""
    until_s: float
    """End of the window: the last arrival, or the horizon. [s]"""


def overload(arrival_s: Floats, served_s: Floats, begin_s: float, end_s: float) -> Overload | None:
    """Return how fast the queue grows in a window, None where it does not for sure.

    Parameters
    ----------
    arrival_s : of requests that were not turned away, rising. [s]
    served_s : when each had its first token or was lost; ``nan``: not yet. [s]
    begin_s, end_s : of the window, up to the last arrival or the end of the run. [s]
    """
    if not end_s > begin_s:
        return None
    start_s = begin_s + SETTLING_SHARE * (end_s - begin_s)
    arrivals = int(((arrival_s > start_s) & (arrival_s <= end_s)).sum())
    if arrivals < FEWEST:
        return None
    edges = np.linspace(start_s, end_s, BATCHES + 1)
    served = np.sort(served_s[~np.isnan(served_s)])
    queue = np.searchsorted(arrival_s, edges, "right") - np.searchsorted(served, edges, "right")
    changes = np.diff(queue)
    mean, error = float(changes.mean()), float(changes.std(ddof=1)) / math.sqrt(BATCHES)
    if mean <= MOST_T * error:
        return None
    growth = mean * BATCHES / (end_s - start_s)
    came = arrivals / (end_s - start_s)
    served_per_s = came - growth
    return Overload(
        growth, came / served_per_s if served_per_s > 0 else math.inf, int(queue[-1]), end_s
    )
