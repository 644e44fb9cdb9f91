"""Commands that measure kernels and hold predictions to them."""

import sys

import click


@click.group()
def calibrate() -> None:
    """Measure kernels on this machine."""


@calibrate.command(
    "run", context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def calibrate_run(arguments: tuple[str, ...]) -> None:
    """Run the kernel runner: --backend cpu|cuda --out FILE --budget SECONDS (--help for all)."""
    from planner.calibrate.runner.main import run

    sys.exit(run(list(arguments)))
