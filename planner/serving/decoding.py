"""The sequences that decode on one attention rank, as totals and a heap of finish steps."""

from collections.abc import MutableSequence
from heapq import heapify, heappop, heappush

from planner.serving.config import ReplicaConfig
from planner.serving.streaming import Deliveries
from planner.serving.timing import RankLoad

NEVER = 1 << 62

Work = MutableSequence[int]
"""Tokens by request number."""


class Decoding:
    """Sequences that advance in lock-step.

    Steps in which they decode are numbered, and a sequence is nothing but the number of the step
    it finishes at, so a stretch of steps costs the same as one.
    """

    __slots__ = (
        "_answers",
        "_began",
        "_cap",
        "_crossings",
        "_finish_sum",
        "_grows",
        "_overhead",
        "_prompts",
        "_running",
        "_slots",
        "_starts",
        "_swapped",
        "deliveries",
        "free_kv_tokens",
        "free_slots",
        "load",
        "next_step",
        "step",
    )

    def __init__(self, config: ReplicaConfig, prompts: Work, answers: Work) -> None:
        self.load = RankLoad()
        """Totals of what decodes here; changed in place."""
        self.step = 0
        """Steps decoded so far."""
        self.next_step = NEVER
        """Number of the step before which a sequence finishes or its context reaches the cap."""
        self.deliveries: Deliveries | None = None
        """What was sent to clients, where several tokens are sent at once."""
        if config.stream_interval_tokens > 1 and config.role != "prefill":
            lead = int(config.stream_counts_first)
            self.deliveries = Deliveries(config.stream_interval_tokens, lead)
        self.free_slots = self._slots = config.slots
        self.free_kv_tokens = config.kv_capacity_tokens
        """KV not reserved, where whole answers are reserved. [tokens]"""
        self._cap = config.cap_tokens
        self._overhead = config.sequence_overhead_tokens
        self._grows = config.grows
        self._prompts, self._answers = prompts, answers
        self._swapped: set[int] = set()
        self._running: list[tuple[int, int]] = []  # heap of (finish step, request)
        self._crossings: list[int] = []  # heap of steps at which a live context reaches the cap
        self._finish_sum = 0  # of finish step + 1 over decoding requests
        self._began: dict[int, int] = {}  # where the cache may fill: request -> order of starting
        self._starts = 0

    def remaining(self) -> dict[int, int]:
        """Tokens still to produce of each request that is decoding or swapped out."""
        running = {request: finish - self.step for finish, request in self._running}
        return running | {request: self._answers[request] - 1 for request in self._swapped}

    def _decode(self, steps: int, finished: list[int]) -> None:
        load = self.load
        self.step = step = self.step + steps
        load.context_tokens += load.sequences * steps
        load.capped_tokens += load.growing * steps
        if step == self.next_step:
            self._cross_and_finish(step, finished)
            self._look_ahead()

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
        if self.deliveries is not None:
            self.deliveries.begun.append(request)
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

    def _release(self, request: int) -> None:
        self.free_slots += 1
        if self._grows:
            self._began.pop(request, None)
        else:
            self.free_kv_tokens += self._prompts[request] + self._answers[request] + self._overhead
