"""Tokens per expert of a batch: routed token by token, or from the moments of that."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.routing.gate import Gate, calibrated, choose, noise, scores
from planner.routing.popularity import Floats, inclusion

Method = Literal["auto", "exact", "approximate"]

EXACT_TOKENS = 64
"""Largest batch that ``auto`` routes token by token."""

BINOMIAL_TOKENS = 1024
"""Largest batch whose counts the approximation draws as whole numbers."""

CHUNK = 4096
"""Tokens routed at once, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many batches are drawn, and how alike the tokens of one prompt choose."""

    draws: int = 20
    """Independent batches (steps)."""
    correlation: float = 0.0
    """Of choosing an expert, between two tokens of one prompt."""
    tokens_per_prompt: int = 1
    """New tokens of one prompt in a step (decode: 1, prefill: the chunk)."""

    def inflation(self, tokens: int) -> float:
        """Variance of a count over that of independent tokens: ``1 + (n - 1) rho``.

        References
        ----------
        .. [1] L. Kish, "Survey Sampling", 1965, section 5.4 (design effect of clusters).
        """
        return 1.0 + (min(self.tokens_per_prompt, tokens) - 1) * self.correlation


INDEPENDENT = Sampling()


def sample_counts(
    gate: Gate,
    shares: Floats,
    tokens: int,
    seed: int,
    sampling: Sampling = INDEPENDENT,
    method: Method = "auto",
) -> Floats:
    """Tokens per expert of ``sampling.draws`` independent batches.

    Parameters
    ----------
    shares : popularity ``[layers, experts]``, rows summing to 1.
    tokens : tokens of the batch. [tokens]
    method : ``exact`` routes every token; ``approximate`` draws counts with the same mean and
        covariance (binomial up to 1,024 tokens, normal above); ``auto`` is exact up to 64.
    sampling : number of draws, correlation of the tokens of one prompt.

    Returns
    -------
    Counts ``[draws, layers, experts]``. [tokens]  Exact ones sum to ``tokens * top_k``.

    Raises
    ------
    InputError
        When ``top_k`` exceeds the experts.

    References
    ----------
    .. [1] J. Hájek, "Asymptotic theory of rejective sampling with varying probabilities from a
       finite population", Ann. Math. Statist. 35, 1964 (covariance of a fixed-size choice).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    included = inclusion(shares, gate.top_k)
    if method == "exact" or (method == "auto" and tokens <= EXACT_TOKENS):
        fixed = calibrated(gate, included, rng) if gate.grouped else scores(gate, included)
        return exact_counts(gate, fixed, tokens, sampling, rng)
    groups = expert_groups(gate, included, rng)
    return approximate_counts(included, groups, tokens, sampling, rng).astype(float)


class Steps:
    """Counts of one step after another: what does not change between them is prepared once.

    Parameters
    ----------
    shares : popularity ``[layers, experts]``, rows summing to 1.

    References
    ----------
    .. [1] As :func:`sample_counts`.
    """

    def __init__(self, gate: Gate, shares: Floats, seed: int, sampling: Sampling) -> None:
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 8]))
        self._gate, self._sampling = gate, sampling
        self._included = inclusion(shares, gate.top_k)
        self._groups = expert_groups(gate, self._included, self._rng)
        self._fixed: Floats | None = None

    def counts(self, tokens: int) -> Floats:
        """Tokens per expert of the next step, ``[draws, layers, experts]``. [tokens]"""
        rng, sampling = self._rng, self._sampling
        if tokens > EXACT_TOKENS:
            drawn = approximate_counts(self._included, self._groups, tokens, sampling, rng)
            return drawn.astype(float)
        if self._fixed is None:
            gate, included = self._gate, self._included
            self._fixed = (
                calibrated(gate, included, rng) if gate.grouped else scores(gate, included)
            )
        return exact_counts(self._gate, self._fixed, tokens, sampling, rng)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of a gate, as far as counts depend on them."""

    of: NDArray[np.intp]
    """Group of each expert, ``[experts]``."""
    number: int
    excess: float
    """``group_excess``."""


def expert_groups(gate: Gate, included: Floats, rng: np.random.Generator) -> Groups:
    """Group of each expert, and how alike a group's experts are chosen.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    of = np.arange(gate.experts) // (gate.experts // gate.groups)
    return Groups(of, gate.groups, group_excess(gate, included, rng))


def exact_counts(
    gate: Gate,
    fixed: Floats,
    tokens: int,
    sampling: Sampling,
    rng: np.random.Generator,
) -> Floats:
    """Route every token of all batches with scores ``fixed [layers, experts]``.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    result = np.empty((sampling.draws, len(fixed), gate.experts))
    for layer, row in enumerate(fixed):
        result[:, layer] = histogram(chosen_experts(gate, row, tokens, sampling, rng), gate.experts)
    return result


def chosen_experts(
    gate: Gate,
    fixed: Floats,
    tokens: int,
    sampling: Sampling,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Experts of every token of one layer, ``[draws, tokens, top_k]``.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    draws = sampling.draws
    length = sampling.tokens_per_prompt if sampling.correlation else 1
    if length == 1:
        parts = [
            choose(gate, fixed + noise(gate, min(CHUNK, draws * tokens - start), rng))
            for start in range(0, draws * tokens, CHUNK)
        ]
        return np.concatenate(parts).reshape(draws, tokens, gate.top_k)
    step = length * max(1, CHUNK // length)  # whole prompts
    batches = []
    for _ in range(draws):
        for start in range(0, tokens, step):
            size = min(step, tokens - start)
            batches.append(
                choose(gate, fixed + noise(gate, size, rng, sampling.correlation, length))
            )
    return np.concatenate(batches).reshape(draws, tokens, gate.top_k)


def histogram(chosen: NDArray[np.intp], bins: int) -> Floats:
    """Count ``chosen [draws, ...]`` (0 to bins - 1) per draw: ``[draws, bins]``.

    References
    ----------
    .. [1] Counting.
    """
    flat = chosen.reshape(len(chosen), -1)
    keys = flat + bins * np.arange(len(flat))[:, None]
    counts = np.bincount(keys.ravel(), minlength=bins * len(flat))
    return counts.reshape(len(flat), bins).astype(float)


def approximate_counts(
    included: Floats,
    groups: Groups,
    tokens: int,
    sampling: Sampling,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    r"""Counts with the mean and (nearly) the covariance of routing every token.

    For ``B`` tokens and probabilities :math:`\pi` with :math:`c = \pi (1 - \pi)`:

    .. math:: n = B\pi + \sqrt{f B (c - \kappa \pi^2)}\, z + \pi \sqrt{f B \kappa}\, y_{group}
       - \frac{c}{\sum c} \sum (\text{the two random terms})

    whose covariance is Hájek's for a choice of fixed size, plus what the experts of one group have
    in common under group-limited routing (:math:`\kappa`), times the prompts' inflation ``f``.
    Up to 1,024 tokens the counts are binomial draws, so that empty experts are counted right,
    scaled to the number of pairs.

    Parameters
    ----------
    included : probability of a token ``[layers, experts]``.
    groups : expert group of each column, and kappa.

    Returns
    -------
    Counts ``[draws, layers, experts]``. [tokens]

    References
    ----------
    .. [1] J. Hájek, Ann. Math. Statist. 35, 1964.
    """
    shape = (sampling.draws, *included.shape)
    inflation = sampling.inflation(tokens)
    pi = included.astype(np.float32)
    spread = pi * (1 - pi)
    kappa = groups.excess * inflation / tokens
    common = np.zeros((1, 1, 1), dtype=np.float32)
    if kappa:
        y = rng.standard_normal((sampling.draws, len(included), groups.number), dtype=np.float32)
        common = np.sqrt(np.float32(kappa)) * y[:, :, groups.of]
    if tokens <= BINOMIAL_TOKENS:
        factor = 1.0 + common.astype(float)
        if inflation > 1.0:
            shape_of_gamma = np.maximum(tokens * included, 1e-9) / (inflation - 1.0)
            factor = factor * rng.standard_gamma(shape_of_gamma, shape) / shape_of_gamma
        chance = np.clip(included * factor, 0.0, 1.0)
        whole = rng.binomial(tokens, np.broadcast_to(chance, shape)).astype(np.float32)
        total = whole.sum(axis=-1, keepdims=True)
        pairs = np.float32(tokens * included[0].sum())
        whole *= np.divide(pairs, total, out=np.ones_like(total), where=total > 0)
        return whole
    random = rng.standard_normal(shape, dtype=np.float32)
    own = np.maximum(spread - np.float32(groups.excess) * pi * pi, 0.1 * spread)
    random *= np.sqrt(np.float32(inflation * tokens) * own)
    if kappa:
        random += tokens * pi * common
    random -= spread / spread.sum(axis=-1, keepdims=True) * random.sum(axis=-1, keepdims=True)
    random += tokens * pi
    return np.maximum(random, 0.0, out=random)


def group_excess(
    gate: Gate, included: Floats, rng: np.random.Generator, tokens: int = 512
) -> float:
    r"""How much experts of one group have in common: kappa of ``approximate_counts``.

    Routes ``tokens`` tokens in at most four layers and sets kappa so that the variance of pairs
    by group is met, :math:`\sum_g Var(N_g) = \sum_g v_g (1 - 2 a_g) + a_g^2 \sum v` with
    :math:`v_g = C_g + \kappa (\Pi_g^2 - \sum \pi^2)`, :math:`a_g = C_g / C`.  0 without
    group-limited routing; 0.59 for DeepSeek-V3 (4 of 8 groups, 8 of 256 experts) with equally
    popular experts.

    Parameters
    ----------
    included : probability of being chosen ``[layers, experts]``.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    """
    if not gate.grouped or gate.top_k == 1:
        return 0.0
    found = []
    picked = np.unique(np.linspace(0, len(included) - 1, 4).round().astype(int))
    for row in included[picked]:
        chosen = chosen_experts(gate, scores(gate, row), tokens, Sampling(draws=1), rng)[0]
        size = gate.experts // gate.groups
        seen = histogram(chosen // size, gate.groups).var(axis=0).sum()
        by_group = row.reshape(gate.groups, size)
        own, common = (
            (by_group * (1 - by_group)).sum(axis=1),
            by_group.sum(axis=1) ** 2 - (by_group**2).sum(axis=1),
        )
        share = own / own.sum()

        def projected(v: Floats, share: Floats = share) -> float:
            return float((v * (1 - 2 * share)).sum() + (share**2).sum() * v.sum())

        found.append((seen - projected(own)) / projected(common))
    return max(0.0, float(np.mean(found)))
