"""Which sequences one attention rank runs in the next step: plain state, no clock.

Continuous batching with chunked prefill: decoding sequences take a token each from the step's
budget, and what is left goes to prompts, first come, first served.  Steps are numbered, and a
running sequence is nothing but the number of the step it finishes at, so a stretch of steps
costs the same as one.

**Context.**  When a prompt is computed the cache holds its ``input`` tokens, and one token has
been produced.  A decode step of a sequence that has decoded ``d`` tokens so far reads a context
of ``input + d`` tokens and adds one.

References
----------
.. [1] G.-I. Yu et al., "Orca", OSDI 2022 (iteration-level scheduling).
.. [2] A. Agrawal et al., "Sarathi-Serve", OSDI 2024 (chunked prefill beside decoding).
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from planner.errors import InputError
from planner.serving.timing import RankLoad

NEVER = 1 << 62


@dataclass(frozen=True)
class ReplicaConfig:
    """What one replica can hold and run.  The limits are those of each attention rank."""

    ranks: int
    """Attention data-parallel ranks; they take every step together."""
    max_sequences: int
    """Sequences a rank runs at once, prompts in progress included."""
    max_step_tokens: int
    """Tokens a rank computes in one step, decode tokens included."""
    kv_capacity_tokens: int
    """KV cache of a rank. [tokens]"""
    cap_tokens: int | None = None
    """Longest context attention reads (window or sparse top-k), None: all of it. [tokens]"""
    cached_input_share: float = 0.0
    """Share of every prompt found in the cache: held and read, not computed."""
    sequence_overhead_tokens: int = 0
    """Cache of a sequence that does not grow (windows, recurrent states), as context tokens."""
    prefill_first: bool = False
    """A rank with prompts computes nothing else; else prompts share steps with decoding."""
    whole_prompts: bool = False
    """A prompt that does not fit what is left of a step waits for the next, uncut."""
    balance_steps: int = 0
    """Decode steps for which prompts wait until every attention rank has one; 0: they do not."""
    answer_reserve_share: float = 1.0
    """Share of the answer for which admission reserves KV."""
    poll_steps: int = 1
    """New requests are looked at after prefill and after every so many decode steps."""

    def __post_init__(self) -> None:
        for name in ("ranks", "max_sequences", "max_step_tokens", "kv_capacity_tokens"):
            if getattr(self, name) < 1:
                raise InputError("", name, f"must be at least 1, got {getattr(self, name)}")
        if self.cap_tokens is not None and self.cap_tokens < 1:
            raise InputError("", "cap_tokens", f"must be at least 1, got {self.cap_tokens}")
        if not 0 <= self.cached_input_share < 1:
            raise InputError(
                "", "cached_input_share", f"must be in [0, 1), got {self.cached_input_share}"
            )

    @property
    def slots(self) -> int:
        """Sequences a rank admits: so few that decoding never takes a prompt's whole budget."""
        return min(self.max_sequences, self.max_step_tokens)


def cached_prefix(input_tokens: int, cached_input_share: float) -> int:
    """Prompt tokens that need no computing; the last one always does. [tokens]"""
    computed = math.ceil(input_tokens * (1.0 - cached_input_share) - 1e-9)
    return input_tokens - max(1, computed)


def attention_pairs(position: int, tokens: int) -> int:
    r"""(query, context) pairs of ``tokens`` queries after ``position`` tokens, causal.

    .. math:: \sum_{i=1}^{q} (p + i) = q p + q (q + 1) / 2
    """
    return tokens * position + tokens * (tokens + 1) // 2


def capped_attention_pairs(position: int, tokens: int, cap_tokens: int | None) -> int:
    r"""Pairs where every query reads at most ``cap_tokens``: :math:`\sum \min(p + i, cap)`."""
    if cap_tokens is None:
        return attention_pairs(position, tokens)
    growing = min(tokens, max(0, cap_tokens - position))
    return attention_pairs(position, growing) + (tokens - growing) * cap_tokens


class Scheduler:
    """One attention rank.

    Protocol of a stretch: :meth:`admit`, :meth:`fill` (if there are ``prompts``), read ``load``,
    run for at most ``next_step`` steps, :meth:`advance`.

    Parameters
    ----------
    input_tokens, output_tokens : lengths by request number; may grow while the run goes on.
    """

    __slots__ = (
        "_cached_share",
        "_cap",
        "_completing",
        "_crossings",
        "_inputs",
        "_outputs",
        "_overhead",
        "_position",
        "_prefill_first",
        "_reserve",
        "_running",
        "_whole_prompts",
        "free_kv_tokens",
        "free_slots",
        "held_prompt_tokens",
        "load",
        "max_step_tokens",
        "next_step",
        "prompts",
        "waiting",
    )

    def __init__(
        self, config: ReplicaConfig, input_tokens: Sequence[int], output_tokens: Sequence[int]
    ) -> None:
        self.load = RankLoad()
        """What the next step computes; changed in place."""
        self.waiting: deque[int] = deque()
        """Requests without a slot, in order of arrival."""
        self.prompts: deque[int] = deque()
        """Admitted requests whose prompt is not computed yet, in order of arrival."""
        self.next_step = NEVER
        """Number of the step before which a sequence finishes or its context reaches the cap."""
        self.free_slots = config.slots
        self.free_kv_tokens = config.kv_capacity_tokens
        """KV not reserved; prompt and whole answer are reserved at admission. [tokens]"""
        self.held_prompt_tokens = 0
        """KV of prompts in progress, cached prefixes and this step's chunks included. [tokens]"""
        self.max_step_tokens = config.max_step_tokens
        self._reserve = config.answer_reserve_share
        self._prefill_first, self._whole_prompts = config.prefill_first, config.whole_prompts
        self._cap = config.cap_tokens
        self._cached_share = config.cached_input_share
        self._overhead = config.sequence_overhead_tokens
        self._inputs, self._outputs = input_tokens, output_tokens
        self._running: list[tuple[int, int]] = []  # heap of (finish step, request)
        self._crossings: list[int] = []  # heap of steps at which a live context reaches the cap
        self._completing: list[int] = []  # prompts whose last chunk is in this step
        self._position = 0  # tokens in the cache of prompts[0]

    def add(self, request: int) -> bool:
        """Queue a request.  Return whether the next step boundary will admit it."""
        waiting = self.waiting
        waiting.append(request)
        return (
            len(waiting) == 1 and self.free_slots > 0 and self._need(request) <= self.free_kv_tokens
        )

    def _need(self, request: int) -> int:
        """KV to reserve for a request: prompt, whole answer, constant part. [tokens]"""
        answer = self._outputs[request]
        if self._reserve < 1:
            answer = int(answer * self._reserve)
        return self._inputs[request] + answer + self._overhead

    def admit(self) -> list[int]:
        """Give slots and KV to waiting requests in order, until the first that does not fit."""
        admitted = []
        waiting = self.waiting
        while waiting and self.free_slots:
            request = waiting[0]
            need = self._need(request)
            if need > self.free_kv_tokens:
                break
            self.free_kv_tokens -= need
            self.free_slots -= 1
            prefix = self._prefix(request)
            self.held_prompt_tokens += prefix
            if not self.prompts:
                self._position = prefix
            self.prompts.append(waiting.popleft())
            admitted.append(request)
        return admitted

    def fill(self) -> None:
        """Give the step's budget that decoding leaves to the prompts, in order."""
        load, prompts, cap = self.load, self.prompts, self._cap
        left = budget = self.max_step_tokens - (0 if self._prefill_first else load.sequences)
        pairs = capped_pairs = 0
        while prompts and left:
            request, position = prompts[0], self._position
            rest = self._inputs[request] - position
            if self._whole_prompts and left < rest and left < budget:
                break
            chunk = rest if rest < left else left
            left -= chunk
            pairs += attention_pairs(position, chunk)
            capped_pairs += capped_attention_pairs(position, chunk, cap)
            if chunk < rest:
                self._position = position + chunk
            else:
                self._completing.append(prompts.popleft())
                self._position = self._prefix(prompts[0]) if prompts else 0
        load.prefill_tokens = budget - left
        load.prefill_pairs = pairs
        load.prefill_capped_pairs = capped_pairs
        load.prompts_finished = len(self._completing)
        self.held_prompt_tokens += budget - left

    def alone(self) -> RankLoad:
        """Return this step's prompts without the decoding sequences, which wait."""
        load = self.load
        return RankLoad(
            prefill_tokens=load.prefill_tokens,
            prefill_pairs=load.prefill_pairs,
            prefill_capped_pairs=load.prefill_capped_pairs,
            prompts_finished=load.prompts_finished,
        )

    def advance(self, steps: int, step: int) -> tuple[list[int], list[int]]:
        """Run ``steps`` steps, at most to ``next_step``.

        Parameters
        ----------
        step : number of the first step after them.

        Returns
        -------
        requests with their first token, requests that finished (some may be in both).
        """
        load = self.load
        load.context_tokens += load.sequences * steps
        load.capped_tokens += load.growing * steps
        finished: list[int] = []
        if step == self.next_step:
            self._cross_and_finish(step, finished)
        started = self._completing
        if load.prefill_tokens:
            load.prefill_tokens = load.prompts_finished = 0
            load.prefill_pairs = load.prefill_capped_pairs = 0
            if started:
                self._completing = []
                self._start(started, step, finished)
        running, crossings = self._running, self._crossings
        following = running[0][0] if running else NEVER
        if crossings and crossings[0] < following:
            following = crossings[0]
        self.next_step = following
        return started, finished

    def produced(self, step: int) -> dict[int, int]:
        """Tokens so far of each request that is decoding now."""
        outputs = self._outputs
        return {request: outputs[request] - (finish - step) for finish, request in self._running}

    def _prefix(self, request: int) -> int:
        share = self._cached_share
        return cached_prefix(self._inputs[request], share) if share else 0

    def _start(self, started: list[int], step: int, finished: list[int]) -> None:
        """Begin to decode, but for those whose first token is the last."""
        load, cap = self.load, self._cap
        for request in started:
            context, tokens = self._inputs[request], self._outputs[request]
            self.held_prompt_tokens -= context
            if tokens == 1:
                self._release(request)
                finished.append(request)
                continue
            finish = step + tokens - 1
            heappush(self._running, (finish, request))
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
            context = self._inputs[request] + self._outputs[request] - 1
            load.sequences -= 1
            load.context_tokens -= context
            if cap is None or context <= cap:
                load.capped_tokens -= context
                load.growing -= 1
            else:
                load.capped_tokens -= cap
            self._release(request)
            finished.append(request)

    def _release(self, request: int) -> None:
        self.free_slots += 1
        self.free_kv_tokens += self._need(request)
