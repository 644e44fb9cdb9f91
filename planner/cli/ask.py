"""Commands that answer a scenario."""

import os
from typing import Literal

import click

from planner.cli.common import (
    html_option,
    overrides,
    placed,
    scenario_options,
    show,
    write_html,
    write_or_refuse,
)


@click.command()
@scenario_options
@html_option
def plan(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Find the cheapest fleet that keeps the promises, and why not the others."""
    from planner import search
    from planner.files import load_scenario

    with placed(scenario):
        found = search.plan_intervals(search.plan(load_scenario(scenario, overrides(sets))))
    write_html(found, html)
    show(found.to_dict, as_json, "print_plan", found)


@click.command()
@scenario_options
@html_option
def simulate(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Simulate the scenario's own deployment, request by request."""
    from planner.evaluation import evaluate, with_intervals
    from planner.files import load_scenario

    with placed(scenario):
        result = with_intervals(evaluate(load_scenario(scenario, overrides(sets))))
    write_html(result, html)
    show(result.to_dict, as_json, "print_result", result)


@click.command()
@scenario_options
@html_option
@click.option(
    "--phase",
    type=click.Choice(["decode", "prefill"]),
    default="decode",
    help="Of which step the timeline is.",
)
def step(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None, phase: str) -> None:
    """Lay out one steady decode step, simulate it over all ranks; capacity at user speeds."""
    from planner.evaluation import steady, timeline
    from planner.files import load_scenario
    from planner.report.step_page import StepAnswer, write_step_html

    with placed(scenario):
        question = load_scenario(scenario, overrides(sets))
        found = steady(question)
        which: Literal["decode", "prefill"] = "prefill" if phase == "prefill" else "decode"
        answer = StepAnswer(found, timeline(question, which, replica=found.replica))
    if html is not None:
        write_or_refuse("--html", html, lambda: write_step_html(answer, html))
    show(answer.to_dict, as_json, "print_step_answer", answer)


@click.command()
@scenario_options
@html_option
def compare(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Plan the scenario on each of its systems, side by side."""
    from loky import get_reusable_executor

    from planner import search
    from planner.files import load_scenario

    question = load_scenario(scenario, overrides(sets))
    workers = min(len(question.hardware), os.cpu_count() or 1)
    with get_reusable_executor(max_workers=workers) as pool:
        answer = search.compare(question, pool)
    write_html(answer, html)
    show(answer.to_dict, as_json, "print_comparison", answer)


@click.command()
@scenario_options
def claims(scenario: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Set published claims beside what the models here say."""
    from planner import search
    from planner.files import load_scenario

    with placed(scenario):
        verdicts = search.claims(load_scenario(scenario, overrides(sets)))
    show(lambda: [v.to_dict() for v in verdicts], as_json, "print_claims", verdicts)
