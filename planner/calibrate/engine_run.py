"""The whole fit of engine overheads: simulate, fit, simulate again; then leave groups out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.engine_fit import EngineFit, fit
from planner.errors import InputError
from planner.evaluation.fitted import PARAMETERS, theta_of
from planner.specs.overheads import Effect, HeldOutError, OverheadsFit, Width
from planner.specs.runs import Run
from planner.validation.engine_model import START, combination_of, labels_of
from planner.validation.look import Look, look_at_all, measured_of
from planner.validation.predict import flags, throughput

Floats = NDArray[np.float64]

ENOUGH = 8
"""Fewest runs worth a fit."""
UNDETERMINED = 0.95
"""An effect whose standard error is above this share of its prior's is refused."""
FOLDS = 8

LEFT_OUT: dict[str, Callable[[Run], str]] = {
    "configurations": lambda r: f"{r.source.config} {r.model} {r.accelerator} {r.framework.name}",
    "versions": lambda r: f"{r.framework.name} {r.framework.version}",
    "parts": lambda r: r.accelerator,
    "models": lambda r: r.model,
}
"""What is left out together -> the group of a run."""

QUANTITIES = ("mean_tpot_s", "mean_ttft_s", "total_tokens_per_s_per_device")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit with all that speaks for and against it."""

    stored: OverheadsFit
    in_sample: Floats
    """``[runs, quantities]``: log(predicted / measured)."""
    held_out: dict[str, Floats]
    """The same of runs that were left out."""
    runs: tuple[Run, ...]


def usable(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that may be fitted: measured, and in accord with Little's law."""
    return [r for r in runs if r.measured and not r.scored_apart and not flags(r)]


def fit_engines(  # noqa: PLR0913
    runs: Sequence[Run], date: str, source: str, *, rounds: int = 3, workers: int = 2,
    start: OverheadsFit | None = None, tell: Callable[[str], None] = lambda line: None,
) -> Fitted:  # fmt: skip
    """Fit overheads of every engine in ``runs``, and hold out groups.

    Raises
    ------
    InputError
        Too few usable runs, or none that can be simulated.
    """
    kept = usable(runs)
    if len(kept) < ENOUGH:
        raise InputError(
            "", "RUNS", f"{len(kept)} usable runs do not determine overheads; bring {ENOUGH}"
        )
    labels = [labels_of(run) for run in kept]
    thetas = [np.array([START[name] for name in PARAMETERS])] * len(kept)
    if start is not None:
        thetas = [theta_of(start, each) for each in labels]
    found: EngineFit | None = None
    for number in range(rounds):
        looks = _looks(kept, thetas, workers)
        tell(f"round {number + 1}: {_words(_errors(kept, [x.means_s for x in looks]))}")
        found = fit([x.sight for x in looks], found)
        # half way in logarithms: queues answer too strongly for a whole step
        new = [found.theta(each) for each in labels]
        blend = 1.0 if number == 0 else 0.6
        thetas = [
            np.exp(blend * np.log(n) + (1 - blend) * np.log(t))
            for n, t in zip(new, thetas, strict=True)
        ]
    assert found is not None
    looks = _looks(kept, [found.theta(each) for each in labels], workers)
    in_sample = _errors(kept, [x.means_s for x in looks])
    tell(f"fitted: {_words(in_sample)}")
    held = {}
    for what, group in LEFT_OUT.items():
        out = _left_out(kept, looks, found, [group(run) for run in kept])
        held[what] = _errors(kept, [x.means_s for x in _looks(kept, out, workers)])
        tell(f"{what} left out: {_words(held[what])}")
    return Fitted(_stored(found, kept, held, date, source), in_sample, held, tuple(kept))


def _looks(runs: list[Run], thetas: list[Floats], workers: int) -> list[Look]:
    looks = look_at_all(runs, thetas, workers)
    for each in looks:
        if isinstance(each, str):
            raise InputError("", "RUNS", f"a run cannot be simulated: {each}")
    return [each for each in looks if isinstance(each, Look)]


def _left_out(
    runs: list[Run], looks: list[Look], whole: EngineFit, groups: list[str]
) -> list[Floats]:
    """Parameters of every run from a fit without its group."""
    names = sorted(set(groups))
    np.random.default_rng(1).shuffle(names)
    count = min(FOLDS, len(names))
    fold = {name: i % count for i, name in enumerate(names)}
    thetas: list[Floats] = [np.zeros(0)] * len(runs)
    for number in range(count):
        inside = [x.sight for x, g in zip(looks, groups, strict=True) if fold[g] != number]
        without = fit(inside, whole) if inside else None
        for i, group in enumerate(groups):
            if fold[group] == number:
                thetas[i] = (
                    without.theta(looks[i].sight.labels)
                    if without
                    else np.array([START[name] for name in PARAMETERS])
                )
    return thetas


def _errors(runs: list[Run], means: list[Floats]) -> Floats:
    """log(predicted / measured) of :data:`QUANTITIES`; nan where it is not to be scored."""
    table = np.full((len(runs), len(QUANTITIES)), np.nan)
    for i, (run, (tpot, ttft)) in enumerate(zip(runs, means, strict=True)):
        measured = measured_of(run)
        table[i, :2] = np.log([tpot, ttft]) - np.log(measured)
        if np.isfinite(measured).all():
            name = QUANTITIES[2]
            ours = throughput(run, ttft, tpot)[name]
            table[i, 2] = np.log(ours / throughput(run, measured[1], measured[0])[name])
    return table


def _words(errors: Floats) -> str:
    parts = []
    for i, name in enumerate(QUANTITIES):
        off = np.abs(np.expm1(errors[np.isfinite(errors[:, i]), i]))
        parts.append(f"{name} median {np.median(off):.3f} p90 {np.quantile(off, 0.9):.2f}")
    return ", ".join(parts)


def _stored(
    found: EngineFit, runs: list[Run], held: dict[str, Floats], date: str, source: str
) -> OverheadsFit:
    se = np.sqrt(np.diag(found.covariance))
    effects, refused = [], []
    for j, (name, level, group) in enumerate(found.keys):
        if se[j] > UNDETERMINED * found.prior_sd[j]:
            refused.append(f"{name} {level} {group}")
            continue
        effects.append(
            Effect(
                parameter=name, level=level, group=group,
                log_effect=round(float(found.effects[j]), 4), log_se=round(float(se[j]), 4),
            )
        )  # fmt: skip
    unseen = np.concatenate([held[w] for w in ("versions", "parts", "models") if w in held])
    widths = [
        *_widths(held["configurations"], True),
        *_widths(unseen, False),
    ]
    errors = [
        _summary(what, name, table[:, i])
        for what, table in held.items()
        for i, name in enumerate(QUANTITIES)
    ]
    return OverheadsFit(
        fitted=date, source=source, runs=len(runs), start=dict(START), effects=tuple(effects),
        refused=tuple(refused), combinations=tuple(sorted({combination_of(r) for r in runs})),
        widths=tuple(widths), held_out=tuple(errors),
    )  # fmt: skip


def _widths(errors: Floats, seen: bool) -> list[Width]:
    """Quantiles of log(measured / predicted), moved out for the finite sample.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer,
       2005 (conformal prediction: rank (n + 1) p).
    """
    widths = []
    for i, name in enumerate(QUANTITIES):
        off = np.sort(-errors[np.isfinite(errors[:, i]), i])
        beyond = 0.05 * (len(off) + 1) / len(off)
        low, high = (
            np.quantile(off, max(0.0, 0.1 - beyond)),
            np.quantile(off, min(1.0, 0.9 + beyond)),
        )
        widths.append(
            Width(
                quantity=name, seen=seen, low=round(float(low), 4), high=round(float(high), 4),
                n=len(off),
            )
        )  # fmt: skip
    return widths


def _summary(what: str, name: str, errors: Floats) -> HeldOutError:
    off = np.expm1(errors[np.isfinite(errors)])
    return HeldOutError(
        left_out=what, quantity=name, n=len(off),
        median_abs_error=round(float(np.median(np.abs(off))), 4),
        p90_abs_error=round(float(np.quantile(np.abs(off), 0.9)), 4),
        bias=round(float(np.median(off)), 4),
    )  # fmt: skip


def fit_yaml(stored: OverheadsFit) -> str:
    """Text of a fit's file: an effect, a width, an error a line."""
    lines = [
        "# Overheads of serving engines, fitted to measured runs; what they are: docs/runs.md.",
        "# Made by `moe-planner calibrate engine RUNS.jsonl --out FILE`; do not edit.",
    ]
    for name, value in stored.model_dump(mode="json").items():
        if isinstance(value, list) and value:
            lines += [f"{name}:", *(f"  - {json.dumps(row)}" for row in value)]
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"
