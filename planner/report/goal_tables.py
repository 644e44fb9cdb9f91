"""How many of its goals a calibration meets, by family of kernels."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, get_args

from planner.report.calibration import FAMILIES, NOTHING, goals_met
from planner.report.table import Column, Table, key, text
from planner.specs.provenance import Split

Record = Mapping[str, Any]
Limits = tuple[float, float | None]
"""Largest median and 90th percentile of the relative error."""
Judged = list[tuple[Record, bool | None]]

ENGINES = ("vllm", "sglang")
"""Words in a format that say whose calls of attention the rows are of."""
LINKS = ("collective", "all_to_all")
KERNELS, OWN, LINKED = "kernels", "kernels but engines' attention", "links"


def family_of(record: Record) -> str:
    """Family of a record for a person, attention as engines call it apart."""
    name = FAMILIES[record["family"]]
    return f"{name} of engines" if _of_engines(record) else name


def _of_engines(record: Record) -> bool:
    attention = str(record["family"]).startswith("attention")
    return attention and any(word in ENGINES for word in str(record["dtype"]).split())


def _groups(records: Sequence[Record], met: Sequence[bool | None]) -> list[tuple[str, str, Judged]]:
    """Family, split and their records, in the order of families and splits."""
    groups: dict[tuple[int, bool, int], tuple[str, str, Judged]] = {}
    splits = get_args(Split)
    for record, ok in zip(records, met, strict=True):
        family, split = str(record["family"]), str(record["split"])
        place = list(FAMILIES).index(family), _of_engines(record), splits.index(split)
        groups.setdefault(place, (family_of(record), split, []))[2].append((record, ok))
    return [groups[place] for place in sorted(groups)]


def _met(group: Judged) -> str:
    judged = [ok for _, ok in group if ok is not None]
    return f"{sum(judged):,} of {len(judged):,}" if judged else NOTHING


def summary_table(records: Sequence[Record], met: Sequence[bool | None]) -> Table:
    """Errors on held-out points by family, and how many of its goals are met; totals last."""
    columns = (
        text("rows"), key("held out"), Column("kernels"), Column("points", min_width=90),
        Column("median / p90"), Column("goals met"),
    )  # fmt: skip
    rows = []
    for family, split, group in _groups(records, met):
        middle, tail = (
            median(record[name] for record, _ in group)
            for name in ("median_abs_error", "p90_abs_error")
        )
        rows.append((
            family, split, f"{len(group):,}", f"{sum(r['n'] for r, _ in group):,}",
            f"{100 * middle:.1f} / {100 * tail:.0f} %", _met(group),
        ))  # fmt: skip
    rows += [(name, "all", f"{len(of):,}", "", "", _met(of)) for name, of in _totals(records, met)]
    note = f"Median / p90 of the middle kernel and format. {goals_met(records, met)}"
    note = note if records else ""
    return Table("By family", columns, tuple(rows), note)


def _totals(records: Sequence[Record], met: Sequence[bool | None]) -> list[tuple[str, Judged]]:
    """All kernels, those of the parts themselves, all links, as far as there are any."""
    both = [pair for pair in zip(records, met, strict=True) if pair[1] is not None]
    kernels = [pair for pair in both if pair[0]["family"] not in LINKS]
    own = [pair for pair in kernels if not _of_engines(pair[0])]
    links = [pair for pair in both if pair[0]["family"] in LINKS]
    found = [(KERNELS, kernels), (OWN, own if len(own) < len(kernels) else []), (LINKED, links)]
    return [(name, of) for name, of in found if of]


def goals_markdown(
    records: Sequence[Record], limits: Sequence[Limits | None], met: Sequence[bool | None]
) -> str:
    """Goals and how many are met as the table of ``docs/calibration.md``, totals last.

    Links are counted, their goals stand in ``docs/links.md``.
    """
    of = {(r["family"], r["split"]): limit for r, limit in zip(records, limits, strict=True)}
    lines = ["| rows | held out | goal: median (p90) | met | medians |", "|---|---|---|---|---|"]
    for family, split, group in _groups(records, met):
        limit = of[group[0][0]["family"], split]
        if limit is None or group[0][0]["family"] in LINKS:
            continue
        errors = [100 * record["median_abs_error"] for record, _ in group]
        tail = "" if limit[1] is None else f" ({100 * limit[1]:.0f} %)"
        lines.append(
            f"| {family} | {split} | {100 * limit[0]:.0f} %{tail} | {_met(group)} "
            f"| {min(errors):.1f} to {max(errors):.1f} |"
        )
    lines += [f"| {name} | all | | {_met(group)} | |" for name, group in _totals(records, met)]
    return "\n".join(lines) + "\n"
