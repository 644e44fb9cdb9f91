"""Measure the constants of planner/evaluation/spread.py: run after a refit of kernels or engines.

``python scripts/measure_spreads.py [RUNS.jsonl]`` prints, as they are now: how far parts of steps
by the assumed shares are from those by fitted ones (``CONFIDENCE_LOG_SD["assumed"]``); what kernels
alone spread steps of measured runs (``ORDINARY_KERNELS_LOG_SD``); how far runs are off that are
predicted without any overheads (``UNKNOWN_ENGINE``); and how far when their version, part and model
are left out of a fit, each alone and all at once, with the schedule of the shipped fit.
"""

import sys

import numpy as np

from planner.calibrate.engine_fit import EngineFit, fit
from planner.calibrate.engine_run import LEFT_OUT, means_held
from planner.evaluation import build, spread
from planner.evaluation.fitted import FACTORS, PARAMETERS
from planner.evaluation.replica import Replica
from planner.files import load_hardware, load_model
from planner.files.overheads import load_overheads
from planner.files.profiles import load_calibration
from planner.files.runs import read_runs
from planner.specs.deployment import Parallelism, Pool
from planner.specs.runs import Run
from planner.specs.scenario import Hardware
from planner.validation.look import Look, look_at_all, measured_of
from planner.validation.predict import theta_of_run
from planner.validation.setup import resolve
from planner.validation.shipped import shipped_runs

FITTED = ("hgx-h100", "hgx-h200", "hgx-b200", "hgx-b300", "gb200-nvl72", "gb300-nvl72")
COMPONENTS = ("routed_experts", "attention", "expert_network")
MODELS = (("deepseek-r1", "fp8"), ("qwen3-235b-a22b", "fp8"), ("gpt-oss-120b", "bf16"))


def assumed() -> float:
    """Root mean square of log(time by assumed shares / time by fitted shares), per kind of part."""
    default = load_calibration("no part has this name")
    found = []
    for system in FITTED:
        hardware = load_hardware(system)
        other = hardware.model_copy(update={"calibration": default})
        for model, weights in MODELS:
            fitted, guessed = (_step(model, weights, h) for h in (hardware, other))
            found += [np.log(guessed[name] / fitted[name]) for name in COMPONENTS]
    return float(np.sqrt(np.mean(np.square(found))))


def _step(model: str, weights: str, hardware: Hardware) -> dict[str, float]:
    pool = Pool(parallelism=Parallelism(attention_dp=8, moe_ep=8), weights=weights)
    replica = build(load_model(model), hardware, pool)
    return replica.step.decode_step(32.0, 2000.0, replica.cap_tokens).by_component()


def ordinary(runs: list[Run]) -> float:
    """Median log-spread of the measured runs' decode steps from kernels alone."""
    found = []
    for run in runs[::6]:
        setup = resolve(run)
        replica: Replica = build(setup.model, setup.hardware, setup.decode)
        prompt, answer = run.workload.mean_tokens()
        ranks = setup.decode.replicas * setup.decode.parallelism.attention_dp
        load = max(1.0, run.workload.concurrency / ranks)
        step = replica.step.decode_step(load, prompt + answer / 2, replica.cap_tokens)
        found.append(spread.kernel_log_sd(replica, [(step, 1.0)]))
    return float(np.median(found))


def unknown_engine(runs: list[Run]) -> dict[str, tuple[float, float]]:
    """5th and 95th percentile of log(measured / predicted) without any overheads."""
    none = np.array([1.0] * len(FACTORS) + [0.0] * (len(PARAMETERS) - len(FACTORS)))
    looks = look_at_all(runs, [none] * len(runs))
    pairs = [
        (measured_of(run), each.means_s)
        for run, each in zip(runs, looks, strict=True)
        if isinstance(each, Look)
    ]
    logs = np.log([m / p for m, p in pairs])
    found = {}
    for i, name in enumerate(("mean_tpot_s", "mean_ttft_s")):
        column = logs[np.isfinite(logs[:, i]), i]
        low, high = np.quantile(column, [0.05, 0.95])
        found[name] = (round(float(low), 3), round(float(high), 3))
    return found


KINDS = {
    "version": LEFT_OUT["versions"], "part": LEFT_OUT["parts"], "model": LEFT_OUT["models"],
}  # fmt: skip


def left_out(runs: list[Run]) -> dict[str, tuple[float, ...]]:
    """Median, 90th, 4th and 96th percentile of the error of TPOT, by what was left out."""
    stored = load_overheads()
    looks = look_at_all(runs, [theta_of_run(run, stored) for run in runs])
    found = [look for look in looks if isinstance(look, Look)]
    whole = fit([look.sight for look in found])
    names = [*((name,) for name in KINDS), tuple(KINDS)]
    return {" and ".join(each): _without(runs, found, whole, each) for each in names}


def _without(
    runs: list[Run], looks: list[Look], whole: EngineFit, kinds: tuple[str, ...]
) -> tuple[float, ...]:
    """Errors of every run by a fit to those that share none of its ``kinds``."""
    keys = [tuple(KINDS[kind](run) for kind in kinds) for run in runs]
    off = []
    for key in sorted(set(keys)):
        apart = [i for i, k in enumerate(keys) if all(a != b for a, b in zip(k, key, strict=True))]
        own = [i for i, k in enumerate(keys) if k == key]
        without = fit([looks[i].sight for i in apart], whole)
        means = means_held(
            [looks[i] for i in own], [without.theta(looks[i].sight.labels) for i in own]
        )
        off += [
            np.log(mean[0] / measured_of(runs[i])[0]) for i, mean in zip(own, means, strict=True)
        ]
    size = np.abs(np.expm1(off))
    return (
        float(np.median(size)), float(np.quantile(size, 0.9)),
        *(float(x) for x in np.expm1(np.quantile(off, [0.04, 0.96]))),
    )  # fmt: skip


def main() -> None:
    """Print all of them."""
    runs = read_runs(sys.argv[1])[0] if len(sys.argv) > 1 else list(shipped_runs())
    print("CONFIDENCE_LOG_SD[assumed]", round(assumed(), 3))
    print("ORDINARY_KERNELS_LOG_SD", round(ordinary(runs), 3))
    print("UNKNOWN_ENGINE", unknown_engine(runs))
    for what, (median, p90, low, high) in left_out(runs).items():
        print(f"without its {what}: median {median:.1%}, p90 {p90:.1%}, {low:+.0%} to {high:+.0%}")


if __name__ == "__main__":
    main()
