"""Commands on measured runs: predict them, and fit an engine's overheads to them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.cli.common import show, write_or_refuse
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.report.runs_report import RunsReport
    from planner.specs.runs import Run

workers_option = click.option("--workers", default=2, show_default=True, help="Processes.")


def validate_runs(  # noqa: PLR0913
    runs_file: str | None, out: str | None, as_json: bool, html: str | None, workers: int,
    *, explained: str | None = None, reported: bool = False,
) -> None:  # fmt: skip
    """Predict every run of a file (None: the shipped ones) and say how far off that is.

    ``reported``: those that others reported, which are never fitted; errors by maker of the part.
    """
    from planner.files.overheads import load_overheads
    from planner.files.runs import read_runs
    from planner.report.runs_report import RunsReport, print_runs
    from planner.report.terminal import console
    from planner.validation.predict import Prediction, predict_runs
    from planner.validation.reported import GROUPS as OF_REPORTED
    from planner.validation.reported import reported_runs
    from planner.validation.shipped import shipped_runs
    from planner.validation.summary import GROUPS

    stored = list(reported_runs() if reported else () if runs_file else shipped_runs())
    runs, refused = read_runs(runs_file) if runs_file else (stored, [])
    if explained is not None:
        explain_run(runs, explained, as_json)
        return
    groupings = OF_REPORTED if reported else GROUPS
    report = RunsReport(runs, predict_runs(runs, load_overheads(), workers), refused, groupings)
    if out is not None:
        lines = [
            *report.predictions,
            *(Prediction(bad.id, None, error=f"line {bad.line}: {bad.problem}") for bad in refused),
        ]
        text = "\n".join(json.dumps(each.to_dict()) for each in lines) + "\n"
        write_or_refuse("--out", out, lambda: Path(out).write_text(text, "utf-8"))
    if html is not None:
        _page(report, html)
    if as_json:
        plain = {
            "summary": report.summary(),
            "refused": [{"id": b.id, "line": b.line, "problem": b.problem} for b in refused],
            "flagged": report.flagged(),
            "failed": report.failed(),
        }
        show(lambda: plain, True, "")
        return
    print_runs(report, console())


def _page(report: "RunsReport", path: str) -> None:
    from planner.files.overheads import load_overheads
    from planner.report.runs_report import write_runs_html
    from planner.validation.explain import explain, worst_of_all

    stored = load_overheads()
    furthest = worst_of_all(report.runs, report.predictions, 10)
    explained = [explain(run, each, stored) for run, each in furthest]
    write_or_refuse("--html", path, lambda: write_runs_html(Path(path), report, explained))


def explain_run(runs: "list[Run]", wanted: str, as_json: bool) -> None:
    """Say where the predicted time of one run goes, and what moves it most."""
    from planner.files.overheads import load_overheads
    from planner.validation.explain import explain, lines, one_of
    from planner.validation.predict import predict_runs

    run = one_of(runs, wanted)
    if run is None:
        near = [r.id for r in runs if wanted in r.id] or [r.id for r in runs]
        raise InputError(
            "--explain", wanted, f"is the id of no one run; there are: {', '.join(near[:5])}, …"
        )
    prediction = predict_runs([run], load_overheads(), 1)[0]
    if prediction.error is not None:
        raise InputError("--explain", wanted, f"cannot be predicted: {prediction.error}")
    found = explain(run, prediction, load_overheads())
    if as_json:
        show(found.to_dict, True, "")
        return
    click.echo(run.id)
    for line in lines(found):
        click.echo(f"  {line}")


@click.command()
@click.argument("runs_file", metavar="RUNS.jsonl")
@click.option("--out", help="Write the fit here; by default it is only printed.")
@click.option("--source", default="own measurements", show_default=True, help="Who measured.")
@click.option("--rounds", default=3, show_default=True, help="Fits, each simulated again.")
@click.option("--start", help="Fit to start from, a file as --out writes it: fewer rounds do.")
@click.option(
    "--anew", multiple=True, type=click.Choice(("configurations", "versions", "parts", "models")),
    default=("configurations", "versions", "parts", "models"),
    help="Simulate these again when left out; others keep their schedule [default: all].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@workers_option
def engine(  # noqa: PLR0913
    *, runs_file: str, out: str | None, source: str, rounds: int, start: str | None,
    anew: tuple[str, ...], as_json: bool, workers: int,
) -> None:  # fmt: skip
    """Fit overheads of serving engines to measured runs; say what the runs do not determine."""
    from datetime import UTC, datetime

    from planner.calibrate.engine_run import fit_engines, fit_yaml
    from planner.calibrate.enough import standings, verdict
    from planner.evaluation.fitted import FACTORS
    from planner.files.overheads import load_overheads
    from planner.files.runs import read_runs

    runs, refused = read_runs(runs_file)
    for bad in refused:
        click.echo(f"refused: line {bad.line} {bad.id}: {bad.problem}", err=True)
    today = datetime.now(UTC).date().isoformat()
    fitted = fit_engines(
        runs, today, source, rounds=rounds, workers=workers, anew=anew,
        start=load_overheads(start) if start else None,
        tell=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    stored: dict[str, Any] = fitted.stored.model_dump(mode="json")
    if out is not None:
        text = fit_yaml(fitted.stored)
        write_or_refuse("--out", out, lambda: Path(out).write_text(text, "utf-8"))
    found = standings(fitted.stored, fitted.runs)
    if as_json:
        plain = {**stored, "standing": [s.to_dict() for s in found], "verdict": verdict(found)}
        show(lambda: plain, True, "")
        return
    for each in found:
        value = "stays at what is usual"
        if each.value is not None and each.spread is not None:
            unit = "" if each.parameter in FACTORS else " s"
            value = f"{each.value:.3g}{unit}, times or over {each.spread:.2f}"
        bring = f"; bring: {each.bring}" if each.bring else ""
        more = f" (some {each.more_runs} more like these would do)" if each.more_runs else ""
        click.echo(f"{each.engine:14s} {each.parameter:18s} {each.state:15s} {value}{bring}{more}")
    click.echo(verdict(found))
    click.echo(f"not determined by these runs: {len(fitted.stored.refused)} effects")
