"""What every command shares: options, places of errors, JSON.  Nothing heavy is imported here."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from planner.errors import InfeasibleError, InputError, PlannerError

EXIT_BAD_INPUT = 2


class Group(click.Group):
    """Turns every error a user can cause into one line and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; a bad input ends with one line on stderr and exit code 2."""
        try:
            return super().main(*args, **kwargs)
        except PlannerError as error:
            click.echo(f"error: {error}", err=True)
        except BrokenPipeError:
            sys.stderr.close()
        sys.exit(EXIT_BAD_INPUT)


def scenario_options(command: Callable[..., None]) -> Callable[..., None]:
    """Argument SCENARIO, and the options every question takes."""
    for decorate in (
        click.argument("scenario"),
        click.option("--set", "sets", multiple=True, metavar="PATH=VALUE",
                     help="Replace a value, e.g. --set slo.tpot_p95_s=0.04, --set model=kimi-k2."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit."),
    ):  # fmt: skip
        command = decorate(command)
    return command


html_option = click.option(
    "--html", type=click.Path(dir_okay=False), help="Write a self-contained HTML report."
)


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
def placed(scenario: str) -> Iterator[None]:
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


def overrides(sets: tuple[str, ...]) -> dict[str, Any]:
    """``PATH=VALUE`` options as path -> value."""
    from planner.files import parse_value

    changes = {}
    for item in sets:
        path, equals, value = item.partition("=")
        if not equals or not path.strip():
            raise InputError("--set", item, "is not PATH=VALUE, e.g. slo.tpot_p95_s=0.04")
        changes[path.strip()] = parse_value(value)
    return changes


def write_html(answer: Any, path: str | None) -> None:
    """Write the report of any answer, if a path was given."""
    if path is None:
        return
    from planner.report.html import write_html

    write_or_refuse("--html", path, lambda: write_html(answer, Path(path)))


def write_or_refuse(option: str, path: str | Path, write: Callable[[], object]) -> None:
    """Write a file; what the system refuses becomes an error that names the option."""
    try:
        write()
    except OSError as error:
        raise InputError(option, str(path), f"cannot be written: {error.strerror}") from None


def show(to_plain: Callable[[], Any], as_json: bool, printer: str, *args: Any) -> None:
    """Print as JSON, or through the named function of the terminal report."""
    if as_json:
        click.echo(json.dumps(finite(to_plain()), indent=2, allow_nan=False))
        return
    from planner.report import terminal

    getattr(terminal, printer)(*args, terminal.console())


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: both become null."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value
