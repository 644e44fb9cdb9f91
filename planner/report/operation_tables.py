"""Failures, scaling and maintenance of a run as a table."""

from planner.evaluation import Result
from planner.evaluation.operations_report import SECONDS_PER_DAY, OperationsReport, PoolHistory
from planner.report.table import Table, key, text
from planner.report.words import HOW, plural, seconds, share


def operations(result: Result) -> Table | None:
    """What happened to the fleet, and what requests felt of it; None where nothing could."""
    found = result.operations
    if found is None:
        return None
    rows = [("Availability", _availability(found))]
    if found.expected_failures_per_day:
        rows.append(("In the long run", _expected(found, result.apart)))
    if found.failures or found.spares_used:
        rows.append(("Failures", _failures(found)))
        rows.append(("Requests hit", _hit(found)))
    if found.degraded_good_share is not None:
        rows.append(("While degraded", _degraded(found)))
    rows += [(_name(pool, result.apart), _pool(pool)) for pool in found.pools]
    if found.maintenances:
        rows.append(("Maintenance", plural(found.maintenances, "replica")))
    note = "Whole run, warm-up included; a replica is up while it takes requests."
    return Table("Operations", (key(""), text("")), tuple(rows), note, HOW["operations"])


def _availability(found: OperationsReport) -> str:
    down_s = sum(pool.down_replica_s for pool in found.pools)
    return f"{share(found.availability_share)} of replica-time, {seconds(down_s)} failed"


def _expected(found: OperationsReport, apart: bool) -> str:
    every_s = SECONDS_PER_DAY / found.expected_failures_per_day
    text = f"a failure every {seconds(every_s)}"
    for pool in found.pools:
        name = f"a {pool.role} replica" if apart else "a replica"
        text += f"; {name} is down {share(1 - pool.expected_availability_share)} of the time"
        if pool.spare_replicas_needed is not None:
            more = plural(pool.spare_replicas_needed, "more replica")
            text += f", {more} would keep as many up 99.9 % of it"
    return text


def _failures(found: OperationsReport) -> str:
    kinds = ", ".join(plural(n, kind) for kind, n in sorted(found.failures.items()))
    spares = f"; spares stood in {plural(found.spares_used, 'time')}" if found.spares_used else ""
    return f"{kinds}{spares}"


def _hit(found: OperationsReport) -> str:
    return (
        f"{found.retried:,} retried ({plural(found.retries, 'time')} in all), "
        f"{found.lost:,} lost, {found.shed:,} turned away"
    )


def _degraded(found: OperationsReport) -> str:
    text = (
        f"{share(found.degraded_share)} of the time a replica was down or slow: "
        f"{share(found.degraded_good_share or 0.0)} of requests that came then were good"
    )
    if found.degraded_goodput_requests_per_s is not None:
        text += f", {found.degraded_goodput_requests_per_s:.4g} a second"
    if found.calm_good_share is not None:
        text += f"; {share(found.calm_good_share)} of the others"
    return text


def _name(pool: PoolHistory, apart: bool) -> str:
    return f"{pool.role.capitalize()} replicas" if apart else "Replicas"


def _pool(pool: PoolHistory) -> str:
    scaled = f", {pool.starts} started, {pool.stops} stopped" if pool.starts or pool.stops else ""
    return (
        f"{pool.mean_serving:.3g} up on average, {pool.replica_hours:.4g} replica-hours paid"
        f"{scaled}; {seconds(pool.start_up_s)} to start"
    )


def sentence(result: Result) -> str:
    """What failures and scaling come to, in a sentence; empty where nothing could happen."""
    found = result.operations
    if found is None:
        return ""
    parts = []
    if any(pool.starts or pool.stops for pool in found.pools):
        each = [
            f"{pool.mean_serving:.3g} of up to {use.pool.replicas} {_role(pool, result.apart)}"
            for pool, use in zip(found.pools, result.pools, strict=True)
        ]
        parts.append(f"{' and '.join(each)} serve on average")
    if found.failures:
        parts.append(
            f"{plural(sum(found.failures.values()), 'failure')} leave an availability of "
            f"{share(found.availability_share)}, {found.lost:,} requests are lost"
        )
    return "; ".join(parts) + "." if parts else ""


def _role(pool: PoolHistory, apart: bool) -> str:
    return f"{pool.role} replicas" if apart else "replicas"
