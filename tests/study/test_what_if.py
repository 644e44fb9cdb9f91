"""Cases, rows and tables."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner import files
from planner.errors import InputError
from planner.evaluation import evaluate
from planner.report.frames import to_arrow, to_pandas
from planner.study import table as table_module
from planner.study.change import changed
from planner.study.digest import differences, digest
from planner.study.grid import Grid
from planner.study.row import COLUMNS, result_row


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_has_every_combination_once(sizes):
    grid = Grid.of({f"p{i}": list(range(n)) for i, n in enumerate(sizes)})
    seen = [tuple(case.overrides.values()) for case in grid]
    assert len(seen) == len(set(seen)) == len(grid)
    assert seen == sorted(seen)
    assert [case.index for case in grid] == list(range(len(grid)))


def test_a_factor_multiplies_a_number_a_fact_and_a_list(base):
    part = base.hardware[0].accelerator
    half = changed(base, {"accelerator.memory_bytes_per_s*": 0.5, "workload.arrivals.think_s*": 3})
    new = half.hardware[0].accelerator.memory_bytes_per_s
    assert float(new) == pytest.approx(0.5 * part.memory_bytes_per_s)
    assert new.confidence == "assumed"
    assert half.workload.arrivals.think_s == 15.0
    day = files.load_scenario("deepseek-r1-day")
    rates = day.workload.arrivals.requests_per_s
    twice = changed(day, {"workload.arrivals.requests_per_s*": 2}).workload.arrivals
    assert twice.requests_per_s == pytest.approx([2 * rate for rate in rates])


def test_names_stand_for_whole_things(base):
    other = changed(base, {"system": "hgx-h200", "model": "qwen3-8b", "slo.tpot_p95_s": 0.1})
    assert other.hardware[0].system.name == "hgx-h200"
    assert other.model.name == "qwen3-8b"
    assert other.slo.tpot_p95_s == 0.1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"system": "nope"}, "'nope' is not known"),
        ({"slo.nothing": 1}, "has no 'nothing'"),
        ({"slo.nothing*": 2}, "no 'nothing' to multiply"),
        ({"title*": 2}, "cannot be multiplied"),
        ({"slo.tpot_p95_s*": "two"}, "must be a number"),
        ({"workload.arrivals.concurrency": 0}, "concurrency"),
    ],
)
def test_a_bad_change_says_where(base, overrides, words):
    with pytest.raises(InputError, match=words):
        changed(base, overrides)


def test_what_if_says_what_simulating_by_hand_says(base):
    table = planner.what_if(base, {"workload.arrivals.concurrency": [1, 4]}, workers=1)
    for row, clients in zip(table, (1, 4), strict=True):
        by_hand = evaluate(changed(base, {"workload.arrivals.concurrency": clients}))
        assert {name: row[name] for name in result_row(by_hand)} == result_row(by_hand)
        assert row["workload.arrivals.concurrency"] == clients
        assert set(COLUMNS) <= set(row)
    json.dumps(table.to_dict(), allow_nan=False)


def test_a_case_that_fails_is_a_row_with_its_reason(base):
    table = planner.what_if(base, {"system": ["rtx-5090-pc", "tpu-v5e", "nope"]}, workers=1)
    fine, small, unknown = table.rows
    assert fine["error"] is None
    assert small["limit"] == "HBM per device"
    assert small["needed"] > small["available"]
    assert small["unit"] == "bytes"
    assert "not known" in unknown["error"]
    assert unknown["system"] == "nope"


def test_nothing_is_worked_out_before_it_is_looked_at_or_twice(base, monkeypatch):
    calls = []
    real = table_module.run

    def counted(*args):
        calls.append(len(args[2]))
        return real(*args)

    monkeypatch.setattr(table_module, "run", counted)
    vary = {"workload.arrivals.concurrency": [1, 2]}
    table = planner.what_if(base, vary, workers=1)
    assert not calls
    first = table.rows
    assert table.rows is first
    again = planner.what_if(base, vary, workers=1)
    assert again.rows == first
    more = planner.what_if(base, {"workload.arrivals.concurrency": [2, 3, 1]}, workers=1)
    assert [row["index"] for row in more.rows] == [0, 1, 2]
    assert {**more.rows[2], "index": 0} == first[0]
    assert calls == [2, 1]
    planner.what_if(changed(base, {"run.seed": 2}), vary, workers=1).column("tpot_p95_s")
    assert calls == [2, 1, 2]


def test_the_order_of_keys_does_not_make_another_digest():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_differences_name_the_path_and_both_values():
    old, new = {"slo": {"a": 1, "b": [1, 2]}}, {"slo": {"a": 2, "b": [1, 3]}}
    assert differences(old, new) == ["slo.a: 1 before, 2 now", "slo.b.1: 2 before, 3 now"]


def test_rows_become_frames(base):
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = planner.what_if(base, {"workload.arrivals.concurrency": [1, 2]}, workers=1).rows
    assert list(to_pandas(rows)["workload.arrivals.concurrency"]) == [1, 2]
    assert to_arrow(rows).num_rows == 2


def test_steps_and_plans_are_asked_too():
    steady = files.load_scenario("deepseek-profile-decode")
    table = planner.what_if(steady, {"steady.sequences_per_device": [32, 64]}, workers=1)
    one, two = table.rows
    assert table.ask == "step"
    assert one["step_s"] < two["step_s"]
    assert one["output_tokens_per_s_per_device"] < two["output_tokens_per_s_per_device"]
    plan = files.load_scenario(
        "deepseek-r1-day",
        {"model": "olmoe-1b-7b", "run.window": 52, "run.warmup_s": 0.0, "space.weights": ["bf16"],
         "space.max_nodes_per_replica": 1, "space.max_nodes": 2},
    )  # fmt: skip
    table = planner.what_if(plan, {"slo.tpot_p95_s": [1e-5]}, workers=1)
    assert table.ask == "plan"
    assert "no fleet keeps the promises" in table.rows[0]["error"]


@pytest.mark.parametrize(
    ("vary", "words"),
    [({"a": []}, "needs a list"), ({"a": "xyz"}, "needs a list"),
     ({"a": range(4000), "b": range(4000)}, "cases; at most")],
)  # fmt: skip
def test_a_bad_grid_is_refused(vary, words):
    with pytest.raises(InputError, match=words):
        Grid.of(vary)
