"""Which sequences one attention rank runs in the next step: plain state, no clock.

Continuous batching.  Steps in which the rank decodes are numbered, and a running sequence is
nothing but the number of the step it finishes at, so a stretch of steps costs the same as one.
:class:`Scheduler` mixes prompts into decode steps, :class:`SeparateScheduler` computes them in
steps of their own.

**Context.**  When a prompt is computed the cache holds its ``prompt`` tokens, and one token has
been produced.  A decode step of a sequence that has decoded ``d`` tokens so far reads a context
of ``prompt + d`` tokens and adds one.

**Room.**  With a share ``r`` of answers reserved, a request is admitted while

.. math:: p + r a \\le C - U - m n - r A,

where ``p`` and ``a`` are its prompt and answer, ``C`` the capacity, ``U`` what is used, ``n`` the
decoding sequences, ``m`` the steps for which room must be left and ``A`` the answer tokens of
admitted requests still to come.  The right side never rises while nothing finishes, so a request
that has to wait need not be looked at before.

References
----------
.. [1] G.-I. Yu et al., "Orca", OSDI 2022 (iteration-level scheduling).
.. [2] A. Agrawal et al., "Sarathi-Serve", OSDI 2024 (chunked prefill beside decoding).
.. [3] W. Kwon et al., "PagedAttention", SOSP 2023 (preemption by recomputation or swapping).
"""

from collections import deque
from collections.abc import MutableSequence, Sequence
from heapq import heapify, heappop, heappush

from planner.serving.config import ReplicaConfig, attention_pairs, capped_attention_pairs
from planner.serving.timing import RankLoad
from planner.serving.waiting import ClassQueue, Queue

NEVER = 1 << 62
_NOBODY: list[int] = []

Work = MutableSequence[int]
"""Tokens by request number."""


class Scheduler:
    """One attention rank whose decode steps take chunks of prompts along.

    Protocol of a stretch: :meth:`plan`, read ``view``, run for at most ``left`` steps,
    :meth:`advance`.

    Parameters
    ----------
    prompts, answers : tokens to compute and to produce, by request number; may grow while the run
        goes on, and a preempted request's are changed to what is left to do.
    cached : prompt tokens found in the cache, by request number; None: none of any.
    priority : class by request number; None: all alike.
    """

    __slots__ = (
        "_answers",
        "_began",
        "_cached",
        "_cap",
        "_capacity",
        "_chunked",
        "_completing",
        "_crossings",
        "_finish_sum",
        "_grows",
        "_joins",
        "_overhead",
        "_position",
        "_prompt_answers",
        "_prompt_kv",
        "_prompts",
        "_room_steps",
        "_running",
        "_share",
        "_slots",
        "_starts",
        "_swap",
        "_swapped",
        "free_kv_tokens",
        "free_slots",
        "held_prompt_tokens",
        "left",
        "load",
        "max_step_tokens",
        "next_step",
        "preempted",
        "prompts",
        "step",
        "swapped_tokens",
        "view",
        "waiting",
    )

    def __init__(
        self,
        config: ReplicaConfig,
        prompts: Work,
        answers: Work,
        cached: Sequence[int] | None = None,
        priority: Sequence[int] | None = None,
    ) -> None:
        self.load = self.view = RankLoad()
        """What decodes here, and what the next step computes; changed in place."""
        self.waiting: Queue = deque() if priority is None else ClassQueue(priority)
        """Requests without a slot, in order of service."""
        self.prompts: deque[int] = deque()
        """Admitted requests whose prompt is not computed yet, in order of arrival."""
        self.step = 0
        """Steps decoded so far."""
        self.next_step = NEVER
        """Number of the step before which a sequence finishes or its context reaches the cap."""
        self.left = NEVER
        """Steps for which the plan holds."""
        self.free_slots = self._slots = config.slots
        self.free_kv_tokens = self._capacity = config.kv_capacity_tokens
        """KV not reserved, where whole answers are reserved. [tokens]"""
        self.held_prompt_tokens = 0
        """KV of prompts in progress, cached prefixes and this step's chunks included. [tokens]"""
        self.preempted: list[int] = _NOBODY
        """Requests that the last plan put back."""
        self.swapped_tokens = 0
        """KV that the last plan moves to or from the host. [tokens]"""
        self.max_step_tokens = config.max_step_tokens
        self._cap = config.cap_tokens
        self._overhead = config.sequence_overhead_tokens
        self._chunked = config.chunked_prefill
        self._grows, self._share = config.grows, config.answer_reserve_share
        self._room_steps = config.room_steps
        self._joins = config.role == "decode"
        self._swap = config.preemption == "swap"
        self._swapped: set[int] = set()
        self._prompts, self._answers, self._cached = prompts, answers, cached
        self._running: list[tuple[int, int]] = []  # heap of (finish step, request)
        self._crossings: list[int] = []  # heap of steps at which a live context reaches the cap
        self._completing: list[int] = []  # prompts whose last chunk is in this step
        self._position = 0  # tokens in the cache of prompts[0]
        self._prompt_kv = self._prompt_answers = 0  # of requests admitted but not decoding
        self._finish_sum = 0  # of finish step + 1 over decoding requests
        self._began: dict[int, int] = {}  # where the cache may fill: request -> order of starting
        self._starts = 0

    def add(self, request: int) -> bool:
        """Queue a request.  Return whether the next step boundary may admit it."""
        waiting = self.waiting
        waiting.append(request)
        return waiting[0] == request and self.free_slots > 0 and self._fits(request)

    def plan(self) -> list[int]:
        """Decide what the next step computes.  Return the requests that got a slot."""
        admitted = _NOBODY
        if self._grows:
            self._make_room()
        if self.free_slots and self.waiting and not self.preempted:
            admitted = self._admit()
        if self.prompts:
            self._fill(self.max_step_tokens - self.load.sequences, NEVER)
        self.left = self._steps_left()
        return admitted

    def advance(self, steps: int) -> tuple[list[int], list[int]]:
        """Run ``steps`` steps, at most ``left``.

        Returns
        -------
        requests with a first token after their prompt, requests that finished (some may be in
        both).
        """
        finished: list[int] = []
        self._decode(steps, finished)
        return self._end_prompts(finished), finished

    def remaining(self) -> dict[int, int]:
        """Tokens still to produce of each request that is decoding or swapped out."""
        running = {request: finish - self.step for finish, request in self._running}
        return running | {request: self._answers[request] - 1 for request in self._swapped}

    def stalled_s(self, request: int) -> float:
        """Time that a preempted request had stood still for prompts before. [s]"""
        return 0.0

    def standing(self, elapsed_s: float) -> list[tuple[int, float]]:
        """Sequences that stood still before this step, and how long: none where steps mix."""
        return []

    def evict_all(self) -> list[int]:
        """Drop everything, running or waiting, and forget the cache.  Return the requests."""
        lost = [r for _, r in self._running] + list(self.prompts) + self._completing
        lost += list(self.waiting)
        while len(self.waiting):
            self.waiting.popleft()
        self._running, self._crossings, self._completing = [], [], []
        self.prompts.clear()
        self._swapped.clear()
        self._began.clear()
        for load in (self.load, self.view):
            load.__init__()  # type: ignore[misc]
        self.free_slots, self.free_kv_tokens = self._slots, self._capacity
        self.held_prompt_tokens = self._position = self._prompt_kv = self._prompt_answers = 0
        self._finish_sum = 0
        self.next_step = NEVER
        return sorted(lost)

    # --- KV ---

    @property
    def used_tokens(self) -> int:
        """KV of decoding sequences and of whole prompts in progress. [tokens]"""
        live = self._slots - self.free_slots
        return self.load.context_tokens + self._prompt_kv + self._overhead * live

    def _room(self) -> float:
        """KV that admission may give out. [tokens]"""
        n = self.load.sequences
        pending = self._finish_sum - n * self.step + self._prompt_answers
        return self._capacity - self.used_tokens - self._room_steps * n - self._share * pending

    def _fits(self, request: int) -> bool:
        need = self._prompts[request] + self._overhead
        if not self._grows:
            return need + self._answers[request] <= self.free_kv_tokens
        return need + self._share * self._answers[request] <= self._room()

    def _admit(self) -> list[int]:
        """Give slots and KV to waiting requests in order, until the first that does not fit."""
        admitted = []
        waiting, grows = self.waiting, self._grows
        while waiting and self.free_slots:
            request = waiting[0]
            prompt, answer = self._prompts[request], self._answers[request]
            if grows:
                if not self._fits(request):
                    break
            else:
                need = prompt + answer + self._overhead
                if need > self.free_kv_tokens:
                    break
                self.free_kv_tokens -= need
            self.free_slots -= 1
            waiting.popleft()
            admitted.append(request)
            if self._joins or request in self._swapped:
                self._join(request)
                continue
            self._prompt_kv += prompt
            self._prompt_answers += answer
            prefix = self._cached[request] if self._cached is not None else 0
            self.held_prompt_tokens += prefix
            if not self.prompts:
                self._position = prefix
            self.prompts.append(request)
        return admitted

    def _join(self, request: int) -> None:
        """Begin to decode a request whose prompt is in the cache."""
        if request in self._swapped:
            self._swapped.discard(request)
            self.swapped_tokens += self._prompts[request]
        self._start(request)
        self._look_ahead()

    def _make_room(self) -> None:
        """Put the youngest back until the decoding sequences have room for their next tokens."""
        self.preempted, self.swapped_tokens = _NOBODY, 0
        load, capacity = self.load, self._capacity
        if self.used_tokens + load.sequences <= capacity:
            return
        self.preempted = []
        while (
            self.used_tokens + self._room_steps * load.sequences > capacity
            and self._slots - self.free_slots > 1
        ):
            self._preempt()
        self._look_ahead()

    def _preempt(self) -> None:
        prompts, running = self.prompts, self._running
        if prompts:
            request = prompts.pop()
            self._prompt_kv -= self._prompts[request]
            self._prompt_answers -= self._answers[request]
            prefix = self._cached[request] if self._cached is not None else 0
            self.held_prompt_tokens -= prefix if prompts else self._position
        else:
            answers = self._answers
            began = self._began
            finish, request = max(running, key=lambda one: began[one[1]])
            del began[request]
            running.remove((finish, request))
            heapify(running)
            decoded = answers[request] - 1 - (finish - self.step)
            self._leave(self._prompts[request], decoded, finish)
            kept = decoded if self._swap else decoded + 1
            self._prompts[request] += kept
            answers[request] -= kept
            if self._swap:
                self._swapped.add(request)
                self.swapped_tokens += self._prompts[request]
        self.free_slots += 1
        self.waiting.appendleft(request)
        self.preempted.append(request)

    def _leave(self, prompt: int, decoded: int, finish: int) -> None:
        """Take a sequence out of the totals before it finishes."""
        load, cap, context = self.load, self._cap, prompt + decoded
        load.sequences -= 1
        load.context_tokens -= context
        self._finish_sum -= finish + 1
        if cap is None or context < cap:
            load.capped_tokens -= context
            load.growing -= 1
            crossing = self.step - context + cap if cap is not None else finish
            if crossing < finish:
                self._crossings.remove(crossing)
                heapify(self._crossings)
        else:
            load.capped_tokens -= cap

    # --- steps ---

    def _fill(self, budget: int, most: int) -> None:
        """Give a budget of tokens to at most ``most`` prompts, in order."""
        view, prompts, cap = self.view, self.prompts, self._cap
        left = budget
        pairs = capped_pairs = 0
        while prompts and left > 0 and most:
            request, position = prompts[0], self._position
            rest = self._prompts[request] - position
            if rest > left and not self._chunked:
                break
            most -= 1
            chunk = rest if rest < left else left
            left -= chunk
            pairs += attention_pairs(position, chunk)
            capped_pairs += capped_attention_pairs(position, chunk, cap)
            if chunk < rest:
                self._position = position + chunk
            else:
                self._completing.append(prompts.popleft())
                self._position = (
                    self._cached[prompts[0]] if prompts and self._cached is not None else 0
                )
        view.prefill_tokens = budget - left
        view.prefill_pairs = pairs
        view.prefill_capped_pairs = capped_pairs
        view.prompts_finished = len(self._completing)
        self.held_prompt_tokens += budget - left

    def _steps_left(self) -> int:
        left, n = self.next_step - self.step, self.load.sequences
        if self._grows and n:
            return min(left, max(1, (self._capacity - self.used_tokens) // n))
        return left

    def _decode(self, steps: int, finished: list[int]) -> None:
        load = self.load
        self.step = step = self.step + steps
        load.context_tokens += load.sequences * steps
        load.capped_tokens += load.growing * steps
        if step == self.next_step:
            self._cross_and_finish(step, finished)

    def _end_prompts(self, finished: list[int]) -> list[int]:
        view, started = self.view, self._completing
        if view.prefill_tokens:
            view.prefill_tokens = view.prompts_finished = 0
            view.prefill_pairs = view.prefill_capped_pairs = 0
            if started:
                self._completing = []
                for request in started:
                    prompt, answer = self._prompts[request], self._answers[request]
                    self.held_prompt_tokens -= prompt
                    self._prompt_kv -= prompt
                    self._prompt_answers -= answer
                    if answer == 1:
                        self._release(request)
                        finished.append(request)
                    else:
                        self._start(request)
        self._look_ahead()
        return started

    def _look_ahead(self) -> None:
        running, crossings = self._running, self._crossings
        following = running[0][0] if running else NEVER
        if crossings and crossings[0] < following:
            following = crossings[0]
        self.next_step = following

    def _start(self, request: int) -> None:
        """Begin to decode: the prompt is in the cache, the first token is there."""
        load, cap, step = self.load, self._cap, self.step
        context = self._prompts[request]
        finish = step + self._answers[request] - 1
        heappush(self._running, (finish, request))
        self._finish_sum += finish + 1
        if self._grows:
            self._starts += 1
            self._began[request] = self._starts
        load.sequences += 1
        load.context_tokens += context
        if cap is None or context < cap:
            load.capped_tokens += context
            load.growing += 1
            if cap is not None and step + cap - context < finish:
                heappush(self._crossings, step + cap - context)
        else:
            load.capped_tokens += cap

    def _cross_and_finish(self, step: int, finished: list[int]) -> None:
        load, running, crossings, cap = self.load, self._running, self._crossings, self._cap
        # only sequences that outlive their crossing are in this heap: no entry is ever stale
        while crossings and crossings[0] == step:
            heappop(crossings)
            load.growing -= 1
        while running and running[0][0] == step:
            request = heappop(running)[1]
            context = self._prompts[request] + self._answers[request] - 1
            load.sequences -= 1
            load.context_tokens -= context
            self._finish_sum -= step + 1
            if cap is None or context <= cap:
                load.capped_tokens -= context
                load.growing -= 1
            else:
                load.capped_tokens -= cap
            self._release(request)
            finished.append(request)

    def _release(self, request: int) -> None:
        self.free_slots += 1
        if self._grows:
            self._began.pop(request, None)
        else:
            self.free_kv_tokens += self._prompts[request] + self._answers[request] + self._overhead


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
