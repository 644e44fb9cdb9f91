"""What a replica draws while it computes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PowerModel:
    r"""Device power between idle and maximum, by the busier of matrix units and memory.

    .. math:: P = P_{idle} + (P_{max} - P_{idle}) \max(u_c, u_m)

    Host power (server minus devices) is constant.  A linear law is an assumption [1]_.

    References
    ----------
    .. [1] X. Fan, W.-D. Weber, L. Barroso, "Power Provisioning for a Warehouse-sized Computer",
       ISCA 2007 (linear in utilisation, for servers).
    """

    devices: int
    idle_w: float
    max_w: float
    host_w: float

    def replica_w(self, compute_share: float, memory_share: float) -> float:
        """Power of all devices of a replica and their part of the hosts. [W]"""
        busy = min(1.0, max(compute_share, memory_share))
        return self.devices * (self.host_w + self.idle_w + (self.max_w - self.idle_w) * busy)

    @property
    def idle_replica_w(self) -> float:
        """Power of a replica with nothing to do. [W]"""
        return self.devices * (self.host_w + self.idle_w)
