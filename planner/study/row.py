"""What a study keeps of one answer: a flat row of plain values, or the reason there is none."""

import math
from typing import Any, Literal, assert_never

from planner import evaluation, search
from planner.errors import InfeasibleError, InputError, PlannerError
from planner.evaluation import Result
from planner.specs.scenario import Scenario
from planner.study.change import changed
from planner.study.grid import Case

Ask = Literal["simulate", "plan", "step"]
"""Simulate the scenario's own deployment; find the smallest fleet; lay out one steady step."""

Row = dict[str, Any]

COLUMNS: dict[str, type] = {
    "label": str, "system": str, "model": str, "weights": str, "kv": str,
    "replicas": int, "devices": int, "nodes": float,
    "slo_met": bool, "good_share": float,
    "ttft_p50_s": float, "ttft_p95_s": float, "ttft_p99_s": float,
    "tpot_p50_s": float, "tpot_p95_s": float, "tpot_p99_s": float,
    "e2e_p50_s": float, "e2e_p95_s": float,
    "requests_per_s": float, "input_tokens_per_s": float, "output_tokens_per_s": float,
    "output_tokens_per_s_per_device": float,
    "busy_share": float, "prefill_share": float, "mean_running": float, "mean_kv_share": float,
    "kv_capacity_tokens": int,
    "step_s": float, "step_bound_s": float, "step_bound_by": str,
    "usd_per_hour": float, "usd_per_million_input_tokens": float,
    "usd_per_million_output_tokens": float, "usd_per_million_tokens": float,
    "price": str,
    "fleet_w": float, "wh_per_million_tokens": float,
    "finished": int, "rejected": int, "unfinished": int,
    "error": str, "limit": str, "needed": float, "available": float, "unit": str,
}  # fmt: skip
"""Columns of an answer and their types; any may be empty."""


def what_to_ask(scenario: Scenario) -> Ask:
    """The question a scenario is made for.

    Raises
    ------
    InputError
        It has neither a workload nor a steady batch.
    """
    if scenario.workload is not None:
        return "simulate" if scenario.deployment is not None else "plan"
    if scenario.steady is not None and scenario.deployment is not None:
        return "step"
    raise InputError(scenario.name, "workload", "is missing; a study needs traffic or `steady`")


def empty_row(case: Case) -> Row:
    """Number and changes of a case, every column empty."""
    return {"index": case.index, **dict.fromkeys(COLUMNS), **case.overrides}


def answer(base: Scenario, ask: Ask, case: Case) -> Row:
    """One case as a row: ``index``, what it changes, and every column.

    A case that cannot be asked or answered is a row with its reason, never an exception.
    """
    row = empty_row(case)
    try:
        row.update(_answered(changed(base, case.overrides), ask))
    except InfeasibleError as error:
        row.update(error=str(error), limit=error.limit, needed=_plain(error.needed),
                   available=_plain(error.available), unit=error.unit)  # fmt: skip
    except PlannerError as error:
        row.update(error=str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as error:
        # a sweep of thousands must not end at one; the row names it as what it is, a defect
        row.update(error=f"defect: {type(error).__name__}: {error}")
    return row


def _answered(scenario: Scenario, ask: Ask) -> Row:
    match ask:
        case "simulate":
            return result_row(evaluation.evaluate(scenario))
        case "step":
            return _step_row(evaluation.steady(scenario))
        case "plan":
            found = search.plan(scenario)
            if found.best is not None:
                return result_row(found.best)
            last = found.rejections[-1]
            return {"error": f"no fleet keeps the promises; {last.label}: {last.limit}",
                    "limit": last.limit, "needed": _plain(last.needed),
                    "available": _plain(last.available), "unit": last.unit}  # fmt: skip
        case _:
            assert_never(ask)


def result_row(result: Result) -> Row:
    """Columns of a simulated fleet."""
    m, replica, cost, energy = result.metrics, result.replica, result.costs, result.energy
    rate = m.steady.output_tokens_per_s
    row: Row = {
        "label": _label(result),
        "system": replica.hardware.system.name,
        "model": replica.model.name,
        "weights": replica.pool.weights,
        "kv": replica.pool.kv,
        "replicas": result.replicas,
        "devices": result.devices,
        "nodes": result.nodes,
        "slo_met": m.slo_met,
        "good_share": m.good_share,
        "requests_per_s": m.steady.requests_per_s,
        "input_tokens_per_s": m.steady.input_tokens_per_s,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_device": rate / result.devices,
        "busy_share": m.busy_share,
        "prefill_share": m.prefill_share,
        "mean_running": m.mean_running,
        "mean_kv_share": m.mean_kv_share,
        "kv_capacity_tokens": replica.memory.kv_capacity_tokens,
        "step_s": result.decode.time_s,
        "step_bound_s": result.decode.bound_s,
        "step_bound_by": result.decode.bound_by,
        "finished": m.finished,
        "rejected": m.rejected,
        "unfinished": m.unfinished,
    }
    for name in ("ttft", "tpot", "e2e"):
        for which in ("p50", "p95", "p99"):
            if f"{name}_{which}_s" in COLUMNS:
                row[f"{name}_{which}_s"] = getattr(getattr(m, f"{name}_s"), which)
    if cost:
        first = cost[0]
        row["price"] = f"{first.price.provider}, {first.price.term}"
        for name in ("usd_per_hour", "usd_per_million_input_tokens",
                     "usd_per_million_output_tokens", "usd_per_million_tokens"):  # fmt: skip
            row[name] = getattr(first, name)
    if energy:
        row.update(fleet_w=energy.fleet_w, wh_per_million_tokens=energy.wh_per_million_tokens)
    return {name: _plain(value) for name, value in row.items()}


def _label(result: Result) -> str:
    """Layout of a replica; of pools apart both layouts, and how many of each."""
    if not result.apart:
        return result.replica.pool.parallelism.label()
    pools = [use.pool for use in result.pools]
    return " + ".join(f"{p.replicas} x {p.replica.pool.parallelism.label()}" for p in pools)


def _step_row(answer: evaluation.SteadyResult) -> Row:
    replica, step = answer.replica, answer.step
    row: Row = {
        "label": replica.pool.parallelism.label(),
        "system": replica.hardware.system.name,
        "model": replica.model.name,
        "weights": replica.pool.weights,
        "kv": replica.pool.kv,
        "replicas": 1,
        "devices": replica.devices,
        "nodes": replica.devices / replica.hardware.system.devices_per_node,
        "output_tokens_per_s": answer.tokens_per_s_per_device * replica.devices,
        "output_tokens_per_s_per_device": answer.tokens_per_s_per_device,
        "kv_capacity_tokens": replica.memory.kv_capacity_tokens,
        "step_s": step.time_s,
        "step_bound_s": step.bound_s,
        "step_bound_by": step.bound_by,
    }
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Python's own types; what is no number is empty."""
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
