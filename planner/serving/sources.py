"""Who sends requests: a stream with times known beforehand, or clients that wait for answers."""

from array import array
from typing import TYPE_CHECKING, Protocol, assert_never

import numpy as np
import simpy

from planner.errors import InputError
from planner.serving.arrivals import ClosedLoopStream, RequestStream, SessionStream, Stream
from planner.serving.clock import ARRIVAL, TOO_LONG
from planner.serving.prefix_ledger import PrefixLedger
from planner.specs.requests import PrefixBlocks

if TYPE_CHECKING:
    from planner.serving.front import Front

HOPELESS = 10_000
"""Requests of a closed loop that may be rejected in a row before the run is given up."""


class Source(Protocol):
    """Sends requests."""

    def start(self) -> None:
        """Send, or arrange for, the first ones."""
        ...

    def answered(self, now_s: float, request: int = -1) -> None:
        """Hear that a request is answered; -1: one was rejected or lost."""
        ...


def source(stream: Stream, front: "Front") -> Source:
    """Return the source of a stream."""
    match stream:
        case RequestStream():
            return OpenLoop(stream, front)
        case SessionStream():
            return Talkers(stream, front)
        case ClosedLoopStream():
            return Clients(stream, front)
        case _:
            assert_never(stream)


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

    def answered(self, now_s: float, request: int = -1) -> None:
        """Nothing waits for an answer."""

    def _arrive(self, event: simpy.Event) -> None:
        front, request = self._front, self._next
        if not front.open:
            return
        self._next = following = request + 1
        if following < self._count:
            front.clock.at(self._times_s[following] + self._delay_s, ARRIVAL, self._arrive)
        front.arrive(request, front.clock.now)
        if following == self._count:
            front.all_sent()


class Clients:
    """Clients with one request in flight each; a rejected client goes on with its next one."""

    def __init__(self, stream: ClosedLoopStream, front: "Front") -> None:
        if front.cluster.keeps_prefixes:
            named(None)
        self._stream, self._front = stream, front
        self._draw = stream.drawer()
        self._delay_s = front.cluster.request_delay_s
        self._sent = self._rejected_in_row = 0
        self._shares = np.cumsum(stream.priority_shares)
        self._classes = np.random.default_rng(stream.priority_seed)
        if len(self._shares):
            front.ledger.priority = array("q")

    def start(self) -> None:
        """Let every client send."""
        for _ in range(self._stream.concurrency):
            self._send(0.0)

    def answered(self, now_s: float, request: int = -1) -> None:
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
        if ledger.priority is not None:
            drawn = int(np.searchsorted(self._shares, self._classes.random(), "right"))
            ledger.priority.append(min(drawn, len(self._shares) - 1))
        if front.arrive(request, front.clock.now):
            self._rejected_in_row = 0
            return
        if ledger.replica[request] == TOO_LONG or not self._stream.think_s:
            self._rejected_in_row += 1
        if self._rejected_in_row >= HOPELESS:
            raise front.too_long(input_tokens + output_tokens)
        self.answered(front.clock.now)


class Talkers:
    """Conversations: the next turn is sent when the one before is answered, after a pause.

    A conversation ends with a turn that is rejected or lost.
    """

    def __init__(self, stream: SessionStream, front: "Front") -> None:
        turns = stream.turns
        table, ledger = turns.table, front.ledger
        self._front, self._until_s = front, stream.duration_s
        self._delay_s = front.cluster.request_delay_s
        self._inputs, self._outputs = table.input_tokens.tolist(), table.output_tokens.tolist()
        self._follower, self._pause_s = turns.follower.tolist(), turns.pause_s.tolist()
        self._openers = np.flatnonzero(turns.first)
        self._begin_s = table.arrival_s
        self._next = 0
        self._rows: dict[int, int] = {}  # of requests under way
        self._classes = None if stream.priority is None else stream.priority.tolist()
        if self._classes is not None:
            ledger.priority = array("q")
        if front.cluster.keeps_prefixes:
            ledger.prefixes = PrefixLedger(named(table.prefixes), ledger.input_tokens)
        if all(map(front.cluster.refuses, self._inputs, self._outputs)):
            raise front.too_long(min(map(sum, zip(self._inputs, self._outputs, strict=True))))

    def start(self) -> None:
        """Arrange for the first conversation."""
        self._open(0)

    def answered(self, now_s: float, request: int = -1) -> None:
        """Let the conversation go on, if it does."""
        row = self._follower[self._rows.pop(request)] if request in self._rows else -1
        if row >= 0:
            self._send(row, now_s + self._pause_s[row])

    def _open(self, number: int) -> None:
        """Arrange for the first turn of a conversation."""
        if number < len(self._openers):
            row = int(self._openers[number])
            self._next = number + 1
            self._send(row, float(self._begin_s[row]), opens=True)

    def _send(self, row: int, at_s: float, opens: bool = False) -> None:
        if self._front.open and (self._until_s is None or at_s < self._until_s):
            self._front.clock.at(
                at_s + self._delay_s, ARRIVAL, lambda event: self._arrive(row, at_s, opens)
            )

    def _arrive(self, row: int, sent_s: float, opens: bool) -> None:
        front, ledger = self._front, self._front.ledger
        if not front.open:
            return
        if opens:
            self._open(self._next)
        request = len(ledger.arrival_s)
        tokens, answer = self._inputs[row], self._outputs[row]
        ledger.arrival_s.append(sent_s)
        for column, value in (
            (ledger.input_tokens, tokens), (ledger.output_tokens, answer),
            (ledger.prompts, tokens), (ledger.answers, answer),
        ):  # fmt: skip
            column.append(value)
        ledger.expect(1)
        if ledger.priority is not None and self._classes is not None:
            ledger.priority.append(self._classes[row])
        if ledger.prefixes is not None:
            ledger.prefixes.expect((row,))
        if front.arrive(request, front.clock.now):
            self._rows[request] = row
