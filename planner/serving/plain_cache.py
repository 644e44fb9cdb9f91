"""The prefix cache of the plain engine: lists, and everything found anew."""

from planner.serving.config import ReplicaConfig
from planner.serving.plain import PlainRank, PlainSequence, used_tokens
from planner.serving.prefix_ledger import PrefixLedger, Store


class PlainCache:
    """What one rank keeps for prompts that start alike.

    Blocks that running sequences share follow from the sequences; the others stand in a list, the
    least recently used first.
    """

    def __init__(self, rank: PlainRank, config: ReplicaConfig, prefixes: PrefixLedger) -> None:
        self._rank, self._config, self._prefixes = rank, config, prefixes
        self._block = self.block_tokens = prefixes.block_tokens
        self._idle: list[int] = []
        self.store: Store | None = None
        prefixes.caches.append(self)
        self.evicted_blocks = 0

    def find(self, one: PlainSequence) -> int:
        """Prompt tokens of a sequence that are here; the last one is always computed. [tokens]"""
        ids = self._prefixes.of(one.request)
        span = self._prefixes.span(one.request, one.prompt, ids)
        here = self._shared() | set(self._idle)
        matched = 0
        while matched < len(ids) and matched * self._block < span and ids[matched] in here:
            matched += 1
        return max(0, min(matched * self._block, span, one.prompt - 1))

    def saved(self, extra: tuple[PlainSequence, int] | None = None) -> int:
        """KV that sequences have in common, were ``extra`` one with so many blocks. [tokens]"""
        running = [(one, one.shared) for one in self._rank.admitted]
        if extra is not None:
            running.append(extra)
        blocks = [block for one, n in running for block in self._prefixes.of(one.request)[:n]]
        return (len(blocks) - len(set(blocks))) * self._block

    def trim(self) -> None:
        """Let blocks that nobody reads give way to running sequences."""
        room = self._config.kv_capacity_tokens - used_tokens(self._rank, self._config)
        while self._idle and len(self._idle) * self._block > room:
            self._idle.pop(0)
            self.evicted_blocks += 1

    def share(self, one: PlainSequence, blocks: int) -> None:
        """A running sequence's first blocks are read by others, too."""
        one.shared = blocks
        mine = self._prefixes.of(one.request)[:blocks]
        self._idle = [block for block in self._idle if block not in mine]

    def step_done(self) -> None:
        """Keep what a step computed: of ended sequences, of prompts, of those that are both."""
        admitted = self._rank.admitted
        self.trim()
        new = [one for one in admitted if one.produced == 1 and one.chunk]
        ended = [one for one in admitted if one.produced == one.answer]
        for one in sorted((e for e in ended if e not in new), key=lambda e: e.request):
            self._end(one)
        for one in new:
            rest = self._computed(one)
            self.trim()
            self._keep(rest)
            self.trim()
            if self.store is not None:
                ids = self._prefixes.of(one.request)
                span = self._prefixes.span(one.request, one.prompt, ids)
                self.store.insert(ids[: self._prefixes.whole(span)])
        for one in [e for e in new if e in ended]:
            self._end(one)

    def leave(self, one: PlainSequence) -> None:
        """Take a sequence from the rank: what only it read is the most recently used now."""
        self.trim()
        self._rank.admitted.remove(one)
        blocks, one.shared = one.shared, 0
        others = self._shared()
        for block in reversed(self._prefixes.of(one.request)[:blocks]):
            if block not in others:
                self._idle.append(block)
        self.trim()

    def _end(self, one: PlainSequence) -> None:
        self.leave(one)
        ids = self._prefixes.of(one.request)
        span = self._prefixes.span(one.request, one.prompt + one.answer - 1, ids)
        self._keep(ids[: self._prefixes.whole(span)])
        self.trim()
        if self.store is not None:
            self.store.insert(ids[: self._prefixes.whole(span)])

    def _computed(self, one: PlainSequence) -> list[int]:
        """A prompt is done: share its full blocks, return what else is to be kept."""
        ids = self._prefixes.of(one.request)
        span = self._prefixes.span(one.request, one.prompt, ids)
        full = span // self._block
        self.share(one, max(full, one.shared))
        return ids[full : self._prefixes.whole(span)]

    def _keep(self, ids: list[int]) -> None:
        """Put blocks last in the list, the first of the request at the very end."""
        shared = self._shared()
        for block in reversed(ids):
            if block not in shared:
                if block in self._idle:
                    self._idle.remove(block)
                self._idle.append(block)

    def _shared(self) -> set[int]:
        return {
            block
            for one in self._rank.admitted
            for block in self._prefixes.of(one.request)[: one.shared]
        }
