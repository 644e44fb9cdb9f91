"""What every rank has to do in one step: drawn from routing and lengths, or all alike."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from planner.ops.layer import touched_slots
from planner.routing import Gate, Sampling, Steps, distinct, windows
from planner.specs.model import Moe
from planner.specs.routing import Routing
from planner.step import StepModel
from planner.step.graphs import computed, rows_s
from planner.step.schedule import PLAIN, Schedule

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RankWork:
    """One micro-batch on the devices of a pipeline stage."""

    attention: tuple[Floats, Floats, Floats]
    """``[devices]`` each.  Decode: sequences, context, capped context; prefill: tokens, causal
    pairs, capped pairs."""
    tokens: Floats
    """Tokens each device's attention rank computes, ``[devices]``. [tokens]"""
    pairs: Floats
    """(token, expert) pairs that come to each device, ``[layers, devices]``."""
    touched: Floats
    """Expert slots of each device with at least one of them, ``[layers, devices]``."""
    inward: Floats
    """What comes to each device over scale-up, over the mean device's, ``[layers, devices]``."""
    inward_out: Floats
    """The same over scale-out."""
    group_tokens: float
    """Tokens of all ranks. [tokens]"""


@dataclass(frozen=True, slots=True, eq=False)
class StepWork:
    """A step: the whole batch, and the micro-batches it is cut into."""

    prefill: bool
    plan: Schedule
    whole: RankWork
    micro: tuple[RankWork, ...]
    rows: Floats
    """Rows of the output head, ``[devices]``."""
    host_s: float = 0.0
    """Host time beside a step's own: of the busiest rank's rows, and of launches. [s]"""


Load = tuple[Floats, Floats, Floats]
"""``[attention_dp]`` each.  Decode: sequences, context, capped context of each attention rank;
prefill: prompt tokens, causal pairs, capped pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpertWork:
    """What one micro-batch brings to expert ranks, ``[layers, expert ranks]`` each."""

    pairs: Floats
    """(token, expert) pairs."""
    touched: Floats
    """Expert slots with at least one of them."""
    ranks: Floats
    """Distinct tokens that come to each rank, over the mean rank's."""
    nodes: Floats
    """Distinct tokens that each rank's network card takes in or sends, over the mean card's."""


Experts = Callable[[float, int], ExpertWork]
"""(tokens of all ranks, layers) -> what comes to the expert ranks."""


def even(model: StepModel, load: tuple[float, float, float], prefill: bool) -> StepWork:
    """Every rank alike; all expert ranks as loaded as the closed form takes the hottest to be.

    Parameters
    ----------
    load : of one attention rank, as in :data:`Load`.

    References
    ----------
    .. [1] Expected loads, as in :class:`planner.step.StepModel`.
    """
    x, y, z = (np.full(model.shard.attention_dp, value) for value in load)
    return step_work(model, (x, y, z), prefill, hottest(model))


def hottest(model: StepModel, prompt_tokens: float = 1.0) -> Experts:
    """Every expert rank as loaded as the hottest is on average.

    Parameters
    ----------
    prompt_tokens : new tokens of one prompt in the step, which choose alike. [tokens]

    References
    ----------
    .. [1] Expected loads, as in :class:`planner.step.StepModel`.
    """
    shard, moe, hot = model.shard, model.shard.moe, model.hot

    def experts(group_tokens: float, layers: int) -> ExpertWork:
        if moe is None:
            return ExpertWork(*np.zeros((4, layers, shard.moe_ep)))
        ratio, touched = 1.0, float(touched_slots(moe, group_tokens))
        if hot is not None:
            ratio = float(hot.pairs_ratio(group_tokens, prompt_tokens))
            touched = float(hot.most_touched(group_tokens))
        reach = (ratio, ratio) if hot is None else hot.arrivals_ratio(group_tokens, prompt_tokens)
        pairs = ratio * group_tokens * moe.top_k / shard.moe_ep
        each = (np.full((layers, shard.moe_ep), value) for value in (pairs, touched, *reach))
        return ExpertWork(*each)

    return experts


def drawn(
    model: StepModel, routing: Routing, moe: Moe, seed: int, prompt_tokens: float = 1.0
) -> Experts:
    """Expert loads drawn layer by layer, as tokens choose experts; alike where routing is even.

    Parameters
    ----------
    routing, moe : popularity of the experts, and the model's expert layers.
    prompt_tokens : new tokens of one prompt in the step, which choose alike. [tokens]

    References
    ----------
    .. [1] J. Hájek, Ann. Math. Statist. 35, 1964 (see :class:`planner.routing.Steps`).
    """
    placement = model.hot.placement if model.hot else None
    if placement is None:
        return hottest(model, prompt_tokens)
    sampling = Sampling(1, routing.prompt_correlation, max(1, round(prompt_tokens)))
    _, served = windows(routing, moe)
    gate, draws = Gate.of(moe), count()
    steps = Steps(gate, served, seed, sampling)
    per_node = max(1, model.domain // model.shard.moe_tp)
    hot = model.hot

    def experts(group_tokens: float, layers: int) -> ExpertWork:
        number = next(draws)
        tokens = max(1, round(group_tokens))
        counts = steps.counts(tokens)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 6, number]))
        slots = placement.deal(counts, rng)[0]
        rows = np.linspace(0, len(slots) - 1, layers).round().astype(int)
        by_rank = slots[rows].reshape(layers, placement.ep, -1)
        reached, nodes = distinct(by_rank / tokens, per_node)
        if hot is not None and hot.reach is not None:
            spread = hot.reach.card_spread(hot.independent(group_tokens, prompt_tokens))
            nodes = nodes * (1 + spread * rng.standard_normal((2, *nodes.shape)).max(axis=0))
        return ExpertWork(
            by_rank.sum(axis=2), (by_rank > 0).sum(axis=2).astype(float), reached, nodes
        )

    return experts


def decode_load(
    ranks: int, sequences: float, context: float, cap: int | None, variation: float, seed: int
) -> Load:
    """Sequences of each attention rank and the contexts they attend to.

    Parameters
    ----------
    sequences, context : sequences of a rank; their mean context. [tokens]
    variation : standard deviation of a context over its mean; contexts follow a gamma law.

    References
    ----------
    .. [1] Sum and capped sum of independent gamma draws.
    """
    n = max(1, round(sequences))
    contexts = np.full((ranks, n), float(context))
    if variation > 0:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        shape = 1 / variation**2
        contexts = rng.gamma(shape, context / shape, (ranks, n))
    seen = contexts if cap is None else np.minimum(contexts, cap)
    scale = sequences / n
    return np.full(ranks, float(sequences)), scale * contexts.sum(axis=1), scale * seen.sum(axis=1)


def prefill_load(
    ranks: int, tokens: float, prompt: float, cap: int | None, variation: float, seed: int
) -> Load:
    """Prompt tokens of each attention rank and the (query, context) pairs they make.

    Every rank computes ``tokens`` tokens; longer prompts make more pairs of them.

    References
    ----------
    .. [1] Causal attention: a prompt of ``n`` tokens makes ``n^2 / 2`` pairs.
    """
    lengths = np.full((ranks, max(1, round(tokens / prompt))), float(prompt))
    if variation > 0:
        rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
        shape = 1 / variation**2
        lengths = rng.gamma(shape, prompt / shape, lengths.shape)
    weight = lengths * (tokens / lengths.sum(axis=1, keepdims=True))
    capped = lengths / 2
    if cap is not None:
        capped = np.where(lengths <= cap, lengths / 2, cap * (1 - cap / lengths / 2))
    return (
        np.full(ranks, float(tokens)),
        (weight * lengths / 2).sum(axis=1),
        (weight * capped).sum(axis=1),
    )


def step_work(model: StepModel, load: Load, prefill: bool, experts: Experts) -> StepWork:
    """Spread loads by attention rank and by expert rank over the devices of a pipeline stage.

    With pipelining it is the work of one of the ``pp`` micro-batches on the fullest stage.

    References
    ----------
    .. [1] M. Shoeybi et al., "Megatron-LM", arXiv:1909.08053 (ranks of one tensor-parallel group
       are neighbours).
    """
    shard = model.shard
    x, y, z = (np.repeat(each / shard.pp, shard.attention_tp) for each in load)
    tokens = x if prefill else x * model.query_tokens
    busiest, held = float(load[0].max()), False
    if not prefill and model.graphs is not None:
        held = bool(model.graphs.holds(busiest / shard.pp))
    size = computed(model, busiest)
    real = tokens
    if held:  # every rank runs the graph of the busiest
        tokens = np.full_like(x, float(size.tokens) / shard.pp)
    if shard.pp > 1:
        tokens, real = np.maximum(tokens, 1.0), np.maximum(real, 1.0)
    sent = float(tokens.sum()) / shard.attention_tp
    if held and model.graphs is not None:
        q = model.query_tokens
        there = float(real.sum()) / shard.attention_tp / q
        sent = q * float(model.graphs.sent(there, sent / q))
    layers = max(1, round(shard.moe.layers)) if shard.moe else 0
    once = prefill and model.hot is not None and model.hot.reach is not None

    def cut(parts: int) -> RankWork:
        group = sent / parts
        own, found = (x / parts, y / parts, z / parts), experts(group, layers)
        mean = group * (shard.moe.top_k if shard.moe else 1) / shard.moe_ep
        inward = (found.ranks, found.nodes) if once else (found.pairs / mean,) * 2
        pairs, touched, into, into_out = (
            np.repeat(each, shard.moe_tp, axis=1) for each in (found.pairs, found.touched, *inward)
        )
        return RankWork(own, tokens / parts, pairs, touched, into, into_out, group)

    plan = model.plan(prefill)
    if float(load[0].max()) < plan.micro_batches:
        plan = PLAIN
    whole, n = cut(1), plan.micro_batches
    micro = tuple(cut(n) for _ in range(n)) if n > 1 else (whole,)
    if prefill:
        return StepWork(prefill, plan, whole, micro, np.ones_like(tokens))
    outside = model.graphs is not None and not model.graphs.holds_head
    rows = shard.pp * (real if outside else tokens)
    host_s = float(size.launch_s + rows_s(model, busiest))
    return StepWork(prefill, plan, whole, micro, rows, host_s)
