"""What one replica can hold and run, and the arithmetic of prompts."""

import math
from dataclasses import dataclass
from typing import Literal

from planner.errors import InputError
from planner.specs.engine import Policy, Preemption

Role = Literal["both", "prefill", "decode"]
"""``prefill`` ends a request with its first token, ``decode`` takes requests whose prompt is in
the cache already."""


@dataclass(frozen=True)
class ReplicaConfig:
    """What one replica can hold and run.  The limits are those of each attention rank."""

    ranks: int
    """Attention data-parallel ranks; they take every step together."""
    max_sequences: int
    """Sequences a rank runs at once, prompts in progress included."""
    max_step_tokens: int
    """Tokens a rank computes in one step, decode tokens included where they mix."""
    kv_capacity_tokens: int
    """KV cache of a rank. [tokens]"""
    cap_tokens: int | None = None
    """Longest context attention reads (window or sparse top-k), None: all of it. [tokens]"""
    cached_input_share: float = 0.0
    """Share of every prompt found in the cache: held and read, not computed."""
    sequence_overhead_tokens: int = 0
    """Cache of a sequence that does not grow (windows, recurrent states), as context tokens."""
    policy: Policy = "mixed"
    chunked_prefill: bool = True
    decode_steps_between_prefills: int = 1
    """Of ``interleaved``."""
    answer_reserve_share: float = 1.0
    """Share of answers still to come that admission keeps room for; 1: the cache never fills."""
    preemption: Preemption = "none"
    room_steps: int = 1
    """Decode steps of all sequences for which admission leaves room and preemption makes it."""
    swap_s_per_token: float = 0.0
    """Time to move one token's KV to or from the host, which the step waits for. [s]"""
    poll_steps: int = 1
    """Decode steps between two looks at the inbox; after a step with prompts it always looks."""
    polls_ahead: bool = False
    """That look is at the step's start instead: the host plans a step ahead of the device."""
    balance_steps: int = 0
    """Decode steps for which prompts wait until every rank has one, so that no rank idles while
    others compute prompts; 0: they do not wait."""
    stream_interval_tokens: int = 1
    """Tokens sent to the client at once, after the first."""
    stream_counts_first: bool = True
    """After the first token ``k`` more are sent, and so on; else up to the ``k``-th."""
    role: Role = "both"
    prefix_cache: bool = False
    """Each rank keeps the KV of prompts for others that start alike, as a stream names them."""
    rank_router: Literal["least_requests", "prefix_aware"] = "least_requests"
    """Which rank of the replica takes a request."""

    def __post_init__(self) -> None:
        for name in (
            "ranks", "max_sequences", "max_step_tokens", "kv_capacity_tokens",
            "decode_steps_between_prefills", "room_steps", "poll_steps", "stream_interval_tokens",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise InputError("", name, f"must be at least 1, got {getattr(self, name)}")
        if self.cap_tokens is not None and self.cap_tokens < 1:
            raise InputError("", "cap_tokens", f"must be at least 1, got {self.cap_tokens}")
        if not 0 <= self.cached_input_share < 1:
            raise InputError(
                "", "cached_input_share", f"must be in [0, 1), got {self.cached_input_share}"
            )
        if self.prefix_cache and self.cached_input_share:
            raise InputError(
                "", "cached_input_share", "and a prefix cache exclude each other; give one of them"
            )
        if self.prefix_cache and self.role == "decode":
            raise InputError("", "prefix_cache", "belongs to the pool that computes prompts")
        if self.answer_reserve_share < 1 and self.preemption == "none":
            raise InputError("", "preemption", "none cannot follow a reserve share below 1")
        if self.balance_steps and self.separate:
            raise InputError("", "balance_steps", f"is not known of {self.policy}")
        if self.preemption == "swap" and self.separate:
            raise InputError("", "preemption", f"swap is not known of {self.policy}; recompute is")

    @property
    def separate(self) -> bool:
        """Whether prompts are computed in steps of their own."""
        return self.policy in ("prefill_first", "interleaved")

    @property
    def grows(self) -> bool:
        """Whether the cache may fill up."""
        return self.answer_reserve_share < 1

    @property
    def slots(self) -> int:
        """Sequences a rank admits: where prompts mix with decoding, as few as a step's tokens."""
        if self.separate:
            return self.max_sequences
        return min(self.max_sequences, self.max_step_tokens)

    def longest_tokens(self) -> int:
        """Prompt and answer of the longest request a rank can hold. [tokens]"""
        return self.kv_capacity_tokens - self.sequence_overhead_tokens

    def refuses(self, input_tokens: int, output_tokens: int) -> bool:
        """Whether a request can never run: too long for the cache, or for a step."""
        held = input_tokens + (1 if self.role == "prefill" else output_tokens)
        if held > self.kv_capacity_tokens - self.sequence_overhead_tokens:
            return True
        if self.chunked_prefill or (self.role == "decode" and not self.grows):
            return False
        longest = held - 1 if self.grows else input_tokens  # a preempted one is computed again
        return longest - self.cached_tokens(input_tokens) > self.max_step_tokens

    def cached_tokens(self, input_tokens: int) -> int:
        """Prompt tokens found in the cache. [tokens]"""
        share = self.cached_input_share
        return cached_prefix(input_tokens, share) if share else 0


def cached_prefix(input_tokens: int, cached_input_share: float) -> int:
    """Prompt tokens that need no computing; the last one always does. [tokens]"""
    computed = math.ceil(input_tokens * (1.0 - cached_input_share) - 1e-9)
    return input_tokens - max(1, computed)


def attention_pairs(position: int, tokens: int) -> int:
    r"""(query, context) pairs of ``tokens`` queries after ``position`` tokens, causal.

    .. math:: \sum_{i=1}^{q} (p + i) = q p + q (q + 1) / 2
    """
    return tokens * position + tokens * (tokens + 1) // 2


def capped_attention_pairs(position: int, tokens: int, cap_tokens: int | None) -> int:
    r"""Pairs where every query reads at most ``cap_tokens``: :math:`\sum \min(p + i, cap)`."""
    if cap_tokens is None:
        return attention_pairs(position, tokens)
    growing = min(tokens, max(0, cap_tokens - position))
    return attention_pairs(position, growing) + (tokens - growing) * cap_tokens
