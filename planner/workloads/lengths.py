"""Length distributions: their moments, and draws from them."""

import math
from typing import assert_never

import numpy as np

from planner.specs.lengths import (
    FixedLength,
    Length,
    LognormalLength,
    QuantileLength,
    UniformLength,
)
from planner.specs.requests import Integers


def mean_tokens(length: Length) -> float:
    """Mean of a length distribution, before rounding and cutting. [tokens]"""
    match length:
        case FixedLength():
            return float(length.tokens)
        case UniformLength():
            return (length.low_tokens + length.high_tokens) / 2
        case LognormalLength():
            return length.mean_tokens
        case QuantileLength():
            return sum(length.bin_means_tokens) / len(length.bin_means_tokens)


def mean_square_tokens(length: Length) -> float:
    """Mean square of a length distribution, before rounding and cutting. [tokens^2]"""
    match length:
        case FixedLength():
            return float(length.tokens) ** 2
        case UniformLength():
            low, high = length.low_tokens, length.high_tokens
            return (low * low + low * high + high * high) / 3
        case LognormalLength():
            return min(length.mean_tokens**2 * math.exp(length.sigma**2), length.max_tokens**2)
        case QuantileLength():
            return sum(x * x for x in length.bin_means_tokens) / len(length.bin_means_tokens)


def draw_lengths(length: Length, count: int, rng: np.random.Generator) -> Integers:
    """Draw ``count`` lengths of at least 1. [tokens]"""
    match length:
        case FixedLength():
            return np.full(count, length.tokens, np.int64)
        case UniformLength():
            return rng.integers(length.low_tokens, length.high_tokens, count, endpoint=True)
        case LognormalLength():
            # the mean of a log-normal is exp(mu + sigma^2 / 2)
            mu = math.log(length.mean_tokens) - length.sigma**2 / 2
            drawn = np.rint(rng.lognormal(mu, length.sigma, count))
            return np.clip(drawn, 1, length.max_tokens).astype(np.int64)
        case QuantileLength():
            bins = np.maximum(1, np.rint(length.bin_means_tokens)).astype(np.int64)
            return bins[rng.integers(len(bins), size=count)]
        case _:
            assert_never(length)
