"""Which experts the tokens of a batch pick: ids for the kernels, counts for the row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .recorded import Recorded

ZIPF_EXPONENT = 0.8
"""Popularity of the i-th expert falls as ``i ** -0.8``."""
LOG_NORMAL_SIGMA = 0.6
"""Spread of the logarithm of expert popularity."""
CHUNK_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Routed:
    """What one device of an expert-parallel group gets: its tokens and their local experts."""

    ids: NDArray[np.int32]
    """Local expert of each pick ``[tokens, top_k]``, -1 where another device holds it."""
    counts: NDArray[np.int64]
    """Tokens of each local expert."""

    @property
    def tokens(self) -> int:
        """Tokens with at least one pick here."""
        return len(self.ids)

    @property
    def pairs(self) -> int:
        """(token, expert) pairs here."""
        return int(self.counts.sum())

    @property
    def touched(self) -> int:
        """Experts here with at least one token."""
        return int((self.counts > 0).sum())


def popularity(experts: int, distribution: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Log of the experts' shares, in random order.

    Raises
    ------
    ValueError
        For an unknown distribution.

    References
    ----------
    .. [1] DeepEP pull request 393: load of real prompts is best fitted by a log-normal.
    """
    if distribution == "zipf":
        return rng.permutation(-ZIPF_EXPONENT * np.log(np.arange(1, experts + 1)))
    if distribution == "lognormal":
        return LOG_NORMAL_SIGMA * rng.standard_normal(experts)
    raise ValueError(
        f"no distribution {distribution!r}: balanced, zipf, lognormal, or recorded counts"
    )


def picks(
    tokens: int,
    experts: int,
    top_k: int,
    distribution: str | Recorded,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Draw ``top_k`` distinct experts a token ``[tokens, top_k]``.

    ``balanced`` gives every expert the same count (within one); the others draw without
    replacement by adding Gumbel noise to the log of the popularity [1]_, recorded counts so
    that each expert gets tokens as often as it did.

    References
    ----------
    .. [1] W. Kool et al., "Stochastic Beams and Where to Find Them", arXiv:1903.06059, section 2.
    """
    if distribution == "balanced":
        order = rng.permutation(experts).astype(np.int32)
        ids = order[np.arange(tokens * top_k) % experts].reshape(tokens, top_k)
        return ids[rng.permutation(tokens)]
    if isinstance(distribution, Recorded):
        if len(distribution.counts) != experts or not distribution.allows(top_k):
            raise ValueError(f"these counts are of no {experts} experts with {top_k} a token")
        sizes = (min(CHUNK_TOKENS, tokens - start) for start in range(0, tokens, CHUNK_TOKENS))
        return np.concatenate([distribution.draw(size, top_k, rng) for size in sizes])
    logit = popularity(experts, distribution, rng).astype(np.float32)
    parts = []
    for start in range(0, tokens, CHUNK_TOKENS):
        size = (min(CHUNK_TOKENS, tokens - start), experts)
        waits = rng.standard_exponential(size, dtype=np.float32)  # in single precision some are 0
        keys = logit - np.log(np.maximum(waits, np.finfo(np.float32).tiny))
        parts.append(np.argpartition(keys, experts - top_k, axis=1)[:, experts - top_k :])
    return np.concatenate(parts).astype(np.int32)


def route(
    group_tokens: int,
    experts: int,
    local_experts: int,
    top_k: int,
    distribution: str | Recorded,
    rng: np.random.Generator,
) -> Routed:
    """Route the tokens of a whole group and keep what one random device of it gets.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> here = route(64, 8, 2, 2, "balanced", rng)
    >>> here.pairs, here.touched, here.counts.tolist()
    (32, 2, [16, 16])
    """
    ids = picks(group_tokens, experts, top_k, distribution, rng)
    device = int(rng.integers(experts // local_experts))
    ids = ids - device * local_experts
    ids[(ids < 0) | (ids >= local_experts)] = -1
    ids = np.ascontiguousarray(ids[(ids >= 0).any(axis=1)], dtype=np.int32)
    return Routed(ids, np.bincount(ids[ids >= 0], minlength=local_experts))
