"""Commands that measure kernels, fit achieved shares to them, and hold predictions to them."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from planner.cli.common import write_or_refuse

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
WORST_SHOWN = 8


@click.group()
def calibrate() -> None:
    """Measure kernels, fit what share of the peaks they reach, say how wrong the fit is."""


@calibrate.command(
    "run", context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def calibrate_run(arguments: tuple[str, ...]) -> None:
    """Run the kernel runner: --backend cpu|cuda --out FILE --budget SECONDS (--help for all)."""
    from planner.calibrate.runner.main import run

    sys.exit(run(list(arguments)))


@calibrate.command("fit")
@click.argument("source")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@as_json_option
def calibrate_fit(source: str, out: Path | None, as_json: bool) -> None:
    """Fit achieved shares to SOURCE: a file of rows (.jsonl, .jsonl.gz), or a measured part.

    --out writes a calibration (YAML) of a known part, or shares and errors (JSON) of another
    device.
    """
    from planner.calibrate.fitted import fit_source
    from planner.calibrate.goals import meets_goal

    fitted = fit_source(source)
    if out is not None:
        write_or_refuse("--out", out, lambda: out.write_text(fitted.file_text(out), "utf-8"))
    if as_json:
        click.echo(json.dumps(fitted.as_dict(), indent=2))
        return
    from planner.report.calibration import errors_table, shares_table

    page = _page()
    page.table(shares_table(fitted.laws, f"{fitted.device}: {fitted.about}"))
    page.table(errors_table(fitted.records, [meets_goal(r) for r in fitted.records]))
    if out is not None:
        page.note(f"written: {out}")


@calibrate.command("check")
@click.argument("targets", nargs=-1, metavar="[PART|ROWS.jsonl[.gz]]...")
@click.option(
    "--refit/--stored", default=None,
    help="Fit again without the held-out points, or show what was stored [default: refit the "
    "parts named where the measured tables are installed].",
)  # fmt: skip
@click.option("--html", type=click.Path(dir_okay=False), help="Write a page with plots.")
@click.option("--brief", is_flag=True, help="Only the summary by family of kernels.")
@click.option(
    "--markdown", is_flag=True,
    help="Print the table of docs/calibration.md; with --brief that of its goals.",
)  # fmt: skip
@as_json_option
def calibrate_check(
    targets: tuple[str, ...],
    refit: bool | None,
    html: str | None,
    brief: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Say how far predictions are from points that were not fitted.

    Of the parts named, of files of rows, or of every part that was measured.
    """
    from planner.calibrate.goals import goal, meets_goal
    from planner.calibrate.packed import is_rows

    rows = [Path(t) for t in targets if is_rows(t)]
    parts = [t for t in targets if not is_rows(t)]
    records, reasons = _checked(parts, rows, refit)
    met = [meets_goal(record) for record in records]
    listed = not (as_json or markdown or brief)
    points = _points(parts, rows) if html or (targets and listed) else []
    if html:
        _write_page(records, met, points, html)
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    from planner.calibrate.points import worst
    from planner.report import calibration, goal_tables

    if markdown:
        limits = [goal(record) for record in records]
        goals = goal_tables.goals_markdown(records, limits, met)
        click.echo(goals if brief else calibration.errors_markdown(records), nl=False)
        return
    page = _page()
    if listed:
        page.table(calibration.errors_table(records, met))
        page.table(calibration.worst_table(worst(points, WORST_SHOWN)))
    page.table(goal_tables.summary_table(records, met))
    for reason in reasons:
        page.note(reason)
    if html:
        page.note(f"written: {html}")


@calibrate.command("compare")
@click.argument("a")
@click.argument("b")
@click.option("--part", required=True, help="Accelerator that both measured, e.g. h200-sxm; of two "
              "files also the device's own name.")  # fmt: skip
@as_json_option
def calibrate_compare(a: str, b: str, part: str, as_json: bool) -> None:
    """Put two sources of the same part side by side, on points both have.

    A and B are each a file of rows (.jsonl, .jsonl.gz), 'published' (rows that travel with the
    package), or an engine of the installed tables: trtllm, sglang, vllm, with :VERSION where not
    the newest.
    """
    from planner.calibrate.compare import compare

    found = compare(a, b, part)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from planner.report.calibration import compared_table

    _page().table(compared_table(found))


def _checked(
    parts: list[str], rows: list[Path], refit: bool | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Errors of files and parts (of all without any), and why some have nothing held out."""
    from planner.calibrate.check import check, check_rows, why_nothing

    of_files = {str(path): check_rows(path) for path in rows}
    records = [record for own in of_files.values() for record in own]
    reasons = [why_nothing(name, own, of_file=True) for name, own in of_files.items()]
    if parts or not rows:
        found = check(parts, refit)
        records += found
        reasons += [why_nothing(p, [r for r in found if r["part"] == p]) for p in parts]
    return records, [reason for reason in reasons if reason]


def _points(parts: list[str], rows: list[Path]) -> list[Any]:
    from planner import files
    from planner.calibrate.points import part_points, rows_points

    names = parts or ([] if rows else files.accelerator_names())
    found = [point for path in rows for point in rows_points(path)]
    return found + [point for name in names for point in part_points(name)]


def _write_page(
    records: list[dict[str, Any]], met: list[bool | None], points: list[Any], path: str
) -> None:
    from planner.calibrate.points import worst
    from planner.report.calibration import write_calibration_html

    far = worst(points, 3 * WORST_SHOWN)
    write_or_refuse("--html", path, lambda: write_calibration_html(records, met, points, far, path))


def _page() -> Any:
    from planner.report.ink import Page
    from planner.report.terminal import console

    return Page(console())
