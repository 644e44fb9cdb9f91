"""Expert load by API and command: scenario or histogram in, ranks and layers out; bad input."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.errors import InputError
from planner.evaluation import experts_of
from planner.routing import Layout, inclusion, moved_slots, place, windows
from planner.units import human

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


def test_no_placement_is_below_the_printed_bound(report):
    """Not even one made from the load that is served, which copies other experts."""
    asked = report.setting.question
    _, served = windows(asked.routing, asked.moe)
    expected = inclusion(served, asked.moe.top_k)
    reached = place(expected, Layout(asked.ep, asked.redundant)).imbalance(expected).mean()
    assert report.after.bound == report.before.bound <= reached < report.after.copies_bound
    assert report.after.bound == pytest.approx(1.0167, abs=1e-4)
    assert reached == pytest.approx(1.0211, abs=1e-4)


def test_the_bound_takes_its_copies_from_the_load_served(tmp_path):
    """Nine slots, one a rank.  The copy went to expert 1, hot before; 6 of 16 is not halved."""
    past, served = [[2, 6, 1, 1, 1, 1, 2, 2]], [[6, 2, 1, 1, 1, 1, 2, 2]]
    path = histogram(tmp_path, [past, served])
    out = run(path, "--model", MODEL, "--ep", 9, "--redundant", 1, "--tokens", 64, "--json")
    after = json.loads(out.output)["after"]
    assert after["lower_bound_these_copies"] == pytest.approx(6 / (16 / 9))
    assert after["lower_bound_any_placement"] == pytest.approx(3 / (16 / 9))
    out = run(path, "--model", MODEL, "--ep", 9, "--redundant", 1, "--tokens", 64)
    assert "no placement can be below 1.688 1.688" in " ".join(out.output.split())


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


WINDOWS = [[[6, 2, 1, 1, 1, 1, 2, 2]], [[1, 2, 1, 6, 1, 1, 2, 2]], [[1, 2, 1, 1, 1, 6, 2, 2]]]


def test_experts_of_a_histogram_have_their_published_bytes_and_no_time(tmp_path):
    path = histogram(tmp_path, WINDOWS)
    options = "--model", MODEL, "--ep", 4, "--redundant", 4, "--tokens", 64, "--windows", 3
    found = planner.expert_load(str(path), model=MODEL, ep=4, redundant=4, tokens=64, windows=3)
    one = 3 * 4096 * 14336 * 2  # bf16
    assert found.setting.expert_bytes == one
    _, renewed = found.rebalancing
    first, second = (renewed.placements[i] for i in (1, 2))
    assert renewed.moved_bytes[2] == moved_slots(first, second).sum() * one > 0
    assert found.rebalance_s is None
    assert json.loads(run(path, *options, "--json").output)["rebalancing"]["fetch_s"] is None
    text = " ".join(run(path, *options).output.split())
    assert human(float(renewed.moved_bytes[2]), "bytes") in text
    assert "how long it takes is not known" in text


def test_a_placement_is_renewed_every_few_windows():
    found = planner.expert_load(SCENARIO, tokens=64, windows=5, every=2)
    moved = found.rebalancing[1].moved_bytes
    assert (moved > 0).tolist() == [False, False, True, False, True]
    assert found.to_dict()["rebalancing"]["windows_between_renewals"] == 2


# --- tokens of one prompt ------------------------------------------------------------------------


def with_correlation(name, share, **changes):
    scenario = planner.load_scenario(name, {"routing.prompt_correlation": share, **changes})
    return planner.expert_load(scenario, tokens=4096)


def test_prompts_that_choose_alike_make_a_step_less_even():
    alone, alike = (with_correlation("r1-chat-ep16", share) for share in (0.0, 0.5))
    assert alike.setting.question.tokens_per_prompt == pytest.approx(1000, rel=0.02)
    assert alike.after.rank_ratio > 1.05 * alone.after.rank_ratio
    assert alike.before.rank_ratio > alone.before.rank_ratio


APART = {
    "prefill": {"parallelism": {"attention_dp": 8, "moe_ep": 8}, "weights": "fp8"},
    "decode": {"parallelism": {"attention_dp": 16, "moe_ep": 16}, "weights": "fp8"},
}


@pytest.mark.parametrize(
    ("name", "changes", "tokens"),
    [
        (SCENARIO, {}, 1),  # a steady decode batch
        ("r1-chat-ep16", {"deployment": APART}, 1),  # prompts have a pool of their own
        ("r1-chat-ep16", {"deployment.limits.max_step_tokens": 512}, 512),  # a chunk of a prompt
        ("published/sglang-h100-prefill", {}, 16384),  # no prompts are named: whole steps
        ("published/sglang-h100-prefill", {"routing.prompt_correlation": 0.0}, 1),
    ],
)
def test_tokens_of_one_prompt_in_a_step(name, changes, tokens):
    scenario = planner.load_scenario(name, {"routing.prompt_correlation": 0.5, **changes})
    assert experts_of(scenario).question.tokens_per_prompt == tokens


def test_decode_takes_one_token_of_a_prompt():
    alone, alike = (with_correlation(SCENARIO, share) for share in (0.0, 0.5))
    assert alike.after.rank_ratio == alone.after.rank_ratio


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
    "windows and nothing": (["--model", MODEL, "--ep", 4, "--every", 2], "every: needs windows"),
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


BAD_WINDOWS = {
    "negative": (["--windows", -1], "holds 3 windows, all of which are used; give 3, got -1"),
    "fewer": (["--windows", 2], "give 3, got 2"),
    "more": (["--windows", 4], "give 3, got 4"),
    "never renewed": (["--windows", 3, "--every", 3], "every: must be 1 to 2 of 3 windows, got 3"),
    "not whole": (["--windows", 3, "--every", 0], "every: must be 1 to 2 of 3 windows, got 0"),
}


@pytest.mark.parametrize("case", BAD_WINDOWS)
def test_windows_other_than_those_recorded_are_refused(tmp_path, case):
    options, words = BAD_WINDOWS[case]
    out = run(histogram(tmp_path, WINDOWS), "--model", MODEL, "--ep", 4, "--tokens", 64, *options)
    assert out.exit_code == 2
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
