"""The dashboard's front door, without a browser."""

import json
import time
from pathlib import Path

import pytest

import planner
from planner.dashboard.state import plain
from planner.report.words import usd

testing = pytest.importorskip("streamlit.testing.v1")

APP = Path(__file__).parents[1] / "app.py"
QUICK = "r1-distill-7b-rtx5090"


def waited(app):
    """The page once the work it began is done, down to its end."""
    for _ in range(600):
        if app.metric or app.error or app.exception:
            return app.run()
        time.sleep(0.2)
        app.run()
    raise AssertionError("the work did not end")


def page(name, **link):
    source = f"from planner.dashboard import {name}_page\n{name}_page.show()\n"
    app = testing.AppTest.from_string(source, default_timeout=60)
    for key, value in link.items():
        app.query_params[key] = value
    return app.run()


def press(app, label):
    next(button for button in app.button if button.label == label).click().run()
    return app


def numbers(app):
    assert [metric.label for metric in app.metric if not metric.help] == []
    return {metric.label: metric.value for metric in app.metric}


def test_the_front_door_opens_on_a_plan_that_is_being_worked_out():
    app = testing.AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    assert app.title[0].value == "Plan"
    assert [b.label for b in app.button] == ["Cancel"] or app.metric
    for button in app.button:
        if button.label == "Cancel":
            button.click().run()


def test_a_plan_shows_the_numbers_of_the_api_and_says_why_others_were_refused():
    wishes = {"tpot": "p90:0.04", "max_nodes": "8"}
    changes = {"slo.tpot_p95_s": None, "slo.tpot_p90_s": 0.04, "space.max_nodes": 8}
    app = waited(press(page("plan", scenario=QUICK, **wishes), "Plan"))
    assert not app.exception
    assert not app.error
    found = planner.plan(planner.load_scenario(QUICK, changes))
    assert numbers(app)["Devices"] == str(found.best.devices)
    assert numbers(app)["$ per million output tokens"].startswith("$")
    assert any("refused" in each.label for each in app.expander)
    assert {k: app.query_params[k] for k in wishes} in (wishes, {k: [v] for k, v in wishes.items()})
    assert f"slo.tpot_p90_s={json.dumps(0.04)}" in app.code[0].value


def test_a_wish_that_cannot_come_true_is_explained_in_place():
    app = waited(press(page("plan", scenario=QUICK, max_usd_per_hour="0.02"), "Plan"))
    assert not app.exception
    assert "raise the cap or loosen the promises" in app.error[0].value


@pytest.mark.parametrize(
    "link",
    [
        {"model": "../../etc/passwd"},
        {"systems": "hgx-h200,<script>"},
        {"ttft": "p95:-1"},
        {"ttft": "p42:1"},
        {"max_rated_w": "1e999"},
        {"weights": "int3"},
    ],
)
def test_a_bad_wish_in_a_link_is_explained_and_the_default_shown(link):
    app = page("plan", scenario=QUICK, **link)
    assert not app.exception
    assert "the default is shown" in app.warning[0].value
    assert "<script>" not in app.warning[0].value


def test_a_simulation_shows_the_numbers_of_the_api():
    app = page("simulate", scenario=QUICK, requests="1000", load="0.5", seed="7")
    app = waited(press(app, "Simulate"))
    changes = {
        "workload.arrivals.concurrency": 2, "run.requests": 1000, "run.duration_s": None,
        "run.warmup_s": 0.0, "run.warmup_requests": 100, "run.seed": 7,
    }  # fmt: skip
    found = planner.simulate(planner.load_scenario(QUICK, changes))
    from planner.report.words import seconds

    assert not app.exception
    assert numbers(app)["TTFT p95"] == seconds(found.metrics.ttft_s.p95)
    assert numbers(app)["TPOT p95"] == seconds(found.metrics.tpot_s.p95)
    known = {}
    exec(app.code[1].value, known)
    assert known["found"].metrics == found.metrics


def test_replications_give_intervals_on_the_page():
    app = page("simulate", scenario=QUICK, requests="1000", replications="3")
    app = waited(press(app, "Simulate"))
    assert any("over 3 runs" in caption.value for caption in app.caption)
    assert "--replications 3" in app.code[0].value


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{i // 60:02d}:{i % 60:02d}.0,{100 + i},{20 + i % 9}\n" for i in range(90)
)
MOONCAKE = "".join(
    json.dumps({"timestamp": 700 * i, "input_length": 900, "output_length": 30,
                "hash_ids": [0, i % 5 + 1]}) + "\n"
    for i in range(80)
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "format_name"),
    [("azure.csv", AZURE, "azure"), ("mooncake.jsonl", MOONCAKE, "mooncake")],
)
def test_an_uploaded_trace_is_previewed_and_simulated(name, text, format_name, tmp_path):
    app = page("simulate", scenario=QUICK)
    uploader = next(each for each in app.file_uploader if "Trace" in each.label)
    uploader.set_value((name, text.encode(), "text/plain")).run()
    assert not app.error
    assert (
        f"requests \\({format_name}\\)"
        in app.success[0].value.replace("(", "\\(").replace(")", "\\)")
        or f"({format_name})" in app.success[0].value
    )
    app = waited(press(app, "Simulate"))
    (tmp_path / name).write_text(text)
    changes = {
        "workload": str(tmp_path / name),
        "run": {"warmup_requests": len(text.split()) // 99},
    }
    del changes["run"]
    rows = text.count("\n") - (format_name == "azure")
    scenario = planner.load_scenario(
        QUICK, {**changes, "run": {"warmup_requests": rows // 10, "seed": 1}}
    )
    from planner.report.words import seconds

    found = planner.simulate(scenario)
    assert numbers(app)["TTFT p95"] == seconds(found.metrics.ttft_s.p95)
    assert numbers(app)["E2E p95"] == seconds(found.metrics.e2e_s.p95)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.csv", b"arrival_s,input_tokens,output_tokens\n0,-5,3\n", "input_tokens"),
        ("empty.csv", b"", "your trace"),
        ("binary.csv", b"\x80\x04\x95pickle", "your trace"),
        ("<img src=x>.csv", b"a,b\n1,2\n", "your trace"),
    ],
)
def test_a_bad_trace_is_refused_in_place(name, content, said):
    app = page("simulate", scenario=QUICK)
    uploader = next(each for each in app.file_uploader if "Trace" in each.label)
    uploader.set_value((name, content, "text/csv")).run()
    assert not app.exception
    assert said.replace("_", "\\_") in app.error[0].value or said in app.error[0].value
    assert "/tmp/" not in app.error[0].value
    assert "<img" not in app.error[0].value


def test_ways_to_pay_are_the_numbers_of_the_api():
    app = page("compare", view="Rent, buy or API", scenario=QUICK, used="40")
    app = waited(press(app, "Draw up the bill"))
    assert not app.exception
    known = {}
    exec(app.code[1].value, known)
    found = planner.break_even(planner.load_scenario(QUICK), utilisation=0.4, region="virginia")
    assert known["found"].paybacks == found.paybacks
    assert known["found"].intervals == found.intervals
    low, high = map(usd, found.intervals["own_usd_per_device_hour"])
    assert any(plain(f"90 %: {low} to {high}") in caption.value for caption in app.caption)
    assert numbers(app)["Devices"] == str(found.result.devices)
