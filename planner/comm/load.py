"""What one collective occupies, and how long several take that run at once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from planner.ops import Real

BLEND = 4
"""Power in which stages of one pipeline join: equal ones take 2 ** (1/4) of one's time."""


def joined(blended: bool, *stages_s: Real) -> Real:
    r"""Time of stages that bytes pass one after another, chunk by chunk.

    .. math:: t = \max_i t_i \quad\text{or, blended,}\quad
              t = \Bigl(\sum_i t_i^4\Bigr)^{1/4}

    the longest stage alone where it is much longer; more where stages are equal and each waits
    now and then for the other.

    References
    ----------
    .. [1] S. W. Churchill, R. Usagi, "A general expression for the correlation of rates of
       transfer", AIChE Journal 18(6), 1972 (joining two limits by a power).
    """
    total: Real = 0.0
    for stage in stages_s:
        total = total + stage**BLEND if blended else np.maximum(total, stage)
    return total ** (1 / BLEND) if blended else total


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
    blended: bool = False
    """Whether stages that are equally busy hold each other up, as measured kernels do."""

    @property
    def busy_s(self) -> Real:
        """The resource that is busy longest, and what the others make it wait. [s]"""
        return joined(self.blended, self.scale_up_s, self.scale_out_s, self.copy_s)

    @property
    def time_s(self) -> Real:
        """Time of the call alone. [s]"""
        return np.maximum(self.floor_s, self.fixed_s + self.busy_s)


def together_s(loads: Iterable[Load]) -> Real:
    r"""Time until all of several exchanges are done that start at once on the same links.

    Latencies pass side by side; bytes of the same resource queue for it, as when the dispatch of
    one micro-batch meets the combine of another:

    .. math:: t = \max_i(f_i) \vee \bigl(\max_i(b_i) + \lVert \sum_i t_{ir} \rVert_4\bigr)

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
    return np.maximum(alone, fixed + joined(any(load.blended for load in loads), up, out, copy))
