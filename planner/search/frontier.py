"""Which candidates nothing else beats in every respect: cost, latency, devices, power."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Replica
from planner.search.caps import rated_w, usd_per_hour
from planner.search.layout import Layout
from planner.search.screen import FloatArray, Line
from planner.workloads import Traffic


@dataclass(frozen=True, slots=True)
class Point:
    """One candidate on the frontier, by closed form."""

    system: str
    label: str
    batch_limit: int
    """Sequences an attention rank runs at once."""
    replicas: int
    devices: int
    usd_per_hour: float | None
    tpot_s: float
    """Mean."""
    rated_w: float | None
    """Server power of all devices, as rated."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def frontier(
    traffic: Traffic,
    fleets: Sequence[tuple[Replica, str, Line]],
    most_tpot_s: float,
    max_nodes: int,
    pairs: Sequence[Layout] = (),
) -> tuple[Point, ...]:
    """Candidates that no other beats in cost, latency, devices and power at once.

    Of a layout only batch limits stay that buy less cost with more latency; then all layouts
    meet.  Systems without a price take part by devices alone.  Pairs of pools come in at the
    sizes they are estimated at.

    References
    ----------
    .. [1] K. Miettinen, "Nonlinear Multiobjective Optimization", 1999, definition 2.2.1.
    """
    if not np.isfinite(traffic.requests_per_s):
        return ()
    points: list[Point] = []
    for replica, label, line in fleets:
        replicas = np.ceil(traffic.requests_per_s / line.requests_per_s)
        earlier = np.concatenate([[np.inf], np.minimum.accumulate(replicas)[:-1]])
        room = max_nodes * replica.hardware.system.devices_per_node // replica.devices
        stays = (replicas < earlier) & (replicas <= room) & (line.tpot_s <= most_tpot_s)
        points += [
            _point(replica, label, int(line.sequences[i]), int(replicas[i]), float(line.tpot_s[i]))
            for i in np.flatnonzero(stays)
        ]
    points += [point for point in map(_pair_point, pairs) if point.tpot_s <= most_tpot_s]
    if not points:
        return ()
    none = np.inf
    table = np.array(
        [
            (none if p.usd_per_hour is None else p.usd_per_hour, p.tpot_s, p.devices,
             none if p.rated_w is None else p.rated_w)
            for p in points
        ]
    )  # fmt: skip
    return tuple(points[i] for i in unbeaten(table))


def _point(replica: Replica, label: str, batch: int, replicas: int, tpot_s: float) -> Point:
    hardware, devices = replica.hardware, replicas * replica.devices
    prices, watts = hardware.prices, hardware.system.server_power_w_per_device
    return Point(
        hardware.system.name, label, batch, replicas, devices,
        devices * float(prices[0].usd_per_device_hour) if prices else None,
        tpot_s, devices * float(watts) if watts else None,
    )  # fmt: skip


def _pair_point(layout: Layout) -> Point:
    main, counts = layout.main, layout.guesses
    power_w = rated_w(layout, counts)
    return Point(
        layout.system, layout.label,
        round(main.guess.sequences / main.replica.pool.parallelism.attention_dp), sum(counts),
        layout.devices(counts), usd_per_hour(layout, counts, {}) if layout.prices else None,
        main.guess.tpot_s, power_w if np.isfinite(power_w) else None,
    )  # fmt: skip


def unbeaten(table: FloatArray) -> NDArray[np.int64]:
    """Rows of ``[n, objectives]`` that no other row beats, cheapest (first column) first.

    A row beats another when it is nowhere worse and somewhere better; of equal rows one stays.

    References
    ----------
    .. [1] H. T. Kung, F. Luccio, F. Preparata, "On Finding the Maxima of a Set of Vectors",
       JACM 22(4), 1975.
    """
    order = np.lexsort(table.T[::-1])
    kept: list[int] = []
    best = np.empty((0, table.shape[1]))
    for i in order:
        if not (best <= table[i]).all(axis=1).any():
            kept.append(int(i))
            best = np.vstack([best, table[i]])
    return np.array(kept, dtype=np.int64)
