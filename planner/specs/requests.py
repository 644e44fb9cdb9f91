"""Requests as columns: what a trace holds, and what a stream hands to the simulation."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PrefixBlocks:
    """Names of the KV blocks of each request, ragged; a block is named by all that leads to it.

    Two requests share a prefix of ``n`` blocks exactly where their first ``n`` ids are equal.  The
    ids of a request cover its prompt from the start; they may go on into its answer where a later
    request continues it.
    """

    block_tokens: int
    ids: Integers
    """Ids of all requests, one after the other."""
    offsets: Integers
    """Request ``i`` has ``ids[offsets[i]:offsets[i + 1]]``; one more than there are requests."""
    covers_answers: bool = False
    """Ids may go on into answers, full blocks only; else a prompt's last block may be half full."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, request: int) -> list[int]:
        """Ids of one request, from its first token on."""
        ids: list[int] = self.ids[self.offsets[request] : self.offsets[request + 1]].tolist()
        return ids

    def take(self, rows: Integers) -> Self:
        """The same for chosen requests, in that order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        ids = self.ids[np.repeat(self.offsets[:-1][rows], counts) + within]
        return type(self)(self.block_tokens, ids, offsets, self.covers_answers)


@dataclass(frozen=True, eq=False)
class RequestTable:
    """Recorded requests, sorted by time; every column has a row a request."""

    arrival_s: Floats
    """Since the first request; equal times are legal. [s]"""
    input_tokens: Integers
    output_tokens: Integers
    prefixes: PrefixBlocks | None = None
    timed: bool = True
    """False: the source has lengths only and every arrival is 0."""
    format: str = "inline"
    read_from: tuple[str, ...] = ()
    """What was read and how, to tell whether it must be read again."""
    notes: tuple[str, ...] = field(default=())
    """What was done to the rows on the way in."""
    priority: Integers | None = None
    """Class of each request, 0 is served first; None: all alike."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestTable):
            return NotImplemented
        mine, theirs = (
            [t.arrival_s, t.input_tokens, t.output_tokens]
            + ([t.prefixes.ids, t.prefixes.offsets] if t.prefixes else [])
            for t in (self, other)
        )
        return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))

    def __hash__(self) -> int:
        return hash((len(self), self.read_from))

    def take(self, rows: Integers) -> "RequestTable":
        """Chosen rows, in that order, at their own times."""
        return RequestTable(
            self.arrival_s[rows],
            self.input_tokens[rows],
            self.output_tokens[rows],
            self.prefixes.take(rows) if self.prefixes else None,
            self.timed, self.format, self.read_from, self.notes,
            None if self.priority is None else self.priority[rows],
        )  # fmt: skip
