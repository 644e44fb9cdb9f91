"""What a trace or a drawn stream holds: rates, burstiness, lengths, and what prompts share."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from planner.specs.requests import Floats, Integers, PrefixBlocks, RequestTable

PER_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """How long prompts or answers are. [tokens]"""

    mean: float
    cv: float
    """Standard deviation over mean. [dimensionless]"""
    minimum: int
    p50: float
    p90: float
    p99: float
    maximum: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """How much of the prompts a cache would have served."""

    blocks: int
    hit_blocks: int
    tokens: int
    """Prompt tokens in all. [tokens]"""
    hit_tokens: int

    @property
    def block_share(self) -> float:
        """Blocks found over blocks asked for."""
        return self.hit_blocks / self.blocks if self.blocks else 0.0

    @property
    def token_share(self) -> float:
        """Prompt tokens found over prompt tokens."""
        return self.hit_tokens / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What was read, in numbers."""

    format: str
    requests: int
    duration_s: float
    """From the first arrival to the last. [s]"""
    requests_per_s: float
    """Requests over duration; ``nan`` without times."""
    busiest_minute_requests_per_s: float
    gap_cv: float
    """Coefficient of variation of the gaps: 1 is Poisson, more is bursty."""
    minute_dispersion: float
    """Variance over mean of the requests in a minute: 1 is Poisson at a constant rate."""
    same_time_share: float
    """Requests that arrive at the same time as the one before."""
    input_tokens: LengthSummary
    output_tokens: LengthSummary
    input_tokens_per_s: float
    output_tokens_per_s: float
    length_correlation: float
    """Of prompt and answer lengths."""
    block_tokens: int | None
    """Tokens of a block with a hash id; None: it is not known which prompts start alike."""
    reuse: Reuse | None
    """What an unlimited cache would find."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        if self.reuse is not None:
            plain["reuse"] |= {
                "block_share": self.reuse.block_share, "token_share": self.reuse.token_share,
            }  # fmt: skip
        for name in ("input_tokens", "output_tokens"):
            lengths = plain.pop(name)
            plain |= {
                (f"{name}_{key}" if key == "cv" else f"{key}_{name}"): value
                for key, value in lengths.items()
            }
        return plain


def describe(table: RequestTable) -> Summary:
    """Sum up requests; times need not exist (``timed`` False), nor block ids."""
    times = table.arrival_s if table.timed else np.zeros(1)
    duration_s = float(times[-1] - times[0])
    rate = len(table) / duration_s if duration_s else float("nan")
    gaps = np.diff(times)
    counts = per_minute(times)
    return Summary(
        format=table.format,
        requests=len(table),
        duration_s=duration_s,
        requests_per_s=rate,
        busiest_minute_requests_per_s=_or_nan(counts, np.max) / PER_MINUTE_S,
        gap_cv=variation(gaps),
        minute_dispersion=_or_nan(counts, lambda c: np.var(c) / np.mean(c)),
        same_time_share=_or_nan(gaps, lambda g: np.mean(g == 0)) if duration_s else float("nan"),
        input_tokens=lengths(table.input_tokens),
        output_tokens=lengths(table.output_tokens),
        input_tokens_per_s=rate * float(table.input_tokens.mean()),
        output_tokens_per_s=rate * float(table.output_tokens.mean()),
        length_correlation=_correlation(table.input_tokens, table.output_tokens),
        block_tokens=table.prefixes.block_tokens if table.prefixes else None,
        reuse=unlimited_reuse(table.prefixes, table.input_tokens) if table.prefixes else None,
        notes=table.notes,
    )


def lengths(tokens: Integers) -> LengthSummary:
    """Mean, spread and quantiles of lengths. [tokens]"""
    p50, p90, p99 = np.quantile(tokens, (0.5, 0.9, 0.99)).tolist()
    return LengthSummary(
        float(tokens.mean()), variation(tokens), int(tokens.min()), p50, p90, p99,
        int(tokens.max()),
    )  # fmt: skip


def per_minute(times_s: Floats) -> Integers:
    """Requests in each whole minute from the first arrival on."""
    minutes = int((times_s[-1] - times_s[0]) // PER_MINUTE_S)
    place = ((times_s - times_s[0]) // PER_MINUTE_S).astype(np.int64)
    return np.bincount(place[place < minutes], minlength=minutes)


def variation(values: Floats | Integers) -> float:
    """Standard deviation over mean; ``nan`` without values or with mean 0."""
    mean = float(values.mean()) if len(values) else 0.0
    return float(values.std()) / mean if mean else float("nan")


def unlimited_reuse(prefixes: PrefixBlocks, input_tokens: Integers) -> Reuse:
    """What a cache that forgets nothing would find, requests one after the other.

    A block is found where an earlier request had the same id, up to the first that is not.  The
    last token of a prompt is computed even if all of it is found.
    """
    block, counts = prefixes.block_tokens, np.diff(prefixes.offsets)
    place = np.arange(len(prefixes.ids)) - np.repeat(prefixes.offsets[:-1], counts)
    request = np.repeat(np.arange(len(counts)), counts)
    _, first, name = np.unique(prefixes.ids, return_index=True, return_inverse=True)
    asked = place * block < input_tokens[request]
    # an id that first stood in this very request was not there before
    known = asked & (request[first][name] < request)
    missed = np.concatenate(([0], np.cumsum(~known)))
    found = known & (missed[1:] == missed[prefixes.offsets[:-1]][request])
    hits = np.bincount(request[found], minlength=len(counts))
    tokens = np.maximum(0, np.minimum(hits * block, input_tokens - 1))
    return Reuse(int(asked.sum()), int(hits.sum()), int(input_tokens.sum()), int(tokens.sum()))


def _correlation(inputs: Integers, outputs: Integers) -> float:
    if len(inputs) < 2 or not inputs.std() or not outputs.std():
        return float("nan")
    return float(np.corrcoef(inputs, outputs)[0, 1])


def _or_nan(values: Floats | Integers, measure: Any) -> float:
    return float(measure(values)) if len(values) else float("nan")
