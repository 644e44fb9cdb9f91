"""Closed-form screen of layouts: a whole line of batch limits of a layout in one array call."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.evaluation import Replica
from planner.search.demand import EXPECTED, Demand
from planner.serving.config import Role
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
    least_devices: float = 0.0
    """No fleet of this layout with fewer can keep the promises."""


@dataclass(frozen=True, slots=True)
class Line:
    """One layout at every batch limit: each point is a candidate.  Arrays of shape ``[n]``."""

    sequences: FloatArray
    """Running on one attention rank: the batch limit, when it is full."""
    tpot_s: FloatArray
    """Mean time per output token, prefill between the steps included."""
    requests_per_s: FloatArray
    """One replica."""
    least_tpot_s: FloatArray
    """The same, with every rank's prompts computed at the same time: no run is faster."""
    decoded_tokens: float
    """Tokens of a mean answer that take a decode step."""
    step_s: FloatArray
    """A decode step a token it yields, nobody's prompts in it."""

    def __len__(self) -> int:
        return len(self.sequences)


def screen(
    traffic: Traffic, cached_share: float, replica: Replica, role: Role = "both",
    known: Line | None = None,
) -> Line:  # fmt: skip
    r"""Time per token and rate of one replica at every batch limit it has room for.

    At ``S`` running sequences a rank, a decode step takes :math:`t(S)`; prefill takes a share
    :math:`\phi = r\,t_p` of the time, so :math:`TPOT = t / (1 - \phi)` and, by Little's law,
    :math:`r = S_{all} / (TPOT \cdot o)` for answers of ``o`` tokens.

    A replica that only decodes (``role``) has no prompts between its steps, and one token less.

    Parameters
    ----------
    known : the same replica in another role: its decode steps are not asked again.

    References
    ----------
    .. [1] J. D. C. Little, "A Proof for the Queuing Formula L = lambda W", Oper. Res. 9(3), 1961.
    .. [2] A. Agrawal et al., "Sarathi-Serve", OSDI 2024, section 3 (prefill stalls decoding).
    """
    ranks = replica.pool.parallelism.attention_dp
    limits, memory = replica.pool.limits, replica.memory
    context = traffic.input_tokens + traffic.output_tokens / 2
    # an engine that keeps less than the answer free holds half of it in the mean
    answer = traffic.output_tokens * max(0.5, replica.pool.engine.answer_reserve_share)
    most = min(
        limits.max_sequences,
        memory.kv_capacity_tokens_per_rank
        / (traffic.input_tokens + answer + memory.sequence_overhead_tokens),
    )
    s = np.arange(1, max(1, int(most)) + 1, dtype=float)
    everyone = s * ranks
    if role == "decode":
        step_s = known.step_s if known else _decode_s(replica, s, context)
        decoded = max(1.0, traffic.output_tokens - 1)
        return Line(s, step_s, everyone / (decoded * step_s), step_s, decoded, step_s)
    step_s, one_by_one_s, together_s = _times(replica, s, context, traffic, cached_share)
    share = everyone / traffic.output_tokens
    tpot_s = step_s + share * one_by_one_s
    return Line(
        s, tpot_s, everyone / (traffic.output_tokens * tpot_s),
        step_s + share * np.minimum(one_by_one_s, together_s), traffic.output_tokens, step_s,
    )  # fmt: skip


def _decode_s(replica: Replica, s: FloatArray, context: float) -> FloatArray:
    """A decode step at every load, a token it yields. [s]"""
    step_s = replica.step.decode_step_s(s, context, replica.cap_tokens)
    return _like(step_s / replica.step.tokens_per_step, len(s))


def _times(
    replica: Replica, s: FloatArray, context: float, traffic: Traffic, cached_share: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A decode step, and what a mean prompt adds to it: alone, and on all ranks at once. [s]

    Attention takes the mean *square* of the prompt: long prompts cost more than their number says.
    Every part of the step is asked once, for all loads in one array.
    """
    step, ranks = replica.step, replica.pool.parallelism.attention_dp
    cap = replica.cap_tokens
    prompt = traffic.input_tokens * (1 - cached_share)
    pairs = traffic.square_input_tokens / 2 * (1 - cached_share**2)
    capped = pairs if cap is None else min(pairs, prompt * cap)
    own_tokens = s * step.query_tokens
    n, group = len(s), own_tokens * ranks
    factor = float(step.overheads.prefill_factor)
    tokens = _like(step.tokens(np.concatenate([own_tokens, own_tokens + prompt])).time_s, 2 * n)
    step_s = _decode_s(replica, s, context)
    work, hideable = step.experts(group, prefill=False)
    later, later_hideable = step.experts(
        np.concatenate([group + prompt, group + ranks * prompt]), prefill=True
    )
    exposed = 0.0 if step.scheduled else 1 - step.overlap_share
    after = factor * (_like(later.time_s, 2 * n) + exposed * _like(later_hideable, 2 * n))
    before = work.time_s + exposed * hideable
    core = float(core_s(replica, prompt, pairs, capped))
    own = factor * (tokens[n:] - tokens[:n] + core + step.prompts(prompt).time_s)
    alone = np.maximum(own + after[:n] - before, 0.0)
    together = np.maximum(own + after[n:] - before, 0.0) / ranks
    return step_s, _like(alone, n), _like(together, n)


def core_s(
    replica: Replica, prompt: FloatArray | float, pairs: FloatArray | float,
    capped: FloatArray | float,
) -> FloatArray:  # fmt: skip
    """Attention of prompts, the faster way where layers pick their keys. [s]"""
    ways = (replica.step.prefill_attention(prompt, pairs, capped, way) for way in (True, False))
    times = [np.asarray(sum(c.time_s for c in cores), dtype=float) for cores in ways]
    return np.asarray(np.minimum(*times), dtype=float)


def _like(values: object, n: int) -> FloatArray:
    return np.broadcast_to(np.asarray(values, dtype=float), (n,))


TAIL = 1.2
"""95th percentile of the time per output token over its mean, typical of simulated runs: only a
starting point for the search, never a reason to refuse."""


def estimate(scenario: Scenario, workload: Workload, replica: Replica) -> Estimate:
    """Screen one layout and judge it: :func:`screen`, :func:`judge`.

    References
    ----------
    .. [1] As these two.
    """
    traffic = measured_traffic(workload, scenario.run)
    return judge(scenario, traffic, replica, screen(traffic, workload.cached_input_share, replica))


def judge(
    scenario: Scenario, traffic: Traffic, replica: Replica, line: Line, own: Demand = EXPECTED
) -> Estimate:
    """The batch limit that serves most while the mean time per token leaves room for its tail.

    ``least_devices`` counts what not even the best case can do with less: every step at the
    promise itself, all prompts side by side, no queue.

    Parameters
    ----------
    own : what the run asks for with its seed; without it, what is expected.
    """
    limit = tpot_limit(scenario.slo)
    if line.least_tpot_s[0] > limit:
        step = replica.step
        alone_s = float(step.decode_step_s(1.0, 1.0, replica.cap_tokens) / step.tokens_per_step)
        if alone_s > limit:
            return Estimate(
                0.0, 0.0, alone_s, 0, math.inf,
                "time per output token of a single sequence", alone_s, limit, "s", math.inf,
            )  # fmt: skip
    # the promise is on a tail, the estimate on a mean: aim lower where that is possible at all
    keeps = line.tpot_s <= max(limit / TAIL, float(line.tpot_s[0]))
    best = int(np.argmax(np.where(keeps, line.requests_per_s, 0.0)))
    rate, wanted = float(line.requests_per_s[best]), traffic.requests_per_s
    replicas = math.ceil(wanted / rate) if math.isfinite(wanted) else 1
    return Estimate(
        rate,
        float(line.sequences[best]) * replica.pool.parallelism.attention_dp,
        float(line.tpot_s[best]),
        replicas,
        replicas * replica.devices,
        least_devices=least_replicas(scenario, traffic, replica, line, own) * replica.devices,
    )


ALLOWED_LATE = 0.05
"""Share of requests that the loosest kind of promise, a 95th percentile, lets go.  Promises on a
median let half go, and then nothing is refused by load."""
TAILS = ("p95_s", "p99_s")
"""How the names of promises on a tail end."""


def least_replicas(
    scenario: Scenario, traffic: Traffic, replica: Replica, line: Line, own: Demand
) -> int:
    """Replicas below which the promises cannot be kept; 1 where load does not break them."""
    served = must_serve(scenario.slo, traffic, own)
    if not served or not math.isfinite(served):
        return 1
    paces = [v for n, v in scenario.slo if v and n.startswith("tpot") and n.endswith(TAILS)]
    keeps = line.least_tpot_s <= min(paces, default=math.inf)
    if not keeps.any():
        return 1
    ranks = replica.pool.parallelism.attention_dp
    rates = line.sequences * ranks / (line.decoded_tokens * line.least_tpot_s)
    most = float(np.max(np.where(keeps, rates, 0.0)))
    slowest_s = min(paces, default=float(line.tpot_s.max()))
    served *= own.done_share(slowest_s, traffic.duration_s)
    return max(1, math.ceil(served / most))


def must_serve(slo: Slo, traffic: Traffic, own: Demand) -> float:
    """Requests a second that must at least be served; 0 where no tail is promised on waiting.

    What may wait at the end of the window, or be late, need not have been served in it.
    """
    waits = [v for n, v in slo if v and n.endswith(TAILS) and not n.startswith("tpot")]
    if not waits or not math.isfinite(traffic.duration_s):
        return 0.0
    share = float(traffic.duration_s / (traffic.duration_s + max(waits)))
    return float(traffic.requests_per_s) * own.share * (1 - ALLOWED_LATE) * share


def tpot_limit(slo: Slo) -> float:
    """Promise on the time per output token, whichever percentile; the mean is below all. [s]"""
    given = [value for name, value in slo if name.startswith("tpot") and value is not None]
    return min(given) if given else math.inf
