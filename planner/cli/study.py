"""Commands that ask a scenario many times: what-if, sweep, sensitivity, size, break-even."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from planner.cli.common import overrides, scenario_options, show_page
from planner.errors import InputError

vary_option = click.option(
    "--vary", "vary", multiple=True, required=True, metavar="PATH=V1,V2,…",
    help="Values to try; PATH*=F1,F2 multiplies; system=, model=, routing= take names.",
)  # fmt: skip
unknown_option = click.option(
    "--unknown", "unknown", multiple=True, required=True, metavar="PATH=LOW,[MID,]HIGH",
    help="What is not known: a range, or a triangle; PATH*= for factors.",
)  # fmt: skip
ask_option = click.option(
    "--ask", type=click.Choice(["simulate", "plan", "step"]),
    help="What to ask of every case [default: what the scenario is made for].",
)  # fmt: skip
workers_option = click.option("--workers", type=int, help="Local processes [default: all cores].")
dask_option = click.option(
    "--dask", metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786."
)


@click.command("what-if")
@scenario_options
@vary_option
@ask_option
@workers_option
@click.option("--columns", metavar="A,B,…", help="Columns to print [default: the usual ones].")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep answers between runs.")
def what_if(scenario: str, sets: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask again with values changed: one row a combination, beside the scenario as it is."""
    from planner.files import load_scenario
    from planner.report import studies
    from planner.study import what_if

    base = load_scenario(scenario, overrides(sets))
    with _progress(as_json) as progress:
        table = what_if(
            base, lists(options["vary"], "--vary"), ask=options["ask"],
            workers=options["workers"], cache=not options["no_cache"], progress=progress,
        )  # fmt: skip
        len(table.rows)  # worked out here, while the bar shows
    columns = options["columns"].split(",") if options["columns"] else None
    show_page(table.to_dict, as_json, lambda page: studies.print_table(table, page, columns))


@click.command()
@scenario_options
@vary_option
@ask_option
@workers_option
@dask_option
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="File of rows: .parquet or .jsonl.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the unfinished sweep of this file.")
def sweep(scenario: str, sets: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Answer every combination into a file, on all cores or a cluster; may be ended and resumed."""
    from planner.files import load_scenario
    from planner.report.studies import print_sweep
    from planner.study.store import read_rows
    from planner.study.table import sweep
    from planner.study.workers import workers_of

    base = load_scenario(scenario, overrides(sets))
    out: Path = options["out"]
    with _workers(options, workers_of) as workers, _ended(out), _progress(as_json) as progress:
        new = sweep(
            base, lists(options["vary"], "--vary"), out, ask=options["ask"], workers=workers,
            resume=options["resume"], progress=progress,
        )  # fmt: skip
    rows = read_rows(out)
    failed = [row for row in rows if row["error"]]
    summary = {"out": str(out), "rows": len(rows), "new": new, "failed": len(failed)}
    show_page(lambda: summary, as_json, lambda page: print_sweep(summary, failed, page))


@click.command()
@scenario_options
@unknown_option
@ask_option
@workers_option
@click.option("--quantity", default="usd_per_million_output_tokens", show_default=True,
              help="Column of the answer to explain.")  # fmt: skip
@click.option("--samples", default=0, show_default=True,
              help="Base samples of Sobol indices, a power of two; 0: tornado alone.")  # fmt: skip
def sensitivity(scenario: str, sets: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say which unknown moves the answer most: the one worth measuring first."""
    from planner.files import load_scenario
    from planner.report.studies import print_sensitivity
    from planner.study import sensitivity

    found = sensitivity(
        load_scenario(scenario, overrides(sets)), lists(options["unknown"], "--unknown"),
        quantity=options["quantity"], samples=options["samples"], ask=options["ask"],
        workers=options["workers"],
    )  # fmt: skip
    show_page(found.to_dict, as_json, lambda page: print_sensitivity(found, page))


@click.command()
@scenario_options
@unknown_option
@workers_option
@click.option("--replicas", metavar="N,N,…", help="Numbers of replicas to choose from.")
@click.option(
    "--fleet", "fleet", multiple=True, metavar="PATH=V1,V2,…",
    help="What else there is to choose: system=A,B; deployment.parallelism={…},{…}; every "
    "combination is a fleet.",
)  # fmt: skip
@click.option("--worlds", default=32, show_default=True, help="Worlds to draw.")
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0, 1),
              help="Share of worlds in which promises must be kept.")  # fmt: skip
@click.option("--breach", default=0.0, show_default=True, metavar="USD",
              help="What an hour of broken promises costs beside the fleets.")  # fmt: skip
def size(scenario: str, sets: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Choose a fleet by least regret when traffic, lengths or prices are not known."""
    from planner.files import load_scenario
    from planner.report.studies import print_sizing
    from planner.study.sizing import fleets, size

    choose = lists(options["fleet"], "--fleet")
    if options["replicas"]:
        more = lists((f"deployment.replicas={options['replicas']}",), "--replicas")
        _refuse_twice(choose)
        choose |= more
    if not choose:
        raise InputError("--fleet", "", "nothing to choose from; give --replicas or --fleet")
    base = load_scenario(scenario, overrides(sets))
    with _progress(as_json) as progress:
        found = size(
            base, fleets(choose), lists(options["unknown"], "--unknown"), count=options["worlds"],
            confidence=options["confidence"], breach_usd_per_hour=options["breach"],
            workers=options["workers"], progress=progress,
        )  # fmt: skip
    show_page(found.to_dict, as_json, lambda page: print_sizing(found, page))


def _refuse_twice(choose: Mapping[str, list[Any]]) -> None:
    """Refuse ``--replicas`` beside a ``--fleet`` that sets the number of replicas as well.

    Raises
    ------
    InputError
        Names the path of the other option.
    """
    for path, values in choose.items():
        whole = path == "deployment" and any("replicas" in v for v in values if v)
        if whole or path == "deployment.replicas":
            raise InputError(
                "--replicas", path,
                f"is chosen by --fleet {path}= too; write the numbers of replicas in one of them",
            )  # fmt: skip


@click.command("break-even")
@scenario_options
@click.option("--region", default="virginia", show_default=True, help="Region, or a YAML of one.")
@click.option("--ownership", type=click.Path(exists=True), help="YAML of the terms of owning.")
@click.option("--term", "terms", multiple=True, metavar="NAME=VALUE", help="Replace one term.")
@click.option("--utilisation", default=1.0, show_default=True,
              help="Share of the month's hours with this traffic.")  # fmt: skip
@click.option("--api", "apis", multiple=True, help="Price list to set beside it.")
def break_even(scenario: str, sets: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Rent, own or buy tokens: cost, months until buying pays, margin, energy and carbon."""
    from planner.files import load_scenario
    from planner.report.studies import print_account
    from planner.study import break_even

    found = break_even(
        load_scenario(scenario, overrides(sets)), region=options["region"],
        ownership=options["ownership"], terms=overrides(options["terms"]), apis=options["apis"],
        utilisation=options["utilisation"],
    )  # fmt: skip
    show_page(found.to_dict, as_json, lambda page: print_account(found, page))


def lists(items: tuple[str, ...], option: str) -> dict[str, list[Any]]:
    """``PATH=V1,V2`` options as path -> list of values, written as YAML would have them."""
    from planner.files import parse_value

    found: dict[str, list[Any]] = {}
    for item in items:
        path, equals, text = item.partition("=")
        if not equals or not path.strip() or not text.strip():
            raise InputError(option, item, "is not PATH=VALUE,VALUE, e.g. slo.tpot_p95_s=0.03,0.05")
        if path.strip() in found:
            raise InputError(option, path.strip(), "is given twice; list all values once")
        found[path.strip()] = list(parse_value(f"[{text}]"))
    return found


@contextmanager
def _workers(options: dict[str, Any], workers_of: Callable[..., Any]) -> Iterator[Any]:
    if not options["dask"]:
        yield workers_of(None, options["workers"])
        return
    from planner.study.workers import dask_workers

    with dask_workers(options["dask"]) as workers:
        yield workers


@contextmanager
def _ended(out: Path) -> Iterator[None]:
    """Turn an end from outside into a sentence: everything answered so far is kept."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        raise InputError(
            "sweep", str(out), "ended early; what is answered is kept: go on with --resume"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr with rate and time left; none for machines."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )  # fmt: skip

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rate=0.0)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=bar.tasks[0].speed or 0.0)

        yield tell
