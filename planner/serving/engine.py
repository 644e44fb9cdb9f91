"""One replica that jumps: an event per step with prefill, and one per stretch of pure decoding.

Between two changes of composition (a sequence finishes, a context reaches the cap, a prompt is
admitted) the time of ``k`` steps is closed form, so the replica sleeps through them.  A request
that arrives meanwhile and can be admitted cuts the sleep at the next step boundary; one that has
to wait for a slot or for KV changes nothing before a sequence finishes.

What happens at one instant is ordered by priority, not by chance: steps end and the next begin,
replicas by number; then requests arrive; then idle replicas wake.  So the router has heard of
every answer, requests that arrive together at an idle replica are seen together, and an arrival
exactly at a step boundary (a closed loop without think time has many) takes part one step later.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappush
from typing import Protocol

import simpy

from planner.serving.balance import balancer
from planner.serving.meter import Meter
from planner.serving.scheduler import NEVER, ReplicaConfig, Scheduler
from planner.serving.timing import Segment, Timing, steps_beyond

ARRIVAL = 1 << 30
"""Priority of arrivals within an instant; the end of a step of replica ``r`` has ``r``."""
WAKING = ARRIVAL + 1
CLOSING = ARRIVAL + 2

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


class Alarm(simpy.Event):
    """An event that has been given its time, as :class:`simpy.Timeout` is."""

    def __init__(self, clock: Clock, callback: Callback) -> None:
        # all that Event.__init__ and succeed() do, without scheduling
        self.env = clock
        self.callbacks = [callback]
        self._value = None
        self._ok = True


@dataclass(slots=True)
class Ledger:
    """What is known of every request, by number; ``nan`` until it happens. [s], [tokens]"""

    arrival_s: list[float] = field(default_factory=list)
    admitted_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    finish_s: list[float] = field(default_factory=list)
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    replica: list[int] = field(default_factory=list)
    """Replica that took it, -1: rejected."""


class ReplicaEngine(Protocol):
    """What the router needs of a replica: the jumping one and the plain one have it."""

    meter: Meter
    now_s: float

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now."""
        ...

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        ...

    def produced(self) -> dict[int, int]:
        """Tokens so far of each request that is decoding now."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where a replica works: clock, requests, timing, limits, and whom it tells of an answer."""

    clock: Clock
    ledger: Ledger
    timing: Timing
    config: ReplicaConfig
    answered: Callable[[int, float], None]
    """Called with the replica's number and the time [s] for every request it finishes."""


class Replica:
    """Attention ranks that share a step barrier.

    Parameters
    ----------
    number : of this replica, from 0.
    """

    __slots__ = (
        "_at",
        "_balancer",
        "_cuttable",
        "_held_steps",
        "_held_tokens",
        "_holding",
        "_inbox",
        "_loads",
        "_number",
        "_rank_of",
        "_ranks",
        "_segment",
        "_sequences",
        "_since_poll",
        "_site",
        "_start_s",
        "_steps",
        "_stopped",
        "_timer",
        "meter",
        "now_s",
    )

    def __init__(self, number: int, site: Site) -> None:
        self.meter = Meter()
        self.now_s = 0.0
        """End of the last stretch, or of the one in progress. [s]"""
        self._number, self._site = number, site
        ledger = site.ledger
        self._ranks = [
            Scheduler(site.config, ledger.input_tokens, ledger.output_tokens)
            for _ in range(site.config.ranks)
        ]
        self._loads = [rank.load for rank in self._ranks]
        self._balancer = balancer("least_requests", site.config.ranks)
        self._rank_of: dict[int, int] = {}
        self._at = [0] * site.config.ranks  # decode steps so far, by rank
        self._inbox: list[int] = []  # requests that no poll has seen yet
        self._since_poll = 0
        self._holding = False
        self._held_steps = 0  # decode steps that prompts have waited for other ranks' prompts
        self._timer: simpy.Event | None = None  # None: nothing to do
        self._segment: Segment | None = None
        self._start_s, self._steps = 0.0, 0
        self._sequences = self._held_tokens = 0
        self._cuttable = self._stopped = False

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now. [s]"""
        if self._timer is None:
            self._seen(request)
            if not self._stopped:
                self._timer = self._site.clock.at(now_s, WAKING, self._wake)
        elif self._site.config.poll_steps > 1:
            self._inbox.append(request)
            if self._cuttable:
                self._cut(now_s)
        elif self._seen(request) and self._cuttable:
            self._cut(now_s)

    def _seen(self, request: int) -> bool:
        """Queue a request at a rank.  Return whether the next boundary will admit it."""
        member = self._rank_of[request] = self._balancer.take()
        return self._ranks[member].add(request)

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        self._stopped = True
        if self._cuttable:
            self._cut(now_s)

    def produced(self) -> dict[int, int]:
        """Tokens so far of each request that is decoding now."""
        return {
            request: tokens
            for rank, step in zip(self._ranks, self._at, strict=True)
            for request, tokens in rank.produced(step).items()
        }

    def _wake(self, event: simpy.Event) -> None:
        if event is self._timer:
            self._begin(self._site.clock.now)

    def _begin(self, now_s: float) -> None:  # noqa: C901, PLR0912
        """Plan the next stretch, from now on."""
        self._timer = None
        self._cuttable = False
        if self._stopped:
            return
        config = self._site.config
        if self._inbox and not self._since_poll:
            for request in self._inbox:
                self._seen(request)
            self._inbox.clear()
        prefill = False
        most = NEVER
        sequences = held_tokens = 0
        for rank in self._ranks:
            if rank.waiting and rank.free_slots:
                admitted_s = self._site.ledger.admitted_s
                for request in rank.admit():
                    admitted_s[request] = now_s
        held = self._hold()
        for member, rank in enumerate(self._ranks):
            load = rank.load
            if rank.prompts and not held:
                rank.fill()
                prefill = True
                if config.prefill_first:
                    load = rank.alone()
            self._loads[member] = load
            sequences += load.sequences
            held_tokens += rank.load.context_tokens + rank.held_prompt_tokens
            most = min(most, rank.next_step - self._at[member])
        if not (prefill or sequences):
            if self._inbox:
                self._since_poll = 0
                self._begin(now_s)
            return
        segment = self._segment = self._site.timing.segment(self._loads)
        steps = 1 if prefill else min(most, segment.valid_steps)
        if held:
            steps = min(steps, held)
        if self._inbox:
            steps = min(steps, config.poll_steps - self._since_poll)
        self._holding = held > 0
        self._start_s, self._steps, self._cuttable = now_s, steps, steps > 1
        self._sequences, self._held_tokens = sequences, held_tokens
        self._arm(segment, steps)

    def _hold(self) -> int:
        """Return for how many steps prompts wait for prompts of the other ranks; 0: they run."""
        limit = self._site.config.balance_steps
        if not limit or self._held_steps >= limit:
            return 0
        having = sum(1 for rank in self._ranks if rank.prompts)
        if having in (0, len(self._ranks)) or not any(r.load.sequences for r in self._ranks):
            return 0
        return limit - self._held_steps

    def _arm(self, segment: Segment, steps: int) -> None:
        self.now_s = end_s = self._start_s + segment.elapsed_s(steps)
        self._timer = self._site.clock.at(end_s, self._number, self._end)

    def _cut(self, time_s: float) -> None:
        """End the stretch at the first step boundary after ``time_s``."""
        segment = self._segment
        assert segment is not None
        if time_s < self.now_s:
            steps = steps_beyond(segment, self._start_s, time_s)
            every = self._site.config.poll_steps
            if every > 1:
                first = every - self._since_poll
                steps = first + max(0, -(-(steps - first) // every)) * every
            if steps < self._steps:
                self._steps = steps
                self._arm(segment, steps)
        self._cuttable = False

    def _end(self, event: simpy.Event) -> None:
        if event is not self._timer:  # a timer from before a cut
            return
        now_s, steps, segment, ledger = self.now_s, self._steps, self._segment, self._site.ledger
        assert segment is not None
        self.meter.add(segment, self._start_s, steps, self._sequences, self._held_tokens)
        every, prefill = self._site.config.poll_steps, False
        for member, rank in enumerate(self._ranks):
            load = self._loads[member]
            own = steps
            if load.prefill_tokens:
                prefill = True
                own = 0 if load is not rank.load else steps
            self._at[member] = step = self._at[member] + own
            started, finished = rank.advance(own, step)
            for request in started:
                ledger.first_token_s[request] = now_s
            for request in finished:
                ledger.finish_s[request] = now_s
                self._balancer.release(self._rank_of.pop(request))
                self._site.answered(self._number, now_s)
        self._held_steps = self._held_steps + steps if self._holding else 0
        self._since_poll = 0 if prefill else (self._since_poll + steps) % every
        self._begin(now_s)
