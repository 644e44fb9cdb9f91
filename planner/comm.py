"""From collectives to time: latency-bandwidth (alpha-beta) models on a two-level network."""

import math

import numpy as np

from planner.errors import InfeasibleError
from planner.ops import Comm, Real
from planner.specs.hardware import CalibrationSpec, ScaleUp, SystemSpec


def comm_time_s(comm: Comm, system: SystemSpec, calibration: CalibrationSpec) -> Real:
    """Time of all ``count`` calls of a collective. [s]

    Raises
    ------
    InfeasibleError
        The ranks span more than one scale-up domain and the system has no scale-out network.

    References
    ----------
    .. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
       Operations in MPICH", IJHPCA 19(1), 2005 (ring, recursive and direct algorithms).
    """
    net = _Network(system, calibration, comm)
    match comm.kind:
        case "all_reduce":
            once = net.all_reduce_s(comm.bytes_per_rank)
        case "all_gather" | "reduce_scatter":
            once = net.all_gather_s(comm.bytes_per_rank)
        case "all_to_all":
            once = net.all_to_all_s(comm.bytes_per_rank, comm.scale_out_bytes_per_rank)
        case "p2p":
            once = net.point_to_point_s(comm.bytes_per_rank)
    return comm.count * once


class _Network:
    """Both levels as one group of ranks sees them."""

    def __init__(self, system: SystemSpec, calibration: CalibrationSpec, comm: Comm) -> None:
        up, out, shares = system.scale_up, system.scale_out, calibration.links
        self.inside = max(1, min(comm.ranks_in_domain, comm.ranks))
        self.nodes = math.ceil(comm.ranks / self.inside)
        if self.nodes > 1 and out is None:
            raise InfeasibleError(
                f"devices joined by {system.name}",
                comm.ranks,
                self.inside,
                "devices",
                "the system has no network between domains; use fewer devices a replica",
            )
        up_rate = _usable_scale_up(system, self.inside)
        self.up_latency_s = float(up.latency_s)
        self.up_rate = up_rate * shares.scale_up_share
        self.up_all_to_all_rate = up_rate * shares.all_to_all_scale_up_share
        self.hops = _mean_hops(system.scale_up, self.inside)
        self.floor_s = float(shares.collective_floor_s or 0.0)
        self.all_to_all_floor_s = float(shares.all_to_all_floor_s or 0.0)
        self.out_latency_s = float(out.latency_s) if out else 0.0
        out_rate = float(out.bytes_per_s) if out else math.inf
        self.out_rate = out_rate * shares.scale_out_share
        self.out_all_to_all_rate = out_rate * shares.all_to_all_scale_out_share

    def all_reduce_s(self, size: Real) -> Real:
        r"""Sum ``size`` bytes over all ranks; the better of ring and direct.

        Ring: :math:`2(p-1)\alpha + 2\frac{p-1}{p}\frac{n}{W}`; direct (two-shot):
        :math:`2\alpha + 2\frac{p-1}{p}\frac{n}{W}`; one-shot: :math:`\alpha + (p-1)\frac{n}{W}`.
        Across nodes: reduce-scatter inside, all-reduce of the parts across, all-gather inside.
        """
        p, n = self.inside, self.nodes
        total: Real = 0.0
        if p > 1:
            two_shot = 2 * self.up_latency_s + 2 * (p - 1) / p * size / self.up_rate
            one_shot = self.up_latency_s + (p - 1) * size / self.up_rate
            total = np.minimum(two_shot, one_shot)
        if n > 1:
            part = size / p
            ring = 2 * (n - 1) * self.out_latency_s + 2 * (n - 1) / n * part / self.out_rate
            tree = 2 * math.ceil(math.log2(n)) * (self.out_latency_s + part / self.out_rate)
            total = total + np.minimum(ring, tree)
        return total + self.floor_s

    def all_gather_s(self, part: Real) -> Real:
        r"""Every rank ends with all parts of ``part`` bytes: :math:`\alpha + (p-1) n / W`."""
        p, n = self.inside, self.nodes
        total: Real = 0.0
        if p > 1:
            total = self.up_latency_s + (p - 1) * part * n / self.up_rate
        if n > 1:
            total = total + (n - 1) * (self.out_latency_s + part / self.out_rate)
        return total + self.floor_s

    def all_to_all_s(self, inner: Real, outer: Real) -> Real:
        """Both levels at once: the slower one sets the time."""
        up = self.up_latency_s + inner * self.hops / self.up_all_to_all_rate
        if self.nodes > 1:
            up = np.maximum(up, self.out_latency_s + outer / self.out_all_to_all_rate)
        return up + self.all_to_all_floor_s

    def point_to_point_s(self, size: Real) -> Real:
        """One message to the next pipeline stage."""
        if self.nodes > 1:
            return self.out_latency_s + size / self.out_rate
        return self.up_latency_s + size / self.up_rate


def _usable_scale_up(system: SystemSpec, ranks: int) -> float:
    """Bandwidth of one device to ``ranks - 1`` peers: without a switch, its links to them. [B/s]"""
    up = system.scale_up
    whole = float(up.bytes_per_s)
    if up.topology in {"mesh", "torus2d", "torus3d"} and up.peer_bytes_per_s is not None:
        return min(whole, float(up.peer_bytes_per_s) * max(1, ranks - 1))
    return whole


WRAPPED_AXIS = 16
"""Shortest axis of a TPU v5e or v6e slice that closes into a ring; 3D tori close from 4 on."""


def _mean_hops(up: ScaleUp, ranks: int) -> float:
    r"""Mean links a message crosses in an all-to-all; each hop takes bandwidth from others.

    A ring of ``d`` devices has mean distance ``d / 4``, an open line ``d / 3``; axes add up.
    The ranks are taken as a near-cube inside the torus.

    References
    ----------
    .. [1] J. Austin et al., "How to Scale Your Model", 2025, section on TPU networking
       (wrap-around of full axes only).
    """
    dimensions = {"torus2d": 2, "torus3d": 3}.get(up.topology, 0)
    if not dimensions or ranks < 2:
        return 1.0
    side: float = float(ranks) ** (1 / dimensions)
    closed = side >= (WRAPPED_AXIS if dimensions == 2 else 4)
    return max(1.0, dimensions * side / (4 if closed else 3))
