"""Timelines of prefill steps: where prompts come from, and a report of that step alone."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import planner
from planner.cli import main
from planner.errors import InputError
from planner.report.step_page import StepAnswer, step_page
from planner.specs.deployment import Disaggregated

SHIPPED = ("deepseek-h800", "gb300-r1", "h20-r1", "sglang-h100", "vllm-r1-h200")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_prefill_scenario_needs_only_the_length_of_a_prompt(name: str) -> None:
    scenario = planner.load_scenario(f"published/{name}-prefill")
    assert scenario.steady is None
    found = planner.timeline(scenario, "prefill", prompt_tokens=2048)
    shard = found.replica.shard
    assert (found.rank_tokens, found.context_tokens) == (16384, 2048)
    closed = found.replica.step.prefill_step(16384, 8, 2048, found.replica.cap_tokens)
    assert found.closed_form_s == closed.time_s
    assert found.timeline.time_s == pytest.approx(closed.time_s, rel=0.02)
    rate = 16384 * shard.attention_dp / shard.devices / found.timeline.time_s
    assert found.tokens_per_s_per_device == pytest.approx(rate)
    low, high = found.interval90()["step_s"]
    assert low < found.timeline.time_s < high


def test_without_a_length_one_error_names_the_option() -> None:
    path = "published/deepseek-h800-prefill"
    with pytest.raises(InputError, match=r"prompt: is not known.*--prompt TOKENS"):
        planner.timeline(planner.load_scenario(path), "prefill")
    with pytest.raises(InputError, match="must be > 0"):
        planner.timeline(planner.load_scenario(path), "prefill", prompt_tokens=0)
    with pytest.raises(InputError, match="steady: is missing"):
        planner.timeline(planner.load_scenario(path))
    run = CliRunner().invoke(main, ["step", "deepseek-profile-decode", "--prompt", "512"])
    assert run.exit_code != 0
    assert "add --phase prefill" in run.output


def test_prompts_are_as_long_as_the_workload_says_or_as_steady_does() -> None:
    steady = planner.load_scenario("deepseek-profile-decode")
    assert planner.timeline(steady, "prefill").context_tokens == 4096
    both = planner.load_scenario("deepseek-production-day")
    assert planner.timeline(both, "prefill").context_tokens == 4383
    assert planner.timeline(both, "prefill", prompt_tokens=100).context_tokens == 100


def test_of_pools_apart_the_one_that_computes_prompts_is_timed() -> None:
    scenario = planner.load_scenario("deepseek-production-day")
    assert isinstance(scenario.deployment, Disaggregated)
    found = planner.timeline(scenario, "prefill")
    assert found.replica.devices == found.timeline.ranks == 32
    assert found.rank_tokens == scenario.deployment.prefill.limits.max_step_tokens
    assert planner.timeline(scenario).timeline.ranks == 144


def test_the_page_of_a_prefill_step_shows_no_decode_step() -> None:
    scenario = planner.load_scenario("published/deepseek-h800-prefill")
    page = step_page(StepAnswer(None, planner.timeline(scenario, "prefill", prompt_tokens=4096)))
    text = page[page.index("<header>") : page.index("Where each number is computed")]
    assert "a prefill step of 16,384 tokens a rank, in prompts of 4,096 tokens" in text
    assert "Every op of the prefill step" in text
    assert "attention/mla_prefill" in text
    assert "decode step" not in text.lower()
    assert "A user" not in text


def test_the_command_reports_on_the_prefill_step_alone(tmp_path: Path) -> None:
    path = tmp_path / "step.html"
    asked = ["step", "published/gb300-r1-prefill", "--phase", "prefill", "--prompt", "2048"]
    text = CliRunner().invoke(main, [*asked, "--html", str(path)]).output
    assert "in prompts of 2,048" in " ".join(text.replace("│", " ").split())
    assert "Most that a device can decode" not in text
    assert "mla_core" not in text
    assert path.stat().st_size > 100_000
    data = json.loads(CliRunner().invoke(main, [*asked, "--json"]).output)
    assert data["timeline"]["phase"] == "prefill"
    assert data["timeline"]["context_tokens"] == 2048
    assert data["step"]["time_s"] == data["timeline"]["closed_form_s"]
    low, high = data["timeline"]["interval90"]["tokens_per_s_per_node"]
    assert low < data["timeline"]["tokens_per_s_per_node"] < high
    assert "capacities" not in data
