"""The Python door."""

import subprocess
import sys

import pytest

import planner


def test_everything_promised_is_there():
    for name in planner.__all__:
        assert getattr(planner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        planner.nothing  # noqa: B018


def test_importing_planner_costs_nothing():
    code = (
        "import sys, planner\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'plotly', 'streamlit', 'torch', 'simpy', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_using_the_core_pulls_in_no_plotting_and_no_scipy():
    code = (
        "import sys, planner\n"
        "planner.load_scenario('deepseek-r1-day'); planner.footprint('deepseek-r1', 'hgx-h200')\n"
        "heavy = {'scipy', 'pandas', 'plotly', 'streamlit', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def report():
    scenario = planner.load_scenario(
        "r1-distill-7b-rtx5090", {"run.requests": 120, "run.warmup_requests": 10}
    )
    return planner.simulate(scenario)


def test_a_report_becomes_plain_values_figures_and_html(report):
    assert report.to_dict()["finished"] == report.metrics.finished
    assert report.figures()
    assert "<" in report._repr_html_()


def test_evaluate_simulates_a_deployment_and_plans_without_one(report):
    scenario = planner.load_scenario(
        "r1-distill-7b-rtx5090", {"run.requests": 120, "run.warmup_requests": 10}
    )
    assert planner.evaluate(scenario).metrics == report.metrics


def test_doubling_the_price_doubles_the_cost(report):
    cost = report.costs[0]
    scenario = planner.with_overrides(
        report.scenario,
        {"hardware.0.prices.0.usd_per_device_hour": 2 * float(cost.price.usd_per_device_hour)},
    )
    again = planner.simulate(scenario).costs[0]
    assert again.usd_per_million_output_tokens == pytest.approx(
        2 * cost.usd_per_million_output_tokens
    )


def test_an_override_of_a_fact_is_reported_as_an_assumption(report):
    scenario = planner.with_overrides(report.scenario, {"accelerator.memory_bytes_per_s": 3.6e12})
    names = {a.name for a in planner.simulate(scenario).assumptions if a.source == "override"}
    assert names == {"accelerator.memory_bytes_per_s"}


def test_a_model_is_read_from_a_hugging_face_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(
        '{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,'
        ' "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,'
        ' "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": false}'
    )
    model = planner.ModelSpec.from_hf_config(path)
    assert model.attention[0].kv_heads == 8
    path.write_text('{"model_type": "nope"}')
    with pytest.raises(planner.InputError, match="model_type"):
        planner.ModelSpec.from_hf_config(path)
