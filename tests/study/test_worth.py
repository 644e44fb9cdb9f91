"""What to measure first and which fleet to choose, against trying everything."""

import json
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.cli import main
from planner.study import sizing
from planner.study.sizing import fleets, size
from planner.study.worth import measure_first, partial_information, perfect_information


def test_worth_by_hand():
    # four worlds by one unknown: below it fleet 0 is right, above it fleet 1
    losses = np.array([[1.0, 5.0], [1.0, 5.0], [9.0, 5.0], [9.0, 5.0]])
    assert perfect_information(losses) == pytest.approx(5.0 - 3.0)
    assert partial_information(losses, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2.0)
    # an order that mixes the worlds says nothing
    assert partial_information(losses, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.0)


def test_the_unknown_that_decides_is_worth_measuring_and_the_other_is_not():
    rng = np.random.default_rng(1)
    a, b = rng.random(256), rng.random(256)
    losses = np.column_stack([10 + 20 * (a > 0.5), np.full(256, 18.0)])
    first, second = measure_first(losses, [{"a": x, "b": y} for x, y in zip(a, b, strict=True)], 1)
    assert (first.path, second.path) == ("a", "b")
    assert first.usd_per_hour > 0.8 * perfect_information(losses)
    assert second.usd_per_hour < 0.1 * perfect_information(losses)


TABLES = st.integers(2, 4).flatmap(
    lambda fleets_: st.lists(
        st.lists(st.floats(0, 100), min_size=fleets_, max_size=fleets_), min_size=4, max_size=20
    )
)


@given(TABLES, st.integers(0, 1000))
def test_knowing_one_unknown_is_never_worth_more_than_knowing_all(table, seed):
    losses = np.array(table)
    values = np.random.default_rng(seed).random(len(losses))
    part = partial_information(losses, values)
    assert 0 <= part <= perfect_information(losses) + 1e-9


@settings(max_examples=40)
@given(st.data())
def test_the_choice_is_the_one_that_trying_everything_finds(data):
    """Worst regret and share of kept worlds, counted world by world from random outcomes."""
    count, worlds = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    costs = data.draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))
    keeps = data.draw(
        st.lists(st.lists(st.booleans(), min_size=worlds, max_size=worlds),
                 min_size=count, max_size=count)
    )  # fmt: skip
    confidence = data.draw(st.sampled_from([0.0, 0.5, 0.95]))
    breach = data.draw(st.sampled_from([0.0, 7.0]))

    def loss(fleet, world):
        if keeps[fleet][world]:
            return costs[fleet]
        good = [costs[f] for f in range(count) if keeps[f][world]]
        return costs[fleet] + breach + min(good, default=0)

    def worst(fleet):
        return max(loss(fleet, w) - min(loss(f, w) for f in range(count)) for w in range(worlds))

    sure = [f for f in range(count) if sum(keeps[f]) >= confidence * worlds]
    base, found = _base(), _sized(costs, keeps, confidence, breach)
    assert found.base is base
    chosen = int(found.best.name)
    if sure:
        assert chosen in sure
        assert worst(chosen) == pytest.approx(min(map(worst, sure)))
    else:
        assert sum(keeps[chosen]) == max(map(sum, keeps))
    assert found.best.worst_regret_usd_per_hour == pytest.approx(worst(chosen))


_BASE = []


def _base():
    from planner import files

    if not _BASE:
        _BASE.append(files.load_scenario("r1-distill-7b-rtx5090"))
    return _BASE[0]


def _sized(costs, keeps, confidence, breach):
    worlds = len(keeps[0])

    class Rows:
        def __init__(self, _, cases, *rest, **more):
            self.rows = tuple(
                {"usd_per_hour": costs[i // worlds], "slo_met": keeps[i // worlds][i % worlds],
                 "error": None}
                for i in range(len(cases))
            )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizing, "Table", Rows)
        names = {str(i): {} for i in range(len(costs))}
        return size(
            _base(), names, {"slo.tpot_p95_s": [1, 2]}, count=worlds, confidence=confidence,
            breach_usd_per_hour=breach,
        )  # fmt: skip


def test_every_combination_of_values_is_a_fleet():
    layouts = [{"attention_tp": 8, "moe_tp": 8}, {"attention_dp": 8, "moe_ep": 8}]
    found = fleets({"system": ["a", "b"], "deployment.parallelism": layouts,
                    "deployment.replicas": [1, 2]})  # fmt: skip
    assert len(found) == 8
    assert found["b, DP8 EP8, 2 replicas"] == {
        "system": "b", "deployment.parallelism": layouts[1], "deployment.replicas": 2,
    }  # fmt: skip
    assert list(found.values()) == [
        dict(zip(("system", "deployment.parallelism", "deployment.replicas"), v, strict=True))
        for v in product(["a", "b"], layouts, [1, 2])
    ]


SIZE = ["size", "r1-distill-7b-rtx5090", "--set", "run.requests=24",
        "--set", "run.warmup_requests=4", "--workers", "1", "--worlds", "4",
        "--unknown", "workload.arrivals.concurrency=1,40"]  # fmt: skip


def test_the_command_chooses_over_systems_and_names_what_to_measure():
    asked = [*SIZE, "--fleet", "system=rtx-5090-pc,hgx-h100", "--replicas", "1", "--json"]
    found = CliRunner().invoke(main, asked)
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert {c["name"].split(",")[0] for c in answer["choices"]} == {"rtx-5090-pc", "hgx-h100"}
    assert answer["measure_first"][0]["path"] == "workload.arrivals.concurrency"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "nothing to choose from"),
        (("--fleet", "system=nope"), "nope"),
        (("--fleet", "deployment.nope=1"), "nope"),
    ],
)
def test_a_choice_that_is_none_is_one_line(more, words):
    found = CliRunner().invoke(main, [*SIZE, *more])
    assert found.exit_code == 2
    assert words in found.stderr
