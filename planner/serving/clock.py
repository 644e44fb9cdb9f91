"""Time of a run, and what is known of its requests."""

import gc
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

import simpy

from planner.serving.prefix_ledger import PrefixLedger

ARRIVAL = 1 << 30
"""Priority of arrivals within an instant; the end of a step of replica ``r`` has ``r``."""
WAKING = ARRIVAL + 1
CHANGING = ARRIVAL + 2
"""Of failures, repairs and other changes of the fleet: after the requests of the instant."""
CLOSING = ARRIVAL + 3

Callback = Callable[[simpy.Event], None]


class Clock(simpy.Environment):
    """SimPy's environment with events at absolute times.

    ``Environment.schedule`` takes a delay, and ``now + (time - now)`` is not always ``time``: a
    last bit would decide which of two simultaneous events comes first.
    """

    def at(self, time_s: float, priority: int, callback: Callback) -> simpy.Event:
        """Call back at a time, by rising priority within one instant."""
        alarm = Alarm(self, callback)
        heappush(self._queue, (time_s, priority, next(self._eid), alarm))  # type: ignore[misc]
        return alarm

    @property
    def pending(self) -> int:
        """Events in the calendar."""
        return len(self._queue)

    def run_out(self) -> None:
        """Handle events until there is none, as :meth:`simpy.Environment.run` does.

        Alarms neither fail nor are waited for, which is all that ``run`` looks after; and nothing
        here makes cycles, so that the collector, which would look at every queue again and again,
        pauses.
        """
        queue, collects = self._queue, gc.isenabled()
        gc.disable()
        try:
            while queue:
                self._now, _, _, event = heappop(queue)
                for callback in event.callbacks:
                    callback(event)
        finally:
            if collects:
                gc.enable()


class Alarm(simpy.Event):
    """An event that has been given its time, as :class:`simpy.Timeout` is."""

    _value = None
    _ok = True

    def __init__(self, clock: Clock, callback: Callback) -> None:
        # what Event.__init__ and succeed() do, without scheduling; the rest is the class's
        self.callbacks = [callback]


def _times() -> "array[float]":
    return array("d")


def _counts() -> "array[int]":
    return array("q")


TOO_LONG, SHED, LOST, ROUTER = -1, -2, -3, -4
"""In place of a replica's number: never to be run; turned away; lost with a failed replica; still
at the router, for no replica is up."""


@dataclass(slots=True)
class Ledger:
    """What is known of every request, by number; ``nan`` until it happens. [s], [tokens]"""

    arrival_s: "array[float]" = field(default_factory=_times)
    admitted_s: "array[float]" = field(default_factory=_times)
    first_token_s: "array[float]" = field(default_factory=_times)
    finish_s: "array[float]" = field(default_factory=_times)
    input_tokens: "array[int]" = field(default_factory=_counts)
    output_tokens: "array[int]" = field(default_factory=_counts)
    prompts: "array[int]" = field(default_factory=_counts)
    """Tokens to compute before the next one is produced: the input, until it is preempted."""
    answers: "array[int]" = field(default_factory=_counts)
    """Tokens still to produce when it next begins."""
    cached: "array[int] | None" = None
    """Prompt tokens found in the cache; None: none of any."""
    priority: "array[int] | None" = None
    """Class of every request, 0 first; None: all alike."""
    prefixes: "PrefixLedger | None" = None
    """Names of blocks, where a prefix cache looks for them."""
    replica: "array[int]" = field(default_factory=_counts)
    """Replica that took it (the one that decodes, where pools are apart), or why none did."""
    preempted: dict[int, int] = field(default_factory=dict)
    """Times a request was preempted, where it was."""
    retried: dict[int, int] = field(default_factory=dict)
    """Times a request began anew after its replica failed, where it did."""
    lost_s: dict[int, float] = field(default_factory=dict)
    """When a request was lost, where it was. [s]"""
    handed: "array[int]" = field(default_factory=_counts)
    """Requests whose prompt a pool of its own computed, in the order they were done."""
    sender: "array[int]" = field(default_factory=_counts)
    """Which of its replicas did."""
    prompt_end_s: "array[float]" = field(default_factory=_times)
    """When."""

    def hand_over(self, request: int, sender: int, now_s: float) -> None:
        """Note that a prompt is done and its cache leaves for another pool."""
        self.handed.append(request)
        self.sender.append(sender)
        self.prompt_end_s.append(now_s)

    def expect(self, count: int) -> None:
        """Make room for the times of ``count`` more requests."""
        blank = array("d", [math.nan]) * count
        for column in (self.admitted_s, self.first_token_s, self.finish_s):
            column.extend(blank)
