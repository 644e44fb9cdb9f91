"""Requests through identical replicas behind a router."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import simpy

from planner.errors import InfeasibleError
from planner.serving.arrivals import ClosedLoopStream, RequestStream, Stream
from planner.serving.balance import RouterName, balancer
from planner.serving.engine import ARRIVAL, CLOSING, Clock, Ledger, Replica, ReplicaEngine, Site
from planner.serving.records import Records, collect
from planner.serving.scheduler import ReplicaConfig
from planner.serving.timing import Timing

HOPELESS = 10_000
"""Requests of a closed loop that may be rejected in a row before the run is given up."""

EngineFactory = Callable[[int, Site], ReplicaEngine]


def simulate(
    stream: Stream,
    timing: Timing,
    config: ReplicaConfig,
    *,
    replicas: int = 1,
    router: RouterName = "least_requests",
    horizon_s: float | None = None,
) -> Records:
    """Serve a stream of requests until the last is answered.

    Parameters
    ----------
    stream : from :func:`~planner.serving.arrivals.generate`.
    timing : what a step of one replica costs.
    config : what one replica can hold and run.
    replicas : identical replicas behind the router.
    router : who gets the next request: ``round_robin``, or ``least_requests`` (outstanding ones;
        of equals the lowest number).  Within a replica it is always the rank with fewest.
    horizon_s : stop here, for a load that may be too high to end: replicas finish the step they
        are in, and what arrives later is left out. [s]

    Returns
    -------
    One row a request that arrived; arrived = finished + running + queued + rejected, and without
    a horizon the middle two are 0.  A request longer than a rank's whole KV capacity is rejected.

    Raises
    ------
    InfeasibleError
        Every request of the stream is longer than a rank's KV capacity.
    """
    front = Front(stream, config, router)
    site = Site(front.clock, front.ledger, timing, config, front.answered)
    return front.run([Replica(number, site) for number in range(replicas)], horizon_s)


class Source(Protocol):
    """Sends requests."""

    def start(self) -> None:
        """Send, or arrange for, the first ones."""
        ...

    def answered(self, now_s: float) -> None:
        """Hear that a request is answered or rejected."""
        ...


class Front:
    """The router: takes arrivals, rejects or passes them on, hears of answers.

    It knows replicas by their protocol only, so the jumping and the plain engine share it.
    """

    def __init__(self, stream: Stream, config: ReplicaConfig, router: RouterName) -> None:
        self.clock, self.ledger = Clock(), Ledger()
        self.open = True
        self._stream, self._config, self._router = stream, config, router
        self.capacity_tokens = config.kv_capacity_tokens - config.sequence_overhead_tokens
        """Longest request a rank can hold."""
        self._replicas: list[ReplicaEngine] = []
        self._balancer = balancer(router, 1)
        self._counting = False
        self._last_arrival_s = 0.0
        self._source: Source = (
            _OpenLoop(stream, self)
            if isinstance(stream, RequestStream)
            else _ClosedLoop(stream, self)
        )

    def serve(self, replicas: list[ReplicaEngine], horizon_s: float | None = None) -> None:
        """Serve until all is answered or the horizon is reached."""
        self._replicas = replicas
        self._balancer = balancer(self._router, len(replicas))
        self._source.start()
        if horizon_s is not None:
            self.clock.at(horizon_s, CLOSING, self._close)
        self.clock.run()

    def run(self, replicas: list[ReplicaEngine], horizon_s: float | None) -> Records:
        """Serve, and collect what became of every request."""
        self.serve(replicas, horizon_s)
        end_s = max([self._last_arrival_s, *(replica.now_s for replica in replicas)])
        return collect(
            self.ledger,
            [replica.meter for replica in replicas],
            {request: n for replica in replicas for request, n in replica.produced().items()},
            end_s=end_s,
            kv_capacity_tokens=self._config.kv_capacity_tokens * self._config.ranks * len(replicas),
            warmup=(self._stream.warmup_s, self._stream.warmup_requests),
        )

    def _close(self, event: simpy.Event) -> None:
        self.open = False
        for replica in self._replicas:
            replica.stop(self.clock.now)

    def arrive(self, request: int, now_s: float) -> bool:
        """Take a request, in order of number.  Return False where no replica could hold it."""
        ledger, stream = self.ledger, self._stream
        self._last_arrival_s = now_s
        if not self._counting and (now_s >= stream.warmup_s and request >= stream.warmup_requests):
            self._counting = True
            for replica in self._replicas:
                replica.meter.gaps_from_s = now_s
        need_tokens = ledger.input_tokens[request] + ledger.output_tokens[request]
        if need_tokens > self.capacity_tokens:
            ledger.replica.append(-1)
            return False
        number = self._balancer.take()
        ledger.replica.append(number)
        self._replicas[number].submit(request, now_s)
        return True

    def answered(self, replica: int, now_s: float) -> None:
        """Hear from a replica that it finished a request."""
        self._balancer.release(replica)
        self._source.answered(now_s)

    def too_long(self, needed_tokens: int) -> InfeasibleError:
        """Return the error for a stream none of whose requests fits."""
        return InfeasibleError(
            "KV cache of one attention rank for the shortest request",
            needed_tokens,
            self.capacity_tokens,
            "tokens",
            "spread the model over more devices, or use shorter requests",
        )


class _OpenLoop:
    """Requests at times known beforehand: one event in the calendar, the next arrival."""

    def __init__(self, stream: RequestStream, front: Front) -> None:
        ledger, count = front.ledger, len(stream.arrival_s)
        self._arrival_s: list[float] = stream.arrival_s.tolist()
        ledger.arrival_s = self._arrival_s
        ledger.input_tokens = stream.input_tokens.tolist()
        ledger.output_tokens = stream.output_tokens.tolist()
        for column in (ledger.admitted_s, ledger.first_token_s, ledger.finish_s):
            column.extend([math.nan] * count)
        self._front, self._next = front, 0
        shortest = int(np.min(stream.input_tokens + stream.output_tokens))
        if shortest > front.capacity_tokens:
            raise front.too_long(shortest)

    def start(self) -> None:
        self._front.clock.at(self._arrival_s[0], ARRIVAL, self._arrive)

    def answered(self, now_s: float) -> None:
        pass

    def _arrive(self, event: simpy.Event) -> None:
        front, request = self._front, self._next
        if not front.open:
            return
        self._next = request + 1
        if self._next < len(self._arrival_s):
            front.clock.at(self._arrival_s[self._next], ARRIVAL, self._arrive)
        front.arrive(request, self._arrival_s[request])


class _ClosedLoop:
    """Clients with one request in flight each; a rejected client goes on with its next one."""

    def __init__(self, stream: ClosedLoopStream, front: Front) -> None:
        self._stream, self._front = stream, front
        self._draw = stream.drawer()
        self._sent = self._rejected_in_row = 0

    def start(self) -> None:
        for _ in range(self._stream.concurrency):
            self._send(0.0)

    def answered(self, now_s: float) -> None:
        self._send(now_s + self._stream.think_s)

    def _send(self, at_s: float) -> None:
        stream, front = self._stream, self._front
        if not front.open or (stream.requests is not None and self._sent >= stream.requests):
            return
        if stream.duration_s is not None and at_s >= stream.duration_s:
            return
        self._sent += 1
        front.clock.at(at_s, ARRIVAL, self._arrive)

    def _arrive(self, event: simpy.Event) -> None:
        front, ledger = self._front, self._front.ledger
        if not front.open:
            return
        now_s, request = front.clock.now, len(ledger.arrival_s)
        input_tokens, output_tokens = self._draw(now_s)
        ledger.arrival_s.append(now_s)
        ledger.input_tokens.append(input_tokens)
        ledger.output_tokens.append(output_tokens)
        for column in (ledger.admitted_s, ledger.first_token_s, ledger.finish_s):
            column.append(math.nan)
        if front.arrive(request, now_s):
            self._rejected_in_row = 0
            return
        self._rejected_in_row += 1
        if self._rejected_in_row >= HOPELESS:
            raise front.too_long(input_tokens + output_tokens)
        self.answered(now_s)
