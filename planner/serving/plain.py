"""Sequences and ranks of the plain per-step engine: lists, and nothing remembered."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.serving.config import ReplicaConfig
from planner.serving.timing import RankLoad

if TYPE_CHECKING:
    from planner.serving.plain_cache import PlainCache


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
    told: int = 0
    """Tokens produced since it came here, whether it was preempted meanwhile or not."""
    chunk: int = 0
    """Prompt tokens computed in this step."""
    began: int = 0
    last_sent_s: float = math.nan
    swapped: bool = False
    again: bool = False
    """Preempted: to be computed again, in a decode pool too."""

    shared: int = 0
    """Blocks of its start that others may read."""

    @property
    def decoding(self) -> bool:
        """Whether its prompt is computed."""
        return self.produced > 0

    def sends(self, config: ReplicaConfig) -> bool:
        """Whether what it has produced goes to the client now."""
        if self.told == 1 or self.produced == self.answer:
            return True
        return (self.told - config.stream_counts_first) % config.stream_interval_tokens == 0


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
    cache: "PlainCache | None" = None

    @property
    def decoding(self) -> list[PlainSequence]:
        """Admitted sequences that decode."""
        return [one for one in self.admitted if one.decoding]

    @property
    def prompts(self) -> list[PlainSequence]:
        """Admitted sequences whose prompt is not computed."""
        return [one for one in self.admitted if not one.decoding]


def used_tokens(rank: PlainRank, config: ReplicaConfig) -> int:
    """KV of admitted sequences, what they share counted once. [tokens]"""
    each = config.sequence_overhead_tokens
    held = sum(each + (one.cached if one.decoding else one.prompt) for one in rank.admitted)
    return held - (rank.cache.saved() if rank.cache else 0)


def fits(rank: PlainRank, one: PlainSequence, local_tokens: int, config: ReplicaConfig) -> bool:
    """Whether a sequence has room beside the admitted ones.

    Parameters
    ----------
    local_tokens : of its prompt that the rank's cache holds. [tokens]
    """
    saved, more = 0, 0
    if rank.cache:
        saved = rank.cache.saved()
        more = rank.cache.saved((one, local_tokens // rank.cache.block_tokens)) - saved
    need = one.prompt + config.sequence_overhead_tokens - more
    if not config.grows:
        together = [*rank.admitted, one]
        overhead = config.sequence_overhead_tokens * len(together)
        reserved = overhead + sum(other.prompt + other.answer for other in together)
        return reserved - saved - more <= config.kv_capacity_tokens
    n = len(rank.decoding)
    pending = sum(
        other.answer - max(0, other.produced - 1) for other in rank.admitted
    )  # answer tokens whose KV is still to come, the last one's included
    room = (
        config.kv_capacity_tokens
        - used_tokens(rank, config)
        - config.room_steps * n
        - config.answer_reserve_share * pending
    )
    return need + config.answer_reserve_share * one.answer <= room


def load_of(rank: PlainRank, config: ReplicaConfig) -> RankLoad:
    """What a rank brings to the next step."""
    cap = config.cap_tokens or math.inf
    contexts = [] if rank.alone else [one.cached for one in rank.decoding]
    queries = [
        one.cached + i for one in rank.admitted for i in range(1, one.chunk + 1)
    ]  # context of each prompt token, itself included
    return RankLoad(
        sequences=len(contexts),
        context_tokens=sum(contexts),
        capped_tokens=int(sum(min(context, cap) for context in contexts)),
        growing=sum(context < cap for context in contexts),
        prefill_tokens=len(queries),
        prefill_pairs=sum(queries),
        prefill_capped_pairs=sum(min(query, cap) for query in queries),
        prompts_finished=sum(
            one.chunk > 0 and one.cached + one.chunk == one.prompt for one in rank.admitted
        ),
        prefill_longest=max(queries, default=0),
    )


def open_for_prompts(rank: PlainRank, config: ReplicaConfig) -> bool:
    """Whether the step has tokens left for another prompt; without a cache that is not asked."""
    if not rank.cache or not rank.prompts:
        return True
    if config.policy == "interleaved":
        return False
    ahead = sum(one.prompt - one.cached for one in rank.prompts)
    mixed = config.policy != "prefill_first"
    return ahead < config.max_step_tokens - mixed * len(rank.decoding)


def cut_prompts(rank: PlainRank, config: ReplicaConfig, budget: int, most: float) -> None:
    """Give a budget of tokens to at most ``most`` prompts, in order."""
    for sequence in rank.prompts:
        rest = sequence.prompt - sequence.cached
        if most == 0 or budget <= 0 or (rest > budget and not config.chunked_prefill):
            break
        sequence.chunk = min(budget, rest)
        budget -= sequence.chunk
        most -= 1
