"""From a file of the runner's rows to fitted shares, for any device: measure, fit, check."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from planner.calibrate.calls import PRECISION, Peaks, stated_peaks
from planner.calibrate.choice import Chosen, elementwise_rows
from planner.calibrate.features import variant_of
from planner.calibrate.fit import ELEMENTWISE, MOST_SIGMA, PartFit, fit_tables, row_wise
from planner.calibrate.plausible import LARGE_BYTES, MEMORY, amounts, believed
from planner.calibrate.rows import RowsFile, Table, read_rows
from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.calibration import Achieved
from planner.specs.hardware import AcceleratorSpec
from planner.specs.provenance import CheckFamily, RowCount

DEVICES = {
    "NVIDIA A100-SXM4-80GB": "a100-80g-sxm",
    "NVIDIA B200": "b200-sxm",
    "NVIDIA B300 SXM6 AC": "b300-sxm",
    "NVIDIA GB10": "dgx-spark-gb10",
    "NVIDIA GB200": "gb200-nvl72",
    "NVIDIA GB300": "gb300-nvl72",
    "NVIDIA GH200 120GB": "gh200",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 5090": "rtx-5090",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H20": "h20",
    "NVIDIA H200": "h200-sxm",
    "NVIDIA H800": "h800-sxm",
    "NVIDIA L40S": "l40s",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx-pro-6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000",
}
"""What the driver calls a device -> accelerator profile.

Most as vLLM's tuned MoE kernels are named (``fused_moe/configs``: ``device_name=``, blanks as
underscores); the gigabytes of a GH200 are Grace's.
"""

NOT_MEASURED = Achieved(
    compute_share=Sourced(1.0, "assumption", "vector work", "assumed"),
    memory_share=Sourced(0.8, "assumption", "not measured", "assumed"),
    floor_s=Sourced(1.5e-6, "assumption", "not measured", "assumed"),
)
"""Kernels that only move bytes, where no row says."""
FAMILIES = {
    "gemm": "gemm", "grouped_gemm": "grouped_gemm", "moe_layer": "grouped_gemm",
    "attention_decode": "attention_decode", "attention_prefill": "attention_prefill",
}  # fmt: skip
PRODUCTS_SAID = ", ".join(FAMILIES)


@dataclass(frozen=True, slots=True)
class RowsFit:
    """Shares fitted to one file of rows."""

    device: str
    peaks: Peaks
    elementwise: Achieved
    found: PartFit
    rows: int
    failed: int
    """Points that the run could not measure."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data: shares, peaks, errors on held-out points."""
        return {
            "device": self.device,
            "peak_flop_per_s": dict(self.peaks.flop_per_s),
            "peak_bytes_per_s": self.peaks.bytes_per_s,
            "rows": self.rows,
            "failed": self.failed,
            "laws": {
                "/".join(p for p in key if p): law.model_dump(mode="json", exclude_none=True)
                for key, law in {**self.found.laws, ELEMENTWISE: self.elementwise}.items()
            },
            "held_out": [h.model_dump() for h in self.found.held_out],
            "counts": [r.model_dump() for r in self.found.rows],
        }


def part_of(file: RowsFile) -> str | None:
    """Accelerator profile of the device the rows are from; None where it has none."""
    if file.header.get("part"):
        return str(file.header["part"])
    return DEVICES.get(str(file.header["device"]))


def best_seen(tables: Sequence[Table]) -> Peaks:
    """Highest rates in the rows, for a device whose maker states none; no row beats them.

    Raises
    ------
    InputError
        No row multiplies.
    """
    rates: dict[str, float] = {}
    bandwidth = 0.0
    for table in tables:
        if table.op in FAMILIES:
            done, moved = amounts(table)
            name = PRECISION.get(table.dtype, table.dtype)
            best = float(np.max(done / table.time_s, initial=0.0))
            rates[name] = max(rates.get(name, 0.0), best)
            bandwidth = max(bandwidth, float(np.max(moved / table.time_s, initial=0.0)))
        if table.op in MEMORY:
            large = table["bytes"] >= LARGE_BYTES
            best = float(np.max(table["bytes"][large] / table.time_s[large], initial=0.0))
            bandwidth = max(bandwidth, best)
    if not rates:
        raise InputError("", "op", f"no row multiplies; need products to fit: {PRODUCTS_SAID}")
    return Peaks(rates, bandwidth)


def choices(tables: Sequence[Table]) -> list[Chosen]:
    """One choice a family and precision, of the kernel with most rows; small kernels joined."""
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in tables:
        family = FAMILIES.get(table.op)
        if family:
            precision = PRECISION.get(table.dtype, table.dtype)
            products = family in ("gemm", "grouped_gemm")
            key = (family, precision if products else variant_of(table))
            groups.setdefault(key, []).append(table)
    found = elementwise_rows(tables)
    for key, group in groups.items():
        rows: dict[str, int] = {}
        for table in group:
            rows[table.kernel] = rows.get(table.kernel, 0) + len(table)
        kernel = max(rows, key=lambda name: rows[name])
        found.append(Chosen(key, tuple(t for t in group if t.kernel == kernel)))
    return found


def fit_rows(path: Path, part: AcceleratorSpec | None = None) -> RowsFit:
    """Fit one file of rows, against stated peaks of ``part`` or the best rates in the file.

    Without stated peaks a row far faster than the file's others is no peak: it is refused.

    Raises
    ------
    InputError
        The file is not sound, or holds too little.
    """
    file = read_rows(path)
    tables = list(file.tables) if part else believed(file.tables)
    refused = {
        "faster_than_its_neighbours": [
            len(t) - len(k) for t, k in zip(file.tables, tables, strict=True)
        ],
        "repeated": [table.repeated for table in file.tables],
    }
    try:
        peaks = stated_peaks(part) if part else best_seen(tables)
        if part:
            _of_part(tables, peaks, part)
        most_sigma = MOST_SIGMA if part else math.inf
        found = fit_tables(choices(tables), peaks, NOT_MEASURED, most_sigma)
    except InputError as error:
        raise InputError(error.where or str(path), error.field, error.problem) from None
    if not found.fits:
        raise InputError(str(path), "", "too few rows to fit: no family has three")
    for rule, counts in refused.items():
        found.rows += [
            _refused(table, rule, n) for table, n in zip(file.tables, counts, strict=True)
            if n and table.op in get_args(CheckFamily)
        ]  # fmt: skip
    law = row_wise(NOT_MEASURED, found)
    return RowsFit(str(file.header["device"]), peaks, law, found, file.rows, len(file.errors))


def _of_part(tables: Sequence[Table], peaks: Peaks, part: AcceleratorSpec) -> None:
    """Refuse products in a format that the part has no matrix units for."""
    for table in tables:
        if table.op in FAMILIES and PRECISION.get(table.dtype, table.dtype) not in peaks.flop_per_s:
            raise InputError(
                table.place, "dtype",
                f"{part.name} has no {table.dtype} matrix units, it multiplies in "
                f"{', '.join(peaks.flop_per_s)}; the file has {len(table)} such rows of "
                f"{table.op}: delete them, or mend the header's device",
            )  # fmt: skip


def _refused(table: Table, rule: str, rows: int) -> RowCount:
    """Rows of a table that never came to its fit."""
    name = " ".join(x for x in (table.origin.source, table.kernel) if x)
    family: CheckFamily = table.op  # type: ignore[assignment]
    return RowCount(
        source=name,
        version=table.origin.version,
        family=family,
        dtype=table.dtype,
        used=0,
        refused={rule: rows},
    )


def write_rows_fit(path: Path, fitted: RowsFit) -> None:
    """Write shares and held-out errors as JSON."""
    path.write_text(json.dumps(fitted.as_dict(), indent=1) + "\n", "utf-8")
