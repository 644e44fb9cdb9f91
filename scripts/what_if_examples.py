"""The questions people ask, asked: prints, or puts into docs/what-if.md, what comes out.

python scripts/what_if_examples.py [--write | NAME …]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import planner
from planner.report.studies import TITLES, cell, short
from planner.report.words import share, usd
from planner.study.sizing import fleets

DOCUMENT = Path(__file__).parents[1] / "docs" / "what-if.md"
MARK = "<!-- results: made by scripts/what_if_examples.py -->"

FLEET = ("label", "nodes", "devices", "tpot_p95_s", "usd_per_hour", "usd_per_million_tokens")
RUN = ("slo_met", "ttft_p95_s", "tpot_p95_s", "prefill_share", "usd_per_million_tokens")
STEP = ("label", "devices", "step_s", "step_bound_by", "output_tokens_per_s_per_device",
        "kv_capacity_tokens")  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One question, how it is asked, and what to look at."""

    name: str
    asks: str
    scenario: str
    vary: dict[str, list[Any]]
    columns: Sequence[str]
    sets: dict[str, Any] = field(default_factory=dict)
    plan: bool = False
    note: str = ""


def wide(devices: int) -> dict[str, int]:
    """Data-parallel attention, experts over all devices."""
    return {"attention_dp": devices, "moe_ep": devices}


QUESTIONS = (
    Question(
        "b200", "B200 instead of H200?", "r1-chat", {"system": ["hgx-h200", "hgx-b200"]},
        FLEET, plan=True,
    ),
    Question(
        "fp4", "FP4 weights instead of FP8 on B200?", "r1-chat",
        {"space.weights": [["fp8"], ["nvfp4"]]}, FLEET, {"system": "hgx-b200"}, plan=True,
        note="Whether the answers stay as good is not in the numbers.",
    ),
    Question(
        "ep72", "EP72 instead of EP32 in a GB200 rack?", "deepseek-ep144-decode",
        {"deployment.parallelism": [wide(32), wide(72)], "steady.sequences_per_device": [16, 64]},
        STEP, {"system": "gb200-nvl72", "deployment.limits.max_sequences": 128},
        note="Decode alone, steady; 288 expert slots: nine a device at EP32, four at EP72.",
    ),
    Question(
        "context", "Prompts of up to 128 K tokens?", "r1-chat",
        {"workload.lengths.0.input": [
            {"kind": "fixed", "tokens": n} for n in (1024, 16384, 131072)]},
        FLEET, {"workload.arrivals.requests_per_s": 1.0, "slo.ttft_p95_s": 60.0,
                "run.duration_s": 1200.0, "run.warmup_s": 300.0}, plan=True,
        note="One request a second, the promise on the first token relaxed to a minute.",
    ),
    Question(
        "cache", "Cache hit rate from 30 % to 80 %?", "r1-chat-ep16",
        {"workload.cached_input_share": [0.0, 0.3, 0.56, 0.8]}, RUN,
        {"workload.arrivals.requests_per_s": 24.0},
    ),
    Question(
        "imbalance", "Expert popularity twice as skewed?", "r1-chat-ep16",
        {"routing.popularity.sigma*": [0.5, 1.0, 2.0]}, RUN,
        note="The standard deviation of the logarithm of an expert's share, 0.921 as fitted.",
    ),
    Question(
        "nic", "Network cards at half their speed?", "r1-chat-ep16",
        {"system.scale_out.bytes_per_s*": [1.0, 0.5]}, RUN,
    ),
    Question(
        "node", "One replica's node dies?", "r1-chat-ep16", {"deployment.replicas": [3, 2, 1]}, RUN,
        note="A replica spans two nodes and stops when either does; the load moves to the others "
        "at once, without the requests that were running.",
    ),
    Question(
        "tpu", "TPU v7 instead of H200?", "r1-chat", {"system": ["hgx-h200", "tpu-v7"]},
        FLEET, {"space.max_nodes_per_replica": 8}, plan=True,
        note="TPU times rest on public kernel times where there are some and on assumptions where "
        "not; reported runs of large models on TPU v7 take a third longer.",
    ),
    Question(
        "mtp", "Multi-token prediction on?", "r1-chat-ep16",
        {"deployment.speculative": [
            None, *({"method": "mtp", "draft_tokens": n, "profile": "deepseek-r1-mtp"}
                    for n in (1, 2, 3))]},
        RUN,
        note="Tokens a step as published for one user on eight B200 (1.92, 2.58, 2.82); other "
        "text is accepted otherwise.",
    ),
    Question(
        "apart", "Prompts and answers in pools of their own?", "r1-chat",
        {"space.pools": [["together"], ["apart"]]}, FLEET, plan=True,
        note="Of pools apart first the prefill, then the decode replicas.",
    ),
    Question(
        "growth", "Traffic grows by half, or doubles?", "r1-chat",
        {"workload.arrivals.requests_per_s*": [1.0, 1.5, 2.0]}, FLEET, plan=True,
    ),
    Question(
        "distill", "A distilled 32B on one card?", "r1-distill-32b-rtx5090",
        {"workload.arrivals.concurrency": [1, 4, 16]}, RUN,
        note="Another model, with other answers.",
    ),
    Question(
        "dense", "DeepSeek-R1 against dense Llama-3.1-405B?", "r1-chat",
        {"model": ["deepseek-r1", "llama-3.1-405b"]}, FLEET,
        {"routing": None}, plan=True, note="Answers taken as equally long; experts balanced.",
    ),
)  # fmt: skip


SIZE = {
    "scenario": "r1-chat-ep16",
    "unknowns": {"workload.arrivals.requests_per_s*": [0.7, 1, 1.6],
                 "routing.popularity.sigma*": [0.5, 2]},
    "choose": {"system": ["hgx-h200", "hgx-b200"], "deployment.replicas": [1, 2, 3, 4]},
}  # fmt: skip
"""What is asked of ``size``."""


def sized() -> str:
    """The example of sizing in Markdown: fleets by regret, and what to measure first."""
    base = planner.load_scenario(SIZE["scenario"])
    start_s = time.perf_counter()
    found = planner.size(base, fleets(SIZE["choose"]), SIZE["unknowns"])
    lines = [
        "### Traffic that may be 30 % less or 60 % more, popularity that nobody measured?", "",
        f"The `size` command above: {found.worlds} worlds.", "",
        "| fleet | keeps the promises | $/h | mean regret | worst regret |", "|" + " --- |" * 5,
    ]  # fmt: skip
    for c in found.choices:
        money = (c.mean_usd_per_hour, c.mean_regret_usd_per_hour, c.worst_regret_usd_per_hour)
        lines.append(f"| {c.name} | {share(c.slo_probability)} | {' | '.join(map(usd, money))} |")
    worth = ", ".join(f"{w.path.rstrip('*')} {usd(w.usd_per_hour)}" for w in found.measure_first)
    lines += ["", f"Worth of knowing before the choice, $ an hour: {worth}.", ""]
    print(f"size: {time.perf_counter() - start_s:.1f} s", file=sys.stderr)
    return "\n".join(lines)


def answer(question: Question) -> str:
    """One question in Markdown: the command, the rows, the time it took."""
    base = planner.load_scenario(question.scenario, question.sets)
    start_s = time.perf_counter()
    ask = "plan" if question.plan else None
    table = planner.what_if(base, question.vary, ask=ask, cache=False)
    rows = table.rows
    columns = [*question.vary, *(c for c in question.columns if c not in question.vary)]
    lines = [f"### {question.asks}", "", f"```sh\n{command(question)}\n```", ""]
    lines.append("| " + " | ".join(TITLES.get(c, short(c)) for c in columns) + " |")
    lines.append("|" + " --- |" * len(columns))
    for row in rows:
        cells = [words(row[c]) if c in question.vary else cell(c, row[c]) for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [""] + [f"*No answer*: {row['error']}\n" for row in rows if row["error"]]
    if question.note:
        lines += [question.note, ""]
    print(f"{question.name}: {time.perf_counter() - start_s:.1f} s", file=sys.stderr)
    return "\n".join(lines)


def words(value: Any) -> str:
    """A varied value, short."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def flow(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return "null" if value is None else str(value)


def command(question: Question) -> str:
    """The same question on the command line."""
    parts = [f"moe-planner what-if {question.scenario}"]
    parts += [f"--set {quoted(f'{path}={flow(v)}')}" for path, v in question.sets.items()]
    parts += [
        f"--vary {quoted(f'{path}=' + ','.join(map(flow, values)))}"
        for path, values in question.vary.items()
    ]
    parts += ["--ask plan"] if question.plan else []
    return " \\\n    ".join(parts)


def quoted(text: str) -> str:
    """Quoted for a shell where it must be."""
    return f"'{text}'" if set(text) & set("*{}[] ") else text


def main() -> None:
    """Ask, print or write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*")
    options.add_argument("--write", action="store_true")
    asked = options.parse_args()
    chosen = [q for q in QUESTIONS if not asked.names or q.name in asked.names]
    text = "\n".join(answer(question) for question in chosen)
    if not asked.names or "size" in asked.names:
        text += ("\n" if text else "") + sized()
    if asked.write and asked.names:
        options.error("--write rewrites the whole page; give no NAME with it")
    if not asked.write:
        print(text)
        return
    head = DOCUMENT.read_text("utf-8").partition(MARK)[0]
    DOCUMENT.write_text(f"{head}{MARK}\n\n{text}", "utf-8")


if __name__ == "__main__":
    main()
