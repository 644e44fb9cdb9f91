"""Commands that answer a scenario."""

import os

import click

from planner.cli.common import html_option, overrides, placed, scenario_options, show, write_html


@click.command()
@scenario_options
@html_option
def plan(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Find the cheapest fleet that keeps the promises, and why not the others."""
    from planner import search
    from planner.files import load_scenario

    with placed(scenario):
        found = search.plan(load_scenario(scenario, overrides(sets)))
    write_html(found, html)
    show(found.to_dict, as_json, "print_plan", found)


@click.command()
@scenario_options
@html_option
def simulate(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Simulate the scenario's own deployment, request by request."""
    from planner.evaluation import evaluate
    from planner.files import load_scenario

    with placed(scenario):
        result = evaluate(load_scenario(scenario, overrides(sets)))
    write_html(result, html)
    show(result.to_dict, as_json, "print_result", result)


@click.command()
@scenario_options
def step(scenario: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Lay out one steady decode step; capacity at given user speeds."""
    from planner.evaluation import steady
    from planner.files import load_scenario

    with placed(scenario):
        answer = steady(load_scenario(scenario, overrides(sets)))
    show(answer.to_dict, as_json, "print_steady", answer)


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
