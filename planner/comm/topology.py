"""What a domain without a switch does to bandwidth, latency and all-to-all traffic."""

import math
from functools import lru_cache
from itertools import product

from planner.specs.hardware import ScaleUp, Topology

WRAPPED_AXIS = 16
"""Shortest axis of a TPU v5e or v6e slice that closes into a ring; 3D tori close by fours."""


@lru_cache(maxsize=256)
def slice_axes(topology: Topology, ranks: int) -> tuple[int, ...]:
    """Sides of the smallest, most cubic box of a torus that holds ``ranks`` devices.

    References
    ----------
    .. [1] J. Austin et al., "How to Scale Your Model", 2025, section on TPU networking.

    Examples
    --------
    >>> slice_axes("torus3d", 32), slice_axes("torus2d", 256)
    ((4, 4, 2), (16, 16))
    """
    dimensions = {"torus2d": 2, "torus3d": 3}[topology]
    most = math.ceil(ranks ** (1 / dimensions) - 1e-9)
    for side in range(most, min(ranks, 2 * most) + 1):
        boxes = [
            sides
            for sides in product(range(1, side + 1), repeat=dimensions)
            if math.prod(sides) == ranks
        ]
        if boxes:
            return tuple(sorted(min(boxes, key=max), reverse=True))
    return (most,) * dimensions


def closed(topology: Topology, side: int) -> bool:
    """Whether an axis of ``side`` devices has its wrap-around link.

    References
    ----------
    .. [1] J. Austin et al., "How to Scale Your Model", 2025, section on TPU networking
       (wrap-around of full axes of 16; of multiples of 4 in 3D, through optical switches).
    """
    return side >= WRAPPED_AXIS if topology == "torus2d" else side >= 4 and side % 4 == 0


def usable_bytes_per_s(up: ScaleUp, ranks: int) -> float:
    """Bandwidth of one device to ``ranks - 1`` peers in a ring collective. [B/s]

    Behind a switch all of it; in a full mesh the links to those peers; in a torus two links an
    axis that closes into a ring, one link an axis that does not (its end devices have one).

    References
    ----------
    .. [1] E. Chan et al., "Collective communication: theory, practice, and experience",
       Concurrency Computat. 19(13), 2007, section 7 (multidimensional meshes).
    """
    whole = float(up.bytes_per_s)
    if up.peer_bytes_per_s is None or up.topology in ("switch", "pcie", "none"):
        return whole
    link = float(up.peer_bytes_per_s)
    if up.topology == "mesh":
        return min(whole, link * max(1, ranks - 1))
    sides = [side for side in slice_axes(up.topology, max(2, ranks)) if side > 1]
    return min(whole, link * sum(2 if closed(up.topology, side) else 1 for side in sides))


def steps(up: ScaleUp, ranks: int) -> int:
    """Hops that the last part of an all-gather takes: one behind a switch, or in a full mesh.

    References
    ----------
    .. [1] E. Chan et al., "Collective communication: theory, practice, and experience",
       Concurrency Computat. 19(13), 2007.
    """
    if up.topology not in ("torus2d", "torus3d") or ranks < 2:
        return 1
    sides = slice_axes(up.topology, ranks)
    return sum(side // 2 if closed(up.topology, side) else side - 1 for side in sides)


def all_to_all_hops(up: ScaleUp, ranks: int) -> float:
    r"""Factor on an all-to-all's bytes over all of a device's links: 1 behind a switch.

    In a torus the middle of the longest axis binds: half of the devices send half of their bytes
    across ``2 N / L`` links in each direction where the axis of ``L`` closes, ``N / L`` where not,

    .. math:: t = \frac{D L}{8 w} \;\text{or}\; \frac{D L}{4 w}

    for ``D`` bytes a device and links of rate ``w``.

    References
    ----------
    .. [1] W. Dally, B. Towles, "Principles and Practices of Interconnection Networks", 2004,
       section 3.2 (bisection bound of uniform traffic).
    """
    if up.topology not in ("torus2d", "torus3d") or ranks < 2:
        return 1.0
    sides = slice_axes(up.topology, ranks)
    whole, link = float(up.bytes_per_s), float(up.peer_bytes_per_s or up.bytes_per_s)
    per_side = (side / (8 if closed(up.topology, side) else 4) for side in sides if side > 1)
    return max(1.0, max(per_side) * whole / link)
