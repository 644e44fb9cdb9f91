"""Runs as they are read, simulated, taken apart, fitted and predicted."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from planner.calibrate.engine_fit import LEVELS, OF_PROMPT_STEP, EngineFit, fit, refused
from planner.calibrate.engine_run import LEFT_OUT, fit_yaml, how_left_out, means_held
from planner.evaluation.fitted import PARAMETERS, overheads_of, theta_of
from planner.evaluation.widths import width_of
from planner.files.overheads import load_overheads
from planner.files.runs import read_runs
from planner.report.runs_report import RunsReport, print_runs, write_runs_html
from planner.report.words import seconds
from planner.validation.engine_model import START, Sight, labels_of, predict
from planner.validation.exposure import COMPONENTS
from planner.validation.look import Look, look
from planner.validation.predict import flags, predict_runs, throughput
from planner.validation.replay import replay
from planner.validation.setup import resolve
from planner.validation.summary import summarise

FILE = Path(__file__).parents[1] / "data" / "serving_runs.jsonl"
RUNS = {run.id.split("/")[1]: run for run in read_runs(FILE)[0]}
ROW = json.loads(FILE.read_text().splitlines()[0])


def written(tmp_path, *rows):
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def changed(row, path, value):
    row = json.loads(json.dumps(row))
    *folders, last = path.split(".")
    inner = row
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return row


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("workload.requests", 0, "workload.requests"),
        ("deployment.gpus", 5, "gpus is 5"),
        ("measured.mean_tpot_s", -1.0, "mean_tpot_s"),
        ("workload.arrival", "poisson", "arrival"),
        ("workload.length_min_share", 2.0, "length_min_share"),
    ],
)
def test_a_bad_row_is_listed_with_its_reason_and_the_others_go_on(tmp_path, field, value, word):
    runs, bad = read_runs(
        written(tmp_path, ROW, changed(changed(ROW, "id", "x"), field, value), "{")
    )
    assert [run.id for run in runs] == [ROW["id"]]
    assert [b.line for b in bad] == [2, 3]
    assert word in bad[0].problem
    assert "not JSON" in bad[1].problem


def test_the_same_run_twice_is_refused(tmp_path):
    runs, bad = read_runs(written(tmp_path, ROW, ROW))
    assert len(runs) == 1
    assert "twice" in bad[0].problem


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "deepsek-r1"), ("accelerator", "b200-smx"), ("framework.name", "slang")],
)
def test_an_unknown_name_is_a_reason_not_a_traceback(tmp_path, field, value):
    runs, _ = read_runs(written(tmp_path, changed(ROW, field, value)))
    (prediction,) = predict_runs(runs, load_overheads(), workers=1)
    assert prediction.predicted is None
    assert value in prediction.error


@pytest.mark.parametrize("given", [None, {}, {"mean_ttft_s": None, "mean_tpot_s": None}])
def test_a_run_nobody_measured_yet_is_predicted_like_any(tmp_path, given):
    blind = changed(changed(ROW, "id", "blind"), "measured", given)
    runs, bad = read_runs(written(tmp_path, ROW, blind))
    assert bad == []
    known, unknown = predict_runs(runs, load_overheads(), workers=1)
    assert known.predicted == unknown.predicted
    assert known.interval90 == unknown.interval90
    overall = summarise(runs, [known, unknown])[0]
    assert (overall["n"], overall["coverage_share"]) == (1, 1.0)
    said = Console(width=120, file=io.StringIO())
    print_runs(RunsReport(runs, [known, unknown]), said)
    blind_table, errors = said.file.getvalue().split("Predicted against measured")
    assert seconds(unknown.predicted["mean_ttft_s"]) in blind_table
    assert ROW["id"] not in blind_table
    assert ROW["model"] in errors


def test_the_page_of_runs_says_what_was_refused_and_why(tmp_path):
    bad = changed(changed(ROW, "id", "<b>bad</b>"), "workload.requests", 0)
    runs, refused = read_runs(written(tmp_path, ROW, bad))
    report = RunsReport(runs, predict_runs(runs, load_overheads(), workers=1), refused)
    page = write_runs_html(tmp_path / "new" / "runs.html", report).read_text()
    assert "1 of 2 runs predicted" in page
    assert "refused: line 2 &lt;b&gt;bad&lt;/b&gt;" in page
    assert "workload.requests" in page


@pytest.mark.parametrize(
    ("model", "part", "stored"),
    [
        ("deepseek-r1", "b200-sxm", "nvfp4"),
        ("deepseek-r1", "h200-sxm", "nvfp4_w4a16"),
        ("gpt-oss-120b", "h200-sxm", "mxfp4"),
        ("gpt-oss-120b", "b200-sxm", "mxfp4"),
        ("deepseek-v4-pro", "b200-sxm", "mxfp4_fp8"),
    ],
)
def test_four_bits_are_stored_as_published_and_multiplied_as_the_part_can(
    tmp_path, model, part, stored
):
    row = changed(changed(ROW, "model", model), "accelerator", part)
    (run,), _ = read_runs(written(tmp_path, changed(row, "precision.weights", "fp4")))
    setup = resolve(run)
    assert setup.decode.weights == stored


def test_ranks_that_do_not_divide_the_experts_hold_the_fewest_copies_that_fill_them(tmp_path):
    wide = {"kind": "aggregated", "gpus": 48, "replicas": 1, "attention_tp": 1,
            "attention_dp": 48, "moe_tp": 1, "moe_ep": 48, "pp": 1}  # fmt: skip
    row = changed(changed(ROW, "model", "deepseek-r1"), "accelerator", "gb200-nvl72")
    row = changed(changed(row, "deployment", wide), "source", {"title": "own measurement"})
    (run,), _ = read_runs(written(tmp_path, row))
    setup = resolve(run)
    assert setup.decode.redundant_experts == 32  # 288 slots of 48 ranks, 6 each
    assert "32 redundant copies" in setup.notes[0]


def test_throughput_against_littles_law_is_flagged(tmp_path):
    run = next(iter(RUNS.values()))
    law = throughput(run, run.measured.mean_ttft_s, run.measured.mean_tpot_s)
    name = "total_tokens_per_s_per_device"
    for factor, expected in ((1.2, 0), (1.4, 1), (0.6, 1)):
        row = changed(ROW, f"measured.{name}", law[name] * factor)
        assert len(flags(read_runs(written(tmp_path, row))[0][0])) == expected


@pytest.mark.parametrize("name", sorted(RUNS))
def test_components_add_up_to_what_was_simulated(name):
    run = RUNS[name]
    theta = np.array([START[p] for p in PARAMETERS]) * np.linspace(0.8, 1.3, len(PARAMETERS))
    seen = look(run, theta)
    sight = seen.sight
    if run.deployment.kind == "aggregated" and run.deployment.attention_dp == 1:
        assert sight.apart_s == pytest.approx([0.0, 0.0], abs=1e-9)
    # with several attention ranks the busiest one of a stretch is taken for the slowest
    assert abs(sight.apart_s[0]) < 0.03 * seen.means_s[0]


def test_a_single_client_by_hand():
    """One client: no queue; its TPOT is the mean of decode steps, its TTFT one prefill step."""
    run = RUNS["minimaxm2_5_b300_vllm_fp4_agg_1024x1024_c4_cfg730"]
    load = run.workload.model_copy(
        update={"concurrency": 1, "requests": 3, "length_min_share": 1.0,
                "input_tokens_max": 100, "output_tokens_max": 11}
    )  # fmt: skip
    setup = resolve(run.model_copy(update={"workload": load}))
    done = replay(setup, (overheads_of(np.array([START[p] for p in PARAMETERS]), "test"),))
    step = done.replicas[0].step
    by_hand = np.mean([float(step.decode_step_s(1.0, 100.0 + i, None)) for i in range(10)])
    assert done.tpot_s == pytest.approx(by_hand, rel=1e-9)
    assert len(done.arrival_s) == 3
    # the next request is sent with the answer, and is heard of after its time outside the engine
    assert done.arrival_s[1] == pytest.approx(done.finish_s[0] + START["request_host"])


def synthetic(theta, count=400):
    rng = np.random.default_rng(3)
    sights = []
    for i in range(count):
        decode = rng.uniform(0.2, 2, (2, len(COMPONENTS))) * 1e-3
        decode[:, COMPONENTS.index("steps") :] = rng.uniform(1, 9, (2, 3))
        decode[:, COMPONENTS.index("prefill_steps")] /= 50  # few steps compute prompts
        prefill = rng.uniform(0.0, 1, (2, len(COMPONENTS))) * 1e-3
        prefill[:, COMPONENTS.index("steps") :] = 0.0
        means = predict(decode[None], prefill[None], np.zeros((1, 2)), theta[None])[0][0]
        labels = dict.fromkeys(LEVELS, "a")
        sights.append(Sight(str(i), labels, decode, prefill, np.zeros(2), means))
    return sights


@pytest.mark.filterwarnings("error")
def test_an_answer_of_one_token_has_a_first_token_and_no_time_per_token():
    run = next(iter(RUNS.values()))
    load = run.workload.model_copy(
        update={"output_tokens_max": 1, "concurrency": 2, "requests": 4, "input_tokens_max": 128}
    )
    found = predict_runs([run.model_copy(update={"workload": load})], load_overheads(), workers=1)
    assert found[0].predicted["mean_tpot_s"] == 0
    assert found[0].predicted["mean_ttft_s"] > 0
    assert found[0].sensitivity == {}


def test_known_overheads_are_found_again():
    truth = np.array([START[p] for p in PARAMETERS])
    truth[PARAMETERS.index("moe")] = 1.3
    truth[PARAMETERS.index("step_host")] = 1e-3
    found = fit(synthetic(truth)).theta(dict.fromkeys(LEVELS, "a"))
    assert found[PARAMETERS.index("moe")] == pytest.approx(1.3, rel=0.05)
    assert found[PARAMETERS.index("step_host")] == pytest.approx(1e-3, rel=0.1)


def test_slopes_are_those_of_finite_differences():
    theta = np.array([START[p] for p in PARAMETERS])
    sight = synthetic(theta, 1)[0]
    args = sight.decode[None], sight.prefill[None], np.zeros((1, 2))
    mean, slopes = predict(*args, theta[None])
    for i in range(len(PARAMETERS)):
        moved = theta.copy()
        moved[i] *= 1 + 1e-6
        by_difference = (predict(*args, moved[None])[0] - mean)[0] / 1e-6
        assert slopes[0, :, i] == pytest.approx(by_difference, rel=1e-4, abs=1e-9)


def test_the_shipped_fit_knows_an_unseen_version_by_its_family():
    stored = load_overheads()
    labels = labels_of(next(iter(RUNS.values())))
    unseen = theta_of(stored, labels | {"version": "sglang 99.0"})
    assert np.all(unseen > 0)
    assert not np.allclose(unseen, [START[p] for p in PARAMETERS])


def test_a_held_schedule_gives_back_what_it_was_simulated_with():
    run = next(iter(RUNS.values()))
    theta = theta_of(load_overheads(), labels_of(run))
    seen = look(run, theta)
    assert isinstance(seen, Look)
    assert means_held([seen], [theta])[0] == pytest.approx(seen.means_s, rel=0.01)


def test_how_runs_were_left_out_is_said():
    assert how_left_out(tuple(LEFT_OUT)).startswith("Every run was simulated anew")
    assert "versions or parts or models were left out, runs keep" in how_left_out(
        ["configurations"]
    )
    assert "anew" not in how_left_out([])


SERIAL = "sglang expert-parallel"
"""Runs whose hosts wait for counts in every layer of a prompt."""


def test_launches_that_run_ahead_take_a_step_with_prompts_a_few_milliseconds():
    stored = load_overheads()
    at = PARAMETERS.index("prefill_step_host")
    ahead = [labels for run in RUNS.values() if (labels := labels_of(run))["ranks"] != SERIAL]
    assert max(theta_of(stored, labels)[at] for labels in ahead) < 0.02


def test_launches_that_wait_in_every_layer_take_some_of_a_second_and_not_the_request():
    """Without it the fit took 0.7 to 0.8 s for a request outside the engine."""
    stored = load_overheads()
    theta = theta_of(stored, {"family": "sglang", "ranks": SERIAL})
    assert 0.05 < theta[PARAMETERS.index("prefill_step_host")] < 0.4
    assert theta[PARAMETERS.index("request_host")] < 0.5


def test_without_runs_an_effect_stays_at_what_is_usual():
    truth = np.array([START[p] for p in PARAMETERS])
    labels = dict.fromkeys(LEVELS, "a") | {"ranks": SERIAL}
    decode_only = [
        dataclasses.replace(sight, labels=labels, decode=sight.decode * decoding())
        for sight in synthetic(truth, 40)
    ]
    found = fit(decode_only).theta(labels)
    assert found[PARAMETERS.index("prefill_step_host")] == pytest.approx(0.1, rel=0.05)


def decoding():
    """One for every component but the number of steps with prompts."""
    return np.array([[float(name != "prefill_steps") for name in COMPONENTS]])


def test_the_prior_of_a_step_with_prompts_spans_a_few_milliseconds():
    spread = 1.645 * np.sqrt(sum(sd**2 for sd in OF_PROMPT_STEP.values()))
    low, high = START["prefill_step_host"] * np.exp([-spread, spread])
    assert low == pytest.approx(1.5e-3, rel=0.1)
    assert high == pytest.approx(16e-3, rel=0.1)


def test_the_shipped_fit_widens_for_what_it_has_not_seen():
    for name in ("mean_tpot_s", "mean_ttft_s"):
        seen, unseen = (
            next(w for w in load_overheads().widths if w.quantity == name and w.seen is which)
            for which in (True, False)
        )
        assert unseen.high - unseen.low > seen.high - seen.low


def test_an_interval_is_that_of_the_kind_of_run_before_that_of_any():
    stored = load_overheads()

    def high(seen, case):
        return width_of(stored, "mean_ttft_s", "NVIDIA", "deepseek-r1", seen, case)[1]

    assert high(True, "aggregated") < high(True, "") < high(True, "disaggregated")
    assert high(True, "no such kind") == high(True, "")


def test_a_run_without_room_for_its_cache_says_so():
    run = next(iter(RUNS.values()))
    settings = run.settings.model_copy(update={"kv_tokens": 1000})
    workload = run.workload.model_copy(update={"requests": 8, "concurrency": 2})
    short = run.model_copy(update={"settings": settings, "workload": workload})
    (prediction,) = predict_runs([short], load_overheads(), workers=1)
    assert any("1,000 tokens a rank" in note for note in prediction.notes)


def test_a_sum_that_is_determined_is_kept_though_its_parts_are_not():
    """Two effects that only occur together: the runs fix their sum, 0.2, not either."""
    keys = (("moe", "family", "a"), ("moe", "part", "p"), ("comm", "family", "a"))
    covariance = np.array([[0.5, -0.495, 0.0], [-0.495, 0.5, 0.0], [0.0, 0.0, 1.0]])
    found = EngineFit(keys, np.array([0.1, 0.1, 0.0]), covariance, np.ones(3))
    left = found.undetermined([dict.fromkeys(LEVELS, "-") | {"family": "a", "part": "p"}], 0.95)
    assert left == {("comm", "family", "a")}


def test_a_time_too_short_to_have_a_slope_is_kept_where_runs_exclude_a_longer_one():
    truth = np.array([START[p] for p in PARAMETERS])
    truth[PARAMETERS.index("step_host")] *= np.exp(-5)
    keys = (("comm", "family", "a"), ("step_host", "family", "a"))
    found = EngineFit(keys, np.array([0.0, -5.0]), np.eye(2), np.ones(2))
    assert found.undetermined([dict.fromkeys(LEVELS, "a")], 0.95) == set(keys)
    assert refused(synthetic(truth), found, 0.95) == {("comm", "family", "a")}


def test_a_fit_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text(fit_yaml(load_overheads()))
    assert load_overheads(str(path)) == load_overheads()


def test_all_runs_of_the_excerpt_are_predicted_with_intervals():
    runs = list(RUNS.values())
    predictions = predict_runs(runs, load_overheads(), workers=1)
    overall = next(row for row in summarise(runs, predictions) if row["by"] == "overall")
    assert overall["coverage_share"] == 1.0
    assert overall["median_abs_error"] < 0.15
    for each in predictions:
        low, high = each.interval90["mean_tpot_s"]
        assert low < each.predicted["mean_tpot_s"] < high
        assert sum(each.tpot_parts_s.values()) == pytest.approx(
            each.predicted["mean_tpot_s"], rel=0.05
        )
