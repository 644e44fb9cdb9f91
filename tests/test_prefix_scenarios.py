"""Scenarios that ask for prefix caches, conversations and classes."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from planner import evaluation, files
from planner.errors import InputError
from planner.report import pages, terminal
from planner.serving import describe_workload

SHORT = {"run.duration_s": 60.0, "run.warmup_s": 20.0}
TIER = {"capacity_bytes": 1e12, "bytes_per_s": 50e9, "latency_s": 0.001}
LIKE = {"parallelism": {"attention_tp": 8, "moe_tp": 8}, "weights": "fp8"}


def chat(**options: Any) -> evaluation.Result:
    overrides = {key.replace("__", "."): value for key, value in options.items()}
    return evaluation.evaluate(files.load_scenario("chat-sessions", {**SHORT, **overrides}))


@pytest.fixture(scope="module")
def result() -> evaluation.Result:
    return chat()


def test_hits_classes_and_assumptions_are_in_the_answer(result: evaluation.Result) -> None:
    answer = result.to_dict()
    found = answer["prefix_cache"]
    assert found["block_tokens"] == 64
    assert 0.3 < found["hit_token_share"] < 1
    assert found["hit_token_share"] == pytest.approx(
        found["device_hit_token_share"] + found["tier_hit_token_share"]
    )
    assert found["computed_tokens"] < found["run_input_tokens"]
    assert [c["priority"] for c in answer["classes"]] == [0, 1]
    assert sum(c["arrived"] for c in answer["classes"]) == answer["counted_requests"]
    assert {"prefix cache", "router"} <= {a["name"] for a in answer["assumptions"]}


def test_only_computed_tokens_are_paid_for(result: evaluation.Result) -> None:
    cost, steady = result.costs[0], result.metrics.steady
    computed = steady.input_tokens_per_s * (1 - result.cached_input_share)
    paid = cost.usd_per_million_input_tokens * computed * 3600 / 1e6
    assert paid == pytest.approx(cost.usd_per_hour * result.metrics.prefill_share)
    assert cost.usd_per_million_cached_input_tokens == 0


def test_the_report_says_what_was_found_and_what_each_class_got(result: evaluation.Result) -> None:
    text = io.StringIO()
    terminal.print_result(result, Console(file=text, width=110))
    assert "of prompt tokens found" in text.getvalue()
    assert "By priority" in text.getvalue()
    assert any(t.title == "By priority" for b in pages.blocks(result) for t in b.tables)


def test_without_a_cache_nothing_is_found_and_answers_come_later(
    result: evaluation.Result,
) -> None:
    off = chat(deployment__prefix_cache=False, deployment__router="least_requests")
    assert off.prefix is None
    assert off.to_dict()["prefix_cache"] is None
    assert off.metrics.prefill_share > result.metrics.prefill_share


def test_a_store_behind_gives_what_memory_had_to_give_up() -> None:
    small = {"deployment__limits__kv_tokens": 30_000}
    alone = chat(**small)
    behind = chat(**small, deployment__prefix_cache={"tier": TIER})
    assert alone.prefix is not None
    assert behind.prefix is not None
    assert behind.prefix.loads > 0
    assert behind.prefix.mean_load_s > TIER["latency_s"]
    assert behind.prefix.hit_token_share > alone.prefix.hit_token_share
    assert "prefix store" in {a.name for a in behind.assumptions}


def test_a_prefill_pool_keeps_the_cache() -> None:
    pools = {
        "prefill": {**LIKE, "replicas": 2, "prefix_cache": True, "router": "prefix_cost"},
        "decode": LIKE,
    }
    apart = chat(deployment=pools)
    assert apart.prefix is not None
    # answers are computed elsewhere: a turn finds the prompt before, not its answer
    assert 0.2 < apart.prefix.hit_token_share < chat().prefix.hit_token_share  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workload__cached_input_share": 0.3}, "exclude each other"),
        ({"deployment__prefix_cache": {"tier": {"bytes_per_s": 1}}}, "capacity_bytes"),
        ({"deployment__prefix_cache": None}, "needs a prefix cache"),
        ({"workload__priority_shares": [0.7, 0.7]}, "must add up to 1"),
        ({"workload__arrivals__mean_turn_gap_s": 3}, "either mean_think_s"),
        (
            {"deployment": {"prefill": LIKE, "decode": {**LIKE, "prefix_cache": True}}},
            "give it to prefill",
        ),
        (
            {"workload": {"arrivals": {"kind": "poisson", "requests_per_s": 1},
                          "lengths": [{"input": {"kind": "fixed", "tokens": 9},
                                       "output": {"kind": "fixed", "tokens": 9}}]}},
            "does not say which prompts start alike",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_clear_error(options, message) -> None:
    with pytest.raises(InputError, match=message):
        chat(**options)


def test_a_workload_of_waiting_conversations_is_described_with_a_note() -> None:
    scenario = files.load_scenario("chat-sessions", SHORT)
    assert scenario.workload is not None
    report = describe_workload(scenario.workload, scenario.run)
    assert report.summary.reuse is not None
    assert "turns wait" in " ".join(report.summary.notes)


def test_classes_of_a_trace_are_read_and_served(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{i / 10},2000,50,{i % 2}\n" for i in range(80))
    trace.write_text("arrival_s,input_tokens,output_tokens,priority\n" + rows)
    few = {"workload": {"arrivals": {"kind": "trace", "file": str(trace)}},
           "deployment.limits.max_sequences": 2, "deployment.prefix_cache": False,
           "deployment.router": "least_requests", "run.warmup_s": 0.0}  # fmt: skip
    found = evaluation.evaluate(files.load_scenario("chat-sessions", {**SHORT, **few}))
    urgent, other = found.classes
    assert (urgent.arrived, other.arrived) == (40, 40)
    assert urgent.queue_s.p95 < other.queue_s.p95
    assert urgent.queue_s.mean < other.queue_s.mean
    trace.write_text("arrival_s,input_tokens,output_tokens,priority\n0,10,10,-1\n")
    with pytest.raises(InputError, match=r"trace.csv:2: priority: must be a whole number"):
        files.load_scenario("chat-sessions", few)
