r"""Which sequences one attention rank runs in the next step: plain state, no clock.

Continuous batching.  Steps in which the rank decodes are numbered, and a running sequence is
nothing but the number of the step it finishes at, so a stretch of steps costs the same as one.
:class:`Scheduler` mixes prompts into decode steps, :class:`SeparateScheduler` computes them in
steps of their own.

**Context.**  When a prompt is computed the cache holds its ``prompt`` tokens, and one token has
been produced.  A decode step of a sequence that has decoded ``d`` tokens so far reads a context
of ``prompt + d`` tokens and adds one.

**Room.**  With a share ``r`` of answers reserved, a request is admitted while

.. math:: p + r a \le C - U - m n - r A,

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
from collections.abc import Sequence
from heapq import heapify

from planner.serving.config import ReplicaConfig, attention_pairs, capped_attention_pairs
from planner.serving.decoding import NEVER, Decoding, Work
from planner.serving.waiting import ClassQueue, Queue

_NOBODY: list[int] = []


class Scheduler(Decoding):
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
        "_cached",
        "_capacity",
        "_chunked",
        "_completing",
        "_joins",
        "_position",
        "_prompt_answers",
        "_prompt_kv",
        "_redo",
        "_room_steps",
        "_share",
        "_swap",
        "held_prompt_tokens",
        "left",
        "max_step_tokens",
        "preempted",
        "prompts",
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
        super().__init__(config, prompts, answers)
        self.view = self.load
        """What the next step computes; changed in place."""
        self.waiting: Queue = deque() if priority is None else ClassQueue(priority)
        """Requests without a slot, in order of service."""
        self.prompts: deque[int] = deque()
        """Admitted requests whose prompt is not computed yet, in order of arrival."""
        self.left = NEVER
        """Steps for which the plan holds."""
        self.held_prompt_tokens = 0
        """KV of prompts in progress, cached prefixes and this step's chunks included. [tokens]"""
        self.preempted: list[int] = _NOBODY
        """Requests that the last plan put back."""
        self.swapped_tokens = 0
        """KV that the last plan moves to or from the host. [tokens]"""
        self.max_step_tokens = config.max_step_tokens
        self._capacity = config.kv_capacity_tokens
        self._chunked = config.chunked_prefill
        self._share = config.answer_reserve_share
        self._room_steps = config.room_steps
        self._joins = config.role == "decode"
        self._swap = config.preemption == "swap"
        self._redo: set[int] = set()  # preempted in a decode pool: computed again here
        self._cached = cached
        self._completing: list[int] = []  # prompts whose last chunk is in this step
        self._position = 0  # tokens in the cache of prompts[0]
        self._prompt_kv = self._prompt_answers = 0  # of requests admitted but not decoding

    def add(self, request: int) -> bool:
        """Queue a request.  Return whether the next step boundary may admit it."""
        waiting = self.waiting
        waiting.append(request)
        return waiting[0] == request and self.free_slots > 0 and self._fits(request)

    def match(self, request: int, steps: int) -> int:
        """Prompt tokens in the cache ``steps`` into a stretch: none without a prefix cache."""
        return 0

    def plan(self) -> list[int]:
        """Decide what the next step computes.  Return the requests that got a slot."""
        admitted = _NOBODY
        if self._grows:
            self._make_room()
        if self.free_slots and self.waiting and not self.preempted:
            admitted = self._admit()
        if self.prompts:
            self._fill(self.max_step_tokens - self.load.sequences, NEVER)
        self.left = self._steps_left() if self._grows else self.next_step - self.step
        return admitted

    def take(self) -> list[int]:
        """Do the first half of a plan: who has a slot.  Return the requests that got one."""
        if self._grows:
            self._make_room()
        if self.free_slots and self.waiting and not self.preempted:
            return self._admit()
        return _NOBODY

    def lay_out(self, held: bool) -> None:
        """Do the second half: what the next step computes, no prompt if they are ``held``."""
        if self.prompts and not held:
            self._fill(self.max_step_tokens - self.load.sequences, NEVER)
        self.left = self._steps_left()

    def advance(self, steps: int) -> tuple[list[int], list[int]]:
        """Run ``steps`` steps, at most ``left``.

        Returns
        -------
        requests with a first token after their prompt, requests that finished (some may be in
        both).
        """
        finished: list[int] = []
        self._decode(steps, finished)
        if self.view.prefill_tokens:
            return self._end_prompts(finished), finished
        return _NOBODY, finished

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
        self._redo.clear()
        self._began.clear()
        for load in (self.load, self.view):
            load.__init__()  # type: ignore[misc]
        self.free_slots, self.free_kv_tokens = self._slots, self._capacity
        self.held_prompt_tokens = self._position = self._prompt_kv = self._prompt_answers = 0
        self._finish_sum = 0
        self.next_step = NEVER
        if self.deliveries is not None:
            self.deliveries.clear()
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
            if request in self._swapped or (self._joins and request not in self._redo):
                self._join(request)
                continue
            self._redo.discard(request)
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
            if self._joins:  # of a decode pool: still to be computed again
                self._redo.add(request)
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
            if self._joins and not self._swap:
                self._redo.add(request)
            self._prompts[request] += kept
            answers[request] -= kept
            if self._swap:
                self._swapped.add(request)
                self.swapped_tokens += self._prompts[request]
        self.free_slots += 1
        self.waiting.appendleft(request)
        self.preempted.append(request)

    # --- steps ---

    def _fill(self, budget: int, most: int) -> None:
        """Give a budget of tokens to at most ``most`` prompts, in order."""
        view, prompts, cap = self.view, self.prompts, self._cap
        left = budget
        pairs = capped_pairs = longest = 0
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
            longest = position + chunk if position + chunk > longest else longest
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
        view.prefill_longest = longest
        view.prompts_finished = len(self._completing)
        self.held_prompt_tokens += budget - left

    def _steps_left(self) -> int:
        left, n = self.next_step - self.step, self.load.sequences
        if self.preempted:
            return 1  # what waits now may be more urgent, or need less, than what was put back
        if self._grows and n:
            return min(left, max(1, (self._capacity - self.used_tokens) // n))
        return left

    def _end_prompts(self, finished: list[int]) -> list[int]:
        view, started = self.view, self._completing
        view.prefill_tokens = view.prompts_finished = view.prefill_longest = 0
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
