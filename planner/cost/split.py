"""Where the money goes: by phase, and by component of a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Phase = Literal["prefill", "decode", "idle"]


@dataclass(frozen=True, slots=True)
class CostPart:
    """One component of one phase."""

    phase: Phase
    component: str
    share: float
    """Of the whole bill."""
    usd_per_hour: float


def split_cost(
    usd_per_hour: float,
    busy_share: float,
    prefill_share: float,
    prefill_parts_s: Mapping[str, float],
    decode_parts_s: Mapping[str, float],
) -> tuple[CostPart, ...]:
    """Divide a fleet's price over idle time, phases, and the components of their typical steps.

    A phase pays by the device-seconds it uses, a component by its share of a typical step of that
    phase.  Communication hidden behind computation (a negative component) is taken off
    communication, which it is part of.  The parts add up to the whole bill.

    Parameters
    ----------
    busy_share : share of time in a step.
    prefill_share : share of busy time that is there because of prefill.
    prefill_parts_s, decode_parts_s : component -> time in a typical step. [s]

    References
    ----------
    .. [1] P. Patel et al., "Splitwise", ISCA 2024 (phases use devices differently).
    """
    found = [CostPart("idle", "idle", 1 - busy_share, usd_per_hour * (1 - busy_share))]
    phases: tuple[tuple[Phase, float, Mapping[str, float]], ...] = (
        ("prefill", prefill_share, prefill_parts_s),
        ("decode", 1 - prefill_share, decode_parts_s),
    )
    for phase, of_busy, parts_s in phases:
        share = busy_share * of_busy
        visible = _without_hidden(parts_s)
        total_s = sum(visible.values())
        found += [
            CostPart(phase, name, share * time_s / total_s, usd_per_hour * share * time_s / total_s)
            for name, time_s in visible.items()
            if share and time_s
        ]
    return tuple(found)


def _without_hidden(parts_s: Mapping[str, float]) -> dict[str, float]:
    """Components with what is hidden taken off communication, or off the largest there is."""
    visible = {name: time_s for name, time_s in parts_s.items() if time_s > 0}
    hidden = -sum(time_s for time_s in parts_s.values() if time_s < 0)
    for name in sorted(visible, key=lambda n: (n not in COMMUNICATION, -visible[n])):
        off = min(hidden, visible[name])
        visible[name] -= off
        hidden -= off
    return visible


COMMUNICATION = ("expert_network",)
"""Components that may run behind computation."""
