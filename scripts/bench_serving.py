"""Requests simulated per second: the jump engine, the plain per-step one, a process a request.

python scripts/bench_serving.py [--requests N] [--json build/bench.json]

Every case runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import simpy

from planner.serving import (
    AffineTiming,
    Cluster,
    Handover,
    PoolSetup,
    Records,
    ReplicaConfig,
    RequestStream,
    generate,
    simulate,
    simulate_cluster,
)
from planner.serving.reference import simulate_per_step
from planner.serving.timing import RankLoad
from planner.specs.workload import Run

TIMING = AffineTiming(
    base_s=0.012, per_sequence_s=40e-6, per_context_token_s=2.6e-9, per_prefill_token_s=30e-6
)
CONFIG = ReplicaConfig(
    ranks=1, max_sequences=256, max_step_tokens=8192, kv_capacity_tokens=4_000_000
)
CAPACITY_PER_S = 4.56
"""Requests/s of one replica with all slots taken, as a saturated run of this workload gives."""
LOAD = 0.85


def stream(requests: int, replicas: int) -> RequestStream:
    """Poisson arrivals at 85 % of capacity; log-normal lengths, means 4,000 and 1,000, sigma 1."""
    rng = np.random.default_rng(7)
    gap_s = 1 / (LOAD * CAPACITY_PER_S * replicas)
    arrival_s = np.cumsum(rng.exponential(gap_s, requests))
    lengths = [
        np.clip(rng.lognormal(np.log(mean) - 0.5, 1.0, requests), 1, 131_072)
        for mean in (4000, 1000)
    ]
    return RequestStream(arrival_s, *(np.rint(length).astype(np.int64) for length in lengths))


def jump(requests: int, replicas: int) -> Records:
    """Run the jump engine."""
    return simulate(stream(requests, replicas), TIMING, CONFIG, replicas=replicas)


def per_step(requests: int, replicas: int) -> Records:
    """Run the plain engine that looks at every sequence in every step."""
    return simulate_per_step(stream(requests, replicas), TIMING, CONFIG, replicas=replicas)


def processes(requests: int, replicas: int) -> None:
    """Run a process a request and an event a token: how such simulators are first written.

    Each request takes a slot of the emptiest replica and then waits for a step a token; a step's
    time is that of the sequences which run as it begins.
    """
    rows, env = stream(requests, replicas), simpy.Environment()
    slots = [simpy.Resource(env, CONFIG.max_sequences) for _ in range(replicas)]
    load = RankLoad()

    def request(number: int) -> object:
        yield env.timeout(float(rows.arrival_s[number]))
        replica = min(slots, key=lambda one: one.count + len(one.queue))
        with replica.request() as slot:
            yield slot
            prompt, answer = int(rows.input_tokens[number]), int(rows.output_tokens[number])
            yield env.timeout(TIMING.base_s + TIMING.per_prefill_token_s * prompt)
            for _ in range(answer - 1):
                load.sequences = replica.count
                load.context_tokens = load.capped_tokens = prompt * replica.count
                yield env.timeout(TIMING.segment([load]).first_step_s)

    for number in range(requests):
        env.process(request(number))  # type: ignore[arg-type]
    env.run()


def day(requests: int, replicas: int) -> Records:
    """One day of DeepSeek-R1 traffic: 144 windows, prompts and answers in pools of their own."""
    from planner import files
    from planner.workloads import resolve_run

    scenario = files.load_scenario("deepseek-r1-day")
    workload = scenario.workload
    assert workload is not None
    run = scenario.run.model_copy(update={"window": None, "warmup_s": 0.0})
    rows = generate(workload, resolve_run(workload, run))
    assert isinstance(rows, RequestStream)
    if requests < len(rows.arrival_s):
        columns = rows.arrival_s, rows.input_tokens, rows.output_tokens
        rows = RequestStream(*(column[:requests] for column in columns))
    prefill = PoolSetup(TIMING, replace(CONFIG, role="prefill"), 6 * replicas)
    decode = PoolSetup(TIMING, replace(CONFIG, role="decode"), 40 * replicas)
    return simulate_cluster(rows, Cluster((prefill, decode), Handover(70_000 / 50e9, 1e-4, 0.9)))


def mooncake(requests: int, replicas: int) -> Records:
    """Mooncake's conversations, again and again, at prefix caches that are full."""
    from planner import files
    from planner.specs.workload import TraceArrivals

    scenario = files.load_scenario("prefix-caching")
    workload = scenario.workload
    assert workload is not None
    assert isinstance(workload.arrivals, TraceArrivals)
    hours = workload.arrivals.model_copy(
        update={"from_s": 0.0, "to_s": None, "horizon_s": 3600.0 * requests / 12_031}
    )
    rows = generate(workload.model_copy(update={"arrivals": hours}), Run(requests=requests))
    config = replace(CONFIG, kv_capacity_tokens=3_000_000, prefix_cache=True)
    return simulate(rows, TIMING, config, replicas=replicas, router="prefix_aware")


Case = Callable[[int, int], Records | None]
CASES: dict[str, tuple[Case, int, int]] = {
    "jump, 8 replicas": (jump, 1_000_000, 8),
    "jump, 8 replicas, 100 k": (jump, 100_000, 8),
    "jump, 8 replicas, 10 k": (jump, 10_000, 8),
    "jump, 1 replica, 100 k": (jump, 100_000, 1),
    "jump, 64 replicas, 100 k": (jump, 100_000, 64),
    "R1 day, prefill and decode apart": (day, 10_000_000, 1),
    "Mooncake, prefix caches, 8 replicas": (mooncake, 100_000, 8),
    "per step, 8 replicas": (per_step, 1_000, 8),
    "process per request, 8 replicas": (processes, 1_000, 8),
}


def one(name: str, most: int) -> dict[str, object]:
    """Run a case here and now."""
    case, requests, replicas = CASES[name]
    requests = min(requests, most)
    start_s, cpu_s = time.perf_counter(), time.process_time()
    records = case(requests, replicas)
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    row: dict[str, object] = {}
    if records is not None:
        requests = len(records.arrival_s)
        row = {
            "steps": int(records.steps.sum()), "stretches": int(records.stretches.sum()),
            "busy_share": float(records.busy_s.mean() / records.end_s),
            "max_queue": records.max_queue(),
        }  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name, "requests": requests, "replicas": replicas, "wall_s": wall_s,
        "cpu_s": cpu_s, "requests_per_s": requests / wall_s, "peak_rss_bytes": peak * 1024, **row,
    }  # fmt: skip


def main() -> None:
    """Run every case once and print a table."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--requests", type=int, default=10_000_000, help="at most so many a case")
    ask.add_argument("--json", type=Path, default=Path("build/bench.json"))
    ask.add_argument("--case", choices=CASES, help="run one case here and print it as JSON")
    given = ask.parse_args()
    if given.case:
        print(json.dumps(one(given.case, given.requests)))
        return
    rows = []
    for name in CASES:
        command = [sys.executable, __file__, "--case", name, "--requests", str(given.requests)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
    plain = next(row for row in rows if row["name"].startswith("per step"))
    print(f"{'':34s} {'requests':>9s} {'wall s':>8s} {'cpu s':>8s} {'requests/s':>11s} "
          f"{'x per step':>10s} {'peak MB':>8s}")  # fmt: skip
    for row in rows:
        row["ratio_to_reference"] = row["requests_per_s"] / plain["requests_per_s"]
        print(
            f"{row['name']:34s} {row['requests']:9d} {row['wall_s']:8.2f} {row['cpu_s']:8.2f} "
            f"{row['requests_per_s']:11,.0f} {row['ratio_to_reference']:10.1f} "
            f"{row['peak_rss_bytes'] / 1e6:8.0f}"
        )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
