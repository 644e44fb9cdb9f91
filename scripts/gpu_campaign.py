"""Measure everything outstanding on this machine's GPU in under nine minutes, in one command.

python scripts/gpu_campaign.py OUT [--budget SECONDS]      on the GPU machine
python scripts/gpu_campaign.py OUT --self-test             anywhere: tiny points on the processor

Needs Python, numpy, torch and Triton, and the folder ``planner/calibrate/runner`` (or ``runner``
beside this file).  Run it again with the same OUT to go on where it stopped.  OUT gets
``rows.jsonl`` as it goes, at the end ``rows-<date>.jsonl.gz`` and ``summary.md``.
"""

import argparse
import datetime
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

DEVICE_LOST = 3
NO_DEVICE = 2
GRACE_S = 45.0
"""Beyond the budget, the runner is ended this much later."""
LEAST_S = 15.0
"""Less is not worth a start."""
MOST_STARTS = 6


def runner() -> tuple[Path, str]:
    """Find the runner: the folder to start in, and the module to start."""
    here = Path(__file__).resolve().parent
    for root, module in ((here.parent, "planner.calibrate.runner"), (here, "runner")):
        if (root / module.replace(".", "/") / "main.py").exists():
            return root, module
    raise SystemExit(f"no folder runner: {here.parent}/planner/calibrate/runner or {here}/runner")


def run_once(out: Path, options: argparse.Namespace, budget_s: float) -> int | None:
    """Run the runner for so long; return its status, or None if it had to be ended."""
    backend = "cpu" if options.self_test else "cuda"
    root, module = runner()
    command = [
        sys.executable, "-m", module, "--backend", backend, "--out", str(out / "rows.jsonl"),
        "--budget", str(budget_s), "--seed", str(options.seed),
        *(["--self-test"] if options.self_test else []),
        *(["--only", options.only] if options.only else []),
        *(["--counts", str(options.counts.resolve())] if options.counts else []),
    ]  # fmt: skip
    log = (out / "log.txt").open("a", encoding="utf-8")
    with log:
        process = subprocess.Popen(
            command, cwd=root, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return process.wait(budget_s + GRACE_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the runner and the processes it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"process {process.pid} does not end\n")


def campaign(out: Path, options: argparse.Namespace) -> int:
    """Run until done, or the time is; start again where the device was lost."""
    start = time.monotonic()
    status: int | None = NO_DEVICE
    for _ in range(MOST_STARTS):
        left_s = options.budget - (time.monotonic() - start)
        if left_s < LEAST_S:
            break
        status = run_once(out, options, left_s)
        if status in (0, NO_DEVICE, None):
            break
        print(f"the runner ended with {status}; starting again", flush=True)
    return DEVICE_LOST if status is None else status


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a file of rows, as far as they are any."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut short, or edited: the runner says so
        if isinstance(row, dict) and isinstance(row.get("op"), str):
            found.append(row)
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """One page: what was measured, how fast at best, and what failed."""
    head = rows[0] if rows and rows[0]["op"] == "header" else {}
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if all(isinstance(row.get(name), int | float) for name in ("time_s", "bytes", "flop")):
            name = f"{row['op']} {row.get('variant', '')}".strip()
            groups[name, str(row.get("dtype")), str(row.get("kernel"))].append(row)
    lines = [
        f"# {head.get('device')}, {head.get('date')}", "",
        f"driver {head.get('driver')}, torch {head.get('torch')}, triton {head.get('triton')}, "
        f"git {head.get('git')}, clocks {head.get('clocks_mhz')} MHz", "",
        "| operation | dtype | kernel | points | shortest us | longest us | best TB/s "
        "| best TFLOP/s | worst error |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for (name, dtype, kernel), found in groups.items():
        times = [row["time_s"] for row in found]
        moved = max(row["bytes"] / row["time_s"] for row in found) / 1e12
        work = max(row["flop"] / row["time_s"] for row in found) / 1e12
        errors = [e for row in found if (e := row.get("check_rel_err")) is not None]
        worst = f"{max(errors):.1e}" if errors else ""
        lines.append(
            f"| {name} | {dtype} | {kernel} | {len(found)} | {min(times) * 1e6:.2f} "
            f"| {max(times) * 1e6:.1f} | {moved:.2f} | {work:.1f} | {worst} |"
        )
    failed = [row for row in rows if row["op"] == "error" and {"error", "point"} <= row.keys()]
    end = rows[-1] if rows and rows[-1]["op"] == "end" else {}
    timing = Counter(row["timing"] for row in rows if "timing" in row)
    measured, left = sum(map(len, groups.values())), end.get("left", "an unknown number")
    lines += ["", f"{measured} points measured, {len(failed)} failed, {left} left.", ""]
    lines += [f"Timed by {dict(timing)}.", ""]
    for reason, count in Counter(row["error"][:160] for row in failed).most_common(12):
        first = next(row["point"] for row in failed if row["error"][:160] == reason)
        lines.append(f"- {count} x {first.get('op')} {first.get('dtype')}: {reason}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, compress, summarise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path, help="folder for the rows and the summary")
    parser.add_argument("--budget", type=float, default=470.0, metavar="SECONDS")
    parser.add_argument("--only", metavar="OP[:DTYPE],...")
    parser.add_argument("--counts", type=Path, metavar="FILE", help="recorded tokens per expert")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    if not options.budget >= LEAST_S:
        parser.error(f"--budget must be at least {LEAST_S:g} s, got {options.budget:g}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").touch()
    except OSError as error:
        parser.error(f"{out}: {error.strerror}; give a folder that can be written")
    status = campaign(out, options)
    path = out / "rows.jsonl"
    rows = read(path)
    log = (out / "log.txt").read_text("utf-8", errors="replace").splitlines(keepends=True)
    if not rows:
        print("nothing was measured:", "".join(log[-3:]).strip())
        return status or NO_DEVICE
    if status == NO_DEVICE:
        print("the runner did not start:", "".join(log[-1:]).strip())
        return status
    page = summary(rows)
    (out / "summary.md").write_text(page, "utf-8")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    (out / f"rows-{today}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    print(page)
    return status


if __name__ == "__main__":
    sys.exit(main())
