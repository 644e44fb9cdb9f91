"""Closed-form estimate of the fleet a layout needs: cheap, optimistic, good enough to rank."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Replica
from planner.specs.scenario import Scenario
from planner.specs.workload import Slo, Workload
from planner.workloads import Traffic, measured_traffic

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a layout can sustain at its promises, without queueing."""

    requests_per_s: float
    """One replica."""
    sequences: float
    """Running on one replica at that rate."""
    tpot_s: float
    replicas: int
    devices: float
    """``inf`` when no rate keeps the promises."""
    limit: str = ""
    needed: float | None = None
    available: float | None = None
    unit: str = ""


def estimate(scenario: Scenario, workload: Workload, replica: Replica) -> Estimate:
    r"""Rate at which one replica's mean time per output token meets its promise.

    At ``S`` running sequences a rank, a decode step takes :math:`t(S)`; prefill takes a share
    :math:`\phi = r\,t_p` of the time, so :math:`TPOT = t / (1 - \phi)` and, by Little's law,
    :math:`r = S_{all} / (TPOT \cdot o)` for answers of ``o`` tokens.  ``S`` is bounded by the
    promise, the KV capacity and the engine's slots.

    References
    ----------
    .. [1] J. D. C. Little, "A Proof for the Queuing Formula L = lambda W", Oper. Res. 9(3), 1961.
    """
    traffic = measured_traffic(workload, scenario.run)
    ranks = replica.pool.parallelism.attention_dp
    limits, memory = replica.pool.limits, replica.memory
    context = traffic.input_tokens + traffic.output_tokens / 2
    most = min(
        limits.max_sequences,
        memory.kv_capacity_tokens_per_rank
        / (traffic.input_tokens + traffic.output_tokens + memory.sequence_overhead_tokens),
    )
    s = np.unique(np.concatenate([np.arange(1, 33), np.geomspace(32, 4096, 200)]))
    s = s[s <= max(1.0, most)]
    step_s = np.asarray(replica.step.decode_step_s(s, context, replica.cap_tokens))
    step_s = step_s / replica.step.tokens_per_step
    prompt_s = prompt_time_s(replica, s, traffic, workload.cached_input_share)
    everyone = s * ranks
    tpot_s = step_s + everyone * prompt_s / traffic.output_tokens
    rate = everyone / (traffic.output_tokens * tpot_s)
    limit = _tpot_limit(scenario.slo)
    if tpot_s[0] > limit:
        return Estimate(
            0.0, 0.0, float(tpot_s[0]), 0, math.inf,
            "time per output token of a single sequence", float(tpot_s[0]), limit, "s",
        )  # fmt: skip
    # the promise is on a tail, the estimate on a mean: aim lower where that is possible at all
    keeps = tpot_s <= max(limit / TAIL, float(tpot_s[0]))
    best = int(np.argmax(np.where(keeps, rate, 0.0)))
    wanted = traffic.requests_per_s
    replicas = math.ceil(wanted / rate[best]) if math.isfinite(wanted) else 1
    return Estimate(
        float(rate[best]), float(everyone[best]), float(tpot_s[best]), replicas,
        replicas * replica.devices,
    )  # fmt: skip


TAIL = 1.2
"""95th percentile of the time per output token over its mean, typical of simulated runs: only a
starting point for the search, never a reason to refuse."""


def prompt_time_s(
    replica: Replica, sequences: FloatArray, traffic: Traffic, cached_share: float
) -> FloatArray:
    """Time a mean prompt adds to a step in which every rank decodes and one rank computes it. [s]

    Attention takes the mean *square* of the prompt: long prompts cost more than their number says.

    Parameters
    ----------
    sequences : decoding sequences a rank, shape ``[n]``.
    cached_share : share of the prompt that is not computed.

    Returns
    -------
    shape ``[n]``.

    References
    ----------
    .. [1] A. Agrawal et al., "Sarathi-Serve", OSDI 2024, section 3 (prefill stalls decoding).
    """
    step, ranks = replica.step, replica.pool.parallelism.attention_dp
    prompt = traffic.input_tokens * (1 - cached_share)
    pairs = traffic.square_input_tokens / 2 * (1 - cached_share**2)
    capped = pairs if replica.cap_tokens is None else min(pairs, prompt * replica.cap_tokens)
    own = step.tokens(sequences + prompt).time_s - step.tokens(sequences).time_s
    own = own + step.prompts(prompt).time_s
    core = sum(c.time_s for c in step.prefill_attention(prompt, pairs, capped))
    after, after_hidden = step.experts(sequences * ranks + prompt, prefill=True)
    before, before_hidden = step.experts(sequences * ranks, prefill=False)
    shown = 0.0 if step.scheduled else 1 - step.overlap_share
    experts = after.time_s - before.time_s + shown * (after_hidden - before_hidden)
    return np.asarray(np.maximum(own + core + experts, 0.0))


def _tpot_limit(slo: Slo) -> float:
    """Promise on the time per output token, whichever percentile; the mean is below all. [s]"""
    given = [value for name, value in slo if name.startswith("tpot") and value is not None]
    return min(given) if given else math.inf
