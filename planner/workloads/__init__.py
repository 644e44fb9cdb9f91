"""Traffic: what a described workload amounts to, and traces read, played and summed up.

::

    table   = read_trace(path)                  # rows of Azure, Mooncake, BurstGPT, ... files
    table   = played(arrivals, run)             # the rows a run sends: ranges, scales, horizon
    table   = converse(workload, run)           # turns of conversations that share prefixes
    traffic = measured_traffic(workload, run)   # rates and mean lengths
    summary = describe(table)                   # rates, burstiness, length quantiles, reuse
"""

from planner.workloads.describe import Reuse, Summary, describe
from planner.workloads.lengths import draw_lengths, mean_square_tokens, mean_tokens
from planner.workloads.read import read_arrivals, read_trace
from planner.workloads.renewals import cut, renewals
from planner.workloads.sessions import Conversations, conversations, converse
from planner.workloads.trace import played
from planner.workloads.traffic import (
    Traffic,
    measured_traffic,
    peak_window,
    resolve_run,
    segment_at,
    whole_curve,
    window_traffic,
)

__all__ = [
    "Conversations", "Reuse", "Summary", "Traffic", "conversations", "converse", "cut",
    "describe", "draw_lengths",
    "mean_square_tokens", "mean_tokens", "measured_traffic", "peak_window", "played",
    "read_arrivals", "read_trace", "renewals", "resolve_run", "segment_at", "whole_curve",
    "window_traffic",
]  # fmt: skip
