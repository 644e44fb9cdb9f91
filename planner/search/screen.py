"""Closed-form estimate of the fleet a layout needs: cheap, optimistic, good enough to rank."""

import math
from dataclasses import dataclass

import numpy as np

from planner.evaluation import Replica
from planner.specs.scenario import Scenario
from planner.specs.workload import Slo, Workload
from planner.workloads import measured_traffic


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
    prefill_s = _prefill_s_per_request(replica, traffic.input_tokens, workload.cached_input_share)
    everyone = s * ranks
    rate = everyone / (traffic.output_tokens * step_s + everyone * prefill_s)
    tpot_s = everyone / (rate * traffic.output_tokens)
    limit = _tpot_limit(scenario.slo)
    keeps = tpot_s <= limit
    if not keeps.any():
        return Estimate(
            0.0, 0.0, float(tpot_s[0]), 0, math.inf,
            "time per output token of a single sequence", float(tpot_s[0]), limit, "s",
        )  # fmt: skip
    best = int(np.argmax(np.where(keeps, rate, 0.0)))
    wanted = traffic.requests_per_s
    replicas = math.ceil(wanted / rate[best]) if math.isfinite(wanted) else 1
    return Estimate(
        float(rate[best]), float(everyone[best]), float(tpot_s[best]), replicas,
        replicas * replica.devices,
    )  # fmt: skip


def _prefill_s_per_request(replica: Replica, prompt: float, cached: float) -> float:
    """Time one prompt adds to a replica whose steps are full of prompts. [s]"""
    ranks = replica.pool.parallelism.attention_dp
    tokens = float(replica.pool.limits.max_step_tokens)
    step = replica.step.prefill_step(tokens, max(1.0, tokens / prompt), prompt, replica.cap_tokens)
    return step.time_s * prompt * (1 - cached) / (tokens * ranks)


def _tpot_limit(slo: Slo) -> float:
    """Promise on the time per output token, whichever percentile; the mean is below all. [s]"""
    given = [value for name, value in slo if name.startswith("tpot") and value is not None]
    return min(given) if given else math.inf
