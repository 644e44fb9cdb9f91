"""Requests through a serving cluster, one event per stretch of engine steps.

::

    stream  = generate(workload, run)                      # RequestStream | ClosedLoopStream
    records = simulate(stream, timing, config, replicas=4, router="least_requests", horizon_s=None)
    metrics = summarise(records, slo)                      # slo: Slo | None

    ReplicaConfig(ranks, max_sequences, max_step_tokens, kv_capacity_tokens,
                  cap_tokens=None, cached_input_share=0.0)   # limits are those of one rank

A request waits for a slot and for KV (prompt and answer are reserved at once), its prompt is
computed in chunks beside the decoding of others, and the last chunk's step gives the first token.
"""

from planner.serving.arrivals import ClosedLoopStream, RequestStream, Stream, generate
from planner.serving.cluster import Cluster, Handover, PoolSetup
from planner.serving.config import ReplicaConfig
from planner.serving.describe import WorkloadReport, describe_workload
from planner.serving.metrics import Metrics, Percentiles, Promise, Throughput, summarise
from planner.serving.progress import Progress, Watch
from planner.serving.records import Records
from planner.serving.series import Series, series
from planner.serving.simulation import simulate, simulate_cluster
from planner.serving.timing import AffineTiming, RankLoad, Segment, Timing

__all__ = [
    "AffineTiming",
    "ClosedLoopStream",
    "Cluster",
    "Handover",
    "Metrics",
    "Percentiles",
    "PoolSetup",
    "Progress",
    "Promise",
    "RankLoad",
    "Records",
    "ReplicaConfig",
    "RequestStream",
    "Segment",
    "Series",
    "Stream",
    "Throughput",
    "Timing",
    "Watch",
    "WorkloadReport",
    "describe_workload",
    "generate",
    "series",
    "simulate",
    "simulate_cluster",
    "summarise",
]
