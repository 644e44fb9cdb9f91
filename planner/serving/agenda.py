"""Changes of a fleet by time: one event in the calendar, the next of them."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

import simpy

from planner.serving.clock import CHANGING, Clock

Act = Callable[[float], None]
"""Does something at a time. [s]"""


class Agenda:
    """What will happen to a fleet.  Failures never end, so it stops when nothing else goes on.

    Parameters
    ----------
    goes_on : whether any request may still come, run or wait.
    """

    def __init__(self, clock: Clock, goes_on: Callable[[], bool]) -> None:
        self._clock, self._goes_on = clock, goes_on
        self._due: list[tuple[float, int, Act]] = []
        self._serial = count()
        self._alarm: simpy.Event | None = None
        self._alarm_s = 0.0
        self._turning = False

    def at(self, time_s: float, act: Act) -> None:
        """Do something at a time, after the requests of that instant."""
        heappush(self._due, (time_s, next(self._serial), act))
        if not self._turning and (self._alarm is None or time_s < self._alarm_s):
            self._arm()

    def __len__(self) -> int:
        return len(self._due)

    def _arm(self) -> None:
        self._alarm_s = self._due[0][0]
        self._alarm = self._clock.at(self._alarm_s, CHANGING, self._turn)

    def _turn(self, event: simpy.Event) -> None:
        if event is not self._alarm:  # armed before something sooner came
            return
        self._alarm, self._turning = None, True
        now_s, due = self._clock.now, self._due
        if self._goes_on():
            while due and due[0][0] <= now_s:
                heappop(due)[2](now_s)
        self._turning = False
        if due and self._goes_on():
            self._arm()
