"""Parameters of a family of popularities from published imbalance figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from planner.errors import InputError
from planner.routing.counts import Sampling, approximate_counts, expert_groups
from planner.routing.gate import Gate
from planner.routing.hot_rank import windows
from planner.routing.placement import Layout, place
from planner.routing.popularity import Floats, inclusion
from planner.specs.model import Moe
from planner.specs.routing import (
    DirichletPopularity,
    Drift,
    LayerProfile,
    LognormalPopularity,
    PlacementPolicy,
    Routing,
    UniformPopularity,
    ZipfPopularity,
)

Family = Literal["uniform", "zipf", "lognormal", "dirichlet"]
Statistic = Literal["rank_imbalance", "rank_spread", "slot_imbalance", "slot_spread"]

FIT_SEEDS = tuple(range(101, 107))
REPORT_SEEDS = tuple(range(201, 217))
LAYER_SEEDS = 16
"""Draws of a single layer for each of the whole model: one layer alone is noisy."""
MEAN_SCATTER = 0.08
"""Scatter of a mean over 58 layers between draws of the popularity, as a share."""
LAYER_SCATTER = 0.30
"""The same of one layer."""


@dataclass(frozen=True, slots=True)
class Case:
    """Conditions under which imbalance was measured."""

    ep: int
    redundant: int
    policy: PlacementPolicy
    tokens: int
    """Tokens of all ranks in a step. [tokens]"""


@dataclass(frozen=True, slots=True)
class Target:
    """One published figure.

    ``value``: (max - mean) / mean for an imbalance, standard deviation / mean for a spread.
    ``layer``: MoE layer from 0, or None for the mean over layers.
    """

    quantity: str
    statistic: Statistic
    case: Case
    value: float
    held_out: bool
    layer: int | None = None
    conditions: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LayerImbalance:
    """Statistics ``[seeds, layers]``, mean over steps."""

    rank_imbalance: Floats
    rank_spread: Floats
    slot_imbalance: Floats
    slot_spread: Floats

    def of(self, statistic: Statistic) -> Floats:
        """Return one of them by name.

        References
        ----------
        .. [1] Look-up.
        """
        return {
            "rank_imbalance": self.rank_imbalance,
            "rank_spread": self.rank_spread,
            "slot_imbalance": self.slot_imbalance,
            "slot_spread": self.slot_spread,
        }[statistic]


def measure(
    routing: Routing,
    moe: Moe,
    case: Case,
    seeds: Sequence[int],
    draws: int = 4,
    layers: Sequence[int] | None = None,
) -> LayerImbalance:
    """Imbalance that ``routing`` gives in ``case``; the placement is ``case.policy``'s.

    Parameters
    ----------
    seeds : one popularity of the whole model each.
    draws : steps of each.
    layers : MoE layers wanted, from 0; None is all of them.

    References
    ----------
    .. [1] NVIDIA, "Scaling Expert Parallelism in TensorRT-LLM (Part 1)", technical blog 4, 2025:
       statistics of routed token counts by layer and iteration, then averaged.
    """
    gate = Gate.of(moe)
    even = np.full((1, moe.experts), moe.top_k / moe.experts)
    groups = expert_groups(gate, even, np.random.default_rng(0))
    rows = []
    for seed in seeds:
        past, served = windows(routing, moe, seed)
        if layers is not None:
            past, served = past[list(layers)], served[list(layers)]
        past = inclusion(past, moe.top_k) / moe.top_k
        placement = place(past, Layout(case.ep, case.redundant, case.policy, moe.groups))
        included = inclusion(served, moe.top_k)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 6]))
        drawn = approximate_counts(included, groups, case.tokens, Sampling(draws), rng)
        counts = placement.slot_load(drawn.astype(float))
        ranks = counts.reshape(draws, len(past), case.ep, -1).sum(axis=3)
        rows.append([f(x) for x in (ranks, counts) for f in (_imbalance, _spread)])
    table = np.array(rows)
    return LayerImbalance(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


def _imbalance(counts: Floats) -> Floats:
    mean = counts.mean(axis=2)
    return np.asarray((counts.max(axis=2) / mean - 1.0).mean(axis=0))


def _spread(counts: Floats) -> Floats:
    return np.asarray((counts.std(axis=2) / counts.mean(axis=2)).mean(axis=0))


def predict(routing: Routing, moe: Moe, targets: Sequence[Target], seeds: Sequence[int]) -> Floats:
    """What ``routing`` gives for each target: means over layers, medians of single layers.

    References
    ----------
    .. [1] As ``measure``.
    """
    found = np.empty(len(targets))
    for case in {target.case for target in targets}:
        mine = [(i, t) for i, t in enumerate(targets) if t.case == case]
        layers = sorted({t.layer for _, t in mine if t.layer is not None})
        if len(layers) < len({t.layer for _, t in mine}):
            whole = measure(routing, moe, case, seeds)
        if layers:
            more = [1000 * seed + i for seed in seeds for i in range(LAYER_SEEDS)]
            single = measure(routing, moe, case, more, layers=layers)
        for i, target in mine:
            if target.layer is None:
                found[i] = whole.of(target.statistic).mean()
            else:
                at = layers.index(target.layer)
                found[i] = np.median(single.of(target.statistic)[:, at])
    return found


def predict_given_spread(
    routing: Routing, moe: Moe, case: Case, spreads: Sequence[float], seeds: Sequence[int]
) -> Floats:
    """Rank imbalance of a layer whose spread between ranks is known: the family's tail alone.

    Mean imbalance over spread of the simulated layers with the nearest spreads (200 of them).

    References
    ----------
    .. [1] Nearest-neighbour regression: T. Hastie, R. Tibshirani, J. Friedman, "The Elements of
       Statistical Learning", 2009, section 2.3.2.
    """
    measured = measure(routing, moe, case, seeds)
    spread, imbalance = measured.rank_spread.ravel(), measured.rank_imbalance.ravel()
    found = []
    for wanted in spreads:
        near = np.argsort(np.abs(np.log(spread / wanted)))[:200]
        found.append(wanted * float(np.mean(imbalance[near] / spread[near])))
    return np.array(found)


def routing_of(family: Family, parameters: Floats) -> Routing:
    """Return the routing of ``log(skew, first_share, ramp_layers, spread, drift)``.

    For a Dirichlet the first is ``alpha``; a uniform popularity has drift alone.  Values are cut
    to what the specs allow.

    References
    ----------
    .. [1] Parametrisation of this project.
    """
    skew, first, ramp, spread, drift = np.exp(np.clip(parameters, -9.0, 6.0))
    profile = LayerProfile(
        first_share=float(min(first, 1.0)), ramp_layers=float(ramp), spread=float(min(spread, 1.0))
    )
    moves = Drift(sigma=float(min(drift, 2.0)))
    match family:
        case "uniform":
            return Routing(popularity=UniformPopularity(), drift=moves)
        case "zipf":
            shape: ZipfPopularity | LognormalPopularity | DirichletPopularity = ZipfPopularity(
                exponent=float(min(skew, 3.0))
            )
        case "lognormal":
            shape = LognormalPopularity(sigma=float(min(skew, 3.0)))
        case "dirichlet":
            shape = DirichletPopularity(alpha=float(skew))
        case _:
            raise InputError(
                "", "family", f"{family!r} is not one of {', '.join(get_args(Family))}"
            )
    return Routing(popularity=shape, layer_profile=profile, drift=moves)


START = {
    "uniform": (1.0, 1.0, 1.0, 1.0, 0.1),
    "zipf": (0.6, 0.6, 10.0, 0.2, 0.1),
    "lognormal": (1.0, 0.6, 10.0, 0.2, 0.1),
    "dirichlet": (0.7, 0.6, 10.0, 0.2, 0.1),
}


def fit(family: Family, moe: Moe, targets: Sequence[Target], evaluations: int = 240) -> Routing:
    r"""Least squares of log(predicted / published) over the targets that are not held out.

    Residuals are divided by the scatter expected of the figure (8 % a mean over all layers, 30 % a
    single layer) and cut at 3, so that one odd layer does not bend the rest; a weak prior (a factor
    of 3 on each parameter) holds what the figures do not determine.  Nelder-Mead in the logarithms
    of the parameters, popularities drawn with fixed seeds.

    References
    ----------
    .. [1] D. McFadden, "A Method of Simulated Moments", Econometrica 57, 1989.
    .. [2] J. A. Nelder, R. Mead, Computer Journal 7, 1965.
    """
    from scipy.optimize import minimize

    used = [target for target in targets if not target.held_out]
    wanted = np.array([target.value for target in used])
    scatter = np.array([MEAN_SCATTER if t.layer is None else LAYER_SCATTER for t in used])
    start = np.log(np.array(START[family]))

    def cost(parameters: Floats) -> float:
        predicted = predict(routing_of(family, parameters), moe, used, FIT_SEEDS)
        residual = np.clip(np.log(np.maximum(predicted, 1e-6) / wanted) / scatter, -3.0, 3.0)
        prior = (parameters - start) / np.log(3.0)
        return float((residual**2).sum() + (prior**2).sum())

    simplex = np.vstack([start, start + 0.25 * np.eye(len(start))])
    answer = minimize(
        cost,
        start,
        method="Nelder-Mead",
        options={"maxfev": evaluations, "initial_simplex": simplex, "xatol": 0.01, "fatol": 0.05},
    )
    return rounded(routing_of(family, answer.x))


def rounded(routing: Routing) -> Routing:
    """Parameters to three digits, so that a profile can be read.

    References
    ----------
    .. [1] Rounding.
    """

    def shorten(value: object) -> object:
        if isinstance(value, dict):
            return {key: shorten(inner) for key, inner in value.items()}
        return float(f"{value:.3g}") if isinstance(value, float) else value

    return Routing.model_validate(shorten(routing.model_dump()))


def typical_seed(
    routing: Routing, moe: Moe, targets: Sequence[Target], candidates: Sequence[int]
) -> int:
    """Of ``candidates``, the seed whose single popularity is closest to the mean of all.

    References
    ----------
    .. [1] A choice of this project: a scenario is run with one draw of the popularity.
    """
    means = [t for t in targets if t.layer is None and not t.held_out]
    expected = predict(routing, moe, means, candidates)
    distance: Callable[[int], float] = lambda seed: float(  # noqa: E731
        np.abs(np.log(predict(routing, moe, means, (seed,)) / expected)).max()
    )
    return min(candidates, key=distance)
