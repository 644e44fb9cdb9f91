"""Which prefill layout beside which decode layout: all pairs in arrays, the cheapest kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from planner.search.layout import Layout, Side, common_prices
from planner.search.rejection import Rejection
from planner.search.screen import FloatArray

KEPT = 24
"""Pairs that simulation may look at, the cheapest by estimate."""
EACH = 2
"""Of these at most so many with the same layout on the same side."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Pairs of two systems that no simulation looks at."""

    cheapest: Layout
    """By estimate."""
    estimate: float
    least: FloatArray
    """What no fleet of each pair can cost less than, by closed form."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs worth a simulation, and what became of the rest."""

    layouts: tuple[Layout, ...]
    """Cheapest by estimate first."""
    screened: int
    """Pairs whose cost was worked out."""
    refused: tuple[LeftOut, ...]
    """One for every pair of systems that has more than the kept ones."""


def pair_up(
    prefills: Sequence[Side], decodes: Sequence[Side], *, any_system: bool, priced: bool,
    several: bool, owned: Mapping[str, int] = MappingProxyType({}),
) -> Pairs:  # fmt: skip
    """Cost of every pair by closed form, in one array for every two systems.

    Pools are sized one by one, so that a pair costs the sum; formats of the cache must agree.

    Parameters
    ----------
    any_system : whether the two pools may be on different systems.
    priced : whether money ranks; else devices do.
    owned : devices of each system that are there already: only those beyond them cost.
    """
    picks: list[tuple[float, float, Layout]] = []
    refused, screened = [], 0
    for there, firsts in _by_system(prefills).items():
        for here, thens in _by_system(decodes).items():
            if here != there and not any_system:
                continue
            hardware = (firsts[0].replica.hardware, thens[0].replica.hardware)
            prices = common_prices(tuple(h.prices for h in hardware)) if priced else [1.0, 1.0]
            if prices is None:
                continue
            there_are = (owned.get(there, 0), owned.get(here, 0))
            cost = _costs(firsts, thens, prices, there_are)
            possible = np.isfinite(cost)
            screened += int(possible.sum())
            kept = _picks(cost, firsts, thens)
            picks += [
                (float(cost[i, j]), firsts[i].guess.tpot_s + thens[j].guess.tpot_s,
                 Layout((firsts[i], thens[j]), several))
                for i, j in kept
            ]  # fmt: skip
            cost[tuple(np.array(kept, dtype=int).T) if kept else ([], [])] = np.inf
            left = np.isfinite(cost)
            if left.any():
                i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
                pair = Layout((firsts[int(i)], thens[int(j)]), several)
                least = _costs(firsts, thens, prices, there_are, least=True)
                refused.append(LeftOut(pair, float(cost[i, j]), least[left]))
    picks.sort(key=lambda pick: pick[:2])
    chosen = [layout for *_, layout in picks[:KEPT]]
    return Pairs(tuple(chosen), screened, tuple(refused))


def left_out(pairs: Pairs, best: float, unit: str) -> list[Rejection]:
    """Say of every two systems how many pairs were not simulated, and how many might be cheaper.

    Those whose least cost is below the best are refused by estimate alone.
    """
    return [
        Rejection(
            each.cheapest.label, "screen", "cost of the pair by closed form", each.estimate, best,
            unit, _advice(each, best), each.cheapest.system,
        )
        for each in pairs.refused
    ]  # fmt: skip


def _advice(left: LeftOut, best: float) -> str:
    open_ = int((left.least < best).sum())
    rest = f"the bound leaves {open_} of them" if open_ else "the bound rules all of them out"
    return f"the cheapest by estimate of {len(left.least)} pairs that were not simulated; {rest}"


def _by_system(sides: Sequence[Side]) -> dict[str, list[Side]]:
    groups: dict[str, list[Side]] = {}
    for side in sides:
        groups.setdefault(_system(side), []).append(side)
    return groups


def _costs(
    firsts: list[Side], thens: list[Side], prices: Sequence[float], owned: tuple[int, int],
    *, least: bool = False,
) -> FloatArray:  # fmt: skip
    """Cost of every pair, infinite where the cache's formats differ: ``[prefill, decode]``.

    Parameters
    ----------
    owned : devices of either side's system that cost nothing; on one system both share them.
    least : what no fleet of the pair can cost less than, instead of the estimate.
    """

    def devices(side: Side) -> float:
        return side.least * side.replica.devices if least else side.guess.devices

    rows, columns = (np.array([devices(side) for side in sides]) for sides in (firsts, thens))
    if _system(firsts[0]) == _system(thens[0]):
        cost = np.maximum(rows[:, None] + columns[None, :] - owned[0], 0.0) * prices[0]
    else:
        first, then = (
            np.maximum(each - own, 0.0) * price
            for each, own, price in zip((rows, columns), owned, prices, strict=True)
        )
        cost = first[:, None] + then[None, :]
    same = np.array([[a.replica.pool.kv == b.replica.pool.kv for b in thens] for a in firsts])
    return np.where(same, cost, np.inf)


def distinct(decodes: Sequence[Side]) -> list[Side]:
    """Decode sides without those that differ only in a step's room for prompts.

    A replica that only decodes never fills it where its sequences fit it; the cheapest stays.
    """
    found: dict[object, Side] = {}
    for side in sorted(decodes, key=lambda s: (s.guess.devices, s.guess.tpot_s)):
        pool = side.replica.pool
        limits = pool.limits
        key: object = (_system(side), side.label)
        if limits.max_step_tokens >= limits.max_sequences * side.replica.step.query_tokens:
            alike = limits.model_copy(update={"max_step_tokens": 1})
            key = _system(side), pool.model_copy(update={"limits": alike}).model_dump_json()
        found.setdefault(key, side)
    kept = {id(side) for side in found.values()}
    return [side for side in decodes if id(side) in kept]


def _system(side: Side) -> str:
    return side.replica.hardware.system.name


def _picks(cost: FloatArray, firsts: list[Side], thens: list[Side]) -> list[tuple[int, int]]:
    """Cheapest pairs, no layout more than a few times; of equal cost the faster ones."""
    pace = np.add.outer([s.guess.tpot_s for s in firsts], [s.guess.tpot_s for s in thens])
    order = np.lexsort((pace.ravel(), cost.ravel()))[: 40 * KEPT]
    used_first, used_then = np.zeros(len(firsts), int), np.zeros(len(thens), int)
    found: list[tuple[int, int]] = []
    for flat in order.tolist():
        i, j = divmod(flat, len(thens))
        if not np.isfinite(cost[i, j]) or len(found) == KEPT:
            break
        if used_first[i] < 2 * EACH and used_then[j] < EACH:
            used_first[i] += 1
            used_then[j] += 1
            found.append((i, j))
    return found
