"""Hour by hour through DeepSeek's published day: load, capacity, and nodes an autoscaler runs.

    python scripts/production_day.py

Decode only: capacity of a unit at 20 tokens/s a user against the day's output tokens.
"""

from planner import evaluation, files
from planner.serving.autoscale import AutoscalePolicy, follow
from planner.specs.deployment import Disaggregated
from planner.specs.workload import CurveArrivals

NODES = (
    278, 278, 278, 278, 278, 278, 278, 278, 278, 278, 278, 278,
    218, 195.5, 150.5, 83, 68, 68, 83, 158, 248, 278, 278, 278,
)  # fmt: skip
"""Read off the published chart, from 12:00 UTC+8; 226.75 on average.

github deepseek-ai/open-infra-index, 202502OpenSourceWeek, day 6.
"""
ANSWER_TOKENS = 1211
HEADROOM = 0.10
START_UP_S = 600.0
"""Assumed: provisioning, weights, warm-up."""


def main() -> None:
    """Print the table and the day's means."""
    scenario = files.load_scenario("deepseek-production-day")
    deployment, workload = scenario.deployment, scenario.workload
    assert isinstance(deployment, Disaggregated)
    assert workload is not None
    assert isinstance(workload.arrivals, CurveArrivals)
    found = evaluation.steady(scenario)
    at_20 = found.capacities[0].tokens_per_s_per_node
    unit = found.replica.devices / found.replica.hardware.system.devices_per_node
    peak_decode = deployment.decode.replicas * unit
    share = peak_decode / max(NODES)
    loads = [rate * ANSWER_TOKENS for rate in workload.arrivals.requests_per_s]
    policy = AutoscalePolicy(1 - HEADROOM, 1, 100, START_UP_S)
    plan = follow(policy, loads, at_20 * unit, workload.arrivals.window_s)
    print(f"capacity of a decode node at 20 tokens/s a user: {at_20:,.0f} tokens/s")
    print("hour  output tokens/s  published nodes  decode part  utilisation  autoscaled nodes")
    busy = []
    for hour, (load, nodes) in enumerate(zip(loads, NODES, strict=True)):
        busy.append(load / (share * nodes * at_20))
        print(
            f"{(12 + hour) % 24:02d}:00 {load / 1e6:14.2f} M {nodes:16.1f} {share * nodes:12.1f} "
            f"{busy[-1]:12.0%} {plan.paid[hour] * unit:17.0f}"
        )
    day = sum(loads) / (share * sum(NODES))
    print(f"day: {day:,.0f} output tokens/s a decode node (published 14.8 k), utilisation "
          f"{day / at_20:.0%}, of hours {min(busy):.0%} to {max(busy):.0%}")  # fmt: skip
    mean = float(plan.paid.mean()) * unit
    print(f"autoscaler, {HEADROOM:.0%} headroom, {START_UP_S:.0f} s to start: {mean:.1f} decode "
          f"nodes on average (published curve: {share * sum(NODES) / 24:.1f}), overloaded in "
          f"{plan.overloaded_share:.0%} of hours")  # fmt: skip


if __name__ == "__main__":
    main()
