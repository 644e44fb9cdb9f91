"""Stores behind the caches of a pool: what is loaded from them, and when it is there."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import InputError
from planner.serving.prefix_cache import SharedTier
from planner.serving.prefix_ledger import PrefixLedger


@dataclass(frozen=True)
class TierSetup:
    """Host memory of each replica, or one store for all."""

    capacity_tokens: float
    """Of each store. [tokens]"""
    s_per_token: float
    """Of a store's link, one token's KV. [s]"""
    latency_s: float = 0.0
    common: bool = False
    """One store for all replicas; else each has its own."""

    def __post_init__(self) -> None:
        if not self.capacity_tokens > 0 or self.s_per_token < 0 or self.latency_s < 0:
            raise InputError("", "tier", f"takes sizes above 0 and no negative times, got {self}")

    def build(self, replicas: int, block_tokens: int) -> list[SharedTier]:
        """Return the store of each replica."""

        def one() -> SharedTier:
            return SharedTier(
                self.capacity_tokens, block_tokens,
                s_per_token=self.s_per_token, latency_s=self.latency_s,
            )  # fmt: skip

        return [one()] * replicas if self.common else [one() for _ in range(replicas)]


class TierReader:
    """Loads what a store has beyond a replica's cache, as soon as a request is routed there.

    The request joins the replica's queue when its load is there.  The load goes to the memory it is
    given at admission: until then it counts nowhere.
    """

    def __init__(self, tiers: list[SharedTier], prefixes: PrefixLedger) -> None:
        self._tiers, self._prefixes = tiers, prefixes

    def matches(self, request: int, members: Sequence[int], local_tokens: list[int]) -> list[int]:
        """Prompt tokens that replicas hold, stores of their own included. [tokens]

        What all replicas have in common is no reason to choose one of them.
        """
        if len(self._tiers) > 1 and self._tiers[0] is self._tiers[1]:
            return local_tokens
        return [
            max(local, self._held(request, member))
            for member, local in zip(members, local_tokens, strict=True)
        ]

    def _held(self, request: int, member: int) -> int:
        prefixes = self._prefixes
        ids, prompt = prefixes.of(request), prefixes.prompt_tokens(request)
        return min(self._tiers[member].match(ids, prompt), prefixes.span(request, prompt, ids))

    def ready_s(self, request: int, member: int, local_tokens: int, now_s: float) -> float:
        """When a replica can take a request: now, or when its load is there. [s]

        Parameters
        ----------
        local_tokens : of its prompt that the replica's cache holds. [tokens]
        """
        prefixes, tier = self._prefixes, self._tiers[member]
        prefixes.waiting_tokens.pop(request, None)  # of a replica that failed
        there = self._held(request, member)
        if there <= local_tokens:
            return now_s
        ready_s = tier.load(now_s, there - local_tokens)
        prefixes.waiting_tokens[request] = there
        prefixes.load_s[request] = ready_s - now_s
        return ready_s
