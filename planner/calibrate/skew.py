"""Grouped experts under skewed routing: predicted beside measured, half the degrees held out."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner import files
from planner.calibrate.calls import stated_peaks
from planner.calibrate.features import law_of, predict_s, works
from planner.calibrate.laws import Sample, fit_law
from planner.calibrate.rows import FloatArray, Origin, Table
from planner.calibrate.shapes import Limits
from planner.errors import InputError
from planner.routing.power_law import busiest_rank, power_law_counts
from planner.specs.calibration import Achieved
from planner.validation.claims import Split
from planner.validation.published import Verdict

ROWS = "sglang-0.5.10-deepseek-moe.csv"
SOURCE = (
    "NVIDIA aiconfigurator-core / AISimulate tables, SGLang 0.5.10 wideep_generation_moe "
    "(Apache-2.0) https://github.com/ai-dynamo/aiconfigurator"
)
FITTED_DEGREES = (8, 32, 128)
"""Expert-parallel degrees whose uniform rows are fitted; 4, 16, 64 and 256 are held out."""
SAMPLES = 64
"""Draws of the sampler a row; the measurement averages five."""
HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 7168, 2048, 256, 8
"""DeepSeek-V3, the model measured."""
ASSUMED = (
    "each row times the busiest rank of a bounded power law over experts (density x^-a on "
    "[1, 0.8 tokens]), experts in order of rank, as the tables' public collector draws it; mean "
    "over 64 draws where the measurement has 5",
)
FEW = (
    "fewer (token, expert) pairs than experts: the tables of H100 and H200 differ "
    "twofold from each other there"
)
TAGS = ("moe", "skew", "kernels")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured time."""

    part: str
    ep: int
    tokens: int
    exponent: float | None
    """None: every expert alike."""
    time_s: float


@lru_cache(maxsize=1)
def measured() -> tuple[Row, ...]:
    """Every carried row."""
    path = files.profile_root() / "measurements" / "skew" / ROWS
    with path.open(encoding="utf-8", newline="") as stream:
        lines = csv.DictReader(line for line in stream if not line.startswith("#"))
        return tuple(
            Row(
                line["part"], int(line["ep"]), int(line["tokens"]),
                float(line["exponent"]) if line["exponent"] else None, float(line["time_s"]),
            )
            for line in lines
        )  # fmt: skip


def rank_load(row: Row) -> tuple[FloatArray, FloatArray]:
    """(token, expert) pairs and touched experts of the rank timed, ``[draws]``."""
    local = EXPERTS // row.ep
    if row.exponent is None:
        pairs = row.tokens * TOP_K / row.ep
        return np.array([max(1.0, pairs)]), np.array([min(float(local), max(1.0, pairs))])
    rng = np.random.default_rng(
        np.random.SeedSequence([7, row.ep, row.tokens, round(1e3 * row.exponent)])
    )
    drawn = [
        busiest_rank(power_law_counts(row.tokens, EXPERTS, TOP_K, row.exponent, rng), row.ep)
        for _ in range(SAMPLES)
    ]
    pairs_, touched = np.array(drawn).T
    return pairs_, np.maximum(touched, 1.0)


def table(part: str, rows: Iterable[tuple[Row, float, float]]) -> Table:
    """Rows, with pairs and touched experts of each, as a table of MoE layers."""
    kept = list(rows)
    columns = {
        "group_tokens": [float(r.tokens) for r, _, _ in kept],
        "local_experts": [float(EXPERTS // r.ep) for r, _, _ in kept],
        "pairs": [p for _, p, _ in kept],
        "touched": [t for _, _, t in kept],
    }
    same = {"experts": EXPERTS, "top_k": TOP_K, "hidden": HIDDEN, "intermediate": INTERMEDIATE}
    arrays = {name: np.array(values) for name, values in columns.items()}
    arrays |= {name: np.full(len(kept), float(value)) for name, value in same.items()}
    times = np.array([r.time_s for r, _, _ in kept])
    return Table("moe_layer", "fp8_block", "sglang", Origin(part, SOURCE), arrays, times)


@dataclass(frozen=True, slots=True)
class Law:
    """Shares of one part, fitted to the uniform rows of ``FITTED_DEGREES`` alone."""

    part: str
    laws: dict[tuple[str, str], Achieved]

    def time_s(self, row: Row) -> float:
        """Mean time of the row's draws. [s]"""
        loads = zip(*rank_load(row), strict=True)
        drawn = table(self.part, [(row, float(p), float(t)) for p, t in loads])
        peaks = stated_peaks(files.load_accelerator(self.part))
        return float(predict_s(works(drawn, peaks), self.laws).mean())


@lru_cache(maxsize=4)
def law(part: str) -> Law:
    """Fit the grouped product of ``part``; kernels beside it as its calibration has them."""
    fitted = [r for r in measured() if r.part == part and r.ep in FITTED_DEGREES]
    even = [r for r in fitted if r.exponent is None]
    if not even:
        raise InputError("", "part", f"no rows of skewed experts for {part!r}")
    loads = [(row, rank_load(row)) for row in even]
    rows = table(part, [(row, float(p[0]), float(t[0])) for row, (p, t) in loads])
    parts = works(rows, stated_peaks(files.load_accelerator(part)))
    calibration = files.load_calibration(part)
    key = ("grouped_gemm", "fp8")
    beside = {w.key: law_of(calibration, w.key) for w in parts if w.key != key}
    found = fit_law(key, [Sample(parts, rows.time_s)], beside, SOURCE, Limits())
    return Law(part, {**beside, key: found.law})


def published_errors() -> list[Verdict]:
    """Every measured row beside its prediction, and what skew costs at both ends of the batch."""
    predicted = {row: law(row.part).time_s(row) for row in measured()}
    found = [_verdict(row, time_s) for row, time_s in predicted.items()]
    uniform = {(r.part, r.ep, r.tokens): r for r in measured() if r.exponent is None}
    for row in measured():
        batches = [r.tokens for r in measured() if (r.part, r.ep) == (row.part, row.ep)]
        if (
            row.exponent is None
            or row.ep < SHOWN_FROM
            or row.tokens not in (min(batches), max(batches))
        ):
            continue
        even = uniform[row.part, row.ep, row.tokens]
        found.append(
            Verdict.of(
                f"What skew costs, grouped FP8 experts, {row.part}", "time_over_uniform",
                row.time_s / even.time_s, predicted[row] / predicted[even],
                source=SOURCE, conditions=_conditions(row), split="unfitted", tags=TAGS,
                assumed=ASSUMED,
            )
        )  # fmt: skip
    return found


SHOWN_FROM = 32
"""Degree from which the smallest batch binds on weights and the largest on computation."""


def _conditions(row: Row) -> str:
    how = "uniform" if row.exponent is None else f"power law {row.exponent:g}"
    return f"EP{row.ep}, {row.tokens:,} tokens in the group, {how}"


def _verdict(row: Row, predicted_s: float) -> Verdict:
    split: Split = "unfitted"
    if row.exponent is None:
        split = "fitted" if row.ep in FITTED_DEGREES else "held_out"
    few = row.exponent is not None and row.tokens * TOP_K <= EXPERTS
    return Verdict.of(
        f"Grouped FP8 experts of DeepSeek-V3, SGLang 0.5.10, {row.part}", "moe_layer_s",
        row.time_s, predicted_s, source=SOURCE, conditions=_conditions(row), split=split,
        tags=TAGS, assumed=ASSUMED if row.exponent is not None else (), reason=FEW if few else "",
    )  # fmt: skip
