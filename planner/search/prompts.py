"""Closed-form screen of replicas that only compute prompts, for pools apart."""

import math
from dataclasses import dataclass

import numpy as np

from planner.evaluation import Replica
from planner.search.demand import EXPECTED, Demand
from planner.search.screen import Estimate, FloatArray, core_s, must_serve
from planner.specs.scenario import Scenario
from planner.specs.workload import Slo
from planner.workloads import Traffic

POINTS = 24
"""Step sizes that are asked, up to the limit."""
BUSY = (0.3, 0.9)
"""Share of time a prefill replica is planned to compute: a starting point for the search."""


@dataclass(frozen=True, slots=True)
class PromptLine:
    """One replica at every step size: each point is a candidate.  Arrays of shape ``[n]``."""

    step_tokens: FloatArray
    """Prompt tokens of every attention rank in one step."""
    requests_per_s: FloatArray
    """One replica whose steps are all so full."""
    alone_s: float
    """A mean prompt, nobody else there. [s]"""

    def __len__(self) -> int:
        return len(self.step_tokens)


def screen_prompts(traffic: Traffic, cached_share: float, replica: Replica) -> PromptLine:
    r"""Rate at which a replica computes prompts, by the size of its steps.

    With ``T`` tokens on each of ``r`` attention ranks in a step of time :math:`t(T)` and prompts
    of ``n`` computed tokens, it is :math:`r T / (n\,t(T))`.  Every rank is full at the same time,
    so that no run is faster than the best of the sizes.

    References
    ----------
    .. [1] Y. Zhong et al., "DistServe", OSDI 2024, section 3.1 (throughput of prefill saturates
       with the tokens of a step).
    """
    ranks = replica.pool.parallelism.attention_dp
    prompt = traffic.input_tokens * (1 - cached_share)
    most = float(replica.pool.limits.max_step_tokens)
    sizes = np.unique(np.append(np.geomspace(min(64.0, most), most, POINTS).round(), prompt))
    # a mean prompt alone is the last element: one call for everything
    *own, alone_s = _step_s(
        replica, np.append(sizes, prompt), np.append(sizes * ranks, prompt), traffic, cached_share
    ).tolist()
    inside = sizes <= most
    rates = ranks * sizes / (prompt * np.array(own))
    return PromptLine(sizes[inside], rates[inside], alone_s)


def _step_s(
    replica: Replica, rank_tokens: FloatArray, group_tokens: FloatArray, traffic: Traffic,
    cached_share: float,
) -> FloatArray:  # fmt: skip
    """Time of steps of prompts alone, as the event loop has it. [s]"""
    step, cap = replica.step, replica.cap_tokens
    prompt = traffic.input_tokens * (1 - cached_share)
    pairs = traffic.square_input_tokens / 2 * (1 - cached_share**2)
    capped = pairs if cap is None else min(pairs, prompt * cap)
    factor = float(step.overheads.prefill_factor)
    experts, hideable = step.experts(group_tokens, prefill=True)
    exposed = 0.0 if step.scheduled else 1 - step.overlap_share
    core = core_s(replica, rank_tokens, rank_tokens * pairs / prompt, rank_tokens * capped / prompt)
    work = step.tokens(rank_tokens).time_s + step.prompts(rank_tokens).time_s + core
    work = work + experts.time_s + exposed * np.asarray(hideable)
    host_s = step.overhead_s + float(step.overheads.prefill_step_host_s)
    return np.asarray(factor * work + host_s, dtype=float)


def judge_prompts(
    scenario: Scenario, traffic: Traffic, replica: Replica, line: PromptLine,
    own: Demand = EXPECTED,
) -> Estimate:  # fmt: skip
    """How many prefill replicas are likely to do, and how many no run could do without."""
    limit = ttft_limit(scenario.slo)
    busy = busy_share(line.alone_s, limit)
    rate = float(line.requests_per_s.max())
    wanted = traffic.requests_per_s
    known = math.isfinite(wanted) and math.isfinite(traffic.duration_s)
    replicas = math.ceil(wanted / (busy * rate)) if known else 1
    least = math.ceil(must_serve(scenario.slo, traffic, own) / rate) if known else 1
    return Estimate(
        rate, 0.0, line.alone_s, replicas, replicas * replica.devices,
        least_devices=max(1, least) * replica.devices,
    )  # fmt: skip


def busy_share(alone_s: float, limit_s: float) -> float:
    """Share of time a prefill replica may compute, so that prompts need not wait too long."""
    return float(np.clip(1 - alone_s / limit_s, *BUSY))


def ttft_limit(slo: Slo) -> float:
    """Promise on the first token, whichever percentile, else on the whole answer. [s]"""
    for metric in ("ttft", "e2e"):
        given = [value for name, value in slo if name.startswith(metric) and value is not None]
        if given:
            return float(min(given))
    return math.inf
