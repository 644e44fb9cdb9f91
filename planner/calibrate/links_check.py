"""How far the shipped links are from what was published."""

from collections import defaultdict
from typing import Any

import numpy as np

from planner import files
from planner.calibrate.links import LOW_LATENCY, NORMAL, ONE_SIDED, SYSTEMS, fit_links
from planner.calibrate.links_jobs import HELD_DEGREES
from planner.calibrate.links_rows import Rows, carried
from planner.comm import comm_time_s, with_exchange
from planner.specs.provenance import HeldOut

PUBLISHED = (
    ("h800-sxm", LOW_LATENCY, "2025-06", LOW_LATENCY),
    ("h800-sxm", NORMAL, "2025-06", NORMAL),
    ("h800-sxm", LOW_LATENCY, "2025-02", "deepep-low-latency-2025-02"),
    ("h800-sxm", NORMAL, "2025-02", "deepep-normal-2025-02"),
    ("gb200-nvl72", ONE_SIDED, "", ONE_SIDED),
    ("h100-sxm", LOW_LATENCY, "", LOW_LATENCY),
    ("h100-sxm", NORMAL, "", NORMAL),
)
"""Part, kernel and version of carried rows, and the shipped exchange that predicts them."""


def link_held_out(part: str) -> tuple[HeldOut, ...]:
    """Fit the links of a part again and say how wrong they are on held-out points."""
    if part not in SYSTEMS:
        return ()
    return tuple(h for done in fit_links(part).done.values() for h in done.held_out)


def published_errors() -> list[dict[str, Any]]:
    """Every carried time of an expert exchange against the shipped links.

    Returns
    -------
    list of {claim, quantity, value, predicted, relative_error, source, conditions, split}; times
    in seconds; ``split`` is ``ep_degree`` where the degree was held out of the shipped fit, else
    ``in_sample``.
    """
    found = []
    for part, kernel, version, library in PUBLISHED:
        for rows in carried(part, kernel, version):
            found += _records(part, library, rows)
    return found


def _records(part: str, library: str, rows: Rows) -> list[dict[str, Any]]:
    hardware = files.load_hardware(SYSTEMS[part])
    calibration = with_exchange(hardware.calibration, library)
    predicted = comm_time_s(rows.comm, hardware.system, calibration)
    c, (hidden, experts, top_k) = rows.comm, rows.shape
    never = NORMAL not in library or part != "h100-sxm"
    held = c.ranks in HELD_DEGREES and never
    return [
        {
            "claim": f"{library} on {part}",
            "quantity": f"{c.phase}_s",
            "value": float(value),
            "predicted": float(time_s),
            "relative_error": round(float(time_s / value - 1), 4),
            "source": " ".join(x for x in (rows.origin.source, rows.origin.version) if x),
            "conditions": {
                "ep": c.ranks, "nodes": c.ranks // c.ranks_in_domain, "tokens_per_rank": int(size),
                "hidden": int(hidden), "experts": int(experts), "top_k": int(top_k),
                "dtype": rows.dtype,
            },
            "split": "ep_degree" if held else "in_sample",
        }
        for value, time_s, size in zip(
            rows.time_s, np.atleast_1d(predicted), rows.size, strict=True
        )
    ]  # fmt: skip


def published_summary() -> list[dict[str, Any]]:
    """The same by claim, nodes and split: number of rows, median and 90th percentile |error|."""
    groups: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for record in published_errors():
        key = (record["claim"], record["conditions"]["nodes"], record["split"])
        groups[key].append(abs(record["relative_error"]))
    return [
        {
            "claim": claim, "nodes": nodes, "split": split, "n": len(errors),
            "median_abs_error": round(float(np.median(errors)), 4),
            "p90_abs_error": round(float(np.quantile(errors, 0.9)), 4),
        }
        for (claim, nodes, split), errors in groups.items()
    ]  # fmt: skip


def errors_markdown() -> str:
    """Held-out errors of every shipped law as the table of ``docs/links.md``."""
    cells: dict[tuple[str, str], dict[str, list[HeldOut]]] = defaultdict(dict)
    for part in SYSTEMS:
        made = files.load_calibration(part).links.provenance
        for held in made.held_out if made else ():
            law = held.dtype.split(" ", 1)[1].replace("rings ", "nccl ")
            law = law.removesuffix(" dispatch").removesuffix(" combine")
            law = law.replace("direct", "engine's all_reduce")
            cells[part, law].setdefault(held.split, []).append(held)
    splits = ("interpolation", "shape", "ep_degree", "part", "in_sample")
    lines = ["| part | law | " + " | ".join(splits) + " |", "|---|---|" + "---|" * len(splits)]
    for (part, law), found in cells.items():
        texts = [" and ".join(_percent(held) for held in found.get(s, [])) or "-" for s in splits]
        lines.append(f"| {part} | {law} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _percent(held: HeldOut) -> str:
    return f"{100 * held.median_abs_error:.1f} / {100 * held.p90_abs_error:.0f}"


def published_markdown() -> str:
    """Errors of the shipped links on published tables, as in ``docs/links.md``."""
    lines = ["| table | nodes | fitted? | rows | median / p90, % |", "|---|---|---|---|---|"]
    for row in published_summary():
        fitted = "held out" if row["split"] == "ep_degree" else "yes"
        error = f"{100 * row['median_abs_error']:.1f} / {100 * row['p90_abs_error']:.0f}"
        lines.append(f"| {row['claim']} | {row['nodes']} | {fitted} | {row['n']} | {error} |")
    return "\n".join(lines)
