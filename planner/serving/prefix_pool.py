"""The prefix caches of a pool: asked when a request is routed, fed when it is answered.

The pool knows requests by number and replicas by number; it has no clock.  A caller asks
:meth:`PrefixPool.take` once for a request and a replica, and says :meth:`PrefixPool.done` when the
request is answered, lost or preempted for good.  What a running request found stays in the cache.

References
----------
.. [1] SGLang model gateway (sglang_router), policy ``cache_aware``: the replica with the longest
       match where it is at least ``cache_threshold`` (0.3) of the prompt, the one with fewest
       requests where loads differ by more than ``balance_abs_threshold`` (64) and by more than
       the factor ``balance_rel_threshold`` (1.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.serving.prefix_cache import PrefixCache, SharedTier
from planner.specs.requests import PrefixBlocks


@dataclass(frozen=True, slots=True)
class Found:
    """What a request need not compute."""

    tokens: int
    """Found in the replica's cache and the shared tier together. [tokens]"""
    loaded_tokens: int
    """Part of them that comes from the shared tier. [tokens]"""
    ready_s: float
    """When the loaded part is there; the time of asking where nothing is loaded. [s]"""


class PrefixPool:
    """Caches of identical replicas, and the tier behind them.

    Parameters
    ----------
    prefixes : block names of every request of the stream.
    replicas : how many caches there are.
    capacity_tokens : of each; :meth:`shrink` follows the KV that running requests leave. [tokens]
    tier : shared store, or None.
    """

    def __init__(
        self, prefixes: PrefixBlocks, replicas: int, capacity_tokens: float,
        tier: SharedTier | None = None,
    ) -> None:  # fmt: skip
        self._prefixes, self._tier = prefixes, tier
        self._caches = [
            PrefixCache(capacity_tokens, prefixes.block_tokens) for _ in range(replicas)
        ]
        self._pinned: dict[int, tuple[int, int]] = {}
        self.asked_tokens = self.found_tokens = self.loaded_tokens = 0
        """Sums over all requests taken. [tokens]"""

    def matches(self, request: int, input_tokens: int) -> list[int]:
        """Prompt tokens each replica holds of a request; changes nothing. [tokens]"""
        ids = self._prefixes.of(request)
        return [cache.match(ids, input_tokens) for cache in self._caches]

    def take(self, request: int, replica: int, input_tokens: int, now_s: float) -> Found:
        """Send a request to a replica: what it finds there stays until the request is done."""
        ids, cache = self._prefixes.of(request), self._caches[replica]
        local = cache.match(ids, input_tokens)
        cache.pin(ids, local)
        self._pinned[request] = (replica, local)
        found, ready_s = local, now_s
        if self._tier is not None:
            found = max(local, self._tier.match(ids, input_tokens))
            if found > local:
                ready_s = self._tier.load(now_s, found - local)
        self.asked_tokens += input_tokens
        self.found_tokens += found
        self.loaded_tokens += found - local
        return Found(found, found - local, ready_s)

    def done(self, request: int, computed: bool = True) -> None:
        """Let go of what a request found; where it was computed, keep its blocks."""
        replica, local = self._pinned.pop(request)
        ids, cache = self._prefixes.of(request), self._caches[replica]
        cache.unpin(ids, local)
        if computed:
            cache.insert(ids)
            if self._tier is not None:
                self._tier.insert(ids)

    def shrink(self, replica: int, capacity_tokens: float) -> None:
        """Set what running requests leave to a replica's cache. [tokens]"""
        self._caches[replica].evict_to(capacity_tokens)

    def lost(self, replica: int) -> None:
        """A replica restarts: its cache is empty, and its requests hold nothing of it."""
        self._caches[replica].clear()
        for request, (where, _) in list(self._pinned.items()):
            if where == replica:
                del self._pinned[request]

    def held_tokens(self) -> int:
        """Tokens in all the replicas' caches. [tokens]"""
        return sum(cache.held_tokens for cache in self._caches)


@dataclass(frozen=True, slots=True)
class PrefixAware:
    """Where a request goes when its prefix is in some caches and not in others [1]_."""

    match_share: float = 0.3
    """Shortest match worth following, as a share of the prompt."""
    most_apart: int = 64
    """Requests between the fullest and the emptiest replica above which load decides …"""
    most_ratio: float = 1.5
    """… if the fullest has also this many times the requests of the emptiest."""

    def choose(self, matches: Sequence[int], outstanding: Sequence[int], input_tokens: int) -> int:
        """Number of a replica; of equals the one with fewest requests, then the lowest number.

        Parameters
        ----------
        matches : prompt tokens each replica holds. [tokens]
        outstanding : requests each replica has.
        """
        least, most = min(outstanding), max(outstanding)
        unbalanced = most - least > self.most_apart and most > self.most_ratio * least
        best = max(matches)
        if unbalanced or best < self.match_share * input_tokens:
            return outstanding.index(least)
        return min(
            (load, number)
            for number, (match, load) in enumerate(zip(matches, outstanding, strict=True))
            if match == best
        )[1]
