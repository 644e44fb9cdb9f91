"""How far the power of a step may be from the law that gives it.

The law (:class:`~planner.evaluation.power.PowerModel`) goes by the busier of matrix units and
memory, and was never fitted to a power meter.  What is published lies on both sides of it: a device
that decodes draws 137 to 300 W on H200 with small models [1]_, where the law gives 350 to 380 W; on
H100 300 W at a batch of 1 and 600 W at 128 [2]_, where it gives about 330 and 300 W (a 70B model on
eight).  With the host's 575 W a device these are factors of 0.77 to 1.34 of what is drawn.  No
power is below idle or above the maximum of devices and hosts.

References
----------
.. [1] B. Ma et al., "The Illusion of Power Capping in LLM Decode", arXiv:2605.11999, abstract.
.. [2] J.-W. Chung et al., "Where Do the Joules Go?", arXiv:2601.22076, as quoted by the fleet
   simulator of vLLM Semantic Router, "Power Model Reference".
"""

import math

from planner.evaluation.result import Result
from planner.evaluation.spread import widened

Interval = tuple[float, float]

POWER_LOG = math.log(1.4)
"""Half-width of the 90 % interval of a fleet's power, as a logarithm.  Assumed, from the above."""


def widened_power(result: Result, name: str, interval: Interval) -> Interval:
    """Return an interval of power, or of energy at a given flow, that holds the law's error too.

    Parameters
    ----------
    name : field of :class:`~planner.evaluation.result.Energy`.
    interval : from other causes; holds the point.
    """
    point = getattr(result.energy, name)
    if not 0 < point < math.inf:
        return interval
    fleet_w = result.energy.fleet_w if result.energy else point
    idle, most = (w / fleet_w for w in _ends_w(result))
    down = max(-POWER_LOG, math.log(idle)) if 0 < idle < 1 else 0.0
    up = min(POWER_LOG, math.log(most)) if most > 1 else 0.0
    return widened(point, interval, (down, up))


def _ends_w(result: Result) -> Interval:
    """Power of the fleet with nothing to do, and with every device at its maximum. [W]"""
    idle_w = most_w = 0.0
    for use in result.pools:
        power = use.pool.replica.power()
        if power is not None:
            idle_w += use.pool.replicas * power.idle_replica_w
            most_w += use.pool.replicas * power.replica_w(1.0, 1.0)
    return idle_w, most_w
