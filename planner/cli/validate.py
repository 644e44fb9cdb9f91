"""Hold predictions to what was published."""

import json

import click

from planner.cli.common import finite, overrides, placed
from planner.cli.runs import validate_runs, workers_option
from planner.errors import InputError


@click.command()
@click.argument("runs_file", required=False, metavar="[RUNS.jsonl]")
@click.option("--out", help="Write predictions of runs, a JSON object a line.")
@click.option("--html", help="Write a page with parity plots of runs.")
@click.option("--explain", metavar="ID", help="Say of one run where its predicted time goes.")
@workers_option
@click.option("--published", is_flag=True, help="Hold predictions to published figures.")
@click.option("--measured", is_flag=True, help="The measured runs that travel with the package.")
@click.option("--reported", is_flag=True, help="Runs that others reported: never fitted.")
@click.option("--baseline", is_flag=True, help="Hold errors by group against the stored ones.")
@click.option("--refresh", is_flag=True, help="With --baseline: store them anew.")
@click.option("--from-vllm", metavar="FILE", help="Result of vllm bench serve --save-result.")
@click.option("--from-sglang", metavar="FILE", help="Output file of sglang.bench_serving.")
@click.option("--from-aiperf", metavar="FILE", help="Profile export (JSON) of aiperf, genai-perf.")
@click.option("--from-guidellm", metavar="FILE", help="Benchmarks (JSON) of guidellm.")
@click.option("--scenario", metavar="S", help="With --from-...: what was benchmarked.")
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="With --scenario.")
@click.option("--only", multiple=True, metavar="TAG", help="Figures of one tag, e.g. moe.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit.")
def validate(  # noqa: PLR0913, PLR0917
    runs_file: str | None, out: str | None, html: str | None, explain: str | None, workers: int,
    published: bool, measured: bool, reported: bool, baseline: bool, refresh: bool,
    scenario: str | None, sets: tuple[str, ...], only: tuple[str, ...], as_json: bool,
    **own: str | None,
) -> None:  # fmt: skip
    """Set predictions beside measured runs or published figures; say how far they are off."""
    given = {name.removeprefix("from_"): file for name, file in own.items() if file}
    if given:
        show_own(given, scenario, sets, as_json)
    elif baseline:
        show_baseline(refresh)
    elif reported and (runs_file is not None or measured):
        raise InputError(
            "--reported", "", "names runs of its own; give no file and no --measured beside it"
        )
    elif runs_file is not None or measured or reported:
        validate_runs(runs_file, out, as_json, html, workers, explained=explain, reported=reported)
    elif published:
        show_published(only, as_json)
    else:
        raise InputError(
            "validate",
            "",
            "nothing to validate: give RUNS.jsonl, --measured, --reported, --published or "
            "--from-vllm FILE",
        )


def show_own(
    files: "dict[str, str]", scenario: str | None, sets: tuple[str, ...], as_json: bool
) -> None:
    """Print results of benchmark tools beside predictions."""
    from planner.files import load_scenario
    from planner.files.benchmarks import read_benchmarks
    from planner.validation.own import beside

    if scenario is None:
        raise InputError("--scenario", "", "is missing; name the scenario that was benchmarked")
    runs = [run for tool, file in files.items() for run in read_benchmarks(file, tool)]  # type: ignore[arg-type]
    with placed(scenario):
        base = load_scenario(scenario, overrides(sets))
        found = [beside(run, base) for run in runs]
    if as_json:
        rows = [each.to_dict() for each in found]
        click.echo(json.dumps(finite(rows), indent=1, allow_nan=False))
        return
    from planner.report.own_table import print_beside
    from planner.report.terminal import console

    print_beside(found, console())


def show_baseline(refresh: bool) -> None:
    """Compare errors with the stored ones, or store them; exit code 1 where a group got worse."""
    from planner.validation import baseline

    if refresh:
        baseline.store(baseline.refreshed())
        click.echo(f"stored: {baseline.PATH}")
        return
    found, stored = baseline.now(), {g.name: g for g in baseline.load_baseline()}
    for group in found:
        old = stored.get(group.name)
        was = f"stored {100 * old.median_abs_error:5.1f} %" if old else "not stored"
        click.echo(f"{group.name:56s} {group.n:4d} {100 * group.median_abs_error:6.1f} %  {was}")
    bad = baseline.worse(found, list(stored.values()))
    for each in bad:
        click.echo(f"worse: {each}", err=True)
    if bad:
        raise SystemExit(1)


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
