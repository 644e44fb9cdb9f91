r"""Ranks that keep the KV of prompts for others that start alike.

**Memory.**  A block that several running requests share is held once.  What running requests leave
holds blocks that nobody reads now, in least-recently-used order; they give way whenever running
requests grow.  With capacity ``C``, a rank's contexts ``x`` (prompts in progress whole), overheads
``o``, ``n`` shared blocks of ``B`` tokens of each, and ``D`` distinct ones among them,

.. math:: \text{used} = \sum (x + o) - B \Bigl(\sum n - D\Bigr), \qquad
          \text{idle blocks} \le (C - \text{used}) / B.

**Hits.**  A request looks for its prefix when it is admitted, and with a cache it is admitted only
to a step that has tokens left for its prompt.  Full blocks found are shared and stay while it runs;
a block that is part of the prompt's end only is copied.  A prompt's blocks are kept when it is
computed, its answer's when it ends.  Requests admitted to the same step find nothing of each other.

References
----------
.. [1] vLLM, "Automatic Prefix Caching" (design): blocks named by hash, freed in reverse order, hits
       at first scheduling.
.. [2] L. Zheng et al., "SGLang", NeurIPS 2024: running requests lock their path in the tree, what
       is computed twice is kept once.
"""

from collections.abc import MutableSequence, Sequence

from planner.serving.config import ReplicaConfig
from planner.serving.decoding import Work
from planner.serving.prefix_cache import PrefixCache
from planner.serving.prefix_ledger import PrefixLedger, Store
from planner.serving.scheduler import Scheduler
from planner.serving.separate import SeparateScheduler


class CachingScheduler(Scheduler):
    """A rank with a prefix cache whose decode steps take chunks of prompts along."""

    def __init__(
        self,
        config: ReplicaConfig,
        prompts: Work,
        answers: Work,
        cached: MutableSequence[int],
        priority: Sequence[int] | None,
        prefixes: PrefixLedger,
    ) -> None:
        super().__init__(config, prompts, answers, cached, priority)
        self._prefixes, self._block = prefixes, prefixes.block_tokens
        self._hits = cached
        self._cache = PrefixCache(config.kv_capacity_tokens, self._block)
        prefixes.caches.append(self._cache)
        self.store: Store | None = None
        """Behind the cache; what is computed is written to it."""
        self._ids: dict[int, list[int]] = {}  # of requests that have been looked at and not ended
        self._held: dict[int, int] = {}  # shared blocks of each running request
        self._shared_tokens = 0  # B times their sum
        self._saved_tokens = 0  # of these, what is held once for several
        self._found = (-1, 0, 0)  # request, tokens found here, with loaded ones

    @property
    def used_tokens(self) -> int:
        """KV of running requests, what they share counted once. [tokens]"""
        return super().used_tokens - self._saved_tokens

    def match(self, request: int, steps: int) -> int:
        """Prompt tokens that the cache holds of a request, ``steps`` into a stretch. [tokens]"""
        self._settle(self.load.sequences * steps)
        return self._find(request, self._prefixes.of(request))

    def evict_all(self) -> list[int]:
        """Drop everything, running, waiting or kept.  Return the requests."""
        self._cache.clear()
        self._ids.clear()
        self._held.clear()
        self._shared_tokens = self._saved_tokens = 0
        return super().evict_all()

    # --- what is kept ---

    def _settle(self, grown_tokens: int = 0) -> None:
        """Let idle blocks give way to running requests, which hold ``grown_tokens`` more."""
        private = super().used_tokens + grown_tokens - self._shared_tokens
        self._cache.evict_to(self._capacity - private)

    def _names(self, request: int) -> list[int]:
        ids = self._ids.get(request)
        if ids is None:
            ids = self._ids[request] = self._prefixes.of(request)
        return ids

    def _find(self, request: int, ids: list[int]) -> int:
        """Prompt tokens in the cache; the last of a prompt is always computed. [tokens]"""
        prompt = self._prompts[request]
        span = self._prefixes.span(request, prompt, ids)
        return max(0, min(self._cache.match(ids, span + 1), span, prompt - 1))

    def _hold(self, request: int, upto: int) -> None:
        """Hold a request's first ``upto`` blocks for as long as it runs."""
        held = self._held.get(request, 0)
        self._cache.hold(self._names(request)[held:upto])
        self._held[request] = upto
        self._shared_tokens += (upto - held) * self._block
        self._save()

    def _save(self) -> None:
        """Give back, or take again, what running requests have in common."""
        saved = self._shared_tokens - self._cache.pinned_tokens
        more = saved - self._saved_tokens
        self._saved_tokens = saved
        self.held_prompt_tokens -= more
        self.free_kv_tokens += more

    def _let_go(self, request: int) -> None:
        """A request leaves: what only it held may now give way."""
        held = self._held.pop(request, 0)
        self._shared_tokens -= held * self._block
        self._settle()
        self._cache.let_go(self._names(request)[:held])
        self._save()

    # --- changes of composition ---

    def _fits(self, request: int) -> bool:
        if request in self._swapped:
            self._found = (request, 0, 0)
            return super()._fits(request)
        local = self._find(request, self._names(request))
        found = max(local, min(self._prefixes.waiting_tokens.get(request, 0),
                               self._prompts[request] - 1))  # fmt: skip
        self._found = (request, local, found)
        shared = self._ids[request][: local // self._block]
        saved = self._cache.pinned_among(shared) * self._block
        prompt = self._prompts[request] + self._overhead - saved
        if not self._grows:
            return prompt + self._answers[request] <= self.free_kv_tokens
        return prompt + self._share * self._answers[request] <= self._room()

    def _admit(self) -> list[int]:
        """Give slots and KV to waiting requests in order, until the step is full."""
        admitted: list[int] = []
        waiting = self.waiting
        self._settle()
        while waiting and self.free_slots and self._open():
            request = waiting[0]
            if not self._fits(request):
                break
            _, local, found = self._found
            prompt, answer = self._prompts[request], self._answers[request]
            if not self._grows:
                self.free_kv_tokens -= prompt + answer + self._overhead
            self.free_slots -= 1
            waiting.popleft()
            admitted.append(request)
            if request in self._swapped:
                self._join(request)
                self._settle()
                continue
            self._prefixes.admit(request, local, found)
            self._prefixes.computed_tokens += prompt - found
            self._prefixes.waiting_tokens.pop(request, None)
            self._hits[request] = found
            self._prompt_kv += prompt
            self._prompt_answers += answer
            self.held_prompt_tokens += found
            self._hold(request, local // self._block)
            if not self.prompts:
                self._position = found
            self.prompts.append(request)
            self._settle()
        return admitted

    def _budget(self) -> int:
        """Prompt tokens of a step. [tokens]"""
        return self.max_step_tokens - self.load.sequences

    def _open(self) -> bool:
        """Whether the next step has tokens left after the prompts already admitted."""
        prompts = self.prompts
        if not prompts:
            return True
        started = self._position - self._hits[prompts[0]]
        ahead = sum(self._prompts[r] - self._hits[r] for r in prompts) - started
        return ahead < self._budget()

    def _preempt(self) -> None:
        self._settle()
        super()._preempt()
        self._let_go(self.preempted[-1])

    def _cross_and_finish(self, step: int, finished: list[int]) -> None:
        self._settle()
        super()._cross_and_finish(step, finished)

    def _end_prompts(self, finished: list[int]) -> list[int]:
        prefixes = self._prefixes
        if self._completing:
            self._settle()
        for request in self._completing:
            ids, prompt = self._names(request), self._prompts[request]
            span = prefixes.span(request, prompt, ids)
            full, kept = span // self._block, prefixes.whole(span)
            self._hold(request, max(full, self._held[request]))
            self._settle()
            self._cache.insert(ids[full:kept])
            if self.store is not None:
                self.store.insert(ids[:kept])
        return super()._end_prompts(finished)

    def _release(self, request: int) -> None:
        super()._release(request)
        self._let_go(request)
        ids = self._ids.pop(request)
        context = self._prompts[request] + self._answers[request] - 1
        span = self._prefixes.span(request, context, ids)
        left = ids[: self._prefixes.whole(span)]
        self._cache.insert(left)
        if self.store is not None:
            self.store.insert(left)


class CachingSeparateScheduler(CachingScheduler, SeparateScheduler):
    """A rank with a prefix cache that computes prompts in steps of their own."""

    def _budget(self) -> int:
        return self.max_step_tokens

    def _open(self) -> bool:
        return not self.prompts if self._most == 1 else super()._open()
