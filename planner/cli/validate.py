"""Hold predictions to what was published."""

import json

import click

from planner.cli.common import finite
from planner.cli.runs import validate_runs, workers_option
from planner.errors import InputError


@click.command()
@click.argument("runs_file", required=False, metavar="[RUNS.jsonl]")
@click.option("--out", help="Write predictions of runs, a JSON object a line.")
@click.option("--html", help="Write a page with parity plots of runs.")
@workers_option
@click.option("--published", is_flag=True, help="Hold predictions to published figures.")
@click.option("--only", multiple=True, metavar="TAG", help="Figures of one tag, e.g. moe.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit.")
def validate(  # noqa: PLR0913, PLR0917
    runs_file: str | None, out: str | None, html: str | None, workers: int,
    published: bool, only: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Set predictions beside measured runs or published figures; say how far they are off."""
    if runs_file is not None:
        validate_runs(runs_file, out, as_json, html, workers)
        return
    if not published:
        raise InputError("validate", "", "nothing to validate: give RUNS.jsonl or --published")
    show_published(only, as_json)


def show_published(only: tuple[str, ...], as_json: bool) -> None:
    """Print published figures beside predictions."""
    from planner.calibrate.account import account

    verdicts = account(only)
    if as_json:
        rows = [verdict.to_dict() for verdict in verdicts]
        click.echo(json.dumps(finite(rows), indent=1, allow_nan=False))
        return
    from planner.report.published_table import print_published
    from planner.report.terminal import console

    print_published(verdicts, console())
