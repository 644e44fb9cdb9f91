"""Pools of replicas: what there is, without a clock."""

from dataclasses import dataclass

from planner.errors import InputError
from planner.serving.balance import BY_PREFIX
from planner.serving.config import ReplicaConfig
from planner.serving.decoding import NEVER
from planner.serving.operations import Operations
from planner.serving.prefix_tier import TierSetup
from planner.serving.timing import Timing
from planner.specs.deployment import RouterName


@dataclass(frozen=True)
class PoolSetup:
    """Identical replicas behind one router."""

    timing: Timing
    """What a step of one replica costs."""
    config: ReplicaConfig
    replicas: int = 1
    router: RouterName = "least_requests"
    """Who gets the next request; of equals the lowest number.  Within a replica it is always the
    rank with fewest outstanding requests."""
    tier: TierSetup | None = None
    """Store behind the replicas' prefix caches."""
    max_outstanding: int | None = None
    """Requests in the pool, a replica on average, beyond which arrivals are turned away."""

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise InputError("", "replicas", f"must be at least 1, got {self.replicas}")
        if self.max_outstanding is not None and self.max_outstanding < 1:
            raise InputError(
                "", "max_outstanding", f"must be at least 1, got {self.max_outstanding}"
            )


@dataclass(frozen=True)
class Handover:
    """KV cache on its way from the prefill to the decode pool.

    A prompt's cache leaves layer by layer while it is computed, so that ``overlap_share`` of it
    may be gone when the prompt is done.  Each replica sends one cache at a time and receives one
    at a time, in the order prompts are done.
    """

    s_per_token: float
    """Of one replica's link, one prompt token's cache. [s]"""
    latency_s: float = 0.0
    overlap_share: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """One pool that does everything, or one that computes prompts and one that decodes."""

    pools: tuple[PoolSetup, ...]
    handover: Handover | None = None
    """None: in no time."""
    request_delay_s: float = 0.0
    """From a client's send to the router: front end, tokeniser, transport. [s]"""
    seed: int = 0
    """Of routers that draw."""
    operations: Operations | None = None
    """None: every replica serves all the time."""

    def __post_init__(self) -> None:
        for pool in self.pools:
            if pool.router in BY_PREFIX and not pool.config.prefix_cache:
                raise InputError(
                    "", "router",
                    f"{pool.router} needs a prefix cache to ask: give prefix_cache, or another "
                    "router",
                )  # fmt: skip
        if self.operations is not None:
            self.operations.check([pool.replicas for pool in self.pools])
        roles = tuple(pool.config.role for pool in self.pools)
        if roles not in (("both",), ("prefill", "decode")):
            raise InputError(
                "", "pools", f"must be one of both, or prefill and decode; got {', '.join(roles)}"
            )

    @property
    def apart(self) -> bool:
        """Whether prompts and answers have pools of their own."""
        return len(self.pools) > 1

    @property
    def keeps_prefixes(self) -> bool:
        """Whether the pool that computes prompts has prefix caches."""
        return self.pools[0].config.prefix_cache

    def refuses(self, input_tokens: int, output_tokens: int) -> bool:
        """Whether a request can never run."""
        if output_tokens == 1 and self.apart:
            return self.pools[0].config.refuses(input_tokens, 1)
        return any(pool.config.refuses(input_tokens, output_tokens) for pool in self.pools)

    def surely_tokens(self) -> int:
        """Requests of up to so many tokens, prompt and answer, are never refused. [tokens]"""
        return min(
            min(config.longest_tokens(), NEVER if config.chunked_prefill else 0)
            for config in (pool.config for pool in self.pools)
        )

    @property
    def kv_capacity_tokens(self) -> int:
        """Of all ranks of all replicas. [tokens]"""
        return sum(p.config.kv_capacity_tokens * p.config.ranks * p.replicas for p in self.pools)
