"""Hold predictions to measurements."""

import click

from planner.cli.runs import validate_runs, workers_option
from planner.errors import InputError


@click.command()
@click.argument("runs_file", required=False, metavar="[RUNS.jsonl]")
@click.option("--out", help="Write predictions, a JSON object a line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit.")
@click.option("--html", help="Write a page with parity plots.")
@workers_option
def validate(
    runs_file: str | None, out: str | None, as_json: bool, html: str | None, workers: int
) -> None:
    """Set predictions beside measured runs; say how far they are off."""
    if runs_file is None:
        raise InputError("validate", "", "nothing to validate: give RUNS.jsonl")
    validate_runs(runs_file, out, as_json, html, workers)
