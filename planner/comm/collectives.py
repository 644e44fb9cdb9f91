"""Time of every kind of collective."""

import math

import numpy as np

from planner.comm.exchange import exchange_load
from planner.comm.libraries import exchange_of
from planner.comm.load import Load
from planner.comm.network import Network
from planner.ops import Comm, Real
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import SystemSpec
from planner.specs.links import DirectLaw, RingLaw


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
    return comm.count * comm_load(comm, system, calibration).time_s


def comm_load(comm: Comm, system: SystemSpec, calibration: CalibrationSpec) -> Load:
    """What one of the ``count`` calls occupies.

    Raises
    ------
    InfeasibleError
        The ranks span more than one scale-up domain and the system has no scale-out network.

    References
    ----------
    .. [1] Z. Hu et al., "Demystifying NCCL", arXiv:2507.04786 (protocols; chunks are pipelined
       over both levels, so that the slower one sets the time of large messages).
    """
    net = Network.of(comm, system, calibration)
    match comm.kind:
        case "all_reduce":
            return _all_reduce(net, comm.bytes_per_rank)
        case "all_gather" | "reduce_scatter":
            return _all_gather(net, comm.kind, comm.bytes_per_rank)
        case "all_to_all":
            law = exchange_of(comm, calibration.links)
            return exchange_load(net, comm, law)
        case "p2p":
            return _point_to_point(net, comm.bytes_per_rank)


def ring_load(law: RingLaw, ranks: int, wire: Real, bytes_per_s: float) -> Load:
    """A library collective inside one domain.

    Parameters
    ----------
    wire : bytes through each rank's links. [bytes]
    bytes_per_s : stated rate of them. [B/s]

    References
    ----------
    .. [1] ``planner.specs.links.RingLaw``: the formula; Z. Hu et al., arXiv:2507.04786.
    """
    rate = bytes_per_s * float(law.bandwidth_share) * (1 - float(law.few_ranks_loss_share) / ranks)
    ramp = float(law.ramp_s) * wire / (wire + float(law.ramp_bytes))
    fixed = float(law.floor_s) + float(law.step_s) * (ranks - 1) + ramp
    return Load(fixed, wire / rate)


def direct_load(law: DirectLaw, ranks: int, size: Real, bytes_per_s: float) -> Load:
    """The better of one shot and two.

    References
    ----------
    .. [1] ``planner.specs.links.DirectLaw``: the formula; NVIDIA TensorRT-LLM,
       cpp/tensorrt_llm/kernels/customAllReduceKernels.cu (one-shot and two-shot strategies).
    """
    one = float(law.floor_s) + float(law.step_s) * (ranks - 1)
    one_busy = (ranks - 1) * size / (bytes_per_s * float(law.one_shot_share))
    two = one + float(law.second_shot_s)
    two_busy = 2 * (ranks - 1) / ranks * size / (bytes_per_s * float(law.two_shot_share))
    first = one + one_busy <= two + two_busy
    return Load(np.where(first, one, two), np.where(first, one_busy, two_busy))


def _faster(a: Load, b: Load) -> Load:
    first = a.time_s <= b.time_s
    return Load(np.where(first, a.fixed_s, b.fixed_s), np.where(first, a.scale_up_s, b.scale_up_s))


def _all_reduce(net: Network, size: Real) -> Load:
    r"""Sum ``size`` bytes over all ranks; the fastest algorithm of those there are.

    Unmeasured, inside: direct (two-shot) :math:`2\alpha + 2\frac{p-1}{p}\frac{n}{W}` or one-shot
    :math:`\alpha + (p-1)\frac{n}{W}`.  Across nodes each rank's part is summed by a ring or a
    tree while further parts are summed inside, all of it by the library: engines switch their own
    kernels off for ranks of several nodes [1]_.

    References
    ----------
    .. [1] github vllm-project/vllm vllm/distributed/device_communicators/custom_all_reduce.py.
    """
    p, n = net.inside, net.nodes
    inner = Load(0.0)
    if p > 1:
        inner = _all_reduce_inside(net, size)
    if n == 1:
        return inner
    part, rate = size / p, net.out_bytes_per_s * float(net.links.scale_out_share)
    doublings = math.ceil(math.log2(n))
    ring_busy, tree_busy = 2 * (n - 1) / n * part / rate, 2 * doublings * part / rate
    ring, tree = 2 * (n - 1) * net.out_latency_s, 2 * doublings * net.out_latency_s
    first = ring + ring_busy <= tree + tree_busy
    outer = np.where(first, ring, tree) + (_floor(net) if p == 1 else 0.0)
    busy = np.where(first, ring_busy, tree_busy)
    return Load(inner.fixed_s + outer, inner.scale_up_s, busy, out_fixed_s=outer)


def _all_reduce_inside(net: Network, size: Real) -> Load:
    p, links = net.inside, net.links
    wire = 2 * (p - 1) / p * size
    found = []
    if net.calibrated and "all_reduce" in links.rings:
        found.append(ring_load(links.rings["all_reduce"], p, wire, net.up_bytes_per_s))
    library = "all_reduce" in links.rings
    if net.calibrated and links.direct and not (net.nodes > 1 and library):
        found.append(direct_load(links.direct, p, size, net.up_bytes_per_s))
    if found:
        return found[0] if len(found) == 1 else _faster(*found)
    rate, floor = net.up_bytes_per_s * float(links.scale_up_share), _floor(net)
    two = Load(2 * net.up_latency_s + floor, wire / rate)
    one = Load(net.up_latency_s + floor, (p - 1) * size / rate)
    return _faster(one, two)


def _all_gather(net: Network, kind: str, part: Real) -> Load:
    r"""Every rank ends with all parts of ``part`` bytes: :math:`\alpha + (p-1) n / W`."""
    p, n, links = net.inside, net.nodes, net.links
    inner = Load(_floor(net))
    wire = (p - 1) * part * n
    if p > 1 and net.calibrated and kind in links.rings:
        inner = ring_load(links.rings[kind], p, wire, net.up_bytes_per_s)
    elif p > 1:
        rate = net.up_bytes_per_s * float(links.scale_up_share)
        inner = Load(net.up_latency_s + _floor(net), wire / rate)
    if n == 1:
        return inner
    out = (n - 1) * part / (net.out_bytes_per_s * float(links.scale_out_share))
    outer = (n - 1) * net.out_latency_s
    fixed = inner.fixed_s + outer
    if p == 1:
        return Load(fixed, 0.0, out)
    return Load(fixed, inner.scale_up_s, out, out_fixed_s=outer)


def _point_to_point(net: Network, size: Real) -> Load:
    """One message to the next pipeline stage."""
    if net.nodes > 1:
        out = net.out_bytes_per_s * float(net.links.scale_out_share)
        return Load(net.out_latency_s, 0.0, size / out)
    return Load(net.up_latency_s, size / (net.up_bytes_per_s * float(net.links.scale_up_share)))


def _floor(net: Network) -> float:
    return float(net.links.collective_floor_s or 0.0)
