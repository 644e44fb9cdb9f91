"""Requests simulated per second by the jump engine, and by the plain one for comparison.

python scripts/bench_serving.py [requests]
"""

import sys
import time

import numpy as np

from planner.serving import AffineTiming, Records, ReplicaConfig, RequestStream, simulate
from planner.serving.reference import simulate_per_step

TIMING = AffineTiming(
    base_s=0.012,
    per_sequence_s=40e-6,
    per_context_token_s=2.6e-9,
    per_prefill_token_s=30e-6,
)
CONFIG = ReplicaConfig(
    ranks=1, max_sequences=512, max_step_tokens=8192, kv_capacity_tokens=2_000_000
)


def stream(requests: int, requests_per_s: float) -> RequestStream:
    """Draw heavy-tailed lengths with means of 1300 in and 1350 out."""
    rng = np.random.default_rng(7)
    arrival_s = np.cumsum(rng.exponential(1 / requests_per_s, requests))
    lengths = [
        np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, requests), 1, 32_000)
        for mean, sigma in ((1300, 1.0), (1350, 0.9))
    ]
    return RequestStream(arrival_s, *(np.rint(length).astype(np.int64) for length in lengths))


def report(title: str, requests: int, wall_s: float, records: Records) -> float:
    """Print one line and return requests per second."""
    speed = requests / wall_s
    print(
        f"{title:34s} {requests:8d} requests {wall_s:7.2f} s {speed:10,.0f} requests/s   "
        f"{int(records.steps.sum()):9d} steps in {int(records.stretches.sum()):8d} stretches   "
        f"running {records.mean_running(*records.steady_window_s()):6.1f}"
    )
    return speed


def main() -> None:
    """Run every case once."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    few = max(1, requests // 50)
    # about 85 % of what one rank can do; behind a barrier the slowest rank sets the pace
    rate = 6.3
    speeds = []
    for title, engine, count, replicas, config in (
        ("jump, 1 replica of 1 rank", simulate, requests, 1, CONFIG),
        ("jump, the same, fewer requests", simulate, few, 1, CONFIG),
        ("per step, the same", simulate_per_step, few, 1, CONFIG),
        ("jump, 8 replicas of 1 rank", simulate, requests, 8, CONFIG),
        ("jump, 1 replica of 8 ranks", simulate, requests, 1, _ranks(8)),
    ):
        times = stream(count, rate * replicas * (config.ranks * 0.8 if config.ranks > 1 else 1))
        start = time.perf_counter()
        records = engine(times, TIMING, config, replicas=replicas)
        speeds.append(report(title, count, time.perf_counter() - start, records))
    print(f"jump / per step: {speeds[1] / speeds[2]:.0f}")


def _ranks(ranks: int) -> ReplicaConfig:
    return ReplicaConfig(
        ranks, CONFIG.max_sequences, CONFIG.max_step_tokens, CONFIG.kv_capacity_tokens
    )


if __name__ == "__main__":
    main()
