"""Tokens that reach the client several at a time: when, for all sequences of a rank at once.

Token 1 is sent at once, then token ``n`` where ``n - lead`` is a multiple of the interval ``k``
(``lead`` 1: 1, k + 1, 2 k + 1, …; ``lead`` 0: 1, k, 2 k, …), and the last one in any case.

Sequences of a rank advance in lock-step, so a sequence with ``n`` tokens at decode step ``s`` of
its rank sends at steps of one residue of ``k``.  All sequences of a residue sent last at the same
time, once each has sent there for the first time: a count and a time a residue is all there is to
keep, and a stretch costs no more than ``k`` of them.
"""

from heapq import heappop, heappush

from planner.serving.meter import Meter
from planner.serving.timing import Segment


class Deliveries:
    """What one rank has sent.

    Parameters
    ----------
    interval : tokens sent at once, after the first; above 1.
    lead : 1 where the first token is none of the next ones, else 0.
    """

    __slots__ = ("_counts", "_due", "_interval", "_last_s", "_lead", "_offset", "_own", "_paused",
                 "begun")  # fmt: skip

    def __init__(self, interval: int, lead: int) -> None:
        self.begun: list[int] = []
        """Requests that began to decode since the last :meth:`joined` or :meth:`ran`."""
        self._interval, self._lead = interval, lead
        self._counts = [0] * interval
        self._last_s = [0.0] * interval
        self._offset: dict[int, int] = {}  # tokens of a sequence less decode steps of the rank
        self._own: dict[int, tuple[int, float]] = {}  # not with its residue yet: when it is, last
        self._due: list[tuple[int, int]] = []  # heap of those: (step, request)
        self._paused: dict[int, tuple[int, float]] = {}  # put back: tokens, last sent

    def clear(self) -> None:
        """Forget everyone."""
        self.__init__(self._interval, self._lead)  # type: ignore[misc]

    def joined(self, now_s: float, step: int, meter: Meter) -> None:
        """Note who began to decode as the step began: first token there already, or swapped in."""
        for request in self.begun:
            self._begin(request, now_s, step, meter, produced=request not in self._paused)
        self.begun.clear()

    def put_back(self, requests: list[int], step: int) -> None:
        """Note who was preempted; the client waits for the next tokens since the last sent."""
        for request in requests:
            offset = self._offset.pop(request, None)
            if offset is None:  # its prompt was under way
                continue
            at = (self._lead - offset) % self._interval
            _, last_s = self._own.pop(request, (0, -1.0))
            if last_s < 0:
                self._counts[at] -= 1
                last_s = self._last_s[at]
            self._paused[request] = (step + offset, last_s)

    def ran(
        self, segment: Segment, start_s: float, steps: tuple[int, int], finished: list[int],
        meter: Meter,
    ) -> None:  # fmt: skip
        """Count what was sent in a stretch.

        Parameters
        ----------
        steps : (decode steps of the rank before the stretch, steps of the stretch); no step, where
            the rank did not decode.
        finished : requests whose last token came with the last step.
        """
        before, count = steps
        now_s = start_s + segment.elapsed_s(max(1, count))
        if count:
            self._send(segment, start_s, before, count, meter)
        for request in self.begun:
            self._begin(request, now_s, before + count, meter, produced=True)
        self.begun.clear()
        for request in finished:
            self._finish(request, now_s, before + count, meter)

    def _begin(self, request: int, now_s: float, step: int, meter: Meter, produced: bool) -> None:
        interval, lead = self._interval, self._lead
        tokens, last_s = self._paused.pop(request, (0, now_s))
        tokens += produced
        if produced and (tokens == 1 or (tokens - lead) % interval == 0):
            if tokens > 1:
                meter.add_gap(now_s - last_s, now_s, 1)
            last_s = now_s
        self._offset[request] = tokens - step
        due = step + ((lead - tokens) % interval or interval)
        self._own[request] = (due, last_s)
        heappush(self._due, (due, request))

    def _send(
        self, segment: Segment, start_s: float, before: int, steps: int, meter: Meter
    ) -> None:
        """Count what is sent at decode steps ``before + 1`` to ``before + steps``."""
        interval, counts, lasts_s = self._interval, self._counts, self._last_s
        for first in range(1, min(interval, steps) + 1):
            at = (before + first) % interval
            if counts[at]:
                sent = first, counts[at], lasts_s[at]
                lasts_s[at] = self._regular(segment, start_s, steps, sent, meter)
        due = self._due
        while due and due[0][0] <= before + steps:
            step, request = heappop(due)
            own = self._own.get(request)
            if own is None or own[0] != step:  # put back or finished before
                continue
            del self._own[request]
            at = step % interval
            sent = step - before, 1, own[1]
            lasts_s[at] = self._regular(segment, start_s, steps, sent, meter)
            counts[at] += 1

    def _regular(
        self, segment: Segment, start_s: float, steps: int, sent: tuple[int, int, float],
        meter: Meter,
    ) -> float:  # fmt: skip
        """Count what ``count`` sequences of one residue send in a stretch.  Return when last. [s]

        Parameters
        ----------
        sent : (first step in the stretch at which they send, count, when they last sent).
        """
        first, count, last_s = sent
        interval = self._interval
        then_s = start_s + segment.elapsed_s(first)
        meter.add_gap(then_s - last_s, then_s, count)
        more = (steps - first) // interval
        if not more:
            return then_s
        # k steps later by k^2 slopes longer: again a line in the number of what is sent
        next_s = start_s + segment.elapsed_s(first + interval)
        slope = segment.slope_s_per_step * interval * interval
        meter.add_gaps(Segment(next_s - then_s, slope), then_s, 0, more, count)
        return start_s + segment.elapsed_s(first + more * interval)

    def _finish(self, request: int, now_s: float, step: int, meter: Meter) -> None:
        offset = self._offset.pop(request, None)
        if offset is None:  # all of its answer came with its prompt
            if request in self._paused:
                meter.add_gap(now_s - self._paused.pop(request)[1], now_s, 1)
            return
        at = (self._lead - offset) % self._interval
        _, last_s = self._own.pop(request, (0, -1.0))
        if last_s < 0:
            self._counts[at] -= 1
            last_s = self._last_s[at]
            if step % self._interval == at:  # sent with the others
                return
        meter.add_gap(now_s - last_s, now_s, 1)
