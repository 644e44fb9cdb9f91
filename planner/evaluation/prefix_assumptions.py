"""What an answer takes for granted of prefix caches."""

from planner.evaluation.replica import Replica
from planner.serving.balance import BY_PREFIX
from planner.units import human


def prefix_statements(replica: Replica) -> list[tuple[str, str, str]]:
    """Name, source and text of every statement about prefix caches; none without them."""
    pool = replica.pool
    if pool.prefix_cache is None:
        return []
    found = [
        (
            "prefix cache", "model",
            "Each attention rank keeps blocks as the workload names them, not as small as the "
            "engine's own, in the KV memory that running requests leave; the least recently used "
            "go first.  A hit is decided at admission and costs no time; prompts of one step find "
            "nothing of each other, and a prompt's blocks are there when all of it is computed.  "
            "A run starts with empty caches: give it a warm-up.",
        )
    ]  # fmt: skip
    if pool.router in BY_PREFIX:
        found.append(
            (
                "router", "model",
                "The router knows at once what every replica's cache and its own store hold; real "
                "ones learn it from events or guess it from what they sent where.",
            )
        )  # fmt: skip
    tier = pool.prefix_cache.tier
    if tier is not None:
        whose = "each replica's" if tier.place == "replica" else "all replicas' common"
        found.append(
            (
                "prefix store", "choice of the scenario",
                f"{human(tier.capacity_bytes, 'bytes')} in {whose} store at "
                f"{human(tier.bytes_per_s, 'bytes_per_s')} and {human(tier.latency_s, 's')} a "
                "load.  It holds a token's KV once and is written at no cost; loads start when a "
                "request is routed, queue on the link, and do not hold up steps.",
            )
        )  # fmt: skip
    return found
