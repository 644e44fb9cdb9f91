"""What one collective occupies, and how long several take that run at once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from planner.ops import Real


@dataclass(frozen=True, slots=True)
class Load:
    """One call: time that passes whatever else runs, and time each resource is busy. [s]"""

    fixed_s: Real
    """Latency: launches, flags, hops."""
    scale_up_s: Real = 0.0
    """Links inside the domain, at the rate reached."""
    scale_out_s: Real = 0.0
    """Network card."""
    copy_s: Real = 0.0
    """SMs of the communication kernel, copying."""
    floor_s: Real = 0.0
    """The least the call takes."""

    @property
    def busy_s(self) -> Real:
        """The resource that is busy longest. [s]"""
        return np.maximum(np.maximum(self.scale_up_s, self.scale_out_s), self.copy_s)

    @property
    def time_s(self) -> Real:
        """Time of the call alone. [s]"""
        return np.maximum(self.floor_s, self.fixed_s + self.busy_s)


def together_s(loads: Iterable[Load]) -> Real:
    r"""Time until all of several exchanges are done that start at once on the same links.

    Latencies pass side by side; bytes of the same resource queue for it, as when the dispatch of
    one micro-batch meets the combine of another:

    .. math:: t = \max_i(f_i) \vee \bigl(\max_i(b_i) + \max_r \sum_i t_{ir}\bigr)

    It lies between the longest alone and the sum of all.  Each exchange sends and receives on
    every rank, so that full-duplex links give no room for a second one.

    Returns
    -------
    Time in seconds; 0 for none. [s]

    References
    ----------
    .. [1] Processor sharing conserves work: L. Kleinrock, "Queueing Systems", vol. 2, 1976, 4.4.
    """
    loads = list(loads)
    if not loads:
        return 0.0
    alone: Real = 0.0
    fixed: Real = 0.0
    for load in loads:
        alone = np.maximum(alone, load.time_s)
        fixed = np.maximum(fixed, load.fixed_s)
    up: Real = sum(load.scale_up_s for load in loads)
    out: Real = sum(load.scale_out_s for load in loads)
    copy: Real = sum(load.copy_s for load in loads)
    return np.maximum(alone, fixed + np.maximum(np.maximum(up, out), copy))
