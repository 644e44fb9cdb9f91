"""evaluate(Scenario) -> Result: the one function that joins everything."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from planner.cost import (
    ApiComparison,
    Cost,
    Flow,
    api_bill_usd,
    serving_cost,
    wh_per_million_tokens,
)
from planner.errors import InputError
from planner.evaluation.assumptions import fleet_assumptions, sources
from planner.evaluation.operations import operations_of
from planner.evaluation.operations_assumptions import left_out, operations_assumptions
from planner.evaluation.operations_report import operations_report, paid_devices
from planner.evaluation.pools import (
    FleetPool,
    cluster_of,
    costs_of,
    decoding_load,
    fleet_of,
    fleet_w,
    prefill_bill_share,
    uses,
)
from planner.evaluation.reach import out_of_reach
from planner.evaluation.replica import Replica
from planner.evaluation.replications import gather, require_chance, seeds_of
from planner.evaluation.result import Day, Energy, Result
from planner.evaluation.scaled import ScaledTiming
from planner.serving import (
    Cluster,
    Metrics,
    Records,
    Watch,
    generate,
    simulate_cluster,
    summarise,
)
from planner.serving.summaries import class_summaries, prefix_summary
from planner.specs.deployment import Disaggregated
from planner.specs.operations import OperationsSpec
from planner.specs.scenario import Scenario
from planner.specs.workload import ClosedLoopArrivals, CurveArrivals, Run, Workload
from planner.step import Step
from planner.workloads import Traffic, measured_traffic, resolve_run, whole_curve


def evaluate(scenario: Scenario, *, replications: int = 1, watch: Watch | None = None) -> Result:
    """Simulate the deployment of ``scenario`` under its workload.

    Parameters
    ----------
    replications : independent runs; the result is that of the first, which has the scenario's own
        seed, and holds what all of them say of its percentiles.
    watch : is given, before each run, a function that tells how far the run is.

    Raises
    ------
    InputError
        The scenario has no deployment or no workload; replications of it would all be alike.
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
    if replications != 1:
        require_chance(workload, replications)
    pools = fleet_of(scenario, scenario.deployment)
    traffic = measured_traffic(workload, scenario.run)
    run = resolve_run(workload, scenario.run)
    operations = operations_of(scenario.operations, pools, run, traffic)
    cluster = cluster_of(
        pools, workload.cached_input_share, scenario.deployment, traffic.input_tokens, operations
    )
    served = _serve(scenario, workload, cluster, watch=watch)
    found = result_of(scenario, workload, pools, served)
    broken = found.metrics.broken
    found = replace(found, out_of_reach=out_of_reach(cluster, found.records, broken))
    if replications == 1:
        return found
    seeds, runs = seeds_of(scenario.run.seed, replications), [found.metrics]
    for seed in seeds[1:]:
        again = scenario.model_copy(update={"run": scenario.run.model_copy(update={"seed": seed})})
        runs.append(_serve(again, workload, cluster, watch=watch)[1])
    return replace(found, replications=gather(seeds, runs))


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
    pools = (FleetPool("both", replica, replicas),)
    cluster = cluster_of(pools, workload.cached_input_share, replica.pool, 0.0)
    return _serve(scenario, workload, cluster, horizon_s)


def serve_apart(
    scenario: Scenario, workload: Workload, pools: tuple[FleetPool, ...],
    deployment: Disaggregated, horizon_s: float | None = None,
) -> Served:  # fmt: skip
    """Run the requests through a prefill and a decode pool."""
    traffic = measured_traffic(workload, scenario.run)
    cluster = cluster_of(pools, workload.cached_input_share, deployment, traffic.input_tokens)
    return _serve(scenario, workload, cluster, horizon_s)


def _serve(
    scenario: Scenario, workload: Workload, cluster: Cluster, horizon_s: float | None = None,
    watch: Watch | None = None,
) -> Served:  # fmt: skip
    start_s = time.perf_counter()
    horizon_s = horizon_s or scenario.run.horizon_s
    stream = generate(workload, resolve_run(workload, scenario.run))
    records = simulate_cluster(
        stream, cluster, horizon_s=horizon_s, stop_overload=horizon_s is None, watch=watch
    )
    metrics = summarise(records, scenario.slo)
    return records, metrics, time.perf_counter() - start_s


OVERLOAD_HORIZON = 2.5
"""A fleet that steps slower than planned may not end; it is given up after so many times its
arrival span."""


def resimulate(
    found: Result, factors: Sequence[float], watch: Watch | None = None
) -> tuple[Metrics, float | None]:
    """Serve the same requests with the steps of each pool so many times as long.

    Returns
    -------
    Their summary, and the mean power of the fleet [W], None where it is not known.
    """
    scenario, workload = found.scenario, need_workload(found.scenario)
    pools = tuple(use.pool for use in found.pools)
    traffic = found.traffic
    deployment = scenario.deployment if len(pools) > 1 else found.replica.pool
    assert deployment is not None
    spec = scenario.operations if found.records.fleet is not None else None
    operations = operations_of(spec, pools, resolve_run(workload, scenario.run), traffic)
    cluster = cluster_of(
        pools, workload.cached_input_share, deployment, traffic.input_tokens, operations
    )
    slower = tuple(
        replace(setup, timing=ScaledTiming(setup.timing, factor))
        for setup, factor in zip(cluster.pools, factors, strict=True)
    )
    span_s = traffic.duration_s + scenario.run.warmup_s
    horizon_s = OVERLOAD_HORIZON * span_s if math.isfinite(span_s) else None
    changed = replace(cluster, pools=slower)
    records, metrics, _ = _serve(scenario, workload, changed, horizon_s, watch)
    return metrics, fleet_w(pools, records)


def result(
    scenario: Scenario, workload: Workload, replica: Replica, replicas: int, served: Served
) -> Result:
    """Add up cost, energy and where the time goes of a simulated fleet."""
    return result_of(scenario, workload, (FleetPool("both", replica, replicas),), served)


def result_of(
    scenario: Scenario, workload: Workload, pools: tuple[FleetPool, ...], served: Served
) -> Result:
    """Add up cost, energy and where the time goes of simulated pools, prefill first."""
    records, metrics, wall_s = served
    prefix = prefix_summary(records)
    closed = isinstance(workload.arrivals, ClosedLoopArrivals)
    overload = None if closed else records.overload()
    if overload is not None:
        metrics = metrics.overloaded()
    spec = scenario.operations if records.fleet is not None else None
    paid = paid_devices(spec, pools, records)
    bill = prefill_bill_share(pools, paid)
    flow = Flow(
        metrics.steady.requests_per_s,
        metrics.steady.input_tokens_per_s,
        metrics.steady.output_tokens_per_s,
        workload.cached_input_share if prefix is None else prefix.hit_token_share,
        metrics.prefill_share if bill is None else bill,
    )
    costs = costs_of(pools, sum(paid), flow)
    main = pools[-1]
    decode, prefill = _typical_steps(pools, metrics, records)
    return Result(
        scenario=scenario,
        replica=main.replica,
        replicas=main.replicas,
        pools=uses(pools, records),
        traffic=measured_traffic(workload, scenario.run),
        metrics=metrics,
        records=records,
        overload=overload,
        decode=decode,
        prefill=prefill,
        costs=costs,
        energy=_energy(fleet_w(pools, records), flow),
        day=None
        if spec and _runs_whole(scenario.run)
        else _day(scenario, workload, costs, sum(pool.devices for pool in pools), flow),
        operations=operations_report(spec, pools, records, scenario.slo),
        assumptions=(
            *fleet_assumptions(pools, scenario.deployment),
            *operations_assumptions(spec, scenario.run.seed),
            *left_out(scenario, pools[0].replica, spec),
        ),
        sources=_sources(workload, pools, costs, spec),
        wall_s=wall_s,
        prefix=prefix,
        classes=class_summaries(records),
    )


def _sources(
    workload: Workload, pools: tuple[FleetPool, ...], costs: tuple[Cost, ...],
    spec: OperationsSpec | None,
) -> tuple[str, ...]:  # fmt: skip
    """Where the facts of every pool are from, without repetition."""
    found = [
        *sources(
            *(
                spec
                for hardware in (pool.replica.hardware for pool in pools)
                for spec in (hardware.accelerator, hardware.system, hardware.calibration)
            ),
            *(c.price for c in costs),
            *([spec] if spec else []),
        ),
        pools[0].replica.model.source,
    ]
    found += [pool.replica.pool.engine.fit.source for pool in pools if pool.replica.pool.engine.fit]
    return tuple(dict.fromkeys([*found, *([workload.source] if workload.source else [])]))


def _typical_steps(
    pools: tuple[FleetPool, ...], metrics: Metrics, records: Records
) -> tuple[Step, Step]:
    """A decode step at the mean load of the run, and a full prefill step."""
    main, first = pools[-1], pools[0].replica
    replica, ranks = main.replica, main.replicas * main.replica.pool.parallelism.attention_dp
    running, held = metrics.mean_running, records.mean_kv_tokens()
    if len(pools) > 1:
        running, held = decoding_load(records)
    sequences = max(1.0, running / ranks)
    context = max(1.0, held / ranks / sequences)
    prompt = float(records.input_tokens.mean())
    tokens = float(first.pool.limits.max_step_tokens)
    return (
        replica.step.decode_step(sequences, context, replica.cap_tokens),
        first.step.prefill_step(tokens, max(1.0, tokens / prompt), prompt, first.cap_tokens),
    )


def _energy(mean_w: float | None, flow: Flow) -> Energy | None:
    """Energy per token at the fleet's mean power."""
    if mean_w is None:
        return None
    return Energy(
        mean_w,
        wh_per_million_tokens(mean_w, flow.input_tokens_per_s + flow.output_tokens_per_s),
        wh_per_million_tokens(mean_w, flow.output_tokens_per_s),
    )


def _runs_whole(run: Run) -> bool:
    """Whether a run takes a whole curve, so that its fleet and cost are those of the day."""
    ends = (run.duration_s, run.requests, run.window, run.horizon_s)
    return run.start_s == 0 and all(end is None for end in ends)


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
        peak.cached_input_share,
        peak.prefill_share,
    )
    day_costs = tuple(serving_cost(c.price, devices, flow) for c in costs)
    inputs, outputs = (rate * whole.duration_s for rate in
                       (whole.input_tokens_per_s, whole.output_tokens_per_s))  # fmt: skip
    own = day_costs[0].usd_per_day * whole.duration_s / 86400 if day_costs else math.nan
    apis = tuple(
        ApiComparison(api, api_bill_usd(api, inputs, outputs, peak.cached_input_share), own)
        for api in scenario.api_prices
    )
    measured = measured_traffic(workload, scenario.run)
    return Day(
        whole.requests, inputs, outputs, day_costs, apis,
        whole.output_tokens_per_s / measured.output_tokens_per_s,
    )  # fmt: skip
