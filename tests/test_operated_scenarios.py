"""Scenarios whose fleet fails, scales or is asked too much, from file to report."""

import json
from typing import Any

import pytest

from planner import evaluation, files
from planner.errors import InputError
from planner.report import pages
from planner.report.answer import headline
from planner.report.operation_tables import operations
from planner.report.tables import latency
from planner.report.words import NOTHING, share
from planner.serving.faults import spares_needed
from planner.specs.deployment import Pool


@pytest.fixture(scope="module")
def failing() -> evaluation.Result:
    return evaluation.evaluate(files.load_scenario("r1-chat-failures", {"run.duration_s": 900}))


@pytest.fixture(scope="module")
def scaled() -> evaluation.Result:
    return evaluation.evaluate(files.load_scenario("r1-chat-autoscale"))


def chat(**changes: Any) -> evaluation.Result:
    quick = {"run.duration_s": 60, "run.warmup_s": 10, "routing": None}
    return evaluation.evaluate(files.load_scenario("r1-chat-ep16", quick | changes))


def test_failures_show_in_the_report_and_every_request_is_counted(
    failing: evaluation.Result,
) -> None:
    found, records = failing.operations, failing.records
    assert found is not None
    assert found.failures == {"device": 1, "link": 1}
    assert found.spares_used == 1
    assert found.retried > 50
    assert found.lost == 0
    assert records.finished.all()
    # weights of 50 GB a device at 1 GB/s, and 60 s
    down_s = found.pools[0].down_replica_s
    assert down_s == pytest.approx(found.pools[0].start_up_s)
    assert found.pools[0].start_up_s == pytest.approx(
        60 + failing.replica.memory.weights_bytes / 1e9
    )
    total_s = 2 * records.end_s
    assert found.availability_share == pytest.approx(1 - down_s / total_s)
    table = operations(failing)
    assert table is not None
    said = f"2 failures leave an availability of {share(found.availability_share)}"
    assert said in headline(failing)
    assert {row[0] for row in table.rows} >= {"Availability", "Failures", "Requests hit"}


def test_the_long_run_follows_from_the_rates(failing: evaluation.Result) -> None:
    found = failing.operations
    assert found is not None
    per_day = 86400 * 32 * (1 / (2.99e4 + 1200) + 1 / (2.18e5 + 300))
    assert found.expected_failures_per_day == pytest.approx(per_day)
    # a dead device costs its 16-device replica a start, and a repair if the spare is out; slow
    # links stop nothing
    start_s = found.pools[0].start_up_s
    offered = 32 * 1200 / 2.99e4
    down_s = start_s + offered / (1 + offered) * 1200
    up = found.pools[0].expected_availability_share
    assert up == pytest.approx((1 + down_s / 2.99e4) ** -16)
    spares = found.pools[0].spare_replicas_needed
    assert spares == spares_needed(2, up, 0.999)


def test_without_spares_a_repair_comes_on_top_and_nodes_are_counted_by_the_node() -> None:
    rules = {
        "start_up": {"load_bytes_per_s": 1e12, "other_s": 50},
        "failures": [{"component": "node", "mtbf_s": 1e6, "mttr_s": 950}],
    }
    found = chat(operations=rules).operations
    assert found is not None
    expected = found.pools[0].expected_availability_share
    assert expected == pytest.approx((1 + 1000.04 / 1e6) ** -2, abs=1e-6)
    assert found.expected_failures_per_day == pytest.approx(86400 * 4 / (1e6 + 950))


def test_the_page_holds_the_same_table(failing: evaluation.Result) -> None:
    titles = [table.title for block in pages.blocks(failing) for table in block.tables]
    assert "Operations" in titles


def test_a_plan_says_that_it_leaves_operations_out() -> None:
    scenario = files.load_scenario("r1-chat-failures", {"run.duration_s": 30, "run.warmup_s": 5})
    assert isinstance(scenario.deployment, Pool)
    replica = evaluation.build(scenario.model, scenario.hardware[0], scenario.deployment)
    workload = evaluation.need_workload(scenario)
    served = evaluation.serve(scenario, workload, replica, 2)
    result = evaluation.result(scenario, workload, replica, 2, served)
    assert result.operations is None
    assert "operations" in {a.name for a in result.assumptions}


def test_a_spare_node_is_paid_for(failing: evaluation.Result) -> None:
    price = float(failing.costs[0].price.usd_per_device_hour)
    assert failing.costs[0].usd_per_hour == pytest.approx(price * (32 + 8))


def test_numbers_behind_failures_are_listed_with_their_sources(failing: evaluation.Result) -> None:
    named = {a.name: a for a in failing.assumptions}
    assert named["operations.failures.0.mtbf_s"].source == "llama3-interruptions"
    assert named["operations.failures.0.mttr_s"].source == "choice of the scenario"
    assert "llama3-interruptions" in failing.sources
    assert "choice of the scenario" not in failing.sources
    assert "up to 5 times" in named["requests of a failed replica"].note


def test_json_keeps_units_and_events(scaled: evaluation.Result) -> None:
    plain = json.loads(json.dumps(scaled.to_dict(), allow_nan=False))["operations"]
    assert {"availability_share", "degraded_share", "retries", "lost", "shed"} <= set(plain)
    assert {"replica_hours", "start_up_s", "down_replica_s"} <= set(plain["pools"][0])
    first = plain["scaling_events"][0]
    assert (first["before"], first["after"], first["reason"]) == (1, 2, "autoscale")


def test_only_replicas_that_run_are_paid_for(scaled: evaluation.Result) -> None:
    found, records = scaled.operations, scaled.records
    assert found is not None
    assert found.pools[0].starts >= 2
    assert found.pools[0].stops >= 2
    assert found.pools[0].replica_hours < 0.75 * 4 * records.end_s / 3600
    window = records.steady_window_s()
    assert records.fleet is not None
    mean = records.fleet.paid_s(window).sum() / (window[1] - window[0])
    price = float(scaled.costs[0].price.usd_per_device_hour)
    assert scaled.costs[0].usd_per_hour == pytest.approx(price * 8 * mean)
    assert "of up to 4 replicas serve on average" in headline(scaled)


def test_the_shipped_fleets_are_not_overloaded(
    failing: evaluation.Result, scaled: evaluation.Result
) -> None:
    assert failing.overload is None
    assert scaled.overload is None


def test_too_much_traffic_is_called_so_and_has_no_waits() -> None:
    result = chat(**{"deployment.replicas": 1, "workload.arrivals.requests_per_s": 70})
    assert result.overload is not None
    assert result.records.end_s < 61
    first_s = result.records.first_token_s
    waiting = ~(first_s <= result.records.arrival_s[-1])
    assert result.overload.queued == waiting.sum()
    assert 20 < result.overload.growth_requests_per_s < 70
    assert "without bound" in headline(result)
    assert [cell for row in latency(result).rows[:1] for cell in row[1:]] == [NOTHING] * 5
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["overload"]["growth_requests_per_s"] > 0
    assert plain["ttft_s"]["p95"] is None
    assert plain["slo_met"] is False


def test_a_horizon_ends_the_run() -> None:
    result = chat(**{"run.horizon_s": 30})
    assert result.records.arrival_s[-1] <= 30
    assert result.records.end_s == pytest.approx(30, abs=1)
    assert result.metrics.unfinished > 0


def test_a_promise_that_no_load_keeps_is_named() -> None:
    result = chat(**{"slo.tpot_p50_s": 0.005, "slo.ttft_p95_s": 1e-3, "slo.tpot_p95_s": 0.03})
    named = {promise.name: promise.value_s for promise in result.out_of_reach}
    assert set(named) == {"tpot_p50_s", "ttft_p95_s"}  # 30 ms a token is only too much load
    assert named["tpot_p50_s"] < result.metrics.tpot_s.p50
    assert named["ttft_p95_s"] < result.metrics.ttft_s.p95
    assert "No load keeps TPOT p50 ≤ 5 ms: a request alone on the fleet takes" in headline(result)


CLOSED = {"kind": "closed_loop", "concurrency": 20, "think_s": 0.0}


def test_clients_that_come_back_at_once_cannot_be_turned_away() -> None:
    rules = {"start_up": START, "no_replica": "shed"}
    with pytest.raises(InputError, match="no_replica: shed sends clients away"):
        chat(operations=rules, **{"workload.arrivals": CLOSED, "run.requests": 50})


def test_clients_that_think_try_again_while_the_fleet_is_down() -> None:
    rules = {
        "start_up": {"load_bytes_per_s": 5e9, "other_s": 10},
        "no_replica": "shed",
        "on_failure": "lose",
        "failures": [{"component": "node", "mtbf_s": 100, "mttr_s": 60}],
    }
    clients = CLOSED | {"think_s": 0.05, "concurrency": 60}
    result = chat(
        operations=rules,
        **{"workload.arrivals": clients, "run.duration_s": 300, "deployment.replicas": 1},
    )
    assert result.operations is not None
    assert result.operations.shed > 10_000
    assert result.overload is None


AUTO: dict[str, Any] = {
    "signal": "slots", "min_replicas": 1, "max_replicas": 3, "interval_s": 10,
    "down_cool_down_s": 60,
}  # fmt: skip
START = {"load_bytes_per_s": 1e9, "other_s": 10}


@pytest.mark.parametrize(
    ("operations_", "message"),
    [
        ({"failures": []}, "start_up"),
        ({"start_up": START, "decode": {"spare_nodes": 1}}, "has no decode pool"),
        (
            {"start_up": START, "autoscale": AUTO, "schedule": [{"start_s": 0, "replicas": 1}]},
            "exclude each other",
        ),
        ({"start_up": START, "schedule": [{"start_s": 5, "replicas": 1}]}, "start at start_s 0"),
        ({"start_up": START, "autoscale": AUTO | {"signal": "queue"}}, "requests_per_replica goes"),
        ({"start_up": START, "autoscale": AUTO | {"min_replicas": 9}}, "above max_replicas 3"),
        ({"start_up": START, "autoscale": AUTO | {"max_replicas": 1}}, "below the deployment's 2"),
        (
            {"start_up": START, "failures": [{"component": "fan", "mtbf_s": 1, "mttr_s": 1}]},
            "device",
        ),
        (
            {"start_up": START, "failures": [{"component": "node", "mtbf_s": -1, "mttr_s": 1}]},
            "mtbf_s",
        ),
        (
            {"start_up": START, "maintenance": [{"begin_s": 0, "duration_s": 5, "replicas": [7]}]},
            "replica 7 of a pool of 2",
        ),
    ],
)
def test_operations_that_make_no_sense_are_refused_in_one_line(
    operations_: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        chat(operations=operations_)


def test_pools_apart_have_plans_of_their_own() -> None:
    pools = {
        "prefill": {
            "replicas": 2, "parallelism": {"attention_tp": 8, "moe_ep": 8}, "weights": "fp8",
        },
        "decode": {
            "parallelism": {"attention_dp": 16, "moe_ep": 16}, "weights": "fp8",
            "limits": {"max_sequences": 64},
        },
    }  # fmt: skip
    plans = {
        "start_up": {"load_bytes_per_s": 1e11, "other_s": 1},
        "prefill": {"schedule": [{"start_s": 0, "replicas": 1}, {"start_s": 20, "replicas": 3}]},
        "decode": {"spare_nodes": 1},
        "failures": [{"component": "node", "mtbf_s": 200, "mttr_s": 30}],
    }
    result = chat(deployment=pools, operations=plans, **{"workload.arrivals.requests_per_s": 4})
    found, records = result.operations, result.records
    assert found is not None
    assert [pool.role for pool in found.pools] == ["prefill", "decode"]
    assert found.pools[0].starts == 2
    assert found.failures["node"] > 0
    balance = (records.finished, records.running, records.queued, records.rejected, records.lost)
    assert sum(int(state.sum()) for state in balance) == len(records.arrival_s)
    assert result.devices == 3 * 8 + 16
