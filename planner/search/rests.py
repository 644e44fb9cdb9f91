"""What the saving of two pools rests on: prompts, decode batch, handover, and one pool's best."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.evaluation import Result
from planner.evaluation.pools import decoding_load, handover
from planner.search.prompts import screen_prompts
from planner.search.slower import replicas_of, usd_per_replica_hour
from planner.specs.deployment import Disaggregated
from planner.workloads import measured_traffic

FACTORS = np.geomspace(1.0, 10.0, 231)
"""Times as long as predicted that steps are tried at: every hundredth part of the way to ten."""


@dataclass(frozen=True, slots=True)
class Rests:
    """A fleet of two pools, and how far its parts may be off."""

    prompt_alone_s: float
    """A mean prompt with nobody else on a prefill replica."""
    prefill_busy_share: float
    decode_sequences_per_rank: float
    """Mean over the run."""
    decode_max_sequences: int
    decode_kv_share: float
    handover_s: float
    """A mean cache, nobody else on the link."""
    link_busy_share: float
    """Of the busier side's links, with every cache sent once."""
    slower_link: float
    """Times as long that a mean handover may take before the p95 time to first token is broken."""
    one_pool: Result | None
    """The cheapest fleet of one pool that was found."""
    saving_share: float | None
    """Of that fleet's dollars."""
    slower_prefill: float
    """Times as long that prefill steps alone may take before nothing is saved; infinite: more than
    ten times, or nothing to compare with."""
    slower_decode: float
    """The same of decode steps."""


def rests(best: Result, options: Sequence[Result]) -> Rests | None:
    """Return what a fleet of two pools rests on; None for one pool.

    Parameters
    ----------
    options : other fleets that keep every promise, among them perhaps some of one pool.
    """
    deployment, workload = best.scenario.deployment, best.scenario.workload
    if not best.apart or workload is None or not isinstance(deployment, Disaggregated):
        return None
    traffic = measured_traffic(workload, best.scenario.run)
    pools = tuple(use.pool for use in best.pools)
    prefill, decode = pools
    law = handover(pools, deployment, traffic.input_tokens)
    sent_s = traffic.input_tokens * law.s_per_token
    seen_s = (1 - law.overlap_share) * sent_s + law.latency_s
    ranks = decode.replicas * decode.replica.pool.parallelism.attention_dp
    one = min(
        (r for r in options if not r.apart and r.costs),
        key=lambda r: r.costs[0].usd_per_hour, default=None,
    )  # fmt: skip
    slower = _slower(best, one)
    return Rests(
        screen_prompts(traffic, workload.cached_input_share, prefill.replica).alone_s,
        best.pools[0].busy_share,
        decoding_load(best.records)[0] / ranks,
        decode.replica.pool.limits.max_sequences,
        best.pools[1].kv_share,
        sent_s + law.latency_s,
        traffic.requests_per_s * sent_s / min(prefill.replicas, decode.replicas),
        _slower_link(best, seen_s),
        one,
        1 - best.costs[0].usd_per_hour / one.costs[0].usd_per_hour
        if one and best.costs else None,
        *slower,
    )  # fmt: skip


def _slower_link(best: Result, seen_s: float) -> float:
    """Headroom of the first token over what a mean handover adds to it."""
    limit_s = best.scenario.slo.ttft_p95_s
    if limit_s is None or not seen_s:
        return math.inf
    return 1 + max(0.0, limit_s - best.metrics.ttft_s.p95) / seen_s


def _slower(best: Result, one: Result | None) -> tuple[float, float]:
    """Factors of prefill and of decode steps at which two pools cost as much as one."""
    if one is None or not best.costs:
        return math.inf, math.inf
    pools = [use.pool for use in best.pools]
    usd = usd_per_replica_hour(pools, best.costs[0])
    own = sum(each * pool.replicas for each, pool in zip(usd, pools, strict=True))
    spare = one.costs[0].usd_per_hour - own
    at = [replicas_of(best, pool) for pool in pools]

    def factor(grown: Callable[[float], float], each: float, replicas: int) -> float:
        for f in FACTORS.tolist():
            if (grown(f) - replicas) * each >= spare:
                return float(f)
        return math.inf

    first, then = (
        factor(grown, each, pool.replicas) for grown, each, pool in zip(at, usd, pools, strict=True)
    )
    return first, then
