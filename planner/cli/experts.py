"""Which expert ranks are hot, and what load balancing does about it."""

import click

from planner.cli.common import overrides, placed, scenario_options, show
from planner.errors import InputError


@click.command()
@scenario_options
@click.option("--model", metavar="NAME", help="Model of a histogram.")
@click.option("--ep", type=int, metavar="N", help="Ranks that share the experts.")
@click.option("--redundant", type=int, metavar="N", help="Extra copies of experts a layer.")
@click.option("--tokens", type=int, metavar="N", help="Tokens of all ranks in one step.")
@click.option("--windows", type=int, default=0, metavar="N", help="Windows of drifting load.")
@click.option("--every", type=int, default=1, metavar="N", help="Windows between rebalances.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write a self-contained page.")
def experts(  # noqa: PLR0913, PLR0917
    scenario: str,
    sets: tuple[str, ...],
    as_json: bool,
    model: str | None,
    ep: int | None,
    redundant: int | None,
    tokens: int | None,
    windows: int,
    every: int,
    html: str | None,
) -> None:
    """Load of each expert rank, without and with load balancing.

    SCENARIO is a scenario with routing, or a recorded histogram (CSV, JSON, NPZ) of tokens per
    expert; a histogram needs --model and --ep.
    """
    from planner import api

    changes = overrides(sets)
    if scenario.lower().endswith(api.HISTOGRAMS):
        if changes:
            raise InputError("--set", next(iter(changes)), "a histogram has no scenario to change")
        report = api.expert_load(
            scenario, model=model, ep=ep, redundant=redundant, tokens=tokens, windows=windows,
            every=every,
        )  # fmt: skip
    else:
        changes |= {"model": model} if model else {}
        with placed(scenario):
            report = api.expert_load(
                api.load_scenario(scenario, changes),
                ep=ep, redundant=redundant, tokens=tokens, windows=windows, every=every,
            )  # fmt: skip
    if html is not None:
        from planner.report.expert_page import write_expert_page

        try:
            write_expert_page(report, html)
        except OSError as error:
            raise InputError("--html", html, f"cannot be written: {error.strerror}") from None
    show(report.to_dict, as_json, "print_experts", report)
