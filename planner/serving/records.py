"""What a simulation leaves behind: a row a request, and sums over the replicas' steps."""

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner.serving.clock import LOST, SHED, TOO_LONG
from planner.serving.cluster import Cluster
from planner.serving.fleet_log import FleetHistory
from planner.serving.meter import Meter
from planner.serving.overload import Overload, overload
from planner.serving.prefix_ledger import PrefixUse

if TYPE_CHECKING:
    from planner.serving.clock import Ledger

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Records:
    """Requests in order of arrival, as columns; a time is ``nan`` where it was not reached."""

    arrival_s: Floats
    admitted_s: Floats
    """Got a slot and KV; the wait before is the queue. [s]"""
    first_token_s: Floats
    finish_s: Floats
    input_tokens: Integers
    output_tokens: Integers
    produced_tokens: Integers
    """Below ``output_tokens`` only where the horizon stopped the run."""
    replica: Integers
    """Replica that took the request (the one that decodes, where pools are apart); -1: rejected as
    too long ever to run, -2: turned away by an admission limit or while no replica was up, -3: lost
    with a failed replica, -4: still at the router, for no replica was up."""
    counted: Mask
    """Arrived after the warm-up."""
    end_s: float
    """Last arrival or end of the last step, whichever is later. [s]"""
    kv_capacity_tokens: int
    """Of all ranks of all replicas. [tokens]"""
    busy_s: Floats
    """By replica: time in steps. [s]"""
    prefill_s: Floats
    """By replica: part of ``busy_s`` that is there because of prefill. [s]"""
    energy_j: Floats
    """By replica: power x time of its steps; idle time has none. [J]"""
    kv_token_s: Floats
    """By replica: KV in use, integrated over time. [tokens s]"""
    steps: Integers
    """By replica: engine steps."""
    stretches: Integers
    """By replica: stretches they were simulated in."""
    gap_bins: Integers
    """Gaps between two tokens after the warm-up, by bin: ``1.005**b`` to ``1.005**(b+1)`` s."""
    gap_counts: Integers
    """Gaps in each of these bins."""
    gap_mean_s: float
    """Their exact mean; ``nan`` without any. [s]"""
    preemptions: Integers
    """By request: times it was put back because the cache was full."""
    retries: Integers
    """By request: times it began anew after its replica failed."""
    priority: Integers | None = None
    """By request: its class, 0 first; None: all alike."""
    prefix: PrefixUse | None = None
    """What prefix caches gave; None without them."""
    prefill_replicas: int = 0
    """The first ones only compute prompts; 0: every replica does everything."""
    lost_s: Floats | None = None
    """When a request was lost; ``nan`` where it was not.  None: none was. [s]"""
    fleet: FleetHistory | None = None
    """What happened to replicas; None: every one served all the time."""
    handed: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    """Requests whose prompt a pool of its own computed; the two columns below are theirs."""
    sender: Integers = field(default_factory=lambda: np.zeros(0, np.int64))
    """Replica that computed the prompt."""
    prompt_end_s: Floats = field(default_factory=lambda: np.zeros(0))
    """When the prompt was done and its KV cache left. [s]"""

    @property
    def rejected(self) -> Mask:
        """Turned away: too long ever to run, or more than an admission limit allows."""
        return self._is(TOO_LONG) | self._is(SHED)

    @property
    def shed(self) -> Mask:
        """Turned away by an admission limit, or while no replica was up."""
        return self._is(SHED)

    @property
    def lost(self) -> Mask:
        """Lost with a failed replica and not tried again."""
        return self._is(LOST)

    def _is(self, reason: int) -> Mask:
        mask: Mask = np.equal(self.replica, reason)
        return mask

    @property
    def finished(self) -> Mask:
        """Answered to the last token."""
        return np.isfinite(self.finish_s)

    @property
    def running(self) -> Mask:
        """Admitted and not finished when the horizon stopped the run."""
        return np.isfinite(self.admitted_s) & ~self.finished & ~self.lost

    @property
    def queued(self) -> Mask:
        """Not admitted when the horizon stopped the run."""
        return ~np.isfinite(self.admitted_s) & ~self.rejected & ~self.lost

    @property
    def replicas(self) -> int:
        """Identical replicas that served."""
        return len(self.busy_s)

    @property
    def decode_s(self) -> Floats:
        """By replica: busy time that is not there because of prefill. [s]"""
        return self.busy_s - self.prefill_s

    @property
    def idle_s(self) -> Floats:
        """By replica: time without a step while it is paid for. [s]"""
        if self.fleet is not None:
            return self.fleet.paid_s() - self.busy_s
        return self.end_s - self.busy_s

    @property
    def waited_until_s(self) -> Floats:
        """Admitted, else lost, else the end of the run. [s]"""
        return np.where(np.isfinite(self.admitted_s), self.admitted_s, self._dropped_s())

    @property
    def left_s(self) -> Floats:
        """Finished, else lost, else the end of the run. [s]"""
        return np.where(self.finished, self.finish_s, self._dropped_s())

    def _dropped_s(self) -> Floats | float:
        if self.lost_s is None:
            return self.end_s
        return np.where(self.lost, self.lost_s, self.end_s)

    def steady_window_s(self) -> tuple[float, float]:
        """From the first counted arrival to the last arrival: the drain at the end is outside.

        The whole run where that is empty (every request arrives at once). [s]
        """
        start_s, end_s = float(self.arrival_s[self.counted][0]), float(self.arrival_s[-1])
        return (start_s, end_s) if end_s > start_s else (start_s, self.end_s)

    def overload(self) -> Overload | None:
        """How fast the queue of an open-loop run grows; None where it does not.

        Of a fleet that changes only the time since its last change is judged.
        """
        kept = ~self.rejected
        served_s = self.first_token_s
        if self.lost_s is not None:
            served_s = np.where(self.lost, self.lost_s, served_s)
        begin_s = float(self.arrival_s[self.counted][0]) if self.counted.any() else 0.0
        end_s = float(self.arrival_s[-1])
        if self.fleet is not None:
            begin_s = max(begin_s, self.fleet.settled_since(end_s))
        return overload(self.arrival_s[kept], served_s[kept], begin_s, end_s)

    def mean_queue(self, start_s: float, end_s: float) -> float:
        """Mean number of requests that wait for a slot or KV, all replicas, exact."""
        kept = ~self.rejected
        until_s = self.waited_until_s[kept]
        return _mean_present(self.arrival_s[kept], until_s, start_s, end_s)

    def mean_running(self, start_s: float, end_s: float) -> float:
        """Mean number of requests in a slot, prompts in progress included, all replicas."""
        kept = np.isfinite(self.admitted_s)
        return _mean_present(self.admitted_s[kept], self.left_s[kept], start_s, end_s)

    def max_queue(self) -> int:
        """Most requests that waited for a slot or KV at once, all replicas."""
        kept = ~self.rejected
        arrived_s, left_s = self.arrival_s[kept], np.sort(self.waited_until_s[kept])
        # at one instant the ones that leave go first
        present = np.arange(1, len(arrived_s) + 1) - np.searchsorted(left_s, arrived_s, "right")
        return int(present.max(initial=0))

    def mean_kv_tokens(self) -> float:
        """Mean KV in use over the whole run, all replicas. [tokens]"""
        return float(self.kv_token_s.sum() / self.end_s) if self.end_s else 0.0

    def busy_share(self, start_s: float, end_s: float) -> float:
        """Share of a window in which replicas were in a step, mean over replicas.

        A replica is busy exactly while it has an admitted request.
        """
        if self.prefill_replicas or self.fleet is not None:  # requests move: whole run instead
            there_s = float((self.busy_s + self.idle_s).sum())
            return float(self.busy_s.sum()) / there_s if there_s else 0.0
        total_s = 0.0
        left_s = self.left_s
        for replica in range(self.replicas):
            mine = (self.replica == replica) & np.isfinite(self.admitted_s)
            order = np.argsort(self.admitted_s[mine], kind="stable")
            begins = np.clip(self.admitted_s[mine][order], start_s, end_s)
            ends = np.maximum.accumulate(np.clip(left_s[mine][order], start_s, end_s))
            before = np.concatenate(([start_s], ends[:-1]))
            total_s += float(np.maximum(0.0, ends - np.maximum(begins, before)).sum())
        return total_s / (self.replicas * (end_s - start_s))


def _mean_present(came_s: Floats, left_s: Floats, start_s: float, end_s: float) -> float:
    inside = np.clip(left_s, start_s, end_s) - np.clip(came_s, start_s, end_s)
    return float(inside.sum() / (end_s - start_s))


def collect(
    ledger: "Ledger",
    meters: list[Meter],
    remaining: dict[int, int],
    *,
    end_s: float,
    cluster: Cluster,
    warmup: tuple[float, int],
) -> Records:
    """Freeze the columns of a run.

    Parameters
    ----------
    remaining : tokens still to produce of requests that are decoding at the end.
    warmup : (seconds, requests) not counted.
    """
    arrived = len(ledger.replica)

    def times(column: "array[float]") -> Floats:
        return np.array(column, np.float64)[:arrived]

    def counts(column: "array[int]") -> Integers:
        return np.array(column, np.int64)[:arrived]

    def rare(numbers: dict[int, int]) -> Integers:
        column = np.zeros(arrived, np.int64)
        column[list(numbers)] = list(numbers.values())
        return column

    lost_s = None
    if ledger.lost_s:
        lost_s = np.full(arrived, np.nan)
        lost_s[list(ledger.lost_s)] = list(ledger.lost_s.values())
    arrival_s, finish_s = times(ledger.arrival_s), times(ledger.finish_s)
    first_token_s, output_tokens = times(ledger.first_token_s), counts(ledger.output_tokens)
    warmup_s, warmup_requests = warmup
    gaps: dict[int, int] = {}
    for meter in meters:
        for index, count in meter.gap_bins.items():
            gaps[index] = gaps.get(index, 0) + count
    left = counts(ledger.answers)
    for request, tokens in remaining.items():
        left[request] = tokens
    left[np.isfinite(finish_s)] = 0
    bins = sorted(gaps)
    gap_tokens = sum(meter.gap_tokens for meter in meters)
    gap_sum_s = sum(meter.gap_sum_s for meter in meters)
    return Records(
        arrival_s=arrival_s,
        admitted_s=times(ledger.admitted_s),
        first_token_s=first_token_s,
        finish_s=finish_s,
        input_tokens=counts(ledger.input_tokens),
        output_tokens=output_tokens,
        produced_tokens=np.where(np.isfinite(first_token_s), output_tokens - left, 0),
        replica=counts(ledger.replica),
        counted=(np.arange(arrived) >= warmup_requests) & (arrival_s >= warmup_s),
        end_s=end_s,
        kv_capacity_tokens=cluster.kv_capacity_tokens,
        busy_s=np.array([meter.busy_s for meter in meters]),
        prefill_s=np.array([meter.prefill_s for meter in meters]),
        energy_j=np.array([meter.energy_j for meter in meters]),
        kv_token_s=np.array([meter.kv_token_s for meter in meters]),
        steps=np.array([meter.steps for meter in meters], np.int64),
        stretches=np.array([meter.stretches for meter in meters], np.int64),
        gap_bins=np.array(bins, np.int64),
        gap_counts=np.array([gaps[index] for index in bins], np.int64),
        gap_mean_s=gap_sum_s / gap_tokens if gap_tokens else float("nan"),
        preemptions=rare(ledger.preempted),
        retries=rare(ledger.retried),
        priority=None if ledger.priority is None else counts(ledger.priority),
        prefix=None if ledger.prefixes is None else ledger.prefixes.use(arrived),
        prefill_replicas=cluster.pools[0].replicas if cluster.apart else 0,
        lost_s=lost_s,
        handed=np.array(ledger.handed, np.int64),
        sender=np.array(ledger.sender, np.int64),
        prompt_end_s=np.array(ledger.prompt_end_s, np.float64),
    )
