"""Both levels of the network as one group of ranks sees them."""

import math
from dataclasses import dataclass

from planner.comm.topology import all_to_all_hops, steps, usable_bytes_per_s
from planner.errors import InfeasibleError
from planner.ops import Comm
from planner.specs.calibration import CalibrationSpec, LinkShares
from planner.specs.hardware import SystemSpec


@dataclass(frozen=True, slots=True)
class Network:
    """Stated rates and latencies between ``inside * nodes`` ranks."""

    inside: int
    """Ranks of one domain that take part."""
    nodes: int
    """Domains that take part."""
    up_bytes_per_s: float
    """Of one device in a collective among ``inside`` ranks. [B/s]"""
    up_all_bytes_per_s: float
    """All links of one device, as stated, over what an all-to-all loses to hops. [B/s]"""
    up_latency_s: float
    """The last part's way inside. [s]"""
    out_bytes_per_s: float
    out_latency_s: float
    links: LinkShares
    calibrated: bool
    """Whether measured laws of switched or shared links apply inside."""

    @classmethod
    def of(cls, comm: Comm, system: SystemSpec, calibration: CalibrationSpec) -> "Network":
        """Levels that ``comm`` crosses.

        Raises
        ------
        InfeasibleError
            The ranks span more than one scale-up domain and the system has no scale-out network.
        """
        up, out = system.scale_up, system.scale_out
        inside = max(1, min(comm.ranks_in_domain, comm.ranks))
        nodes = math.ceil(comm.ranks / inside)
        if nodes > 1 and out is None:
            raise InfeasibleError(
                f"devices joined by {system.name}",
                comm.ranks,
                inside,
                "devices",
                "the system has no network between domains; use fewer devices a replica",
            )
        usable = usable_bytes_per_s(up, inside)
        hops = all_to_all_hops(up, inside)
        torus = up.topology in ("torus2d", "torus3d")
        return cls(
            inside,
            nodes,
            usable,
            float(up.bytes_per_s) / hops if torus else usable,
            steps(up, inside) * float(up.latency_s),
            float(out.bytes_per_s) if out else math.inf,
            float(out.latency_s) if out else 0.0,
            calibration.links,
            not torus,
        )
