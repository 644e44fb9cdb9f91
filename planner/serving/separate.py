"""A rank that computes prompts in steps of their own: prefill first, or by turns."""

from collections.abc import Sequence

from planner.serving.config import ReplicaConfig
from planner.serving.decoding import NEVER, Work
from planner.serving.scheduler import Scheduler
from planner.serving.timing import RankLoad

_NOBODY: list[int] = []


class SeparateScheduler(Scheduler):
    """One attention rank that computes prompts in steps of their own, while decoding waits."""

    __slots__ = ("_alone", "_between", "_cohorts", "_due", "_most", "_stalls_s")

    def __init__(
        self,
        config: ReplicaConfig,
        prompts: Work,
        answers: Work,
        cached: Sequence[int] | None = None,
        priority: Sequence[int] | None = None,
    ) -> None:
        super().__init__(config, prompts, answers, cached, priority)
        self._alone = RankLoad()
        interleaved = config.policy == "interleaved"
        self._most = 1 if interleaved else NEVER
        self._between = config.decode_steps_between_prefills if interleaved else 0
        self._due = 0  # decode steps before the next prompt
        # sequences that stand still for prompts and how long, oldest first; the rest do not
        self._cohorts: list[tuple[int, float]] = []
        self._stalls_s: dict[int, float] = {}

    def plan(self) -> list[int]:
        """Decide what the next step computes.  Return the requests that got a slot."""
        admitted = _NOBODY
        self.preempted, self.swapped_tokens = _NOBODY, 0
        self._stalls_s.clear()
        if self.free_slots and self.waiting:
            admitted = self._admit()
        if self.prompts and (not self._due or not self.load.sequences):
            self.view = self._alone
            self._fill(self.max_step_tokens, self._most)
            self.left = 1
            return admitted
        self.view = self.load
        if self._grows:
            moved = self.swapped_tokens
            self._make_room()
            self.swapped_tokens += moved
        self.left = min(self._steps_left(), self._due) if self.prompts else self._steps_left()
        return admitted

    def advance(self, steps: int) -> tuple[list[int], list[int]]:
        """Run ``steps`` steps, at most ``left``."""
        finished: list[int] = []
        if self.view is self.load:
            self._due = max(0, self._due - steps)
            self._decode(steps, finished)
        else:
            self._due = self._between
        return self._end_prompts(finished), finished

    def stalled_s(self, request: int) -> float:
        """Time that a preempted request had stood still for prompts before. [s]"""
        return self._stalls_s.get(request, 0.0)

    def standing(self, elapsed_s: float) -> list[tuple[int, float]]:
        """Sequences that stood still before this step, and how long; called before advance."""
        cohorts = self._cohorts
        if self.view is self.load:
            self._cohorts = []
            return cohorts
        fresh = self.load.sequences - sum(count for count, _ in cohorts)
        if fresh:
            cohorts.append((fresh, 0.0))
        self._cohorts = [(count, stalled_s + elapsed_s) for count, stalled_s in cohorts]
        return []

    def _preempt(self) -> None:
        cohorts = self._cohorts
        decoding = not self.prompts
        if decoding and cohorts and self.load.sequences == sum(count for count, _ in cohorts):
            count, stalled_s = cohorts.pop()
            if count > 1:
                cohorts.append((count - 1, stalled_s))
            super()._preempt()
            self._stalls_s[self.preempted[-1]] = stalled_s
            return
        super()._preempt()

    def evict_all(self) -> list[int]:
        """Drop everything, running or waiting, and forget the cache.  Return the requests."""
        self._cohorts, self._due = [], 0
        lost = super().evict_all()
        self.view = self.load
        return lost
