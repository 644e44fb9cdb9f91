"""The whole fit of engine overheads: simulate, fit, simulate again; then leave groups out."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.engine_fit import EngineFit, Key, fit, refused
from planner.errors import InputError
from planner.evaluation.fitted import PARAMETERS, release_of, theta_of
from planner.specs.overheads import Effect, HeldOutError, OverheadsFit, Width
from planner.specs.runs import Run
from planner.validation.engine_model import START, case_of, combination_of, labels_of, predict
from planner.validation.look import Look, look_at_all, measured_of
from planner.validation.predict import flags, throughput
from planner.validation.reported import refuse_reported

Floats = NDArray[np.float64]

ENOUGH = 8
"""Fewest runs worth a fit."""
UNDETERMINED = 0.95
"""A parameter whose standard error is above this share of its prior's is refused."""
FOLDS = 8
TAIL = 0.04
"""Share of runs left out on either side of a 90 % interval: runs of one configuration miss
together, so that quantiles at 5 % held 86 % of configurations that were no part of them."""
FEW = 25
"""Fewest runs of a case that get an interval of their own."""

LEFT_OUT: dict[str, Callable[[Run], str]] = {
    "configurations": lambda r: f"{r.source.config} {r.model} {r.accelerator} {r.framework.name}",
    "versions": lambda r: f"{r.framework.name} {release_of(str(r.framework.version))}",
    "parts": lambda r: r.accelerator,
    "models": lambda r: r.model,
}
"""What is left out together -> the group of a run."""

SEEN = "configurations, version, part and model fitted"
"""Of the configurations that were left out, those whose version, part and model were not."""

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
    """Return the runs that may be fitted: measured, in accord with Little's law, no drafts.

    How many drafts are accepted is a matter of the text, not of the engine.
    """
    fit_for = [r for r in runs if r.measured and not r.scored_apart and not r.speculative]
    return [r for r in fit_for if not flags(r)]


def fit_engines(  # noqa: PLR0913
    runs: Sequence[Run], date: str, source: str, *, rounds: int = 3, workers: int = 2,
    start: OverheadsFit | None = None, anew: Collection[str] = tuple(LEFT_OUT),
    tell: Callable[[str], None] = lambda line: None,
) -> Fitted:  # fmt: skip
    """Fit overheads of every engine in ``runs``, and hold out groups.

    Parameters
    ----------
    anew : of :data:`LEFT_OUT`, what is simulated anew when left out; for the others the schedule of
        the fit to all runs is held, which takes no time.

    Raises
    ------
    InputError
        Too few usable runs, none that can be simulated, or one that is kept as a test.
    """
    refuse_reported(runs)
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
    held, cases = {}, {}
    for what, group in LEFT_OUT.items():
        groups = [group(run) for run in kept]
        without = _left_out(looks, found, groups)
        means = means_held(looks, without)
        if what in anew:
            means = [x.means_s for x in _looks(kept, without, workers)]
        held[what] = _errors(kept, means)
        cases[what] = _cases(kept, means, groups)
        tell(f"{what} left out: {_words(held[what])}")
    left = refused([x.sight for x in looks], found, UNDETERMINED)
    stored = _stored(found, left, kept, held, cases).model_copy(
        update={"fitted": date, "source": source, "held_out_by": how_left_out(anew)}
    )
    return Fitted(stored, in_sample, held, tuple(kept))


def _folds(groups: list[str]) -> list[int]:
    """Return the fold of every run; groups stay together."""
    names = sorted(set(groups))
    np.random.default_rng(1).shuffle(names)
    fold = {name: i % min(FOLDS, len(names)) for i, name in enumerate(names)}
    return [fold[group] for group in groups]


def _cases(runs: list[Run], means: list[Floats], groups: list[str]) -> list[tuple[bool, str]]:
    """Whether version, part and model of a run that was left out occur elsewhere; its case."""
    folds, known = _folds(groups), [combination_of(run) for run in runs]
    where: dict[str, set[int]] = {}
    for fold, each in zip(folds, known, strict=True):
        where.setdefault(each, set()).add(fold)
    return [
        (len(where[each]) > 1, case_of(run, float(own[1])))
        for run, own, each in zip(runs, means, known, strict=True)
    ]


def means_held(looks: list[Look], thetas: list[Floats]) -> list[Floats]:
    """Mean TPOT and TTFT of runs with other parameters, the schedule held. [s]"""
    sights = [x.sight for x in looks]
    means, _ = predict(
        np.array([s.decode for s in sights]), np.array([s.prefill for s in sights]),
        np.array([s.apart_s for s in sights]), np.array(thetas),
    )  # fmt: skip
    return list(means)


def how_left_out(anew: Collection[str]) -> str:
    """Say how runs that were left out were predicted; ``anew`` as in :func:`fit_engines`."""
    held = [what for what in LEFT_OUT if what not in anew]
    if not held:
        return "Every run was simulated anew with the overheads fitted without its group."
    fresh = [what for what in LEFT_OUT if what in anew]
    text = f"Where {' or '.join(held)} were left out, runs keep the schedule of the fit to all runs"
    if not fresh:
        return f"{text}."
    return f"{text}; where {' or '.join(fresh)} were, every run was simulated anew."


def _looks(runs: list[Run], thetas: list[Floats], workers: int) -> list[Look]:
    looks = look_at_all(runs, thetas, workers)
    for each in looks:
        if isinstance(each, str):
            raise InputError("", "RUNS", f"a run cannot be simulated: {each}")
    return [each for each in looks if isinstance(each, Look)]


def _left_out(looks: list[Look], whole: EngineFit, groups: list[str]) -> list[Floats]:
    """Parameters of every run from a fit without its group."""
    folds = _folds(groups)
    thetas: list[Floats] = [np.zeros(0)] * len(looks)
    for number in sorted(set(folds)):
        inside = [x.sight for x, fold in zip(looks, folds, strict=True) if fold != number]
        without = fit(inside, whole) if inside else None
        for i, fold in enumerate(folds):
            if fold == number:
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
    found: EngineFit, left: set[Key], runs: list[Run], held: dict[str, Floats],
    cases: dict[str, list[tuple[bool, str]]],
) -> OverheadsFit:  # fmt: skip
    se = np.sqrt(np.diag(found.covariance))
    effects = []
    for j, (name, level, group) in enumerate(found.keys):
        if (name, level, group) in left:
            continue
        effects.append(
            Effect(
                parameter=name, level=level, group=group,
                log_effect=round(float(found.effects[j]), 4), log_se=round(float(se[j]), 4),
            )
        )  # fmt: skip
    table = np.concatenate(list(held.values()))
    known = [each for what in held for each in cases[what]]
    widths = _widths(table, np.array([s for s, _ in known]), [c for _, c in known])
    inside = np.array([seen for seen, _ in cases["configurations"]])
    tables = {**held, SEEN: held["configurations"][inside]}
    errors = [
        _summary(what, name, table[:, i])
        for what, table in tables.items()
        for i, name in enumerate(QUANTITIES)
        if np.isfinite(table[:, i]).any()
    ]
    return OverheadsFit(
        fitted="", source="", runs=len(runs), start=dict(START), effects=tuple(effects),
        refused=tuple(" ".join(key) for key in sorted(left)),
        combinations=tuple(sorted({combination_of(r) for r in runs})),
        widths=tuple(widths), held_out=tuple(errors),
    )  # fmt: skip


def _widths(errors: Floats, seen: NDArray[np.bool_], cases: list[str]) -> list[Width]:
    """Quantiles of log(measured / predicted) of what was left out, by what is known beforehand.

    Moved out for the finite sample and for runs that miss together; a case of fewer than
    :data:`FEW` runs gets none of its own.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer,
       2005 (conformal prediction: rank (n + 1) p).
    """
    widths = []
    for known in (True, False):
        for case in ("", *sorted(set(cases))):
            own = np.array([c == case or not case for c in cases])
            for i, name in enumerate(QUANTITIES):
                chosen = errors[own & (seen == known), i]
                off = -chosen[np.isfinite(chosen)]
                if len(off) >= (FEW if case else 2):
                    widths.append(_width(name, known, case, off))
    return widths


def _width(name: str, seen: bool, case: str, off: Floats) -> Width:
    beyond = TAIL * (len(off) + 1) / len(off)
    low = np.quantile(off, max(0.0, 2 * TAIL - beyond))
    high = np.quantile(off, min(1.0, 1 - 2 * TAIL + beyond))
    return Width(
        quantity=name, seen=seen, case=case, low=round(float(low), 4),
        high=round(float(high), 4), n=len(off),
    )  # fmt: skip


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
