"""Who sends requests: a stream with times known beforehand, or clients that wait for answers."""

from array import array
from typing import TYPE_CHECKING, Protocol

import numpy as np
import simpy

from planner.errors import InputError
from planner.serving.arrivals import ClosedLoopStream, RequestStream, Stream
from planner.serving.clock import ARRIVAL
from planner.serving.prefix_ledger import PrefixLedger
from planner.specs.requests import PrefixBlocks

if TYPE_CHECKING:
    from planner.serving.simulation import Front

HOPELESS = 10_000
"""Requests of a closed loop that may be rejected in a row before the run is given up."""


class Source(Protocol):
    """Sends requests."""

    def start(self) -> None:
        """Send, or arrange for, the first ones."""
        ...

    def answered(self, now_s: float) -> None:
        """Hear that a request is answered, rejected or lost."""
        ...


def source(stream: Stream, front: "Front") -> Source:
    """Return the source of a stream."""
    return OpenLoop(stream, front) if isinstance(stream, RequestStream) else Clients(stream, front)


def named(prefixes: PrefixBlocks | None) -> PrefixBlocks:
    """Names of blocks, or an error that says where they could be from."""
    if prefixes is None:
        raise InputError(
            "", "prefix_cache",
            "has nothing to go by: this workload does not say which prompts start alike; use "
            "sessions, a trace with hash_ids, or workload.cached_input_share instead",
        )  # fmt: skip
    return prefixes


class OpenLoop:
    """Requests at times known beforehand: one event in the calendar, the next arrival."""

    def __init__(self, stream: RequestStream, front: "Front") -> None:
        ledger, count = front.ledger, len(stream.arrival_s)
        for column, values in (
            (ledger.arrival_s, stream.arrival_s),
            (ledger.input_tokens, stream.input_tokens),
            (ledger.output_tokens, stream.output_tokens),
        ):
            column.frombytes(np.ascontiguousarray(values, column.typecode).tobytes())
        if front.cluster.keeps_prefixes:
            ledger.prefixes = PrefixLedger(named(stream.prefixes), ledger.input_tokens)
            ledger.prefixes.expect(range(count))
        if stream.priority is not None:
            ledger.priority = array("q", stream.priority.tolist())
        ledger.prompts, ledger.answers = ledger.input_tokens[:], ledger.output_tokens[:]
        ledger.expect(count)
        self._front, self._next, self._count = front, 0, count
        self._delay_s = front.cluster.request_delay_s
        self._times_s: array[float] = ledger.arrival_s
        total = stream.input_tokens + stream.output_tokens
        shortest = int(np.argmin(total))
        refused = front.cluster.refuses(
            int(stream.input_tokens[shortest]), int(stream.output_tokens[shortest])
        )
        if refused and all(
            map(front.cluster.refuses, stream.input_tokens.tolist(), stream.output_tokens.tolist())
        ):
            raise front.too_long(int(total[shortest]))

    def start(self) -> None:
        """Arrange for the first one."""
        self._front.clock.at(self._times_s[0] + self._delay_s, ARRIVAL, self._arrive)

    def answered(self, now_s: float) -> None:
        """Nothing waits for an answer."""

    def _arrive(self, event: simpy.Event) -> None:
        front, request = self._front, self._next
        if not front.open:
            return
        self._next = following = request + 1
        if following < self._count:
            front.clock.at(self._times_s[following] + self._delay_s, ARRIVAL, self._arrive)
        front.arrive(request, front.clock.now)


class Clients:
    """Clients with one request in flight each; a rejected client goes on with its next one."""

    def __init__(self, stream: ClosedLoopStream, front: "Front") -> None:
        if front.cluster.keeps_prefixes:
            named(None)
        self._stream, self._front = stream, front
        self._draw = stream.drawer()
        self._delay_s = front.cluster.request_delay_s
        self._sent = self._rejected_in_row = 0

    def start(self) -> None:
        """Let every client send."""
        for _ in range(self._stream.concurrency):
            self._send(0.0)

    def answered(self, now_s: float) -> None:
        """Let the client send its next one after a pause."""
        self._send(now_s + self._stream.think_s)

    def _send(self, at_s: float) -> None:
        stream, front = self._stream, self._front
        if not front.open or (stream.requests is not None and self._sent >= stream.requests):
            return
        if stream.duration_s is not None and at_s >= stream.duration_s:
            return
        self._sent += 1
        front.clock.at(at_s + self._delay_s, ARRIVAL, lambda event: self._arrive(at_s))

    def _arrive(self, sent_s: float) -> None:
        front, ledger = self._front, self._front.ledger
        if not front.open:
            return
        request = len(ledger.arrival_s)
        input_tokens, output_tokens = self._draw(sent_s)
        ledger.arrival_s.append(sent_s)
        for column, tokens in (
            (ledger.input_tokens, input_tokens),
            (ledger.output_tokens, output_tokens),
            (ledger.prompts, input_tokens),
            (ledger.answers, output_tokens),
        ):
            column.append(tokens)
        ledger.expect(1)
        if front.arrive(request, front.clock.now):
            self._rejected_in_row = 0
            return
        self._rejected_in_row += 1
        if self._rejected_in_row >= HOPELESS:
            raise front.too_long(input_tokens + output_tokens)
        self.answered(front.clock.now)
