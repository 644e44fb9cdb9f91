"""What a fleet costs and draws, and the caps on that which a plan must keep."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from planner.errors import InputError
from planner.search.layout import Counts, Layout, Side
from planner.search.rejection import Rejection
from planner.specs.scenario import Scenario
from planner.workloads import Traffic

Total = Callable[[Layout, Counts], float]
"""What so many replicas come to."""
Caps = list[tuple[str, float, str, Total]]
"""Field, cap, unit, total."""
SECONDS_PER_HOUR = 3600.0


def rented(layout: Layout, counts: Counts, owned: Mapping[str, int]) -> list[int]:
    """Devices of every side beyond those of its system that are owned already."""
    left, found = dict(owned), []
    for side, n in zip(layout.sides, counts, strict=True):
        name, devices = side.replica.hardware.system.name, n * side.replica.devices
        own = min(left.get(name, 0), devices)
        left[name] = left.get(name, 0) - own
        found.append(devices - own)
    return found


def usd_per_hour(layout: Layout, counts: Counts, owned: Mapping[str, int]) -> float:
    """Headline price of all devices that are not owned; infinite without one. [USD/h]"""
    devices = rented(layout, counts, owned)
    if layout.prices is None:
        return math.inf if any(devices) else 0.0
    return sum(n * price for n, price in zip(devices, layout.prices, strict=True))


def rated_w(layout: Layout, counts: Counts) -> float:
    """Server power of all devices as rated; infinite where none is stated. [W]"""
    total = 0.0
    for side, n in zip(layout.sides, counts, strict=True):
        hardware = side.replica.hardware
        watts = hardware.system.server_power_w_per_device or hardware.accelerator.max_power_w
        if not watts:
            return math.inf
        total += n * side.replica.devices * float(watts)
    return total


def caps(scenario: Scenario, traffic: Traffic) -> Caps:
    """The caps that are set."""
    space = scenario.space
    tokens_per_s = traffic.requests_per_s * (traffic.input_tokens + traffic.output_tokens)

    def hourly(layout: Layout, counts: Counts) -> float:
        return usd_per_hour(layout, counts, space.owned)

    def usd_per_million(layout: Layout, counts: Counts) -> float:
        return hourly(layout, counts) / SECONDS_PER_HOUR / tokens_per_s * 1e6

    found: Caps = []
    if space.max_usd_per_hour is not None:
        found.append(("space.max_usd_per_hour", space.max_usd_per_hour, "usd", hourly))
    if space.max_usd_per_million_tokens is not None and math.isfinite(tokens_per_s):
        cap = space.max_usd_per_million_tokens
        found.append(("space.max_usd_per_million_tokens", cap, "usd", usd_per_million))
    if space.max_rated_w is not None:
        found.append(("space.max_rated_w", space.max_rated_w, "w", rated_w))
    return found


def contradiction(
    scenario: Scenario, traffic: Traffic, together: Sequence[Side],
    apart: tuple[Sequence[Side], Sequence[Side]],
) -> InputError | None:  # fmt: skip
    """The two wishes that cannot both come true, where the closed form already shows it.

    Parameters
    ----------
    together, apart : sides that can keep the promises: of one pool, of prefill and decode.
    """
    possible = [side for side in together if math.isfinite(side.guess.least_devices)]
    pairs = [[s for s in sides if math.isfinite(s.guess.least_devices)] for sides in apart]
    for field, cap, unit, total in caps(scenario, traffic):
        options = [_least(total, possible)] if possible else []
        if all(pairs):
            first, then = (_least(total, sides) for sides in pairs)
            options.append((first[0] + then[0], f"prefill {first[1]}, decode {then[1]}"))
        if not options:
            return None
        need, label = min(options)
        if need > cap:
            return _clash(scenario, (field, cap, unit), need, label)
    return None


def _least(total: Total, sides: Sequence[Side]) -> tuple[float, str]:
    """Least that any of these sides comes to, and which it is."""
    alone = [Layout((side,), True) for side in sides]
    need, index = min((total(each, each.least), i) for i, each in enumerate(alone))
    return need, f"{alone[index].named}, {alone[index].devices(alone[index].least):g} devices"


def _clash(scenario: Scenario, cap: tuple[str, float, str], need: float, label: str) -> InputError:
    field, limit, unit = cap
    promises = ", ".join(f"slo.{n} {v:g}" for n, v in scenario.slo if v is not None)
    nearest = "no candidate states what that takes" if math.isinf(need) else (
        f"the nearest needs at least {need:,.6g} {unit} ({label})"
    )  # fmt: skip
    return InputError(
        scenario.name, field,
        f"{limit:g} and {promises} cannot both be kept: {nearest}; raise the cap or loosen the "
        "promises",
    )  # fmt: skip


def above(
    scenario: Scenario, traffic: Traffic, layout: Layout, counts: Counts
) -> Iterator[Rejection]:
    """Why a fleet that keeps its promises is refused all the same."""
    for field, cap, unit, total in caps(scenario, traffic):
        need = total(layout, counts)
        if need > cap:
            yield Rejection(
                layout.label, "simulation", field, need, cap, unit,
                "keeps every promise, above the cap", layout.system,
            )  # fmt: skip
