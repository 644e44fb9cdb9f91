"""Sequences and ranks of the plain per-step engine: lists, and nothing remembered."""

import math
from dataclasses import dataclass, field


@dataclass(eq=False)
class PlainSequence:
    """One request at a plain replica."""

    request: int
    prompt: int
    """Tokens to be in the cache before it decodes."""
    answer: int
    """Tokens to produce from then on, the prompt's own included."""
    cached: int
    """Tokens in the cache."""
    produced: int = 0
    chunk: int = 0
    """Prompt tokens computed in this step."""
    began: int = 0
    last_token_s: float = math.nan
    swapped: bool = False
    again: bool = False
    """Preempted: to be computed again, in a decode pool too."""

    @property
    def decoding(self) -> bool:
        """Whether its prompt is computed."""
        return self.produced > 0


@dataclass
class PlainRank:
    """What one attention rank holds."""

    waiting: list[PlainSequence] = field(default_factory=list)
    admitted: list[PlainSequence] = field(default_factory=list)
    preempted: list[PlainSequence] = field(default_factory=list)
    alone: bool = False
    """Prompts run without the decoding sequences in this step."""
    due: int = 0
    starts: int = 0
    moved: int = 0

    @property
    def decoding(self) -> list[PlainSequence]:
        """Admitted sequences that decode."""
        return [one for one in self.admitted if one.decoding]

    @property
    def prompts(self) -> list[PlainSequence]:
        """Admitted sequences whose prompt is not computed."""
        return [one for one in self.admitted if not one.decoding]
