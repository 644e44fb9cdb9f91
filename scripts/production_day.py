"""DeepSeek's published day: capacity of both kinds of node, utilisation by hour, nodes, money.

    python scripts/production_day.py

Each hour's prompt and output tokens against what a prefill and a decode node can do; requests are
not simulated (`moe-planner simulate deepseek-production-day` does that for the busiest hour).
"""

from dataclasses import dataclass

from planner import evaluation, files
from planner.evaluation.replica import Replica, build
from planner.serving.autoscale import AutoscalePolicy, FleetPlan, follow
from planner.serving.config import attention_pairs, cached_prefix
from planner.specs.deployment import Disaggregated
from planner.specs.scenario import Scenario
from planner.specs.workload import CurveArrivals

NODES = (
    278, 278, 278, 278, 278, 278, 278, 278, 278, 278, 278, 278,
    218, 195.5, 150.5, 83, 68, 68, 83, 158, 248, 278, 278, 278,
)  # fmt: skip
"""Read off the published chart, from 12:00 UTC+8.

github deepseek-ai/open-infra-index, 202502OpenSourceWeek, day 6.
"""
MEAN_NODES = 226.75
"""Published there, as the 278 of the peak."""
PROMPT_TOKENS, ANSWER_TOKENS = 4383, 1211
"""Of a request, cached part included: the scenario's lengths."""
HEADROOM = 0.10
START_UP_S = 600.0
"""Assumed: provisioning, weights, warm-up."""


@dataclass(frozen=True)
class Pool:
    """One kind of unit through the day."""

    name: str
    nodes_per_unit: float
    tokens_per_s_per_node: float
    """What a node can do: prompt tokens, cached ones included, or output tokens."""
    published_nodes: tuple[float, ...]
    """Its part of the published nodes, by hour."""
    loads: tuple[float, ...]
    """By hour. [tokens/s]"""

    @property
    def busy(self) -> list[float]:
        """Utilisation of the published nodes, by hour."""
        pairs = zip(self.loads, self.published_nodes, strict=True)
        return [load / (nodes * self.tokens_per_s_per_node) for load, nodes in pairs]

    def autoscaled(self, window_s: float) -> FleetPlan:
        """Units that a policy with :data:`HEADROOM` runs, by hour."""
        policy = AutoscalePolicy(1 - HEADROOM, 1, 100, START_UP_S)
        return follow(
            policy, self.loads, self.tokens_per_s_per_node * self.nodes_per_unit, window_s
        )


def prefill_tokens_per_s_per_node(replica: Replica, cached_share: float) -> float:
    """Prompt tokens a node takes in when every step is full, cached ones included. [tokens/s]"""
    cached = cached_prefix(PROMPT_TOKENS, cached_share)
    computed = PROMPT_TOKENS - cached
    tokens = float(replica.pool.limits.max_step_tokens)
    # the step takes a mean context: twice the pairs of a computed token
    context = 2 * attention_pairs(cached, computed) / computed
    step = replica.step.prefill_step(tokens, tokens / computed, context, None)
    per_rank = tokens * PROMPT_TOKENS / computed / step.time_s
    per_node = replica.hardware.system.devices_per_node
    return per_rank * replica.shard.attention_dp * per_node / replica.devices


def pools(scenario: Scenario) -> tuple[Pool, Pool]:
    """Prefill and decode units of the scenario, and what the day asks of them."""
    deployment, workload = scenario.deployment, scenario.workload
    assert isinstance(deployment, Disaggregated)
    assert workload is not None
    assert isinstance(workload.arrivals, CurveArrivals)
    rates = workload.arrivals.requests_per_s
    decode = evaluation.steady(scenario)
    prefill = build(
        scenario.model, scenario.hardware[0], deployment.prefill, scenario.routing, "disaggregated"
    )
    capacities = (
        prefill_tokens_per_s_per_node(prefill, workload.cached_input_share),
        decode.capacities[0].tokens_per_s_per_node,
    )
    found = []
    for name, pool, replica, tokens, capacity in (
        ("prefill", deployment.prefill, prefill, PROMPT_TOKENS, capacities[0]),
        ("decode", deployment.decode, decode.replica, ANSWER_TOKENS, capacities[1]),
    ):
        unit = replica.devices / replica.hardware.system.devices_per_node
        share = pool.replicas * unit / max(NODES)
        found.append(
            Pool(
                name, unit, capacity, tuple(share * nodes for nodes in NODES),
                tuple(rate * tokens for rate in rates),
            )
        )  # fmt: skip
    return found[0], found[1]


def usd_per_day(scenario: Scenario, nodes: float) -> float:
    """Dollars of a day of so many nodes, at the scenario's first price."""
    hardware = scenario.hardware[0]
    return nodes * hardware.system.devices_per_node * 24 * hardware.prices[0].usd_per_device_hour


def main() -> None:
    """Print the table and the day's means."""
    scenario = files.load_scenario("deepseek-production-day")
    both = pools(scenario)
    plans = [pool.autoscaled(3600.0) for pool in both]
    prefill, decode = both
    print(
        f"a prefill node, steps full: {prefill.tokens_per_s_per_node:,.0f} prompt tokens/s, cached "
        "included; a decode node at 20 tokens/s a user: "
        f"{decode.tokens_per_s_per_node:,.0f} output tokens/s"
    )
    print("       published   M tokens/s       nodes of it    utilisation   autoscaled nodes")
    print("hour       nodes  prompt output   prefill decode  prefill decode  prefill decode")
    for hour, nodes in enumerate(NODES):
        loads, parts, busy, scaled = zip(
            *(
                (p.loads[hour] / 1e6, p.published_nodes[hour], p.busy[hour],
                 plan.paid[hour] * p.nodes_per_unit)
                for p, plan in zip(both, plans, strict=True)
            ),
            strict=True,
        )  # fmt: skip
        print(f"{(12 + hour) % 24:02d}:00 {nodes:10.1f} {loads[0]:7.2f} {loads[1]:6.2f} "
              f"{parts[0]:9.1f} {parts[1]:6.1f} {busy[0]:8.0%} {busy[1]:6.0%} "
              f"{scaled[0]:8.0f} {scaled[1]:6.0f}")  # fmt: skip
    total = 0.0
    for pool, plan in zip(both, plans, strict=True):
        day = sum(pool.loads) / sum(pool.published_nodes)
        mean = float(plan.paid.mean()) * pool.nodes_per_unit
        total += mean
        print(f"{pool.name}: {day:,.0f} tokens/s a node over the day, utilisation "
              f"{day / pool.tokens_per_s_per_node:.0%}, of hours {min(pool.busy):.0%} to "
              f"{max(pool.busy):.0%}; {HEADROOM:.0%} headroom and {START_UP_S:.0f} s to start: "
              f"{mean:.1f} nodes on average, overloaded in {plan.overloaded_share:.0%} of hours "
              f"(published curve: {sum(pool.published_nodes) / 24:.1f})")  # fmt: skip
    print(f"cost of a day: ${usd_per_day(scenario, MEAN_NODES):,.0f} for the published "
          f"{MEAN_NODES:g} nodes, ${usd_per_day(scenario, total):,.0f} for the autoscaled "
          f"{total:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
