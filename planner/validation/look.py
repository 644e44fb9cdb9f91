"""One run simulated, and taken apart into what each component contributed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlannerError
from planner.evaluation.fitted import overheads_of
from planner.specs.runs import Run
from planner.validation.engine_model import Sight, labels_of, predict
from planner.validation.exposure import exposures, padding
from planner.validation.replay import Replay, replay
from planner.validation.setup import resolve

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Look:
    """A simulated run."""

    sight: Sight
    means_s: Floats
    """Simulated TPOT and TTFT, request time outside the engine included. [s]"""
    notes: tuple[str, ...] = ()
    """What was taken otherwise than stated or computed."""
    padding: float = 1.0
    """Sequences computed over sequences there, mean over decode steps."""


def look(run: Run, theta: Floats, seed: int = 1) -> Look | str:
    """Simulate a run with an engine's parameters; the reason where that cannot be done."""
    try:
        setup = resolve(run)
        overheads = overheads_of(theta, "engine fit")
        done = replay(setup, (overheads,) * len(setup.pools), seed)
    except PlannerError as error:
        return str(error)
    tpot, ttft = exposures(done)
    decode = np.array([sum(e.decode for e in tpot), sum(e.decode for e in ttft)])
    prefill = np.array([sum(e.prefill for e in tpot), sum(e.prefill for e in ttft)])
    if run.speculative is not None:
        decode = _drafted(decode, prefill, done, theta)
    summed = predict(decode[None], prefill[None], np.zeros((1, 2)), theta[None])[0][0]
    means = np.array([done.tpot_s, done.ttft_s + float(overheads.request_host_s)])
    sight = Sight(run.id, labels_of(run), decode, prefill, means - summed, measured_of(run))
    return Look(sight, means, done.notes, padding(done.replicas[-1].step, done.traces[-1]))


def _drafted(decode: Floats, prefill: Floats, done: Replay, theta: Floats) -> Floats:
    """Exposures of decoding with drafts: a plain step's, in proportion to what was simulated."""
    none, nothing = np.zeros((1, 2)), np.zeros_like(decode)[None]
    plain = predict(decode[None], nothing, none, theta[None])[0][0]
    prompts = predict(nothing, prefill[None], none, theta[None])[0][0]
    share = max(done.tpot_s - float(prompts[0]), 0.0) / max(float(plain[0]), 1e-12)
    return np.array([share * decode[0], decode[1]])


def measured_of(run: Run) -> Floats:
    """Measured TPOT and TTFT; nan where absent or not to be used. [s]"""
    names = ("mean_tpot_s", "mean_ttft_s")
    return np.array(
        [
            np.nan if run.measured is None or name in run.unusable else getattr(run.measured, name)
            for name in names
        ]
    )


def look_at_all(runs: list[Run], thetas: list[Floats], workers: int = 2) -> list[Look | str]:
    """Simulate many runs, the largest first, in processes of their own."""
    order = sorted(range(len(runs)), key=lambda i: -runs[i].workload.concurrency)
    jobs = [(runs[i], thetas[i]) for i in order]
    if workers < 2 or len(runs) < 8:
        found = [look(*job) for job in jobs]
    else:
        from loky import get_reusable_executor

        executor = get_reusable_executor(max_workers=workers)
        found = list(executor.map(_look, jobs, chunksize=4))
    back: list[Look | str] = [""] * len(runs)
    for i, each in zip(order, found, strict=True):
        back[i] = each
    return back


def _look(job: tuple[Run, Floats]) -> Look | str:
    return look(*job)
