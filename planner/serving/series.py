"""How a run went over time: who was there, what was done, how full the pools were, bin by bin.

Everything follows from the records once the run is over, exact to the last bit of the integrals:
the event loop pays nothing, and memory is that of a fixed number of bins.

**What is taken as even.**  A prompt's tokens count as computed evenly from admission to the end
of its prompt, an answer's tokens after the first as produced evenly up to its finish, and the KV
cache of a request grows accordingly.  A request that was preempted or tried again counts as
running from its first admission.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.serving.fleet_log import State
from planner.serving.records import Records

Floats = NDArray[np.float64]

BINS = 120
FEWEST = 20
"""Requests a bin needs for a 95th percentile."""
REPLICA_STATES: dict[str, tuple[State, ...]] = {
    "serving": (State.UP,), "slow": (State.SLOW,), "draining": (State.DRAINING,),
    "starting": (State.STARTING,), "failed": (State.DOWN,), "maintained": (State.MAINTENANCE,),
}  # fmt: skip
"""What paid replicas do, by the name of a column; slow ones and draining ones serve, too."""


@dataclass(frozen=True, eq=False)
class PoolSeries:
    """One pool over time; every column has a value a bin, its mean over the bin."""

    role: str
    """``both``, ``prefill`` or ``decode``."""
    busy_share: Floats
    """Share of the time in which its replicas were in a step, mean over replicas."""
    running: Floats
    """Requests in a slot."""
    kv_tokens: Floats
    """KV cache in use. [tokens]"""
    replicas: dict[str, Floats] = field(default_factory=dict)
    """State of :data:`REPLICA_STATES` -> replicas in it; empty where every one always served."""


@dataclass(frozen=True, eq=False)
class Series:
    """A run in bins of equal width; every column has a value a bin, its mean over the bin."""

    edges_s: Floats
    """Where bins begin and end, one more than there are bins. [s]"""
    arrivals_per_s: Floats
    finishes_per_s: Floats
    queued: Floats
    """Requests that wait for a slot and KV."""
    between_pools: Floats
    """Requests whose prompt is done and which wait for transfer and room to decode."""
    running: Floats
    """Requests in a slot, all pools."""
    input_tokens_per_s: Floats
    output_tokens_per_s: Floats
    ttft_p95_s: Floats
    """Of the requests that arrive in the bin; ``nan`` where they are under 20. [s]"""
    e2e_p95_s: Floats
    pools: tuple[PoolSeries, ...]
    found_share: Floats | None
    """Of the prompt tokens admitted in the bin, those in the replica's prefix cache; ``nan`` where
    none were.  None: there was no cache."""
    loaded_share: Floats | None
    """The same of those loaded from the store behind."""
    counted_s: tuple[float, float]
    """First counted arrival and last arrival: outside are warm-up and drain. [s]"""

    def columns(self) -> dict[str, Floats]:
        """Every column by name, those of pools with the role in front where there are several."""
        found = {
            "start_s": self.edges_s[:-1],
            "end_s": self.edges_s[1:],
            **{name: getattr(self, name) for name in _PLAIN},
        }
        for pool in self.pools:
            front = f"{pool.role}_" if len(self.pools) > 1 else ""
            found[f"{front}busy_share"] = pool.busy_share
            found[f"{front}kv_tokens"] = pool.kv_tokens
            if front:
                found[f"{front}running"] = pool.running
            found |= {f"{front}replicas_{state}": each for state, each in pool.replicas.items()}
        for name in ("found_share", "loaded_share"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; null where a bin has no value."""
        plain = {
            name: [None if math.isnan(x) else x for x in column.tolist()]
            for name, column in self.columns().items()
        }
        return {"counted_from_s": self.counted_s[0], "last_arrival_s": self.counted_s[1], **plain}


_PLAIN = (
    "arrivals_per_s", "finishes_per_s", "queued", "between_pools", "running",
    "input_tokens_per_s", "output_tokens_per_s", "ttft_p95_s", "e2e_p95_s",
)  # fmt: skip


def series(records: Records, bins: int = BINS) -> Series:
    """Lay a run out over time.

    Parameters
    ----------
    bins : of equal width, from the start of the run to its end.

    Raises
    ------
    InputError
        Less than one bin.
    """
    if bins < 1:
        raise InputError("", "bins", f"must be at least 1, got {bins}")
    r, edges_s = records, np.linspace(0.0, max(records.end_s, 1e-9), bins + 1)
    width_s = float(edges_s[1] - edges_s[0])
    came, left = _stays(r)
    parts = _pools(r, came, left, edges_s)
    prompted = came & np.isfinite(left.prompt_s)
    began = came & np.isfinite(r.first_token_s)
    later = np.maximum(r.produced_tokens - 1, 0)
    answered = _Spans(r.first_token_s[began], left.finish_s[began])
    waiting = ~(r.rejected | r.lost)
    queued = _Spans(r.arrival_s[waiting], np.where(came, r.admitted_s, r.end_s)[waiting])
    between = _Spans(left.prompt_s[prompted], left.decode_s[prompted])
    prompts = _Spans(r.admitted_s[prompted], left.prompt_s[prompted])
    return Series(
        edges_s=edges_s,
        arrivals_per_s=np.histogram(r.arrival_s, edges_s)[0] / width_s,
        finishes_per_s=np.histogram(r.finish_s[r.finished], edges_s)[0] / width_s,
        queued=queued.mean(edges_s),
        between_pools=between.mean(edges_s),
        running=np.sum([pool.running for pool in parts], axis=0),
        input_tokens_per_s=prompts.rate(r.input_tokens[prompted], edges_s),
        output_tokens_per_s=np.histogram(r.first_token_s[began], edges_s)[0] / width_s
        + answered.rate(later[began], edges_s),
        ttft_p95_s=_p95(r.arrival_s, r.first_token_s, edges_s),
        e2e_p95_s=_p95(r.arrival_s, r.finish_s, edges_s),
        pools=_with_states(parts, r, edges_s),
        found_share=_prompt_share(r, "found_tokens", edges_s),
        loaded_share=_prompt_share(r, "loaded_tokens", edges_s),
        counted_s=(float(r.arrival_s[r.counted][0]) if r.counted.any() else r.end_s,
                   float(r.arrival_s[-1])),
    )  # fmt: skip


def _with_states(
    pools: tuple[PoolSeries, ...], r: Records, edges_s: Floats
) -> tuple[PoolSeries, ...]:
    """Pools with what their replicas did, where a fleet changed."""
    fleet = r.fleet
    if fleet is None:
        return pools
    found = []
    for pool in pools:
        first = r.prefill_replicas if pool.role == "decode" else 0
        end = r.prefill_replicas if pool.role == "prefill" else r.replicas
        mine = (fleet.replica >= first) & (fleet.replica < end)
        states = {}
        for name, each in REPLICA_STATES.items():
            chosen = mine & np.isin(fleet.state, each)
            states[name] = _Spans(fleet.begin_s[chosen], fleet.until_s[chosen]).mean(edges_s)
        found.append(replace(pool, replicas=states))
    return tuple(found)


def _prompt_share(r: Records, name: str, edges_s: Floats) -> Floats | None:
    """Share of a column of :class:`PrefixUse` in the prompt tokens admitted in each bin."""
    if r.prefix is None:
        return None
    came = np.isfinite(r.admitted_s)
    asked, part = (
        np.histogram(r.admitted_s[came], edges_s, weights=each[came])[0]
        for each in (r.input_tokens, getattr(r.prefix, name))
    )
    with np.errstate(invalid="ignore"):
        found: Floats = part / asked
    return found


@dataclass(frozen=True, eq=False)
class _Left:
    """When requests leave what they are in, the end of the run where they had not. [s]"""

    prompt_s: Floats
    """End of the prompt; ``nan`` where it was not reached."""
    decode_s: Floats
    """Begin of decoding: the same in one pool."""
    finish_s: Floats


def _stays(r: Records) -> tuple[NDArray[np.bool_], _Left]:
    """Requests that were admitted and whose stay is known, and when they left."""
    came = np.isfinite(r.admitted_s) & ~r.lost
    finish_s = np.where(r.finished, r.finish_s, r.end_s)
    prompt_s = r.first_token_s.copy()
    if r.prefill_replicas:
        prompt_s[r.handed] = r.prompt_end_s
    decode_s = np.where(np.isfinite(r.first_token_s), r.first_token_s, r.end_s)
    return came, _Left(prompt_s, decode_s, finish_s)


def _pools(
    r: Records, came: NDArray[np.bool_], left: _Left, edges_s: Floats
) -> tuple[PoolSeries, ...]:
    """Every pool over time, prefill first."""
    growth = np.maximum(r.produced_tokens - 1, 0)
    if not r.prefill_replicas:
        stays = _Spans(r.admitted_s[came], left.finish_s[came])
        began = came & np.isfinite(r.first_token_s)
        grows = _Spans(r.first_token_s[began], left.finish_s[began])
        held = stays.mean(edges_s, r.input_tokens[came]) + grows.ramp(growth[began], edges_s)
        busy = _busy(stays, r.replica[came], 0, r.replicas, edges_s)
        return (PoolSeries("both", busy, stays.mean(edges_s), held),)
    first = r.prefill_replicas
    sender = r.replica.copy()
    sender[r.handed] = r.sender
    inside = came & (sender < first) & (sender >= 0)
    prompt_s = np.where(np.isfinite(left.prompt_s), left.prompt_s, r.end_s)
    prompts = _Spans(r.admitted_s[inside], prompt_s[inside])
    began = came & (r.replica >= first) & np.isfinite(r.first_token_s)
    answers = _Spans(r.first_token_s[began], left.finish_s[began])
    held = answers.mean(edges_s, r.input_tokens[began]) + answers.ramp(growth[began], edges_s)
    return (
        PoolSeries(
            "prefill", _busy(prompts, sender[inside], 0, first, edges_s),
            prompts.mean(edges_s), prompts.mean(edges_s, r.input_tokens[inside]),
        ),
        PoolSeries(
            "decode", _busy(answers, r.replica[began], first, r.replicas, edges_s),
            answers.mean(edges_s), held,
        ),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Spans:
    """Stretches of time, from ``came_s`` to ``left_s``."""

    came_s: Floats
    left_s: Floats

    def mean(self, edges_s: Floats, weight: NDArray[Any] | None = None) -> Floats:
        """Mean of the sum of weights (their number where there are none) that are present."""
        weights = np.ones(len(self.came_s)) if weight is None else weight.astype(np.float64)
        area = _ramps(self.came_s, weights, edges_s) - _ramps(self.left_s, weights, edges_s)
        return _over_bins(area, edges_s)

    def rate(self, total: NDArray[Any], edges_s: Floats) -> Floats:
        """Mean rate where each stretch spreads its total evenly, or at once if it has no length."""
        length_s = self.left_s - self.came_s
        long = length_s > 0
        spread = _Spans(self.came_s[long], self.left_s[long])
        at_once, _ = np.histogram(self.came_s[~long], edges_s, weights=total[~long])
        even = spread.mean(edges_s, total[long] / length_s[long])
        return even + np.asarray(at_once / np.diff(edges_s), np.float64)

    def ramp(self, top: NDArray[Any], edges_s: Floats) -> Floats:
        """Mean of the sum of what grows from 0 to ``top`` over each stretch, then is gone."""
        long = self.left_s > self.came_s
        came_s, left_s = self.came_s[long], self.left_s[long]
        tops = top[long].astype(np.float64)
        slope = tops / (left_s - came_s)
        area = _squares(came_s, slope, edges_s) - _squares(left_s, slope, edges_s)
        return _over_bins(area - _ramps(left_s, tops, edges_s), edges_s)


def _over_bins(area: Floats, edges_s: Floats) -> Floats:
    """Mean over each bin of what was integrated up to each edge; rounding leaves nothing below."""
    means: Floats = np.maximum(np.diff(area) / np.diff(edges_s), 0.0)
    return means


def _ramps(at_s: Floats, weight: Floats, times: Floats) -> Floats:
    r""":math:`\sum_{a \le t} w (t - a)` at each time."""
    order = np.argsort(at_s, kind="stable")
    at_s, weight = at_s[order], weight[order]
    upto = np.searchsorted(at_s, times, "right")
    zeroth, first = _sums(weight), _sums(weight * at_s)
    found: Floats = times * zeroth[upto] - first[upto]
    return found


def _squares(at_s: Floats, slope: Floats, times: Floats) -> Floats:
    r""":math:`\sum_{a \le t} s (t - a)^2 / 2` at each time."""
    order = np.argsort(at_s, kind="stable")
    at_s, slope = at_s[order], slope[order]
    upto = np.searchsorted(at_s, times, "right")
    zeroth, first, second = (_sums(slope * at_s**power) for power in (0, 1, 2))
    found: Floats = 0.5 * (times**2 * zeroth[upto] - 2 * times * first[upto] + second[upto])
    return found


def _sums(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _busy(
    stays: _Spans, replica: NDArray[np.int64], first: int, end: int, edges_s: Floats
) -> Floats:
    """Share of each bin in which replicas ``first <= r < end`` have a request, mean over them."""
    covered = np.zeros(len(edges_s))
    for number in range(first, end):
        mine = replica == number
        covered += _covered(stays.came_s[mine], stays.left_s[mine], edges_s)
    return _over_bins(covered / max(1, end - first), edges_s)


def _covered(came_s: Floats, left_s: Floats, times: Floats) -> Floats:
    """Length of the union of stretches up to each time. [s]"""
    if not len(came_s):
        return np.zeros(len(times))
    order = np.argsort(came_s, kind="stable")
    came_s, left_s = came_s[order], np.maximum.accumulate(left_s[order])
    fresh = np.concatenate([[True], came_s[1:] > left_s[:-1]])
    begins, ends = came_s[fresh], left_s[np.concatenate([fresh[1:], [True]])]
    knots = np.column_stack([begins, ends]).ravel()
    lengths = np.cumsum(ends - begins)
    heights = np.column_stack([np.concatenate([[0.0], lengths[:-1]]), lengths]).ravel()
    found: Floats = np.interp(times, knots, heights)
    return found


def _p95(arrival_s: Floats, until_s: Floats, edges_s: Floats) -> Floats:
    """95th percentile of a latency by bin of arrival; requests come in order of arrival."""
    cuts = np.searchsorted(arrival_s, edges_s)
    cuts[-1] = len(arrival_s)
    found = np.full(len(edges_s) - 1, math.nan)
    latency_s = until_s - arrival_s
    for i, (low, high) in enumerate(pairwise(cuts.tolist())):
        values = latency_s[low:high]
        values = values[np.isfinite(values)]
        if len(values) >= FEWEST:
            found[i] = np.quantile(values, 0.95)
    return found
