"""Errors of the calibration and of the engine fit that an answer uses, on points not fitted."""

from planner.evaluation import Result
from planner.evaluation.fitted import expected_error
from planner.report.table import Column, Table, key, text
from planner.report.words import share
from planner.specs.provenance import BORROWED

SPLITS = {
    "interpolation": "sizes", "shape": "shapes of a model", "ep_degree": "expert-parallel degrees",
    "part": "the part", "elsewhere": "another part: this one has no rows",
    "assumed": "nothing: assumed, tried on another part",
    "in_sample": "nothing: too few points",
}  # fmt: skip


def tables(result: Result) -> tuple[Table, ...]:
    """One table a calibration in use that has been compared with points it was not fitted to."""
    found = {}
    for use in result.pools:
        calibration = use.pool.replica.hardware.calibration
        if calibration.provenance and calibration.provenance.held_out:
            found[calibration.name] = calibration.provenance
    heads = (
        text("family"), key("format"), text("left out"), Column("points"),
        Column("median error"), Column("90 % within"), Column("bias"),
    )  # fmt: skip
    return tuple(
        Table(
            f"{name}, fitted {made.fitted}", heads,
            tuple(
                (row.family.replace("_", " "), row.dtype, SPLITS[row.split], f"{row.n:,}",
                 share(row.median_abs_error), share(row.p90_abs_error), share(row.bias))
                for row in made.held_out
            ),
        )
        for name, made in found.items()
    )  # fmt: skip


def notes(result: Result) -> tuple[str, ...]:
    """Say what was not compared, and the engine fit's own error."""
    found = []
    for use in result.pools:
        replica = use.pool.replica
        calibration = replica.hardware.calibration
        made = calibration.provenance
        if made is None or not (made.held_out or made.transferred_from):
            found.append(f"{calibration.name}: nothing measured to compare its shares with.")
        elif not made.held_out:
            found.append(
                f"{calibration.name}: shares are from {made.transferred_from}, another chip; no "
                "such transfer can be checked."
            )
        elif made.transferred_from and all(h.split in BORROWED for h in made.held_out):
            others = dict.fromkeys(h.source.partition(":")[0] for h in made.held_out)
            found.append(
                f"{calibration.name}: shares are from {made.transferred_from}; no point above is "
                f"of this part.  They say how far such shares were on {', '.join(others)}."
            )
        error = expected_error(replica.pool, replica.hardware.accelerator.name, replica.model.name)
        if error is not None:
            found.append(
                f"Overheads of {replica.pool.engine.title or replica.pool.engine.name}: median "
                f"error of the time per token {share(error.median_abs_error)} on {error.left_out} "
                "left out of the fit."
            )
        elif replica.pool.engine.fit is None:
            found.append(f"No overheads of the {replica.pool.engine.name} engine were fitted.")
    return tuple(dict.fromkeys(found))
