"""Exact top-k routing of single tokens: softmax and sigmoid gates, group-limited choice.

A gate adds noise to fixed scores and takes the best ``k``.  The scores are set so that each
expert is chosen with a given probability; the noise stands for what differs between tokens.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.routing.popularity import Floats
from planner.specs.model import GroupScore, Moe

GROUP_BEST: dict[GroupScore, int] = {"best": 1, "best_two": 2}
"""Best scores of a group that are summed to rank it."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How a token chooses its experts.

    ``groups`` > 1: a token first takes the ``top_k_groups`` groups with the highest
    ``group_score``, then its experts among those.  With one group a node this is node-limited
    routing.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.1.2.
    .. [2] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.2.2.
    """

    experts: int
    top_k: int
    groups: int = 1
    top_k_groups: int = 1
    scoring: Literal["softmax", "sigmoid", "sqrtsoftplus"] = "softmax"
    group_score: GroupScore = "best_two"

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise InputError(
                "", "top_k", f"must be 1 to the {self.experts} experts, got {self.top_k}"
            )
        if self.experts % self.groups or not 1 <= self.top_k_groups <= self.groups:
            raise InputError(
                "",
                "groups",
                f"{self.groups} must divide {self.experts} experts, and top_k_groups "
                f"{self.top_k_groups} must be 1 to {self.groups}",
            )
        reachable = self.top_k_groups * (self.experts // self.groups)
        if self.top_k > reachable:
            raise InputError(
                "",
                "top_k_groups",
                f"{self.top_k_groups} groups hold {reachable} experts, top_k is {self.top_k}",
            )

    @property
    def grouped(self) -> bool:
        """Whether the group rule binds at all."""
        return self.top_k_groups < self.groups

    @classmethod
    def of(cls, moe: Moe) -> "Gate":
        """Return the gate of a model."""
        return cls(
            moe.experts, moe.top_k, moe.groups, moe.top_k_groups, moe.scoring, moe.group_score
        )


def scores(gate: Gate, included: Floats) -> Floats:
    r"""Fixed scores that give each expert its probability of being chosen.

    Softmax gates take Gumbel noise on ``log(-log(1 - pi))`` (successive sampling [1]_, [2]_);
    sigmoid gates take logistic noise on ``logit(pi)`` (Pareto sampling [3]_).  Both are exact in
    the limit of many experts; ``calibrated`` removes what is left.

    Parameters
    ----------
    included : probability of being chosen ``[..., experts]``, rows summing to ``top_k``.

    References
    ----------
    .. [1] B. Rosén, "Asymptotic theory for successive sampling with varying probabilities
       without replacement", Ann. Math. Statist. 43, 1972.
    .. [2] W. Kool, H. van Hoof, M. Welling, "Stochastic Beams and Where to Find Them"
       (Gumbel top-k), arXiv:1903.06059.
    .. [3] B. Rosén, "On sampling with probability proportional to size",
       J. Statist. Plann. Inference 62, 1997.
    """
    p = np.clip(included, 1e-12, 1.0 - 1e-9)
    if gate.scoring == "softmax":
        return np.asarray(np.log(-np.log1p(-p)))
    return np.asarray(np.log(p) - np.log1p(-p))


def choose(gate: Gate, noisy: Floats) -> NDArray[np.intp]:
    """Experts chosen by tokens with scores ``noisy [tokens, experts]`` -> ``[tokens, top_k]``.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", inference/model.py, class Gate: the group score is the sum
       of the two best affinities where the gate has a bias (V3), else the best (V2).
    """
    if gate.grouped:
        noisy = np.where(_open_experts(gate, noisy), noisy, -np.inf)
    if gate.top_k == gate.experts:
        return np.broadcast_to(np.arange(gate.experts), noisy.shape)
    return np.asarray(np.argpartition(noisy, -gate.top_k, axis=-1)[..., -gate.top_k :])


def _open_experts(gate: Gate, noisy: Floats) -> NDArray[np.bool_]:
    """Experts in the groups that each token may use, ``[tokens, experts]``."""
    size = gate.experts // gate.groups
    affinity = noisy.reshape(len(noisy), gate.groups, size)
    if gate.scoring == "softmax":  # shares of one sum: the common factor does not change the order
        affinity = np.exp(affinity - affinity.max(axis=(1, 2), keepdims=True))
    else:
        affinity = 1.0 / (1.0 + np.exp(-affinity))
    best = min(GROUP_BEST[gate.group_score], size)
    group = np.partition(affinity, -best, axis=2)[:, :, -best:].sum(axis=2)
    kept = np.argpartition(group, -gate.top_k_groups, axis=1)[:, -gate.top_k_groups :]
    open_group = np.zeros(group.shape, dtype=bool)
    np.put_along_axis(open_group, kept, True, axis=1)
    return np.repeat(open_group, size, axis=1)


def noise(
    gate: Gate,
    tokens: int,
    rng: np.random.Generator,
    correlation: float = 0.0,
    tokens_per_prompt: int = 1,
) -> Floats:
    """Noise of ``tokens`` tokens, ``[tokens, experts]``; tokens of one prompt are consecutive.

    Each token takes the noise of its prompt with probability ``sqrt(correlation)``, that is chooses
    the prompt's experts, and draws its own otherwise.  One token alone behaves as without
    correlation, and the covariance between two tokens of a prompt is ``correlation`` times that
    within one token, exactly.

    References
    ----------
    .. [1] E. J. Gumbel, "Statistical Theory of Extreme Values", 1954 (noise of a softmax choice).
    .. [2] L. Kish, "Survey Sampling", 1965, section 5.4 (intraclass correlation); the mixture that
       realises it is an assumption of this project.
    """
    kind = rng.gumbel if gate.scoring == "softmax" else rng.logistic
    own = kind(size=(tokens, gate.experts))
    if correlation == 0.0 or tokens_per_prompt == 1:
        return own
    prompts = -(-tokens // tokens_per_prompt)
    theme = np.repeat(kind(size=(prompts, gate.experts)), tokens_per_prompt, axis=0)[:tokens]
    follows = rng.random((tokens, 1)) < np.sqrt(correlation)
    return np.where(follows, theme, own)


def calibrated(
    gate: Gate, included: Floats, rng: np.random.Generator, tokens: int = 2048, rounds: int = 12
) -> Floats:
    """Scores ``[layers, experts]`` corrected by simulation until the probabilities are met.

    Needed for group-limited gates with skewed popularity, where the closed form is some per cent
    off.  Stochastic approximation: each round routes ``tokens`` tokens a layer and moves every
    score by the log of wanted over seen, with steps that fall as 1 / round.

    References
    ----------
    .. [1] H. Robbins, S. Monro, "A Stochastic Approximation Method", Ann. Math. Statist. 22, 1951.
    """
    result = scores(gate, included)
    for layer, wanted in enumerate(included):
        for step in range(rounds):
            chosen = choose(gate, result[layer] + noise(gate, tokens, rng))
            seen = np.bincount(chosen.ravel(), minlength=gate.experts)
            weight = 8.0  # pseudo-counts, so that a rare expert does not jump
            ratio = (wanted * tokens + weight) / (seen + weight)
            result[layer] += np.log(ratio) / (1.0 + step / 3.0)
    return result
