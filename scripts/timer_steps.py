"""Print which measured attention was counted in steps of a timer, and what errors they leave.

Needs the optional tables.  Rows that the check holds out as sizes, by the laws that ship.

    python scripts/timer_steps.py b200-sxm gb300-nvl72
"""

import sys
from collections.abc import Iterator

import numpy as np

from planner import files
from planner.calibrate.calls import stated_peaks
from planner.calibrate.choice import Chosen, attention_kernels
from planner.calibrate.features import predict_s, works
from planner.calibrate.parts import choices_of
from planner.calibrate.rows import FloatArray
from planner.calibrate.screen import screen
from planner.calibrate.splits import held_out
from planner.calibrate.timer import beyond, step_of
from planner.specs.calibration import Achieved

FAMILIES = ("attention_decode", "attention_prefill")
HEAD = "| part | attention | rows | step | error | beyond half a step |\n|---|---|---|---|---|---|"


def laws_of(name: str) -> Iterator[tuple[str, Chosen, Achieved]]:
    """Every attention of a part with rows and a law, and whose it is."""
    spec = files.load_calibration(name)
    for choice in choices_of(files.load_accelerator(name), FAMILIES):
        family, kind = choice.key
        own = getattr(spec, f"{family}_variants").get(kind, getattr(spec, family))
        yield "own", choice, own
    for engine, choices in attention_kernels(name, FAMILIES).items():
        kernels = spec.attention_kernels.get(engine)
        for choice in choices if kernels else ():
            family, kind = choice.key
            found = getattr(kernels, family.removeprefix("attention_")).get(kind or "mla")
            if found:
                yield engine, choice, found


def errors(name: str, choice: Chosen, law: Achieved) -> tuple[float, FloatArray, FloatArray] | None:
    """Step of the rows, their errors, and what of them half a step does not explain."""
    peaks = stated_peaks(files.load_accelerator(name))
    found: list[tuple[FloatArray, FloatArray]] = []
    step_s = step_of(np.concatenate([table.time_s for table in choice.tables]))
    for table in choice.tables:
        kept = screen(table, peaks).table
        held = held_out(kept, "interpolation")
        if held is not None:
            kept = kept.take(held)
            found.append((predict_s(works(kept, peaks), {choice.key: law}), kept.time_s))
    if not step_s or not found:
        return None
    predicted, time = (np.concatenate(each) for each in zip(*found, strict=True))
    return step_s, np.abs(predicted / time - 1), beyond(predicted, time, step_s)


def main(names: list[str]) -> None:
    """One line a kernel whose timer shows steps."""
    print(HEAD)
    for name in names:
        for engine, choice, law in laws_of(name):
            told = errors(name, choice, law)
            if told is None:
                continue
            step_s, all_of, left = told
            said = " | ".join(
                f"{100 * np.median(e):.1f} / {100 * np.quantile(e, 0.9):.0f}"
                for e in (all_of, left)
            )
            kind = f"{choice.key[0]} {choice.key[1] or 'mla'} {engine}"
            print(f"| {name} | {kind} | {len(all_of)} | {1e6 * step_s:.2f} us | {said} |")


if __name__ == "__main__":
    main(sys.argv[1:])
