"""What one collective occupies, and for how long."""

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
    out_fixed_s: Real | None = None
    """Latency between domains, part of ``fixed_s``; None: both levels start together, and all of
    it passes on each of them."""

    @property
    def busy_s(self) -> Real:
        """The resource that is busy longest, and what the others make it wait. [s]"""
        return joined(self.blended, self.scale_up_s, self.scale_out_s, self.copy_s)

    @property
    def time_s(self) -> Real:
        """Time of the call alone. [s]"""
        return np.maximum(self.floor_s, self.fixed_s + self.busy_s)

    @property
    def links_s(self) -> tuple[Real, Real]:
        """Time for which scale-up and scale-out links are in use, latency included. [s]"""
        up_fixed = out_fixed = self.fixed_s
        if self.out_fixed_s is not None:
            up_fixed, out_fixed = self.fixed_s - self.out_fixed_s, self.out_fixed_s
        up = np.minimum(self.time_s, up_fixed + self.scale_up_s)
        out = np.minimum(self.time_s, out_fixed + self.scale_out_s)
        return (
            np.where(np.greater(self.scale_up_s, 0), up, 0.0),
            np.where(np.greater(self.scale_out_s, 0), out, 0.0),
        )
