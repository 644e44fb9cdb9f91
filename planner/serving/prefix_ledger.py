"""What is known of every request's prefix: the names of its blocks, and what caches gave it."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from planner.specs.requests import Floats, Integers, PrefixBlocks


@dataclass(frozen=True, eq=False)
class PrefixUse:
    """What caches gave each request when it was first admitted; 0 where it was not."""

    block_tokens: int
    asked_blocks: Integers
    """Blocks of the prompt that have a name."""
    found_tokens: Integers
    """Of the prompt, in the replica's cache. [tokens]"""
    loaded_tokens: Integers
    """Beyond them, loaded from the tier behind. [tokens]"""
    load_s: Floats
    """Time of that load, queue on the link included. [s]"""
    computed_tokens: int
    """Prompt tokens computed, those of preempted requests again. [tokens]"""
    evicted_tokens: int
    """Blocks that gave way in all replicas. [tokens]"""


class Evicting(Protocol):
    """A cache that counts the blocks it gave up."""

    evicted_blocks: int


class Store(Protocol):
    """Where a replica writes what it computed."""

    def insert(self, ids: Sequence[int]) -> int:
        """Keep blocks."""
        ...


class PrefixLedger:
    """Block names and hits by request number.

    Parameters
    ----------
    blocks : names, a row a request; :meth:`expect` says which row a request has.
    input_tokens : of every request, as it came; grows with the run. [tokens]
    """

    __slots__ = (
        "_blocks",
        "_input_tokens",
        "_last",
        "_last_ids",
        "_rows",
        "block_tokens",
        "caches",
        "computed_tokens",
        "covers_answers",
        "found_tokens",
        "load_s",
        "loaded_tokens",
        "tiers",
        "waiting_tokens",
    )

    def __init__(self, blocks: PrefixBlocks, input_tokens: "array[int]") -> None:
        self._blocks, self._input_tokens = blocks, input_tokens
        self.block_tokens, self.covers_answers = blocks.block_tokens, blocks.covers_answers
        self._rows = array("q")
        self._last, self._last_ids = -1, [0]
        self.computed_tokens = 0
        """Over all replicas. [tokens]"""
        self.caches: list[Evicting] = []
        """Of all ranks of all replicas."""
        self.found_tokens = array("q")
        """In the replica's cache when first admitted; -1: not admitted. [tokens]"""
        self.loaded_tokens = array("q")
        """Beyond them, loaded from the tier. [tokens]"""
        self.load_s = array("d")
        """Time of that load, queue on the link included. [s]"""
        self.tiers: Sequence[Store] = ()
        """The store behind each replica of the pool; empty without any."""
        self.waiting_tokens: dict[int, int] = {}
        """What a tier has sent to the replica of a request that is not admitted yet. [tokens]"""

    def expect(self, rows: Sequence[int]) -> None:
        """Number the next requests: they have these rows."""
        self._rows.extend(rows)
        self.found_tokens.extend([-1] * len(rows))
        self.loaded_tokens.extend([0] * len(rows))
        self.load_s.extend([0.0] * len(rows))

    def of(self, request: int) -> list[int]:
        """Names of a request's blocks, from its first token on."""
        if self._last != request:  # a router asks every replica about the same request
            self._last, self._last_ids = request, self._blocks.of(self._rows[request])
        return self._last_ids

    def prompt_tokens(self, request: int) -> int:
        """A request's prompt as it came. [tokens]"""
        return self._input_tokens[request]

    def span(self, request: int, context_tokens: int, ids: list[int]) -> int:
        """How much of a context from its start on has a name. [tokens]"""
        named = len(ids) * self.block_tokens
        if not self.covers_answers:
            named = min(named, self._input_tokens[request])
        return min(named, context_tokens)

    def whole(self, tokens: int) -> int:
        """Blocks that a computed span leaves.

        The last one may be filled in part only where no answer goes on in it.
        """
        if self.covers_answers:
            return tokens // self.block_tokens
        return -(-tokens // self.block_tokens)

    def admit(self, request: int, local_tokens: int, found_tokens: int) -> None:
        """Note what an admitted request found; the first time counts. [tokens]"""
        if self.found_tokens[request] < 0:
            self.found_tokens[request] = local_tokens
            self.loaded_tokens[request] = found_tokens - local_tokens

    def use(self, arrived: int) -> PrefixUse:
        """Freeze the columns of the requests that arrived."""
        rows = np.array(self._rows, np.int64)[:arrived]
        inputs = np.array(self._input_tokens, np.int64)[:arrived]
        counts = np.diff(self._blocks.offsets)[rows]
        return PrefixUse(
            self.block_tokens,
            np.minimum(counts, -(-inputs // self.block_tokens)),
            np.maximum(0, np.array(self.found_tokens, np.int64)[:arrived]),
            np.array(self.loaded_tokens, np.int64)[:arrived],
            np.array(self.load_s, np.float64)[:arrived],
            self.computed_tokens,
            sum(cache.evicted_blocks for cache in self.caches) * self.block_tokens,
        )
