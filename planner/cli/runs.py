"""Commands on measured runs: predict them, and fit an engine's overheads to them."""

import json
from pathlib import Path
from typing import Any

import click

from planner.cli.common import show
from planner.errors import InputError

workers_option = click.option("--workers", default=2, show_default=True, help="Processes.")


def validate_runs(
    runs_file: str, out: str | None, as_json: bool, html: str | None, workers: int
) -> None:
    """Predict every run of a file and say how far off that is."""
    from planner.files.overheads import load_overheads
    from planner.files.runs import read_runs
    from planner.validation.predict import Prediction, flags, predict_runs
    from planner.validation.summary import summarise

    runs, refused = read_runs(runs_file)
    predictions = predict_runs(runs, load_overheads(), workers)
    lines = [
        *predictions,
        *(Prediction(bad.id, None, error=f"line {bad.line}: {bad.problem}") for bad in refused),
    ]
    if out is not None:
        _write(out, "\n".join(json.dumps(each.to_dict()) for each in lines) + "\n")
    rows = summarise(runs, predictions)
    flagged = {run.id: tuple(flags(run)) for run in runs if flags(run)}
    if html is not None:
        from planner.report.runs_report import write_runs_html

        write_runs_html(Path(html), runs, predictions, rows)
    if as_json:
        plain = {
            "summary": rows,
            "refused": [{"id": b.id, "line": b.line, "problem": b.problem} for b in refused],
            "flagged": flagged,
            "failed": {p.id: p.error for p in predictions if p.error},
        }
        show(lambda: plain, True, "")
        return
    from planner.report.runs_report import print_runs
    from planner.report.terminal import console

    print_runs(rows, refused, flagged, console())
    for each in predictions:
        if each.error:
            click.echo(f"not predicted: {each.id}: {each.error}")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        raise InputError("--out", path, f"cannot be written: {error.strerror}") from None


@click.command()
@click.argument("runs_file", metavar="RUNS.jsonl")
@click.option("--out", help="Write the fit here; by default it is only printed.")
@click.option("--source", default="own measurements", show_default=True, help="Who measured.")
@click.option("--rounds", default=3, show_default=True, help="Fits, each simulated again.")
@click.option("--start", help="Fit to start from, a file as --out writes it: fewer rounds do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@workers_option
def engine(  # noqa: PLR0913
    *, runs_file: str, out: str | None, source: str, rounds: int, start: str | None, as_json: bool,
    workers: int,
) -> None:  # fmt: skip
    """Fit overheads of serving engines to measured runs; say what the runs do not determine."""
    from datetime import UTC, datetime

    from planner.calibrate.engine_run import fit_engines, fit_yaml
    from planner.files.overheads import load_overheads
    from planner.files.runs import read_runs

    runs, refused = read_runs(runs_file)
    for bad in refused:
        click.echo(f"refused: line {bad.line} {bad.id}: {bad.problem}", err=True)
    today = datetime.now(UTC).date().isoformat()
    fitted = fit_engines(
        runs, today, source, rounds=rounds, workers=workers,
        start=load_overheads(start) if start else None,
        tell=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    stored: dict[str, Any] = fitted.stored.model_dump(mode="json")
    if out is not None:
        _write(out, fit_yaml(fitted.stored))
    if as_json:
        show(lambda: stored, True, "")
        return
    for each in fitted.stored.effects:
        if each.level == "family":
            value = f"{each.log_effect:+.3f} ± {each.log_se:.3f}"
            click.echo(f"{each.group:14s} {each.parameter:18s} log {value}")
    click.echo(f"not determined by these runs: {len(fitted.stored.refused)} effects")
