"""Expert load by API and command: scenario or histogram in, ranks and layers out; bad input."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.errors import InputError

SCENARIO = "published/sglang-h100-decode"
MODEL = "mixtral-8x7b"  # 32 layers, 8 experts, top-2


def run(*args):
    return CliRunner().invoke(main, ["experts", *map(str, args)])


@pytest.fixture(scope="module")
def report():
    return planner.expert_load(SCENARIO, tokens=4096, windows=3)


def histogram(folder, counts, name="h.json"):
    path = folder / name
    path.write_text(json.dumps(counts))
    return path


def test_load_of_a_histogram_by_hand(tmp_path):
    """Experts 0 to 7 with 6, 2, 1, 1, 1, 1, 2, 2 of 16: rank 0 of 4 holds half the tokens.

    One expert has at most half of the pairs at top-2; 6 of 16 is below that.
    """
    path = histogram(tmp_path, [[6, 2, 1, 1, 1, 1, 2, 2]])
    found = planner.expert_load(str(path), model=MODEL, ep=4, tokens=1000)
    assert found.expert_load.shape == (32, 8)
    np.testing.assert_allclose(found.expert_load[0], 2000 * np.array([6, 2, 1, 1, 1, 1, 2, 2]) / 16)
    np.testing.assert_allclose(found.before.rank_load[0], [2.0, 0.5, 0.5, 1.0])
    assert found.hottest == (0, 0)
    assert found.after.rank_load[0].max() == pytest.approx(7 / 4)  # 6 and 1 together
    assert found.after.bound == pytest.approx(7 / 4)


def test_copies_share_the_hot_expert(tmp_path):
    path = histogram(tmp_path, [[6, 2, 1, 1, 1, 1, 2, 2]])
    found = planner.expert_load(str(path), model=MODEL, ep=4, redundant=4, tokens=1000)
    assert found.after.placement.slots == 12
    assert found.after.rank_load[0].max() < 1.3
    assert found.before.redundant == 0


def test_balancing_never_makes_expected_load_worse(report):
    before = report.before.rank_load.max(axis=1)
    after = report.after.rank_load.max(axis=1)
    assert (after <= before * 1.02).all()
    assert report.after.rank_ratio < report.before.rank_ratio
    assert report.after.bound <= report.after.rank_load.max(axis=1).mean() * (1 + 1e-9)


def test_every_layer_carries_all_pairs(report):
    np.testing.assert_allclose(report.expert_load.sum(axis=1), 4096 * 8, rtol=1e-9)
    for load in (report.before, report.after):
        np.testing.assert_allclose(load.rank_load.mean(axis=1), 1.0, rtol=1e-9)


def test_renewing_moves_whole_experts_over_the_link(report):
    kept, renewed = report.rebalancing
    one = 3 * 7168 * 2048 * (1 + 4 / 128**2)  # FP8 with a scale per block of 128 x 128
    assert report.setting.expert_bytes == pytest.approx(one, rel=1e-3)
    moved = renewed.moved_bytes / report.setting.expert_bytes
    np.testing.assert_allclose(moved, np.rint(moved))
    assert not kept.moved_bytes.any()
    assert report.rebalance_s == pytest.approx(renewed.moved_bytes_max_rank.max() / 50e9)


def test_what_is_printed_as_json_is_the_report(report):
    out = run(SCENARIO, "--tokens", 4096, "--json")
    assert out.exit_code == 0
    plain = json.loads(out.output)
    assert plain["before"]["hottest_rank_over_mean"] == pytest.approx(report.before.rank_ratio)
    assert len(plain["after"]["rank_load_over_mean"]) == 58
    assert plain["ep"] == 72


def test_the_answer_comes_first():
    out = run(SCENARIO, "--tokens", 512)
    assert out.exit_code == 0
    assert "times the mean" in " ".join(out.output.split())
    assert "no balancing" in out.output


def test_the_page_has_a_heat_map_and_loads_nothing(tmp_path):
    path = tmp_path / "experts.html"
    assert run(SCENARIO, "--tokens", 512, "--windows", 3, "--html", path).exit_code == 0
    text = path.read_text()
    assert '"type": "heatmap"' in text
    assert "plot-rank_load" in text
    assert "plot-rebalancing" in text
    assert '<link rel="stylesheet"' not in text


BAD_COUNTS = {
    "wrong number of experts": ([[1, 2, 3, 4]], "has 4 experts a layer, the model has 8"),
    "wrong number of layers": ([[1] * 8] * 5, "has 5 layers, the model has 32"),
    "negative": ([[1, 2, 3, 4, 5, 6, 7, -8]], "0 or more, got -8"),
    "all zero": ([[0] * 8], "every count is 0"),
    "fewer used than chosen": ([[9, 0, 0, 0, 0, 0, 0, 0]], "only 1 experts"),
    "ragged": ([[1, 2], [3]], "ragged or not numbers"),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_a_bad_histogram_is_one_clear_message(tmp_path, case):
    counts, words = BAD_COUNTS[case]
    out = run(histogram(tmp_path, counts), "--model", MODEL, "--ep", 4)
    assert out.exit_code == 2
    assert out.output.startswith("error: ")
    assert out.output.count("\n") == 1
    assert words in out.output


BAD_OPTIONS = {
    "no model": (["--ep", 4], "model: is missing"),
    "no degree": (["--model", MODEL], "ep: is missing"),
    "dense model": (["--model", "llama-3.1-8b", "--ep", 4], "is dense"),
    "more ranks than slots": (["--model", MODEL, "--ep", 16], "has 8"),
    "uneven slots": (["--model", MODEL, "--ep", 3], "redundant experts"),
    "more copies than ranks hold": (
        ["--model", MODEL, "--ep", 2, "--redundant", 10], "redundant experts"
    ),
    "negative copies": (["--model", MODEL, "--ep", 4, "--redundant", -4], "0 or more, got -4"),
    "no tokens": (["--model", MODEL, "--ep", 4, "--tokens", 0], "1 or more, got 0"),
    "nothing drifts": (["--model", MODEL, "--ep", 4, "--windows", 3], "does not change"),
    "scenario option": (["--model", MODEL, "--ep", 4, "--set", "a=1"], "no scenario to change"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_one_clear_message(tmp_path, case):
    options, words = BAD_OPTIONS[case]
    out = run(histogram(tmp_path, [[1] * 8]), *options)
    assert out.exit_code == 2
    assert out.output.startswith("error: ")
    assert out.output.count("\n") == 1
    assert words in out.output


def test_a_scenario_without_routing_says_what_would_do():
    out = run("deepseek-ep144-decode")
    assert out.exit_code == 2
    assert "--set routing=" in out.output


def test_top_k_beyond_the_experts_is_refused(tmp_path):
    model = planner.load_model(MODEL)
    greedy = model.model_copy(update={"moe": model.moe.model_copy(update={"top_k": 9})})
    with pytest.raises(InputError, match="1 to the 8 experts, got 9"):
        planner.expert_load(str(histogram(tmp_path, [[1] * 8])), model=greedy, ep=8)
