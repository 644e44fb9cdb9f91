"""Steps that take a constant factor longer: the same queueing at another speed."""

from dataclasses import dataclass

from planner.serving.timing import RankLoad, Segment, Timing


@dataclass(frozen=True, slots=True)
class ScaledTiming:
    """Implements :class:`planner.serving.timing.Timing`: another timing's times by a factor.

    References
    ----------
    .. [1] A step's parts scaled alike: loads, validity and power are those of the inner timing.
    """

    inner: Timing
    factor: float

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the inner stretch, every time of it multiplied."""
        first_s, slope, valid, occupancy_s, prefill_s, power_w = self.inner.segment(ranks, epoch)
        k = self.factor
        return Segment(k * first_s, k * slope, valid, k * occupancy_s, k * prefill_s, power_w)
