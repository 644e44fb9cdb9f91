"""What an engine keeps of prompts for others that start alike, and where."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from planner.specs.base import Spec


class CacheTier(Spec):
    """A store behind the replicas' caches, written through; what it gives must be moved."""

    place: Literal["replica", "pool"] = "replica"
    """``replica``: host memory, one store and one link a replica; ``pool``: one for all of them."""
    capacity_bytes: Annotated[float, Field(gt=0)]
    """KV it holds. [bytes]"""
    bytes_per_s: Annotated[float, Field(gt=0)]
    """Rate of the link out of the store. [bytes/s]"""
    latency_s: Annotated[float, Field(ge=0)]
    """Time a load takes beside its bytes. [s]"""


class PrefixCaching(Spec):
    """Blocks of KV stay in the device memory that running requests leave; the oldest go first."""

    tier: CacheTier | None = None
    """Where evicted blocks are still found; None: nowhere."""


def _switch(value: Any) -> Any:
    if value is True:
        return {}
    return None if value is False else value


PrefixCacheChoice = Annotated[PrefixCaching | None, BeforeValidator(_switch)]
"""``true``, ``false``, or written out."""
