"""Write docs/reported.md: every run that others reported beside what is predicted (a minute)."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.evaluation.fitted import elsewhere
from planner.evaluation.widths import other_model
from planner.files import load_accelerator
from planner.files.overheads import load_overheads, reported_path
from planner.report.words import seconds
from planner.specs.overheads import OTHER_MAKER, OTHER_MODEL
from planner.specs.runs import Aggregated, Run, Workers
from planner.validation.predict import Prediction, predict_runs
from planner.validation.reported import GROUPS, reported_runs
from planner.validation.summary import summarise, truth

PATH = Path(__file__).parents[1] / "docs" / "reported.md"
TAIL = 0.04
"""Share of runs beyond either end of an interval, as of runs left out of the fit."""
WITHIN, RUNS = 0.90, 10
"""Share of a model's runs whose error counts, and the fewest runs of a model that does."""
QUANTITIES = {"mean_tpot_s": "time per output token", "mean_ttft_s": "time to first token"}

HEAD = """# Runs that others reported

<!-- written by scripts/write_reported.py: do not edit; runs are in planner/validation/reported/ -->

Serving benchmarks that makers of engines, operators and users printed in documentation, issues
and pull requests. **Nothing is fitted to them**: `calibrate engine` refuses a file that holds one.
They are run here as reported; in the terminal: `moe-planner validate --reported [--json]
[--html FILE] [--explain ID]`. Conditions a source leaves out are filled with the engine's defaults
of that version and said in the run's note. Error: predicted / measured - 1; bold: the measured
value is outside the 90 % interval.
"""

FIRST = """## The first prediction

192 runs on NVIDIA parts were written down before one of them was predicted. The first prediction,
with the fit as it was then, is the blind one:

| | runs | time per output token: median / p90 / bias / in 90 % | time to first token |
|---|---|---|---|
| all | 192 | 23.9 % / 80 % / -13 % / 62 % | 40.4 % / 91 % / -10 % / 75 % |
| SGLang | 121 | 24.3 % / 144 % / -11 % / 59 % | 37.3 % / 92 % / +1 % / 72 % |
| vLLM | 48 | 30.0 % / 69 % / -26 % / 54 % | 43.6 % / 70 % / -43 % / 87 % |
| TensorRT-LLM | 23 | 18.0 % / 27 % / -18 % / 91 % | 32.6 % / 131 % / -6 % / 65 % |

Then records were corrected, with the errors known:

* DeepSeek-V4 on SGLang: 256 sequences where the start command gives none. The engine's source
  sets this for that model; 2,048, its default for others, had been written down. The measured
  times say the same (256 in flight by Little's law, and the same time per token at 1,024 and
  4,096 clients).
* 25 runs of 1,000 ShareGPT prompts at once: time per output token is no longer scored. It is a
  mean over requests, many of them short, and hangs on lengths that are not stated: printed means
  over tokens are down to half of it (DeepSeek-R1 on vLLM 119 ms and 227 ms; 121 ms predicted). The
  predicted one against the mean over tokens: 37 % in the median, bias +2 %.
* vLLM's DeepSeek-V3.2 on 8 H20 is listed apart: the parts have 141 GB, the catalogue's have 96.
* GLM-4.6 on SGLang: the part is confirmed by an earlier copy of the page; nothing moved.

With the first and the third alone, 191 runs: time per output token 23.5 % and 56 % (median, p90),
64 % inside; time to first token 37.8 % and 86 %, 79 % inside.

Since then kernels and overheads were fitted anew, to none of these runs. Two rules were read in
engines' sources after these errors had been seen: SGLang multiplies 16-bit experts in Triton
(Qwen3-235B on B200 -26 to -11 %, GLM-4.6 -40 to -29 %), and sums over several nodes are the
library's, not the engines' own kernels (DeepSeek-R1 on two nodes of H100 -48 to -34 %).
"""

SEEN = """## What the errors say

* gpt-oss-120b and DeepSeek-V4 on Hopper: prompts came out up to three times too fast. Their experts
  ran on one library's times, whatever multiplied them; now vLLM before 0.11.1 and, for DeepSeek-V4,
  vLLM and SGLang run Marlin's, TensorRT-LLM its own Triton's (docs/calibration.md; found when these
  errors were looked at, decided by the engines' sources). On two H100 vLLM's time per token goes
  from -29 to -38 % to +15 to +18 %, time to first token from -28 to -63 % to -27 to +20 %. On one
  H100 long prompts at once had +113 to +241 % time per token, since too much cache was expected;
  with what engines report when they start (docs/memory.md) +38 to +86 %: about three long prompts
  fit where two seem to have run. SGLang 0.5.3 and TensorRT-LLM 1.0 stay 82 and 87 % fast to the
  first token.
* 1,000 short prompts at once: time to first token predicted 40 to 94 % too short on vLLM and
  TensorRT-LLM; within 30 % on SGLang with DeepSeek-R1, GLM-4.6 and Qwen3-235B without drafts.
* Data-parallel attention on SGLang: a step with prompts is expected to cost as much host time as
  with prompts apart, since these runs were seen (docs/runs.md). Before, they came out 25 to 67 %
  too fast; now DeepSeek-V3.2 and Kimi-K2 at 100 clients -26 and -8 %, GLM-5.2 -3 to +16 % up to
  256 clients and -20 to +61 % at 1,024, DeepSeek-V4-Flash -36 to +109 %: releases from 0.5.13 on
  have graphs for more of such steps than those that were fitted.
* Two nodes of H100 (tensor-parallel) or H800 (and pipelined): predicted -37 and -69 %.
* One client on B200: time per token -13 % (DeepSeek-R1), -18 % (Qwen3-235B), -33 % (GLM-4.6);
  time to first token of short prompts 30 to 105 % too long: about 0.2 s are predicted where 0.1 to
  0.16 s were measured, 0.03 s with gpt-oss. Not explained.
* GLM-5.2, never fitted, with and without draft tokens on three parts: 8 % in the median.
* GLM-4.7 on TensorRT-LLM, H100 and GB200: 9 % in the median, mostly too fast.
* Prompts of 2,000 to 32,000 tokens all at once on vLLM and SGLang (DeepSeek-R1, GLM-4.6,
  Qwen3-235B): time per output token within 28 % (4 % in the median), time to first token within
  38 %.
* DeepSeek-V4-Pro without drafts: by Little's law 160 requests were in flight on B200 and B300, 35
  on 8 H200, where the cache as counted here holds more, and time per token is a quarter of what
  GB300 needed: how prompts were scheduled is not known. Predicted 2.5 to 4.5 times as long; on
  GB300 +27 %.
* TPUs, 44 runs that came last: no engine was fitted there, and vLLM's and SGLang's overheads here
  are those of NVIDIA parts. The first prediction, with kernel laws from public times and before any
  error was seen: time per token 41.7 % and 65 % (median, p90), bias -47 %. Then two more public
  times came in, a hop of the links (2.3 and 4.6 us in place of 1) and the start of a product of
  experts (26 us, from a layer's time), and v6e's products became v5e's at the rate of its core, for
  its own rows read memory at two thirds of what single calls do: the table above. Dense models -16
  to +13 %; experts 10 to 54 % fast, most with few clients: sorting and gathering tokens on a TPU
  takes tens of microseconds a layer that no law holds. DeepSeek-R1 in FP4 (-40 to -77 %) is its
  author's proof of concept, eager and untuned. Three runs of 8-bit weights on v6e, which has no
  such units, cannot be asked.
* Tokens/s in the command's summary are Little's law on either side, which is no throughput where
  all requests start at once.
"""


def percent(share: float, sign: bool = False) -> str:
    """Write a share; a dash where there is nothing."""
    if math.isnan(share):
        return "-"
    return f"{100 * share:+.0f} %" if sign else f"{100 * share:.1f} %"


def by_group(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Errors by maker, engine, part and model."""
    table = [
        "| group | quantity | runs | median error | p90 | bias | in 90 % |",
        "|---|---|---|---|---|---|---|",
    ]
    table += [
        f"| {r['by']}: {r['group']} | {QUANTITIES[r['quantity']]} | {r['n']} "
        f"| {percent(r['median_abs_error'])} | {percent(r['p90_abs_error'])} "
        f"| {percent(r['bias'], sign=True)} | {percent(r['inside_share'])} |"
        for r in rows
        if r["quantity"] in QUANTITIES and r["n"]
    ]
    return table


def layout(run: Run) -> str:
    """Devices and how a replica is divided."""

    def one(w: Workers) -> str:
        names = {
            "TP": w.attention_tp, "DP": w.attention_dp, "PP": w.pp, "expert TP": w.moe_tp,
            "EP": w.moe_ep,
        }  # fmt: skip
        said = ", ".join(f"{name}{n}" for name, n in names.items() if n > 1)
        return f"{w.gpus} x {run.accelerator}" + (f" ({said})" if said else "")

    deployment = run.deployment
    if isinstance(deployment, Aggregated):
        return one(deployment)
    return f"prompts {one(deployment.prefill)}, answers {one(deployment.decode)}"


def load(run: Run) -> str:
    """What was asked, and by how many."""
    w = run.workload
    lengths = f"{w.input_tokens_max:,} in, {w.output_tokens_max:,} out"
    if w.length_min_share < 1:
        lengths = f"up to {lengths}"
    clients = f"{w.concurrency:,} clients, {w.requests:,} requests"
    return f"{lengths}; {clients if w.requests > w.concurrency else f'{w.requests:,} at once'}"


def cells(run: Run, made: Prediction) -> list[str]:
    """Measured, predicted, interval and error of both quantities."""
    found = []
    for name in QUANTITIES:
        measured = getattr(run.measured, name)
        if made.predicted is None:
            found += [seconds(measured), "-", "-", "-"]
            continue
        value, (low, high) = made.predicted[name], made.interval90[name]
        within = f"{seconds(low)} to {seconds(high)}"
        error = f"{100 * (value / measured - 1):+.0f} %"
        scored = name in truth(run)
        found += [
            seconds(measured), seconds(value),
            within if not scored or low <= measured <= high else f"**{within}**",
            error if scored else f"({error})",
        ]  # fmt: skip
    return found


def tables(runs: Sequence[Run], predictions: Sequence[Prediction]) -> list[str]:
    """A table a source."""
    made = {each.id: each for each in predictions}
    sources: dict[tuple[str, str | None, str | None], list[Run]] = {}
    for run in runs:
        sources.setdefault((run.source.title, run.source.url, run.source.measured), []).append(run)
    page = []
    for (title, url, measured), mine in sources.items():
        page += ["", f"### {title}", ""]
        said = [f"<{url}>" if url else "", f"measured {measured}" if measured else ""]
        page += ["; ".join(x for x in said if x) + ".", ""] if any(said) else []
        page += [
            "| run | engine | weights | layout | load | TPOT | predicted | 90 % | error "
            "| TTFT | predicted | 90 % | error |",
            "|---" * 13 + "|",
        ]
        for run in mine:
            engine = f"{run.framework.name} {run.framework.version or '(not stated)'}"
            first = [run.id.removeprefix("reported/"), engine, run.precision.weights]
            row = [*first, layout(run), load(run), *cells(run, made[run.id])]
            page.append("| " + " | ".join(row) + " |")
        notes = dict.fromkeys(run.note for run in mine if run.note)
        page += ["", *(f"- {note}." for note in notes)]
        page += [f"- Apart: {run.id}: {run.scored_apart}." for run in mine if run.scored_apart]
    return page


def text(runs: Sequence[Run], predictions: Sequence[Prediction]) -> str:
    """Return the page."""
    rows = summarise(runs, predictions, GROUPS)
    failed = [f"- {each.id}: {each.error}" for each in predictions if each.error]
    page = [
        HEAD, "## Now", "", f"{len(runs)} runs.", "", *by_group(rows), "", FIRST, SEEN,
        *(["## Not predicted", "", *failed, ""] if failed else []),
        "## Every run", "",
        "An error in brackets is not scored; the run's note says why.",
        *tables(runs, predictions),
    ]  # fmt: skip
    return "\n".join(page).rstrip() + "\n"


def ends(off: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """Percentiles of all runs."""
    low, high = np.quantile([each for _, each in off], [TAIL, 1 - TAIL])
    return float(low), float(high)


def ends_by_model(off: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """Error that nine in ten runs keep within, every model counted once, both ways.

    Models are what is drawn anew, not runs: one with many runs far off is one model.
    """
    count = Counter(model for model, _ in off)
    kept = sorted((abs(each), 1 / count[model]) for model, each in off if count[model] >= RUNS)
    share = np.cumsum([weight for _, weight in kept])
    most = kept[int(np.searchsorted(share, WITHIN * share[-1]))][0]
    return -most, most


def reported_widths(runs: Sequence[Run], predictions: Sequence[Prediction]) -> str:
    """Text of the file with errors on parts and models that no fit has runs of."""
    fit = load_overheads()
    away = [elsewhere(fit, load_accelerator(run.accelerator).vendor) for run in runs]
    chosen = {
        OTHER_MAKER: away,
        OTHER_MODEL: [
            other_model(fit, run.model) and not other for run, other in zip(runs, away, strict=True)
        ],
    }
    lines = [
        "# How far reported runs are off, log(measured / predicted): on parts of other",
        "# makers than those that were fitted (elsewhere), and on these makers' of other models.",
        "# Written by scripts/write_reported.py; planner/validation/reported/ has the runs.",
        'source: "runs reported in public, each with its source in docs/reported.md"',
        "widths:",
    ]
    for case, kept in chosen.items():
        for name in (*QUANTITIES, "total_tokens_per_s_per_device"):
            off = [
                (run.model, math.log(measured / found.predicted[name]))
                for run, found, one in zip(runs, predictions, kept, strict=True)
                if one and found.predicted and (measured := truth(run).get(name))
            ]
            low, high = ends_by_model(off) if case == OTHER_MODEL else ends(off)
            lines.append(
                f"  - {{quantity: {name}, seen: false, case: {case}, "
                f"low: {low:.4f}, high: {high:.4f}, n: {len(off)}}}"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    reported = list(reported_runs())
    first = predict_runs(reported, load_overheads())
    reported_path().write_text(reported_widths(reported, first), "utf-8")
    load_overheads.cache_clear()
    PATH.write_text(text(reported, predict_runs(reported, load_overheads())), "utf-8")
