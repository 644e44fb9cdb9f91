# ruff: noqa: E501  (lines of a page)
"""Write docs/accuracy.md and the schema of a run from the shipped fit: run after every refit."""

import json
from pathlib import Path

from planner.files.overheads import load_overheads
from planner.specs.runs import Run

ROOT = Path(__file__).parents[1]
NAMES = {
    "mean_tpot_s": "time per output token",
    "mean_ttft_s": "time to first token",
    "total_tokens_per_s_per_device": "tokens/s per device",
}


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f} %"


def text() -> str:
    """Return the page."""
    fit = load_overheads()
    lines = [
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
        "The 5th and 95th percentile of measured over predicted among runs left out, by whether",
        "engine version, part and model occur among the runs that were fitted, and by the kind of",
        "run. Queued: the predicted time to first token is above 2 s.",
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
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "docs" / "accuracy.md").write_text(text(), "utf-8")
    schema = json.dumps(Run.model_json_schema(), indent=1)
    (ROOT / "docs" / "run.schema.json").write_text(schema + "\n", "utf-8")
