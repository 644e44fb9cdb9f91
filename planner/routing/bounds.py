"""How good any placement could be, and the best split of traffic for the one at hand."""

import numpy as np

from planner.routing.placement import Ints, Placement, replicate
from planner.routing.popularity import Floats


def any_placement_bound(load: Floats, redundant: int, ep: int) -> Floats:
    r"""Least load the hottest rank can have in any placement with so many slots, ``[layers]``.

    Whichever experts are copied, and wherever copies are.  Without copies it is
    ``largest_rank_bound``; with them the larger of the mean rank and of

    .. math:: \min_r \max_e \ell_e / r_e, \qquad r_e \ge 1, \quad \sum_e r_e = E + R

    whose minimum adding copies one by one to the largest load per copy reaches.  Copies beyond one
    a rank do not help: a rank that holds an expert twice takes both shares.

    Parameters
    ----------
    load : load by expert that is *served* ``[layers, experts]``.
    redundant : copies beyond one of each expert.

    References
    ----------
    .. [1] T. Ibaraki, N. Katoh, "Resource Allocation Problems", MIT Press, 1988, section 4.2.
    """
    if not redundant:
        return largest_rank_bound(load, np.ones(load.shape, dtype=np.intp), ep)
    hottest_copy = (load / replicate(load, redundant, ep)).max(axis=1)
    return np.asarray(np.maximum(load.sum(axis=1) / ep, hottest_copy))


def largest_rank_bound(load: Floats, copies: Ints, ep: int) -> Floats:
    """Least load the hottest rank can have in any placement of these copies, ``[layers]``.

    Copies of other experts may do better: ``any_placement_bound``.  Copies of an expert share its
    load evenly.  The larger of three bounds: the mean rank; the hottest copy together with the
    lightest others that fill its rank; and, of the ``m ep + 1`` heaviest copies, the lightest
    ``m + 1`` that must meet on one rank, again filled up.  (A linear programme over placements
    says no more than the mean: spreading every copy evenly over all ranks satisfies its
    relaxation.  See ``best_split`` for the one that does say something.)

    Parameters
    ----------
    load : load by expert ``[layers, experts]``.
    copies : copies of each expert ``[layers, experts]``.

    References
    ----------
    .. [1] M. Dell'Amico, S. Martello, "Bounds for the cardinality constrained P||Cmax problem",
       J. Scheduling 4, 2001.
    """
    layers = len(load)
    slots = int(copies[0].sum())
    local = slots // ep
    per_copy = load / copies
    weight = np.stack([np.repeat(per_copy[i], copies[i]) for i in range(layers)])
    weight = -np.sort(-weight, axis=1)
    rising = np.cumsum(weight[:, ::-1], axis=1)  # sums of the lightest

    def lightest(number: int) -> Floats:
        return rising[:, number - 1] if number else np.zeros(layers)

    best = load.sum(axis=1) / ep
    for meet in range(1, local + 1):
        heavy = (meet - 1) * ep + 1  # so many copies force `meet` of them onto one rank
        together = weight[:, heavy - meet : heavy].sum(axis=1)
        best = np.maximum(best, together + lightest(local - meet))
    return np.asarray(best)


def best_split(load: Floats, placement: Placement) -> Floats:
    r"""Load of the hottest rank if copies could share tokens in the best proportion, ``[layers]``.

    Linear programme a layer: minimise T with :math:`\sum_{s \in e} x_s = load_e`,
    :math:`\sum_{s \in r} x_s \le T`, :math:`x \ge 0`.  A lower bound for every way of choosing
    copies with this placement, the even one included.

    Parameters
    ----------
    load : load by expert ``[layers, experts]``.

    References
    ----------
    .. [1] DeepSeek-AI, LPLB, github.com/deepseek-ai/LPLB (the idea; own formulation).
    """
    from scipy.optimize import linprog

    slots, ep = placement.slots, placement.ep
    slot = np.arange(slots)
    cost = np.append(np.zeros(slots), 1.0)
    by_rank = np.zeros((ep, slots + 1))
    by_rank[slot // placement.local_slots, slot] = 1.0
    by_rank[:, slots] = -1.0
    found = []
    for row, wanted in zip(placement.slot_expert, load, strict=True):
        by_expert = np.zeros((placement.experts, slots + 1))
        by_expert[row, slot] = 1.0
        scale = float(wanted.sum())
        answer = linprog(cost, by_rank, np.zeros(ep), by_expert, wanted / scale, method="highs")
        assert answer.fun is not None  # a placed expert can always be served
        found.append(float(answer.fun) * scale)
    return np.array(found)
