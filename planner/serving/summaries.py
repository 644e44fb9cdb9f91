"""What prefix caches gave the requests that count, and what classes of requests got."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from planner.serving.metrics import Percentiles, latency_percentiles
from planner.serving.records import Records


@dataclass(frozen=True, slots=True)
class PrefixSummary:
    """Hits of admitted requests after the warm-up; what is of the whole run says so."""

    block_tokens: int
    input_tokens: int
    """Asked for. [tokens]"""
    hit_block_share: float
    """Blocks found over blocks of prompts, last ones that are found in part included."""
    hit_token_share: float
    """Prompt tokens not computed over prompt tokens, all tiers."""
    device_hit_token_share: float
    """In the replica's own memory."""
    tier_hit_token_share: float
    """Loaded from the store behind."""
    loads: int
    """Requests that waited for a load."""
    mean_load_s: float
    """Of these, queue on the link included; ``nan`` without any. [s]"""
    computed_tokens: int
    """Prompt tokens computed in the whole run, those of preempted requests again. [tokens]"""
    run_input_tokens: int
    """Prompt tokens of all requests that were admitted in the whole run. [tokens]"""
    evicted_tokens: int
    """Blocks that gave way in the whole run. [tokens]"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        plain["mean_load_s"] = None if math.isnan(self.mean_load_s) else self.mean_load_s
        return plain


def prefix_summary(records: Records) -> PrefixSummary | None:
    """Sum up the hits; None where there was no prefix cache."""
    use = records.prefix
    if use is None:
        return None
    admitted = np.isfinite(records.admitted_s)
    kept = admitted & records.counted
    asked = int(records.input_tokens[kept].sum())
    found, loaded = use.found_tokens[kept], use.loaded_tokens[kept]
    blocks = int(use.asked_blocks[kept].sum())
    times = use.load_s[kept & (use.loaded_tokens > 0)]

    def share(tokens: float) -> float:
        return float(tokens) / asked if asked else 0.0

    hits = int((-(-(found + loaded) // use.block_tokens)).sum())
    return PrefixSummary(
        use.block_tokens,
        asked,
        hits / blocks if blocks else 0.0,
        share(found.sum() + loaded.sum()),
        share(found.sum()),
        share(loaded.sum()),
        len(times),
        float(times.mean()) if len(times) else math.nan,
        use.computed_tokens,
        int(records.input_tokens[admitted].sum()),
        use.evicted_tokens,
    )


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Requests of one class after the warm-up."""

    priority: int
    """0 is served first."""
    arrived: int
    finished: int
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles
    queue_s: Percentiles


def class_summaries(records: Records) -> tuple[ClassSummary, ...]:
    """Latencies by class, the most urgent first; empty where all are alike."""
    if records.priority is None:
        return ()
    found = []
    for number in np.unique(records.priority).tolist():
        mine = records.counted & (records.priority == number)
        if mine.any():
            by = latency_percentiles(records, mine)
            found.append(
                ClassSummary(
                    number, int(mine.sum()), int((mine & records.finished).sum()),
                    by["ttft"], by["tpot"], by["e2e"], by["queue"],
                )
            )  # fmt: skip
    return tuple(found)
