"""Routing as skewed as somebody recorded it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.calibrate.runner import main
from planner.calibrate.runner.compile_ahead import representatives
from planner.calibrate.runner.plan_cpu import cpu_plan
from planner.calibrate.runner.plan_cuda import cuda_plan, tiny_cuda_plan
from planner.calibrate.runner.recorded import Recorded, read_counts
from planner.calibrate.runner.routing import picks, route

TINY = ["--backend", "cpu", "--self-test"]
EIGHT = (40, 25, 10, 10, 5, 5, 5, 0)
"""Picks of eight experts by tokens that each pick two."""


def measured(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in rows if row.get("distribution") == "recorded"]


def test_every_expert_is_picked_as_often_as_it_was() -> None:
    tokens = 20_000
    ids = picks(tokens, 8, 2, Recorded(EIGHT), np.random.default_rng(1))
    counts = np.bincount(ids.ravel(), minlength=8)
    assert counts[-1] == 0
    assert all(len(set(row)) == 2 for row in ids[:1000].tolist())
    assert counts / (2 * tokens) == pytest.approx(np.array(EIGHT) / 100, abs=0.006)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=8, max_size=32), st.integers(1, 8))
def test_counts_come_back_within_the_noise_of_the_draw(counts: list[int], top_k: int) -> None:
    recorded, tokens = Recorded(tuple(counts)), 2000
    assume(sum(counts) and recorded.allows(top_k))
    ids = picks(tokens, len(counts), top_k, recorded, np.random.default_rng(2))
    assert all(len(set(row)) == top_k for row in ids.tolist())
    share = top_k * np.array(counts) / sum(counts)
    got = np.bincount(ids.ravel(), minlength=len(counts))
    spread = np.sqrt(tokens * share * (1 - np.minimum(share, 1)))
    assert np.all(np.abs(got - tokens * share) <= 5 * spread + 1e-6)


def test_a_device_gets_what_its_own_experts_got() -> None:
    here = route(4000, 8, 4, 2, Recorded((9, 9, 9, 9, 1, 1, 1, 1)), np.random.default_rng(3))
    share = here.pairs / 8000
    assert share == pytest.approx(0.9, abs=0.03) or share == pytest.approx(0.1, abs=0.03)


def test_counts_allow_what_distinct_picks_can_give() -> None:
    assert Recorded((2, 1, 1)).allows(2)
    assert not Recorded((3, 1, 1)).allows(2)  # 60 % of the picks: more than one of two
    assert not Recorded((1, 0, 0)).allows(2)
    with pytest.raises(ValueError, match="no 4 experts with 2 a token"):
        picks(8, 4, 2, Recorded((2, 1, 1)), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "[3, 1, 2]"), ("b.json", '{"counts": [3, 1, 2], "model": "x"}'),
     ("c.csv", "3,1,2\n"), ("d.csv", "3\n1\n2\n")],
)  # fmt: skip
def test_every_form_of_counts_reads_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    found = read_counts(tmp_path / name)
    assert found.counts == (3, 1, 2)
    assert found.said == Recorded((6, 2, 4)).said
    assert found.said.startswith("3 experts, ")
    assert found.said != Recorded((3, 2, 1)).said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "not JSON"), ("[[1, 2]]", "expert 0: must be tokens >= 0, got a list: one layer"),
        ("1,x", "expert 1: must be tokens >= 0, got 'x'"), ("[1, -2]", "expert 1.*got -2"),
        ("[1, NaN]", "expert 1.*got nan"), ("[true, 2]", "expert 0.*got True"),
        ("[1, null]", "expert 1.*got None"), ("[0, 0]", "needs tokens of two experts or more"),
        ("", "needs tokens of two experts or more, got 0"), ('{"load": [1]}', "expected a list"),
    ],
)  # fmt: skip
def test_counts_that_are_none_are_refused(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "counts"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"--counts .*counts: {message}"):
        read_counts(path)
    assert main.run([*TINY, "--counts", str(path), "--out", str(tmp_path / "rows.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("error: --counts ")


def test_a_run_measures_layers_routed_as_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, out = tmp_path / "counts.json", tmp_path / "rows.jsonl"
    counts.write_text(json.dumps(EIGHT), "utf-8")
    command = [*TINY, "--only", "moe_layer,grouped_gemm", "--out", str(out)]
    assert main.run([*command, "--counts", str(counts)]) == 0
    rows = measured(out)
    assert [row["op"] for row in rows] == ["moe_layer", "grouped_gemm", "grouped_gemm"] * 2
    assert all(row["touched"] <= 7 for row in rows)
    assert rows[-1]["largest"] > 2 * rows[-1]["pairs"] / 8
    assert json.loads(out.read_text("utf-8").splitlines()[0])["counts"] == Recorded(EIGHT).said
    counts.write_text("1,1,1,1,1,1,1,1", "utf-8")
    assert main.run([*command, "--counts", str(counts)]) == 2
    assert f"rows of --counts '{Recorded(EIGHT).said}'" in capsys.readouterr().err
    assert main.run(command) == 0


def test_counts_of_no_planned_layer_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("5,5,5", "utf-8")
    assert main.run([*TINY, "--counts", str(counts), "--list"]) == 2
    said = capsys.readouterr().err
    assert "3 experts, the busiest with 33.3% of the tokens, are those of no planned layer" in said
    assert "there are 8 (top 2)" in said


def test_the_plans_add_few_points_of_the_models_with_as_many_experts() -> None:
    def added(experts: int) -> int:
        return len(cuda_plan(1, Recorded((1,) * experts))) - len(cuda_plan())

    assert [added(n) for n in (256, 384, 8, 128, 5)] == [9, 9, 9, 18, 0]
    assert len(cpu_plan(Recorded((1,) * 16))) - len(cpu_plan()) == 6
    assert len(tiny_cuda_plan(Recorded((1,) * 4))) - len(tiny_cuda_plan()) == 1


def test_kernels_are_compiled_ahead_without_the_counts() -> None:
    plan = cuda_plan(1, Recorded((1,) * 256))
    assert all(p.shape.get("distribution") != "recorded" for p in representatives(plan))
