"""evaluate(Scenario) -> Result: the one function that joins everything."""

import math
import time

from planner.cost import (
    ApiComparison,
    Cost,
    Flow,
    api_bill_usd,
    serving_cost,
    wh_per_million_tokens,
)
from planner.errors import InputError
from planner.evaluation.assumptions import assumptions, sources
from planner.evaluation.replica import Replica, build
from planner.evaluation.result import Day, Energy, Result
from planner.serving import (
    Cluster,
    Metrics,
    PoolSetup,
    Records,
    generate,
    simulate_cluster,
    summarise,
)
from planner.specs.scenario import Scenario
from planner.specs.workload import CurveArrivals, Workload
from planner.step import Step
from planner.workloads import Traffic, measured_traffic, resolve_run, whole_curve


def evaluate(scenario: Scenario) -> Result:
    """Simulate the deployment of ``scenario`` under its workload.

    Raises
    ------
    InputError
        The scenario has no deployment or no workload.
    InfeasibleError
        The deployment cannot run.
    """
    if scenario.deployment is None:
        raise InputError(
            scenario.name, "deployment",
            "is missing; `simulate` needs one (`plan` finds one), e.g. "
            "--set deployment='{parallelism: {attention_tp: 8, moe_tp: 8}, weights: fp8}'",
        )  # fmt: skip
    workload = need_workload(scenario)
    replica = build(scenario.model, scenario.hardware[0], scenario.deployment, scenario.routing)
    replica.memory.require()
    replicas = scenario.deployment.replicas
    return result(
        scenario, workload, replica, replicas, serve(scenario, workload, replica, replicas)
    )


def need_workload(scenario: Scenario) -> Workload:
    """The scenario's workload, or an error that says what is missing."""
    if scenario.workload is None:
        raise InputError(scenario.name, "workload", "is missing; this command needs traffic")
    return scenario.workload


Served = tuple[Records, Metrics, float]
"""What a simulation left, its summary, and the wall time it took [s]."""


def serve(
    scenario: Scenario, workload: Workload, replica: Replica, replicas: int,
    horizon_s: float | None = None,
) -> Served:  # fmt: skip
    """Run the requests through ``replicas`` replicas."""
    start_s = time.perf_counter()
    config = replica.config(workload.cached_input_share)
    pool = PoolSetup(replica.timing(), config, replicas, replica.pool.router)
    records = simulate_cluster(
        generate(workload, resolve_run(workload, scenario.run)),
        Cluster((pool,), request_delay_s=replica.pool.engine.overheads.request_host_s),
        horizon_s=horizon_s,
    )
    metrics = summarise(records, scenario.slo)
    return records, metrics, time.perf_counter() - start_s


def result(
    scenario: Scenario, workload: Workload, replica: Replica, replicas: int, served: Served
) -> Result:
    """Add up cost, energy and where the time goes of a simulated fleet."""
    records, metrics, wall_s = served
    flow = Flow(
        metrics.steady.requests_per_s,
        metrics.steady.input_tokens_per_s,
        metrics.steady.output_tokens_per_s,
        workload.cached_input_share,
        metrics.prefill_share,
    )
    devices = replicas * replica.devices
    costs = tuple(serving_cost(p, devices, flow) for p in replica.hardware.prices)
    decode, prefill = _typical_steps(replica, replicas, metrics, records)
    return Result(
        scenario=scenario,
        replica=replica,
        replicas=replicas,
        traffic=measured_traffic(workload, scenario.run),
        metrics=metrics,
        records=records,
        decode=decode,
        prefill=prefill,
        costs=costs,
        energy=_energy(replica, records, flow),
        day=_day(scenario, workload, costs, devices, flow),
        assumptions=assumptions(replica),
        sources=(
            *sources(
                replica.hardware.accelerator, replica.hardware.system,
                replica.hardware.calibration, *(c.price for c in costs),
            ),
            replica.model.source,
            *([replica.pool.engine.fit.source] if replica.pool.engine.fit else ()),
            *([workload.source] if workload.source else []),
        ),
        wall_s=wall_s,
    )  # fmt: skip


def _typical_steps(
    replica: Replica, replicas: int, metrics: Metrics, records: Records
) -> tuple[Step, Step]:
    """A decode step at the mean load of the run, and a full prefill step."""
    ranks = replicas * replica.pool.parallelism.attention_dp
    sequences = max(1.0, metrics.mean_running / ranks)
    held = records.mean_kv_tokens() / ranks
    context = max(1.0, held / sequences)
    prompt = float(records.input_tokens.mean())
    tokens = float(replica.pool.limits.max_step_tokens)
    return (
        replica.step.decode_step(sequences, context, replica.cap_tokens),
        replica.step.prefill_step(tokens, max(1.0, tokens / prompt), prompt, replica.cap_tokens),
    )


def _energy(replica: Replica, records: Records, flow: Flow) -> Energy | None:
    """Mean power over the run, idle time at idle power."""
    power = replica.power()
    if power is None or not records.end_s:
        return None
    idle_j = power.idle_replica_w * float(records.idle_s.sum())
    fleet_w = (float(records.energy_j.sum()) + idle_j) / records.end_s
    return Energy(
        fleet_w,
        wh_per_million_tokens(fleet_w, flow.input_tokens_per_s + flow.output_tokens_per_s),
        wh_per_million_tokens(fleet_w, flow.output_tokens_per_s),
    )


def _day(
    scenario: Scenario, workload: Workload, costs: tuple[Cost, ...], devices: int, peak: Flow
) -> Day | None:
    """The whole curve on the fleet that serves the measured window."""
    if not isinstance(workload.arrivals, CurveArrivals):
        return None
    whole: Traffic = whole_curve(workload)
    flow = Flow(
        whole.requests_per_s,
        whole.input_tokens_per_s,
        whole.output_tokens_per_s,
        workload.cached_input_share,
        peak.prefill_share,
    )
    day_costs = tuple(serving_cost(c.price, devices, flow) for c in costs)
    inputs, outputs = (rate * whole.duration_s for rate in
                       (whole.input_tokens_per_s, whole.output_tokens_per_s))  # fmt: skip
    own = day_costs[0].usd_per_day * whole.duration_s / 86400 if day_costs else math.nan
    apis = tuple(
        ApiComparison(api, api_bill_usd(api, inputs, outputs, workload.cached_input_share), own)
        for api in scenario.api_prices
    )
    measured = measured_traffic(workload, scenario.run)
    return Day(
        whole.requests, inputs, outputs, day_costs, apis,
        whole.output_tokens_per_s / measured.output_tokens_per_s,
    )  # fmt: skip
