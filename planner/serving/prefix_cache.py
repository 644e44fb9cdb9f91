"""KV blocks kept for prompts that start alike: a cache per replica, and a tier they share.

A block is named by everything that leads to it (a chain hash), so a cache needs no tree: the
longest cached prefix of a prompt ends at its first id that is absent.  Of a request's blocks the
last is touched first; the start of a prompt is thereby always more recent than what follows it,
and the least recently used block is one that nothing kept depends on.

References
----------
.. [1] W. Kwon et al., "Efficient Memory Management for LLM Serving with PagedAttention", SOSP 2023;
       vLLM's prefix caching frees the blocks of a request in reverse order for the same reason.
.. [2] L. Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs",
       NeurIPS 2024 (radix cache, LRU over leaves).
.. [3] R. Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025 (blocks named
       by the hash of the block and all before it; shared host-memory store).
.. [4] R. L. Mattson et al., "Evaluation techniques for storage hierarchies", IBM Syst. J. 9, 1970:
       LRU is a stack algorithm, a larger cache never hits less.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from planner.specs.requests import Integers, PrefixBlocks
from planner.workloads import Reuse

Ids = Sequence[int]


class PrefixCache:
    """Blocks in least-recently-used order; blocks of running requests are pinned.

    All costs are proportional to the blocks of the request at hand.

    Parameters
    ----------
    capacity_tokens : most it holds, pinned blocks included; whole blocks only. [tokens]
    block_tokens : tokens of one block. [tokens]
    """

    __slots__ = ("_blocks", "_idle", "_pins", "block_tokens", "evicted_blocks")

    def __init__(self, capacity_tokens: float, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._blocks = capacity_tokens / block_tokens
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._pins: dict[int, int] = {}
        self.evicted_blocks = 0
        """Blocks that gave way so far."""

    @property
    def held_tokens(self) -> int:
        """Tokens held, pinned or not. [tokens]"""
        return (len(self._idle) + len(self._pins)) * self.block_tokens

    @property
    def pinned_tokens(self) -> int:
        """Tokens held that running requests read: they cannot be evicted. [tokens]"""
        return len(self._pins) * self.block_tokens

    def match(self, ids: Ids, input_tokens: int) -> int:
        """Tokens of a prompt that need not be computed; changes nothing. [tokens]

        The last token of a prompt is always computed: its logits are the first answer token.
        """
        idle, pins, matched = self._idle, self._pins, 0
        for block in ids[: -(-input_tokens // self.block_tokens)]:
            if block not in idle and block not in pins:
                break
            matched += 1
        return max(0, min(matched * self.block_tokens, input_tokens - 1))

    def pinned_among(self, ids: Ids) -> int:
        """Count the blocks of these that running requests hold."""
        pins = self._pins
        return sum(block in pins for block in ids)

    def hold(self, ids: Ids) -> None:
        """Keep blocks, found or computed, until they are let go as often as held."""
        pins, idle = self._pins, self._idle
        for block in ids:
            if block in pins:
                pins[block] += 1
            else:
                idle.pop(block, None)
                pins[block] = 1

    def let_go(self, ids: Ids) -> None:
        """Let go of what :meth:`hold` kept: it becomes the most recently used."""
        pins = self._pins
        for block in reversed(ids):
            if pins[block] > 1:
                pins[block] -= 1
            else:
                del pins[block]
                self._idle[block] = None
        self._trim()

    def insert(self, ids: Ids) -> int:
        """Keep the blocks of a request, all most recently used; return what was new. [tokens]

        New blocks push out the least recently used; where even that is not enough, the end of the
        request is not kept.
        """
        idle, pins = self._idle, self._pins
        before = len(idle)
        for block in reversed(ids):
            if block not in pins:
                idle[block] = None
                idle.move_to_end(block)
        new = len(idle) - before
        self._trim()
        return new * self.block_tokens

    def evict_to(self, capacity_tokens: float) -> int:
        """Set the capacity, as running requests leave it; return what had to go. [tokens]

        Pinned blocks stay, even above the capacity.
        """
        self._blocks = capacity_tokens / self.block_tokens
        return self._trim()

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        self._idle.clear()
        self._pins.clear()

    def _trim(self) -> int:
        gone = 0
        while self._idle and len(self._idle) + len(self._pins) > self._blocks:
            self._idle.popitem(last=False)
            gone += 1
        self.evicted_blocks += gone
        return gone * self.block_tokens


class SharedTier:
    """A larger, slower store behind the replicas' caches: host memory, or a remote one.

    It is written through: what a replica computed is there once it is inserted.  Loads queue one
    after the other on its link; writes use the other direction and are not charged.

    Parameters
    ----------
    capacity_tokens, block_tokens : as for :class:`PrefixCache`.
    s_per_token : time of one token's KV on the link out of the store. [s]
    latency_s : time a load takes beside its bytes. [s]
    """

    __slots__ = ("_cache", "_free_s", "_latency_s", "_s_per_token")

    def __init__(
        self, capacity_tokens: float, block_tokens: int, *,
        s_per_token: float, latency_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._cache = PrefixCache(capacity_tokens, block_tokens)
        self._s_per_token, self._latency_s, self._free_s = s_per_token, latency_s, 0.0

    @property
    def held_tokens(self) -> int:
        """Tokens held. [tokens]"""
        return self._cache.held_tokens

    def match(self, ids: Ids, input_tokens: int) -> int:
        """Tokens of a prompt that the store holds. [tokens]"""
        return self._cache.match(ids, input_tokens)

    def insert(self, ids: Ids) -> int:
        """Write a request's blocks; return what was new. [tokens]"""
        return self._cache.insert(ids)

    def load_s(self, tokens: int) -> float:
        """Time to load so many tokens over a free link. [s]"""
        return self._latency_s + tokens * self._s_per_token

    def load(self, now_s: float, tokens: int) -> float:
        """Start a load, behind those under way; return when it is there. [s]"""
        begin_s = max(now_s, self._free_s)
        self._free_s = begin_s + tokens * self._s_per_token
        return self._free_s + self._latency_s


def replay(
    prefixes: PrefixBlocks,
    input_tokens: Integers,
    capacity_tokens: float,
    replica: Integers | None = None,
) -> Reuse:
    """Send prompts through caches one after the other, without time: each is kept when it ends.

    Parameters
    ----------
    prefixes, input_tokens : of the requests in order of arrival.
    capacity_tokens : of one replica's cache; ``math.inf`` for all that can be reused. [tokens]
    replica : number of the replica each request goes to; None: one for all.
    """
    block = prefixes.block_tokens
    where = np.zeros(len(prefixes), np.int64) if replica is None else replica
    caches = [PrefixCache(capacity_tokens, block) for _ in range(int(where.max(initial=0)) + 1)]
    blocks = hit_blocks = hit_tokens = 0
    for request, (number, tokens) in enumerate(
        zip(where.tolist(), input_tokens.tolist(), strict=True)
    ):
        cache, ids = caches[number], prefixes.of(request)
        found = cache.match(ids, tokens)
        cache.insert(ids)
        blocks += min(len(ids), -(-tokens // block))
        hit_blocks += -(-found // block)
        hit_tokens += found
    return Reuse(blocks, hit_blocks, int(input_tokens.sum()), hit_tokens)
