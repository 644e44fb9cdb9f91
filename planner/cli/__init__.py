"""The command line: ask, print.  Everything heavy is imported inside the command that needs it."""

import click

from planner.cli import ask, calibrate, experts, runs, shelf, study, validate, workload
from planner.cli.common import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moe-planner", prog_name="moe-planner")
def main() -> None:
    """Predict what Mixture-of-Experts inference costs and how fast it runs.

    SCENARIO is a YAML file, or the name of a shipped one.  Every command takes --json and
    --set path=value.
    """


for command in (
    ask.plan, ask.simulate, ask.step, ask.compare, ask.claims,
    study.what_if, study.sweep, study.sensitivity, study.size, study.break_even,
    shelf.footprint, shelf.models, shelf.hardware, shelf.scenarios,
    workload.workload, calibrate.calibrate, validate.validate, experts.experts, shelf.app,
):  # fmt: skip
    main.add_command(command)
calibrate.calibrate.add_command(runs.engine)
