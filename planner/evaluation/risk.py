"""How likely a promise that a run kept would be broken by the run's own scatter."""

from planner.serving import Metrics
from planner.serving.metrics import BATCHES, STUDENT_T


def miss_risk(metrics: Metrics) -> float | None:
    r"""Chance that the true percentile of some promise is beyond its limit.

    With a percentile :math:`v`, its limit :math:`l` and its standard error :math:`e` over batches,
    :math:`P(t_{19} > (l - v) / e)`; of several promises the largest.  It knows the chance in one
    run's requests only: errors of the model itself come on top.  None without a promise, or where
    the run is too short to tell.

    References
    ----------
    .. [1] A. M. Law, "Simulation Modeling and Analysis", 5th ed., 2015, section 9.5.3.
    """
    from scipy.special import stdtr

    found: list[float] = []
    for promise in metrics.promises:
        latency, percentile = promise.name.removesuffix("_s").split("_")
        width = getattr(getattr(metrics, f"{latency}_s").half_width, percentile)
        if width is None:
            return None
        margin_s = promise.limit_s - promise.value_s
        if not width:
            found.append(float(margin_s < 0))
            continue
        found.append(float(stdtr(BATCHES - 1, -margin_s / (width / STUDENT_T))))
    return max(found, default=None)
