"""One benchmark run, by its protocol, on the event loop."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.replica import Replica, build
from planner.serving.arrivals import ClosedLoopStream, generate
from planner.serving.cluster import Cluster, Handover, PoolSetup
from planner.serving.config import Role
from planner.serving.engine import Replica as Worker
from planner.serving.simulation import simulate_cluster
from planner.serving.site import Site
from planner.specs.deployment import Pool
from planner.specs.overheads import EngineOverheads
from planner.specs.workload import (
    ClosedLoopArrivals,
    LengthSegment,
    UniformLength,
    Workload,
)
from planner.specs.workload import Run as Window
from planner.validation.setup import Setup
from planner.validation.trace import Trace, TracingMeter, TracingTiming

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replay:
    """What became of the measured requests, one entry each, and of the pools."""

    arrival_s: Floats
    prefilled_s: Floats
    """Prompt computed; without disaggregation the first token. [s]"""
    sent_s: Floats
    """Cache arrived where decoding goes on. [s]"""
    first_token_s: Floats
    """Without the constant time of a request outside the engine. [s]"""
    finish_s: Floats
    output_tokens: Floats
    replica: Floats
    """That computed the prompt."""
    decode_replica: Floats
    traces: tuple[Trace, ...]
    """Of each pool, prefill first."""
    replicas: tuple[Replica, ...]
    """The physics of each pool."""
    notes: tuple[str, ...] = ()
    """What was taken otherwise than stated or computed."""

    @property
    def ttft_s(self) -> float:
        """Mean time to first token in the engine. [s]"""
        return float(np.mean(self.first_token_s - self.arrival_s))

    @property
    def tpot_s(self) -> float:
        """Mean time per output token after the first. [s]"""
        gaps = np.maximum(self.output_tokens - 1, 1)
        return float(np.mean((self.finish_s - self.first_token_s) / gaps))


def stream_of(setup: Setup, seed: int = 1) -> ClosedLoopStream:
    """Return the closed loop of a run: warm-up requests, then the measured ones."""
    load = setup.run.workload

    def between(top: int) -> UniformLength:
        low = max(1, round(load.length_min_share * top))
        return UniformLength(low_tokens=low, high_tokens=top)

    lengths = LengthSegment(
        input=between(load.input_tokens_max), output=between(load.output_tokens_max)
    )
    workload = Workload(
        arrivals=ClosedLoopArrivals(concurrency=load.concurrency), lengths=(lengths,)
    )
    stream = generate(workload, Window(requests=load.requests, seed=seed))
    assert isinstance(stream, ClosedLoopStream)
    return stream


def replay(setup: Setup, overheads: tuple[EngineOverheads, ...], seed: int = 1) -> Replay:
    """Simulate one run.

    Parameters
    ----------
    overheads : of the engine in each pool, prefill first.
    """
    notes = list(setup.notes)
    replicas = tuple(
        _built(setup, pool, own, notes) for pool, own in zip(setup.pools, overheads, strict=True)
    )
    roles: tuple[Role, ...] = ("both",) if setup.prefill is None else ("prefill", "decode")
    timings = [TracingTiming(replica.timing()) for replica in replicas]
    cluster = Cluster(
        tuple(
            PoolSetup(timing, replica.config(0.0, role), replica.pool.replicas)
            for timing, replica, role in zip(timings, replicas, roles, strict=True)
        ),
        Handover(_transfer_s_per_token(replicas[0])) if setup.prefill else None,
        float(overheads[0].request_host_s),
    )
    tracer = _Tracer(timings, cluster.pools[0].replicas if setup.prefill else None)
    done = simulate_cluster(stream_of(setup, seed), cluster, engine=tracer)
    count = len(done.arrival_s)
    delay_s = float(overheads[0].request_host_s)
    if setup.prefill is None:
        first, where = done.first_token_s, done.replica.astype(float)
        prefilled = sent = first
        decoder = where
    else:
        first, decoder = done.first_token_s, done.replica.astype(float)
        prefilled = np.array([tracer.prefilled_s[i] for i in range(count)])
        where = np.array([tracer.prefiller[i] for i in range(count)], float)
        sent = np.array([tracer.sent_s[i] for i in range(count)])
    return Replay(
        done.arrival_s + delay_s, prefilled, sent, first, done.finish_s,
        done.output_tokens.astype(float), where, decoder,
        tuple(Trace(np.array(rows)) for rows in tracer.rows), replicas, tuple(notes),
    )  # fmt: skip


class _Tracer:
    """Makes replicas whose stretches are kept, and notes where and when prompts were done."""

    def __init__(self, timings: list[TracingTiming], prefill: int | None) -> None:
        self.rows: list[list[tuple[float, ...]]] = [[] for _ in timings]
        self.prefilled_s: dict[int, float] = {}
        self.prefiller: dict[int, int] = {}
        self.sent_s: dict[int, float] = {}
        self._timings, self._prefill = timings, prefill

    def __call__(self, number: int, site: Site) -> Worker:
        """Make one."""
        apart = self._prefill is not None
        pool = 1 if apart and number >= (self._prefill or 0) else 0
        worker: Worker
        if apart and pool == 0:
            worker = Worker(number, replace(site, done=self._noting(site)))
        elif apart:
            worker = _Receiver(number, site, self.sent_s)
        else:
            worker = Worker(number, site)
        worker.meter = TracingMeter(number, worker, self._timings[pool], self.rows[pool])
        return worker

    def _noting(self, site: Site) -> Callable[[int, int, float], None]:
        def done(number: int, request: int, now_s: float) -> None:
            self.prefilled_s[request], self.prefiller[request] = now_s, number
            self.sent_s[request] = now_s
            site.done(number, request, now_s)

        return done


class _Receiver(Worker):
    """A replica that notes when a request's cache has come."""

    __slots__ = ("_sent_s",)

    def __init__(self, number: int, site: Site, sent_s: dict[int, float]) -> None:
        super().__init__(number, site)
        self._sent_s = sent_s

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now."""
        self._sent_s[request] = now_s
        super().submit(request, now_s)


def _built(setup: Setup, pool: Pool, overheads: EngineOverheads, notes: list[str]) -> Replica:
    """Put a replica together; it ran, so where the computed cache has no room it gets some."""
    engine = pool.engine.model_copy(update={"overheads": overheads, "fit": None})
    pool = pool.model_copy(update={"engine": engine})
    replica = build(setup.model, setup.hardware, pool)
    load = setup.run.workload
    longest = load.input_tokens_max + load.output_tokens_max + 2 * engine.kv_block_tokens
    longest += replica.memory.sequence_overhead_tokens
    found = replica.memory.kv_capacity_tokens_per_rank
    if found >= 2 * longest:
        return replica
    each = math.ceil(load.concurrency / (pool.replicas * pool.parallelism.attention_dp))
    given = longest * max(2, each)
    notes.append(
        f"cache: {found:,} tokens a rank as computed would not hold two of the longest requests; "
        f"it ran, so {given:,} are taken"
    )
    limits = pool.limits.model_copy(update={"kv_tokens": given})
    return build(setup.model, setup.hardware, pool.model_copy(update={"limits": limits}))


def _transfer_s_per_token(prefill: Replica) -> float:
    """Cache of a prompt token over one device's network. [s]"""
    system, memory = prefill.hardware.system, prefill.memory
    link = system.scale_out if system.scale_out and system.devices_per_node <= 8 else None
    return memory.kv_bytes_per_token / float((link or system.scale_up).bytes_per_s)
