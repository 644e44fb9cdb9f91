"""One benchmark run, by its protocol, on the event loop."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.replica import Replica, build
from planner.serving.arrivals import ClosedLoopStream, generate
from planner.serving.engine import Replica as Worker
from planner.serving.engine import Site
from planner.serving.scheduler import ReplicaConfig
from planner.serving.simulation import Front
from planner.specs.deployment import Pool
from planner.specs.overheads import EngineOverheads
from planner.specs.workload import (
    ClosedLoopArrivals,
    LengthSegment,
    UniformLength,
    Workload,
)
from planner.specs.workload import Run as Window
from planner.validation.handover import HANDED_OVER, DecodeOnly, TwoPools, columns
from planner.validation.setup import Setup
from planner.validation.trace import Trace, TracingMeter, TracingTiming

Floats = NDArray[np.float64]


BALANCE_STEPS = 60
"""Steps that TensorRT-LLM's attention ranks wait for each other's prompts when balancing is on
(``attention_dp_config: {enable_balance: true, timeout_iters: 60}`` in InferenceX's start scripts).
"""


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


def config_of(replica: Replica, setup: Setup, role: str) -> ReplicaConfig:
    """Limits and rules of one replica."""
    engine, limits = setup.engine, replica.pool.limits
    return ReplicaConfig(
        ranks=replica.pool.parallelism.attention_dp,
        max_sequences=limits.max_sequences,
        max_step_tokens=limits.max_step_tokens,
        kv_capacity_tokens=max(1, replica.memory.kv_capacity_tokens_per_rank),
        cap_tokens=replica.cap_tokens,
        sequence_overhead_tokens=replica.memory.sequence_overhead_tokens,
        prefill_first=engine.policy == "prefill_first",
        whole_prompts=engine.policy in ("prefill_first", "inflight"),
        poll_steps=poll_steps(setup) if role == "mixed" else 1,
        balance_steps=BALANCE_STEPS if engine.name == "tensorrt-llm" and role == "mixed" else 0,
        answer_reserve_share=1.0 if engine.preemption == "none" else 0.5,
    )


def poll_steps(setup: Setup) -> int:
    """Decode steps between two looks for new requests."""
    run = setup.run
    if run.settings.poll_steps is not None:
        return run.settings.poll_steps
    blackwell = setup.hardware.accelerator.dense_flop_per_s.fp4 is not None
    if setup.engine.name == "sglang" and blackwell:
        return 10 if run.workload.concurrency < 16 else 30
    return setup.engine.poll_steps


def replay(setup: Setup, overheads: tuple[EngineOverheads, ...], seed: int = 1) -> Replay:
    """Simulate one run.

    Parameters
    ----------
    overheads : of the engine in each pool, prefill first.
    """
    replicas = tuple(
        _built(setup, pool, own) for pool, own in zip(setup.pools, overheads, strict=True)
    )
    if setup.prefill is None:
        return _aggregated(setup, replicas[0], seed)
    return _disaggregated(setup, replicas, seed)


def _built(setup: Setup, pool: Pool, overheads: EngineOverheads) -> Replica:
    """Put a replica together; it ran, so where the computed cache has no room it gets some."""
    replica = build(setup.model, setup.hardware, pool, None, overheads)
    load = setup.run.workload
    longest = load.input_tokens_max + load.output_tokens_max
    if replica.memory.kv_capacity_tokens_per_rank >= longest:
        return replica
    each = math.ceil(load.concurrency / (pool.replicas * pool.parallelism.attention_dp))
    limits = pool.limits.model_copy(update={"kv_tokens": longest * each})
    pool = pool.model_copy(update={"limits": limits})
    return build(setup.model, setup.hardware, pool, None, overheads)


def _traced(workers: list[Worker], timing: TracingTiming) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    for number, worker in enumerate(workers):
        worker.meter = TracingMeter(number, timing, rows)
    return rows


def _aggregated(setup: Setup, replica: Replica, seed: int) -> Replay:
    config = config_of(replica, setup, "mixed")
    front = Front(stream_of(setup, seed), config, "least_requests")
    timing = TracingTiming(replica.timing())
    site = Site(front.clock, front.ledger, timing, config, front.answered)
    workers: list[Any] = [Worker(number, site) for number in range(setup.decode.replicas)]
    rows = _traced(workers, timing)
    front.serve(workers)
    arrival, first, finish, tokens, where = columns(
        front.ledger, "arrival_s", "first_token_s", "finish_s", "output_tokens", "replica"
    )
    return Replay(
        arrival, first, first, first, finish, tokens, where, where,
        (Trace(np.array(rows)),), (replica,),
    )  # fmt: skip


def _disaggregated(setup: Setup, replicas: tuple[Replica, ...], seed: int) -> Replay:
    prefill, decode = replicas
    configs = (
        config_of(prefill, setup, "prefill"),
        replace(
            config_of(decode, setup, "decode"),
            cached_input_share=HANDED_OVER, prefill_first=False, whole_prompts=False,
        ),
    )  # fmt: skip
    timings = TracingTiming(prefill.timing()), TracingTiming(decode.timing())
    front = TwoPools(
        stream_of(setup, seed),
        configs,
        (timings[0], DecodeOnly(timings[1])),
        (prefill.pool.replicas, decode.pool.replicas),
        _transfer_s_per_token(prefill),
    )
    rows = [
        _traced(front.prefill_workers, timings[0]),
        _traced(front.decode_workers, timings[1]),
    ]
    front.run_both()
    arrival, tokens, where = columns(front.ledger, "arrival_s", "output_tokens", "replica")
    (prefilled,) = columns(front.prefill, "first_token_s")
    first, finish, decoded_at = columns(front.decode, "admitted_s", "finish_s", "replica")
    sent = prefilled + _transfer_s_per_token(prefill) * np.array(front.ledger.input_tokens)
    return Replay(
        arrival, prefilled, sent, first, finish, tokens, where, decoded_at,
        tuple(Trace(np.array(each)) for each in rows), replicas,
    )  # fmt: skip


def _transfer_s_per_token(prefill: Replica) -> float:
    """Cache of a prompt token over one device's network. [s]"""
    system, memory = prefill.hardware.system, prefill.memory
    joined = prefill.pool.parallelism.attention_tp
    link = system.scale_out if system.scale_out and system.devices_per_node <= 8 else None
    rate = float((link or system.scale_up).bytes_per_s)
    return memory.kv_bytes_per_token * (1 if prefill.shard.attention_tp else joined) / rate
