"""Commands that answer a scenario."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.common import (
    html_option,
    overrides,
    placed,
    scenario_options,
    show,
    show_page,
    write_html,
    write_or_refuse,
)
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.specs.scenario import Scenario


@click.command()
@scenario_options
@html_option
@click.option("--model", "models", multiple=True, metavar="NAME=QUALITY",
              help="Choose among models, each with its quality on a scale of yours.")  # fmt: skip
@click.option("--min-quality", type=float, help="Quality below which a model is refused.")
def plan(
    scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None,
    models: tuple[str, ...], min_quality: float | None,
) -> None:  # fmt: skip
    """Find the cheapest fleet that keeps the promises, and why not the others."""
    from planner import search
    from planner.files import load_scenario

    question = load_scenario(scenario, overrides(sets))
    if models or min_quality is not None:
        _plan_models(question, models, min_quality, as_json)
        return
    with placed(scenario), _second_core(len(question.hardware)) as executor:
        found = search.plan_intervals(search.plan(question, executor=executor))
    write_html(found, html)
    show(found.to_dict, as_json, "print_plan", found)


@contextmanager
def _second_core(systems: int) -> Iterator[Executor | None]:
    """One process beside this one, where several systems make it worth its start."""
    if systems == 1 or (os.cpu_count() or 1) == 1:
        yield None
        return
    from loky import get_reusable_executor

    with get_reusable_executor(max_workers=1) as executor:
        yield executor


def _plan_models(
    question: "Scenario", models: tuple[str, ...], min_quality: float | None, as_json: bool
) -> None:
    """Plan several models, and show the cheapest that is good enough first."""
    from planner import search
    from planner.files import load_model
    from planner.report.studies import print_models

    if min_quality is None or not models:
        missing = "--min-quality" if min_quality is None else "--model"
        raise InputError("plan", missing, "is missing; a choice of models needs both")
    chosen = {}
    for item in models:
        name, _, text = item.partition("=")
        try:
            chosen[name] = (load_model(name), float(text))
        except ValueError:
            raise InputError("--model", item, "is not NAME=QUALITY, e.g. qwen3-8b=62.1") from None
    found = search.plan_models(question, chosen, min_quality)
    show_page(found.to_dict, as_json, lambda page: print_models(found, page))


@click.command()
@scenario_options
@html_option
@click.option(
    "--records",
    type=click.Path(dir_okay=False),
    help="Write every request, a row each (.csv, .csv.gz or .parquet).",
)
@click.option(
    "--replications",
    type=click.IntRange(1, 1000),
    default=1,
    help="Independent runs, with seeds spawned from the scenario's, for confidence intervals.",
)
def simulate(
    scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None,
    records: str | None, replications: int,
) -> None:  # fmt: skip
    """Simulate the scenario's own deployment, request by request."""
    from planner.evaluation import evaluate, with_intervals
    from planner.files import load_scenario
    from planner.report.request_log import check_name, write_requests

    if records is not None:
        check_name(Path(records))
    with placed(scenario):
        question = load_scenario(scenario, overrides(sets))
        result = with_intervals(evaluate(question, replications=replications))
    if records is not None:
        write_or_refuse("--records", records, lambda: write_requests(result.records, records))
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
@click.option(
    "--prompt",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Mean prompt of a prefill step; without it as the workload or steady says.",
)
def step(
    scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None, phase: str,
    prompt: int | None,
) -> None:  # fmt: skip
    """Lay out one steady step and simulate it over all ranks; decode: capacity at user speeds."""
    from planner.evaluation import steady, timeline
    from planner.files import load_scenario
    from planner.report.step_page import StepAnswer, write_step_html

    if prompt is not None and phase != "prefill":
        raise InputError("--prompt", "", "is of a prefill step; add --phase prefill")
    with placed(scenario):
        question = load_scenario(scenario, overrides(sets))
        if phase == "prefill":
            answer = StepAnswer(None, timeline(question, "prefill", prompt_tokens=prompt))
        else:
            found = steady(question)
            answer = StepAnswer(found, timeline(question, replica=found.replica))
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
