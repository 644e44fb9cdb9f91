"""The dashboard's logic, without a browser."""

from pathlib import Path

import pytest

streamlit_testing = pytest.importorskip("streamlit.testing.v1")

APP = Path(__file__).parents[1] / "app.py"


@pytest.fixture
def app():
    return streamlit_testing.AppTest.from_file(str(APP), default_timeout=60).run()


def test_the_page_opens_without_an_error(app):
    assert not app.exception
    assert app.title[0].value == "moe-planner"


def test_asking_shows_the_numbers_of_the_api(app):
    import planner

    app.text_area[0].set_value("run.requests=60\nrun.warmup_requests=5")
    app.button[0].click().run()
    assert not app.exception
    scenario = planner.load_scenario(
        "r1-distill-7b-rtx5090", {"run.requests": 60, "run.warmup_requests": 5}
    )
    cost = planner.simulate(scenario).costs[0].usd_per_million_output_tokens
    assert app.metric[3].value == f"{cost:.2f}"


def test_bad_input_is_explained_in_place(app):
    app.text_area[0].set_value("slo.ttft_p95_s=-1")
    app.button[0].click().run()
    assert not app.exception
    assert "greater than 0" in app.error[0].value
