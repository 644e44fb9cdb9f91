"""Pages without a browser: their numbers are the API's, bad links and files are explained."""

import json

import pytest

import planner
from planner.dashboard import copying, scenario_form

testing = pytest.importorskip("streamlit.testing.v1")

SGLANG = "published/sglang-h100-decode"


def page(name, **link):
    """A page as a link opens it."""
    source = f"from planner.dashboard import {name}_page\n{name}_page.show()\n"
    app = testing.AppTest.from_string(source, default_timeout=60)
    for key, value in link.items():
        app.query_params[key] = value
    return app.run()


def numbers(app):
    assert [metric.label for metric in app.metric if not metric.help] == []
    return {metric.label: metric.value for metric in app.metric}


def test_deployment_shows_the_numbers_of_the_api():
    app = page("deployment")
    found = planner.steady(planner.load_scenario(SGLANG))
    assert not app.exception
    assert not app.error
    assert numbers(app)["Tokens/s a device"] == f"{found.tokens_per_s_per_device:,.0f}"


def test_a_slider_changes_the_numbers_to_the_apis_and_the_link():
    app = page("deployment")
    app.select_slider[0].set_value(64.0).run()
    changed = planner.load_scenario(SGLANG, {"steady.sequences_per_device": 64})
    found = planner.steady(changed)
    assert numbers(app)["Tokens/s a device"] == f"{found.tokens_per_s_per_device:,.0f}"
    assert app.query_params["sequences"] in ("64", ["64"])


def test_a_shared_link_opens_the_same_numbers():
    app = page("deployment", scenario="r1-chat-ep16", kv="fp8", ep="32", sequences="48")
    changes = {
        "deployment.kv": "fp8",
        "steady": {"sequences_per_device": 48, "context_tokens": 4096},
        "deployment.parallelism.attention_dp": 16,
        "deployment.parallelism.moe_ep": 32,
    }
    found = planner.steady(planner.load_scenario("r1-chat-ep16", changes))
    assert numbers(app)["Tokens/s a device"] == f"{found.tokens_per_s_per_device:,.0f}"


def test_a_link_is_the_first_value_of_widgets_so_that_no_interrupted_run_can_lose_it():
    app = page("simulate", scenario="r1-distill-7b-rtx5090", requests="1000", seed="7", load="2.0")
    (seed,) = app.number_input
    assert (seed.proto.default, seed.proto.set_value) == (7, False)
    for slider, value in zip(app.select_slider, ("2 x", "1,000"), strict=False):
        assert slider.proto.options[int(slider.proto.default[0])] == value
        assert not slider.proto.set_value


@pytest.mark.parametrize(
    "link",
    [
        {"scenario": "../../../etc/passwd"},
        {"scenario": "<script>alert(1)</script>"},
        {"sequences": "1e999"},
        {"ep": "-7"},
        {"weights": "x" * 5000},
    ],
)
def test_a_bad_link_is_explained_and_the_default_shown(link):
    app = page("deployment", **link)
    assert not app.exception
    assert "the default is shown" in app.warning[0].value
    assert "<script>" not in app.warning[0].value
    assert numbers(app)


def test_what_does_not_fit_is_explained_in_place():
    app = page("deployment", scenario=SGLANG, ep="2")
    assert not app.exception
    assert "HBM per device" in app.error[0].value
    assert app.select_slider


def test_experts_shows_the_numbers_of_the_api():
    app = page("experts", scenario=SGLANG, ep="36", redundant="32")
    found = planner.expert_load(planner.load_scenario(SGLANG), ep=36, redundant=32)
    assert not app.error
    assert numbers(app)["Hottest rank, balanced"] == f"{found.after.rank_ratio:.2f} x"


def test_a_recorded_histogram_replaces_the_popularity():
    counts = [[1.0 + (expert == 3) * 50 for expert in range(256)] for _ in range(58)]
    app = page("experts", scenario=SGLANG)
    before = numbers(app)
    app.file_uploader[1].set_value(("h.json", json.dumps(counts).encode(), "application/json"))
    app.run()
    assert not app.error
    assert numbers(app) != before


def test_a_histogram_of_another_model_is_refused_in_place():
    app = page("experts", scenario=SGLANG)
    app.file_uploader[1].set_value(("h.csv", b"1,2,3\n4,5,6\n", "text/csv")).run()
    assert not app.exception
    assert "your histogram" in app.error[0].value
    assert numbers(app)


def test_compare_shows_the_numbers_of_the_api_and_marks_what_differs():
    names = f"{SGLANG},deepseek-profile-decode"
    app = page("compare", scenarios=names, sequences="64", context="2048")
    assert not app.error
    table = app.dataframe[0].value.set_index("")
    for name in names.split(","):
        steady = {"sequences_per_device": 64, "context_tokens": 2048}
        found = planner.steady(planner.load_scenario(name, {"steady": steady}))
        rate = f"{found.tokens_per_s_per_device:,.0f}"
        assert table.loc["tokens/s a device", found.scenario.title] == rate
    assert table.loc["tokens/s a device", "differs"] == "●"
    assert table.loc["model", "differs"] == ""


def test_scenarios_of_ones_own_stand_beside_shipped_ones_and_bad_ones_are_refused():
    own = copying.yaml_text(
        scenario_form.Source("r1-chat-ep16").raw(), {"title": "Mine", "deployment.kv": "fp8"}
    )
    app = page("compare", scenarios=SGLANG, only="yes")
    bad = b"name: x\nmodel: ../../etc/passwd\n"
    app.file_uploader[0].set_value(
        [("mine.yaml", own.encode(), "text/yaml"), ("bad.yaml", bad, "text/yaml")]
    ).run()
    assert not app.exception
    assert "cannot name files" in app.error[0].value
    steady = {"sequences_per_device": 32, "context_tokens": 4096}
    changed = planner.load_scenario("r1-chat-ep16", {"steady": steady, "deployment.kv": "fp8"})
    table = app.dataframe[0].value.set_index("")
    rate = f"{planner.steady(changed).tokens_per_s_per_device:,.0f}"
    assert table.loc["tokens/s a device", "Mine"] == rate
    assert set(table["differs"]) == {"●"}
    assert "model" in table.index


def test_hardware_shows_every_number_with_its_source():
    app = page("compare", view="Hardware", system="hgx-h100")
    rows = app.dataframe[0].value
    assert (rows["source"] != "").all()
    assert "3.35 TB/s" in set(rows["value"])


def test_trust_shows_the_stored_errors_of_a_part():
    from planner.calibrate.check import check
    from planner.calibrate.goals import meets_goal

    app = page("trust", part="h200-sxm")
    met = [meets_goal(r) for r in check(["h200-sxm"], refit=False)]
    judged = [ok for ok in met if ok is not None]
    assert numbers(app)["Goals met"] == f"{sum(judged)} of {len(judged)}"


def test_a_job_answers_refuses_and_is_cancelled():
    import time

    from planner.dashboard.process import Job
    from planner.dashboard.work import fit_rows

    job = Job(fit_rows, (b"not rows\n",))
    for _ in range(600):
        if job.done():
            break
        time.sleep(0.05)
    with pytest.raises(planner.InputError, match="your rows"):
        job.result()
    slow = Job(time.sleep, (600,))
    slow.cancel()
    assert not slow._process.is_alive()


def test_own_runs_are_predicted_beside_what_was_measured():
    from pathlib import Path

    from planner.dashboard.work import check_runs
    from planner.files.overheads import load_overheads
    from planner.files.runs import read_runs
    from planner.validation.predict import predict_runs

    path = Path(__file__).parents[1] / "data" / "serving_runs.jsonl"
    first = path.read_bytes().splitlines(keepends=True)[0]
    found = check_runs(first + b"not json\n")
    runs, _ = read_runs(path)
    (made,) = predict_runs(runs[:1], load_overheads(), 1)
    by = {row.quantity: row for row in found.rows}
    for quantity in ("mean_ttft_s", "mean_tpot_s"):
        assert by[quantity].predicted_s == made.predicted[quantity]
        expected = made.predicted[quantity] / by[quantity].measured_s - 1
        assert by[quantity].relative_error == expected
    assert found.refused[0][0] == 2


def test_own_runs_that_are_none_are_refused_in_place():
    app = page("trust", view="Your own runs")
    app.file_uploader[0].set_value(("r.jsonl", b"{}\n", "application/json")).run()
    next(b for b in app.button if b.label == "Predict them").click().run()
    import time

    for _ in range(300):
        if app.error:
            break
        time.sleep(0.1)
        app.run()
    assert not app.exception
    assert "your runs" in app.error[0].value


def test_results_of_a_tool_are_predicted_beside_what_it_measured():
    from pathlib import Path

    from planner.dashboard.work import check_benchmarks
    from planner.files.benchmarks import read_benchmarks
    from planner.validation.own import beside

    path = Path(__file__).parents[1] / "data" / "benchmarks" / "vllm.json"
    question = planner.load_scenario("r1-distill-7b-rtx5090")
    found = check_benchmarks(path.read_bytes(), "vllm", question)
    (made,) = (beside(run, question) for run in read_benchmarks(path, "vllm"))
    assert [row["predicted"] for row in found.rows] == [row.predicted for row in made.rows]
    assert found.inside == sum(bool(row.inside) for row in made.rows)
    ttft = sorted(abs(r.relative_error) for r in made.rows if r.quantity.startswith("ttft"))
    assert found.median_abs_errors["TTFT"] == ttft[len(ttft) // 2]


def test_a_result_of_another_tool_is_refused_in_place():
    import time

    app = page("trust", view="Your benchmarks", scenario="r1-distill-7b-rtx5090", tool="guidellm")
    app.file_uploader[-1].set_value(("r.json", b"{}", "application/json")).run()
    next(b for b in app.button if b.label == "Predict them").click().run()
    for _ in range(300):
        if app.error:
            break
        time.sleep(0.1)
        app.run()
    assert not app.exception
    assert "your results" in app.error[0].value
    assert "another tool" in app.error[0].value
