# ruff: noqa: E501  (lines of a page)
"""Write docs/accuracy.md, its plots and the schema of a run: run after every refit (two minutes)."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from planner.files.overheads import load_overheads
from planner.report.parity import parity_svg
from planner.specs.runs import Run
from planner.validation.explain import Explanation, explain, lines, worst_of_all
from planner.validation.predict import Prediction, predict_runs
from planner.validation.shipped import shipped_runs
from planner.validation.summary import QUANTITIES, summarise

ROOT = Path(__file__).parents[1]
NAMES = {
    "mean_tpot_s": "time per output token",
    "mean_ttft_s": "time to first token",
    "total_tokens_per_s_per_device": "tokens/s per device",
}
PLOTS = {"mean_tpot_s": "parity-tpot.svg", "mean_ttft_s": "parity-ttft.svg"}

KNOWN = {
    "cfg81": "8 devices with 8k prompts and 64 clients fill the KV cache as we count it, so that "
    "requests queue for it; the engine had room",
}
"""Configuration -> what is known of its runs beyond what a prediction tells."""

FAR = 0.5
"""Error of a time to first token from which its reason is looked for."""
STALL_S = 60.0, 90.0
"""Wait of the first wave alone that looks like the stalls which the data set marks. [s]"""
QUEUE = 0.5
"""Share of a time to first token spent waiting from which it is called a queue."""


def percent(share: float) -> str:
    """Write a share; a dash where there is nothing."""
    if math.isnan(share):
        return "-"
    return f"{100 * share:.1f} %"


def worst_lines(found: Sequence[Explanation]) -> list[str]:
    """The runs furthest off, each with what its prediction says and what is known."""
    page = []
    for each in found:
        page += [f"### {each.run.id}", "", *(f"- {line}" for line in lines(each))]
        page += [f"- {note}" for note in notes(each)] + [""]
    return page


def notes(found: Explanation) -> list[str]:
    """What the data set says of a run, what is known, and what follows from its queue."""
    run = found.run
    said = [f"The data set: {text}." for text in (run.note, run.corrected) if text]
    config = next((c for c in KNOWN if run.id.endswith(f"_{c}")), None)
    if config:
        said.append(f"Known: {KNOWN[config]}.")
    side = found.sides[1]
    if config or not found.alone_ttft_s or abs(side.relative_error or 0.0) < FAR:
        return said
    assert side.measured_s is not None
    load = found.run.workload
    wave_s = (side.measured_s - side.predicted_s) * load.requests / load.concurrency
    if STALL_S[0] <= wave_s <= STALL_S[1]:
        said.append(
            f"Had the first wave of requests waited {wave_s:.0f} s longer, that would be the "
            "difference: the data set marks such stalls (70 to 80 s) in other runs, not here."
        )
        return said
    predicted, measured = (
        1 - min(1.0, found.alone_ttft_s / x) for x in (side.predicted_s, side.measured_s)
    )
    if max(predicted, measured) > QUEUE:
        where = "in front of the prefill replicas" if found.prefill_apart else "for prompts"
        said.append(
            f"A queue {where}: {measured:.0%} of the measured and {predicted:.0%} of the predicted "
            "time is waiting. There a few per cent of capacity are a factor."
        )
    return said


def by_group(rows: Sequence[dict[str, object]]) -> list[str]:
    """Errors of the shipped fit, on the runs it was fitted to, by group."""
    table = [
        "| group | quantity | runs | median error | p90 | bias | in 90 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = " | ".join(
            percent(float(row[name]))  # type: ignore[arg-type]
            for name in ("median_abs_error", "p90_abs_error", "bias", "inside_share")
        )
        name = NAMES[str(row["quantity"])]
        table.append(f"| {row['by']}: {row['group']} | {name} | {row['n']} | {numbers} |")
    return table


def text(runs: Sequence[Run], predictions: Sequence[Prediction]) -> str:
    """Return the page."""
    fit = load_overheads()
    rows = [r for r in summarise(runs, predictions) if r["quantity"] in QUANTITIES[:2]]
    furthest = [
        explain(run, each, fit) for run, each in worst_of_all(runs, predictions, 10)
    ]  # fmt: skip
    page = [
        "# How far predictions are off",
        "",
        "<!-- written by scripts/write_accuracy.py from the stored fit: do not edit -->",
        "",
        f"Fitted {fit.fitted} to {fit.runs} measured serving runs: {fit.source}. Every run is",
        "simulated by its protocol; what the fit may change is in [runs.md](runs.md).",
        "",
        "## Runs that were left out of the fit",
        "",
        "Groups of runs were left out together, overheads fitted without them, and the runs",
        "predicted with these. What each component contributes, from which a fit without a group is",
        "made, comes from simulations with the fit to all runs.",
        fit.held_out_by,
        "",
        "| left out together | quantity | runs | median error | p90 | bias |",
        "|---|---|---|---|---|---|",
        *(
            f"| {e.left_out} | {NAMES[e.quantity]} | {e.n} | {percent(e.median_abs_error)} "
            f"| {percent(e.p90_abs_error)} | {percent(e.bias)} |"
            for e in fit.held_out
        ),
        "",
        "Nearly all vLLM runs are of one version: leaving it out leaves six runs of vLLM to fit to.",
        "",
        "## Intervals",
        "",
        "The 4th and 96th percentile of measured over predicted among runs left out (runs of one",
        "configuration miss together: these hold about 90 % of other configurations), by whether",
        "engine version, part and model occur among the runs that were fitted, and by the kind of",
        "run. Queued: the predicted time to first token is above 2 s. Of runs that others reported:",
        "elsewhere, on parts of makers of which none was fitted; model, the least that models get of",
        "which none was (reported.md).",
        "",
        "| quantity | version, part and model fitted | kind | runs | from | to |",
        "|---|---|---|---|---|---|",
        *(
            f"| {NAMES[w.quantity]} | {'yes' if w.seen else 'no'} | {w.case or 'any'} | {w.n} "
            f"| {percent(2.718281828**w.low - 1)} | {percent(2.718281828**w.high - 1)} |"
            for w in fit.widths
        ),
        "",
        "## What was never seen",
        "",
        "Latent attention on vLLM, answers longer than about 1,000 tokens, prefix caches, speculative",
        "decoding, parts of other makers: predictions there rest on kernels and on what the engine's",
        "other runs show. Where prefill replicas saturate, time to first token is a queue, and a few",
        "per cent of capacity are a factor of two: these make its p90.",
        "",
        "## In sample",
        "",
        "All runs with the shipped fit, which has seen them: what is fitted, not what to expect.",
        "",
        *(f"![{NAMES[name]}, predicted over measured]({file})" for name, file in PLOTS.items()),
        "",
        *by_group(rows),
        "",
        "## Furthest off",
        "",
        "Five by time per output token, five by time to first token, in sample. Of any run:",
        "`moe-planner validate RUNS.jsonl --explain ID`.",
        "",
        *worst_lines(furthest),
    ]
    return "\n".join(page).rstrip() + "\n"


if __name__ == "__main__":
    shipped = list(shipped_runs())
    made = predict_runs(shipped, load_overheads())
    for quantity, file in PLOTS.items():
        (ROOT / "docs" / file).write_text(parity_svg(quantity, shipped, made), "utf-8")
    (ROOT / "docs" / "accuracy.md").write_text(text(shipped, made), "utf-8")
    schema = json.dumps(Run.model_json_schema(), indent=1)
    (ROOT / "docs" / "run.schema.json").write_text(schema + "\n", "utf-8")
