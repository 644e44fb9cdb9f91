"""moe-planner workload: what a trace or a described workload holds."""

import click

from planner.cli.common import overrides, show


@click.command()
@click.argument("name", metavar="FILE|SCENARIO")
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE",
              help="Replace a value, e.g. --set workload.arrivals.rate_scale=2, "
              "--set run.seed=7.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON; keys end in their unit.")
def workload(name: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Show what a trace file, a workload file or a scenario sends.

    Reads Azure and BurstGPT CSV, Mooncake JSON lines, ShareGPT JSON, and tables of your own as
    CSV, JSON lines or Parquet (columns arrival_s, input_tokens, output_tokens, hash_ids).
    """
    from planner.api import describe_workload

    report = describe_workload(name, overrides(sets))
    if as_json:
        show(report.to_dict, as_json, "")
        return
    from planner.report.terminal import console
    from planner.report.workload import print_workload

    print_workload(report, console())
