"""Set a peer's predictions of measured runs beside ours, coverage and errors side by side.

    python scripts/compare_peers.py --stored PEER.json           # predictions made earlier
    python scripts/compare_peers.py --python VENV/bin/python     # aiconfigurator in its environment
    python scripts/compare_peers.py --venv DIR                   # the same, environment made first

``PEER.json`` is ``{"predictions": {ID: {"ttft_s": .., "tpot_s": ..}}}``.  The peer is asked by its own
``cli_estimate``: mean lengths of the run, clients of one attention rank as its batch, formats as the
run states them; it has no protocol of a closed loop.  Without ``--runs`` the shipped runs are taken.
"""  # noqa: E501

import argparse
import json
import math
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.files import load_model
from planner.files.overheads import load_overheads
from planner.files.runs import read_runs
from planner.specs.runs import Aggregated, Run, Workers
from planner.validation.family import family_of
from planner.validation.predict import predict_runs
from planner.validation.shipped import shipped_runs
from planner.validation.summary import truth

PEER = "aiconfigurator==0.12.0"
WORKER = Path(__file__).with_name("peer_aiconfigurator.py")
SYSTEMS = {"gb200-nvl72": "gb200", "gb300-nvl72": "gb300"}
BACKENDS = {"tensorrt-llm": "trtllm"}
FORMATS = {"fp8": "fp8_block", "fp4": "nvfp4", "nvfp4": "nvfp4", "bf16": "bfloat16"}
QUANTITIES = {"mean_tpot_s": "tpot_s", "mean_ttft_s": "ttft_s"}
Predictions = dict[str, dict[str, float]]

GROUPS: dict[str, Callable[[Run], str]] = {
    "all": lambda run: "all",
    "engine": lambda run: f"{family_of(run)} {run.deployment.kind}",
    "model": lambda run: run.model,
    "part": lambda run: run.accelerator,
}


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", help="a runs file; by default the shipped ones")
    parser.add_argument("--stored", help="a peer's predictions made earlier")
    parser.add_argument("--python", help="Python of an environment that has the peer")
    parser.add_argument("--venv", help="make such an environment in this folder")
    parser.add_argument("--save", help="write the peer's predictions here")
    options = parser.parse_args()
    runs = read_runs(options.runs)[0] if options.runs else list(shipped_runs())
    if options.stored:
        peer = stored(Path(options.stored))
    elif options.python or options.venv:
        peer = asked(runs, options.python or environment(Path(options.venv)))
    else:
        sys.exit("give --stored FILE, --python PATH or --venv DIR")
    if options.save:
        Path(options.save).write_text(json.dumps({"predictions": peer}, indent=0), "utf-8")
    ours = {
        p.id: {QUANTITIES[q]: v for q, v in (p.predicted or {}).items() if q in QUANTITIES}
        for p in predict_runs(runs, load_overheads())
    }
    print("\n".join(table(runs, ours, peer)))


def stored(path: Path) -> Predictions:
    """Read predictions; rows without a time are refusals."""
    rows = json.loads(path.read_text("utf-8"))["predictions"]
    return dict(rows)


def environment(folder: Path) -> str:
    """Make an environment with the peer; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return str(python)


def asked(runs: Sequence[Run], python: str) -> Predictions:
    """Ask the peer for every run."""
    jobs = "".join(json.dumps({"id": r.id, "arguments": arguments(r)}) + "\n" for r in runs)
    done = subprocess.run(
        [python, str(WORKER)], input=jobs, text=True, stdout=subprocess.PIPE, check=True
    )
    marked = [x for x in done.stdout.splitlines() if x.startswith("PREDICTED ")]
    rows = [json.loads(x.removeprefix("PREDICTED ")) for x in marked]
    return {row.pop("id"): row for row in rows}


def arguments(run: Run) -> dict[str, Any]:
    """One run in the peer's words."""
    prompt, answer = run.workload.mean_tokens()
    family = family_of(run)
    quant = FORMATS.get(run.precision.weights)
    common = {
        "model_path": load_model(run.model).hf_id,
        "system_name": SYSTEMS.get(run.accelerator, run.accelerator.replace("-", "_")),
        "backend_name": BACKENDS.get(family, family),
        "isl": round(prompt), "osl": round(answer),
        "gemm_quant_mode": quant, "moe_quant_mode": quant,
    }  # fmt: skip
    clients, deployment = run.workload.concurrency, run.deployment
    if isinstance(deployment, Aggregated):
        return (
            common
            | {"mode": "agg", "batch_size": batch(clients, deployment)}
            | shape(deployment, "")
        )
    first, then = deployment.prefill, deployment.decode
    return common | {
        "mode": "disagg",
        "prefill_batch_size": 1, "prefill_num_workers": first.replicas,
        "decode_batch_size": batch(clients, then), "decode_num_workers": then.replicas,
        **shape(first, "prefill_"), **shape(then, "decode_"),
    }  # fmt: skip


def batch(clients: int, workers: Workers) -> int:
    """Requests of one attention rank."""
    return max(1, math.ceil(clients / (workers.replicas * workers.attention_dp)))


def shape(workers: Workers, prefix: str) -> dict[str, int]:
    """Parallelism in the peer's words."""
    return {
        f"{prefix}tp_size": workers.attention_tp, f"{prefix}pp_size": workers.pp,
        f"{prefix}attention_dp_size": workers.attention_dp,
        f"{prefix}moe_tp_size": workers.moe_tp, f"{prefix}moe_ep_size": workers.moe_ep,
    }  # fmt: skip


def table(runs: Sequence[Run], ours: Predictions, peer: Predictions) -> list[str]:
    """Rows: group, runs, coverage; median and p90 |error| of both where both predict."""
    lines = [
        f"{'':28s}{'runs':>5s}{'covered':>16s}   {'TPOT median, p90':>32s}   "
        f"{'TTFT median, p90':>32s}",
        f"{'':28s}{'':5s}{'ours':>8s}{'peer':>8s}   {'ours':>16s}{'peer':>16s}   "
        f"{'ours':>16s}{'peer':>16s}",
    ]
    for group_of in GROUPS.values():
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(group_of(run), []).append(run)
        lines += [_row(name, members, ours, peer) for name, members in sorted(groups.items())]
    lines.append("Errors: over the runs that both predict.")
    return lines


def _row(name: str, runs: list[Run], ours: Predictions, peer: Predictions) -> str:
    covered = [sum(bool(p.get(r.id, {}).get("tpot_s")) for r in runs) for p in (ours, peer)]
    cells = [f"{name:28s}{len(runs):5d}", *(f"{n / len(runs):8.0%}" for n in covered)]
    for quantity, key in QUANTITIES.items():
        both = [r for r in runs if ours.get(r.id, {}).get(key) and peer.get(r.id, {}).get(key)]
        cells.append("   ")
        for predictions in (ours, peer):
            off = [
                abs(predictions[r.id][key] / truth(r)[quantity] - 1)
                for r in both
                if quantity in truth(r)
            ]
            text = f"{np.median(off):.1%}, {np.quantile(off, 0.9):.0%}" if off else "-"
            cells.append(f"{text:>16s}")
    return "".join(cells)


if __name__ == "__main__":
    main()
