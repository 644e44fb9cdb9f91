"""The command line: ask, print.  Everything heavy is imported inside the command that needs it."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from planner.errors import InfeasibleError, InputError, PlannerError

EXIT_BAD_INPUT = 2


class _Group(click.Group):
    """Turns every error a user can cause into one line and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except PlannerError as error:
            click.echo(f"error: {error}", err=True)
        except BrokenPipeError:
            sys.stderr.close()
        sys.exit(EXIT_BAD_INPUT)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moe-planner", prog_name="moe-planner")
def main() -> None:
    """Predict what Mixture-of-Experts inference costs and how fast it runs.

    SCENARIO is a YAML file, or the name of a shipped one.  Every command takes --json and
    --set path=value.
    """


def _scenario_options(command: Callable[..., None]) -> Callable[..., None]:
    for decorate in (
        click.argument("scenario"),
        click.option("--set", "sets", multiple=True, metavar="PATH=VALUE",
                     help="Replace a value, e.g. --set slo.tpot_p95_s=0.04, --set model=kimi-k2."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit."),
    ):  # fmt: skip
        command = decorate(command)
    return command


_html = click.option(
    "--html", type=click.Path(dir_okay=False), help="Write a self-contained HTML report."
)


@main.command()
@_scenario_options
@_html
def plan(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Find the smallest fleet that keeps the promises, and why not the others."""
    from planner import search
    from planner.files import load_scenario

    with _placed(scenario):
        found = search.plan(load_scenario(scenario, _overrides(sets)))
    _write_html(found, html)
    _show(found.to_dict, as_json, "print_plan", found)


@main.command()
@_scenario_options
@_html
def simulate(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Simulate the scenario's own deployment, request by request."""
    from planner.evaluation import evaluate
    from planner.files import load_scenario

    with _placed(scenario):
        result = evaluate(load_scenario(scenario, _overrides(sets)))
    _write_html(result, html)
    _show(result.to_dict, as_json, "print_result", result)


@main.command()
@_scenario_options
def step(scenario: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Lay out one steady decode step; capacity at given user speeds."""
    from planner.evaluation import steady
    from planner.files import load_scenario

    with _placed(scenario):
        answer = steady(load_scenario(scenario, _overrides(sets)))
    _show(answer.to_dict, as_json, "print_steady", answer)


@main.command()
@_scenario_options
@_html
def compare(scenario: str, sets: tuple[str, ...], as_json: bool, html: str | None) -> None:
    """Plan the scenario on each of its systems, side by side."""
    from loky import get_reusable_executor

    from planner import search
    from planner.files import load_scenario

    question = load_scenario(scenario, _overrides(sets))
    workers = min(len(question.hardware), os.cpu_count() or 1)
    with get_reusable_executor(max_workers=workers) as pool:
        answer = search.compare(question, pool)
    _write_html(answer, html)
    _show(answer.to_dict, as_json, "print_comparison", answer)


@main.command()
@_scenario_options
def claims(scenario: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Set published claims beside what the models here say."""
    from planner import search
    from planner.files import load_scenario

    with _placed(scenario):
        verdicts = search.claims(load_scenario(scenario, _overrides(sets)))
    _show(lambda: [v.to_dict() for v in verdicts], as_json, "print_claims", verdicts)


@main.command()
@click.option("--model", required=True, help="Catalogue name, model YAML, or HF config.json.")
@click.option("--system", required=True, help="System name or YAML.")
@click.option("--weights", help="Format of the large matrices [default: the published one].")
@click.option("--kv", default="bf16", show_default=True, help="Format of the KV cache.")
@click.option(
    "--parallelism",
    metavar="K=V,…",
    help="e.g. attention_dp=8,moe_ep=8 [default: tensor parallelism over 8 devices].",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace a value of accelerator, system, model, limits.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def footprint(**options: Any) -> None:
    """Say whether a model fits, device by device, and what is left for the KV cache."""
    from planner.api import footprint_from_options

    answer = footprint_from_options(
        {name: options[name] for name in ("model", "system", "weights", "kv", "parallelism")},
        _overrides(options["sets"]),
    )
    _show(answer.to_dict, options["as_json"], "print_footprint", answer)


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(name: str | None, as_json: bool) -> None:
    """List the model catalogue, or show one model (name, YAML, or HF config.json)."""
    from planner import files
    from planner.api import model_dict

    if name:
        model = files.load_model(name)
        _show(lambda: model_dict(model), as_json, "print_model", model)
        return
    known = [files.load_model(each) for each in files.model_names()]
    _show(lambda: [model_dict(m) for m in known], as_json, "print_models", known)


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def hardware(name: str | None, as_json: bool) -> None:
    """List the systems, or show one with its sources and prices."""
    from planner import files

    if name:
        one = files.load_hardware(name)
        _show(lambda: one.model_dump(mode="json"), as_json, "print_system", one)
        return
    known = [files.load_hardware(each) for each in files.system_names()]
    _show(lambda: [h.model_dump(mode="json") for h in known], as_json, "print_hardware", known)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scenarios(as_json: bool) -> None:
    """List the shipped scenarios."""
    from planner.files import scenario_titles

    titles = scenario_titles()
    if as_json:
        click.echo(json.dumps(titles, indent=2))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:<{width}}  {title}")


@main.group()
def calibrate() -> None:
    """Measure kernels on this machine."""


@calibrate.command(
    "run", context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def calibrate_run(arguments: tuple[str, ...]) -> None:
    """Run the kernel runner: --backend cpu|cuda --out FILE --budget SECONDS (--help for all)."""
    from planner.calibrate.runner.main import run

    sys.exit(run(list(arguments)))


@main.command()
@click.option("--port", default=8501, show_default=True)
def app(port: int) -> None:
    """Open the dashboard in the browser (needs the extra [app])."""
    import subprocess
    from importlib.util import find_spec

    from planner.files import app_path

    if find_spec("streamlit") is None:
        raise InputError("", "app", "needs Streamlit: pip install 'moe-planner[app]'")
    flags = ["--browser.gatherUsageStats=false", f"--server.port={port}"]
    code = subprocess.call([sys.executable, "-m", "streamlit", "run", str(app_path()), *flags])
    sys.exit(code)


_FIELD_OF_LIMIT = {
    "moe_ep": "deployment.parallelism.moe_ep",
    "attention_tp": "deployment.parallelism.attention_tp",
    "context_parallel": "deployment.parallelism.context_parallel",
    "pipeline": "deployment.parallelism.pp",
    "devices": "deployment.parallelism",
    "no layout": "space",
    "KV cache": "workload",
}
"""First words of a limit -> the field of a scenario that asks for it."""


@contextmanager
def _placed(scenario: str) -> Iterator[None]:
    """Give an error from deep inside the file and line of the field that caused it."""
    try:
        yield
    except InfeasibleError as error:
        matches = (f for words, f in _FIELD_OF_LIMIT.items() if error.limit.startswith(words))
        field = next(matches, "deployment")
        raise InputError(_line(scenario, field), field, str(error)) from None
    except InputError as error:
        if ":" in error.where or error.where.startswith("--"):
            raise
        field = "deployment.weights" if error.field == "weights" else error.field
        about = f"{error.where}: " if error.field == "weights" else ""
        raise InputError(_line(scenario, field), field, about + error.problem) from None


def _line(scenario: str, field: str) -> str:
    from planner.files import locate

    return locate(scenario, field)


def _overrides(sets: tuple[str, ...]) -> dict[str, Any]:
    from planner.files import parse_value

    changes = {}
    for item in sets:
        path, equals, value = item.partition("=")
        if not equals or not path.strip():
            raise InputError("--set", item, "is not PATH=VALUE, e.g. slo.tpot_p95_s=0.04")
        changes[path.strip()] = parse_value(value)
    return changes


def _write_html(answer: Any, path: str | None) -> None:
    if path is None:
        return
    from planner.report.html import write_html

    try:
        write_html(answer, Path(path))
    except OSError as error:
        raise InputError("--html", path, f"cannot be written: {error.strerror}") from None


def _show(to_plain: Callable[[], Any], as_json: bool, printer: str, *args: Any) -> None:
    """Print as JSON, or through the named function of the terminal report."""
    if as_json:
        click.echo(json.dumps(_finite(to_plain()), indent=2, allow_nan=False))
        return
    from planner.report import terminal

    getattr(terminal, printer)(*args, terminal.console())


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: both become null."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


if __name__ == "__main__":
    main()
