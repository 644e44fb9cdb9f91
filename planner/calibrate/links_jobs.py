"""One set of link parameters, the rows it is fitted to, and how wrong it is on others."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.calibrate.links_fit import LinkFit, Values
from planner.calibrate.links_rows import Rows
from planner.calibrate.rows import FloatArray, Mask
from planner.errors import InputError
from planner.specs.provenance import CheckFamily, HeldOut, RowCount, Split

HELD_DEGREES = (32, 128)
"""Expert-parallel degrees held out of the exchanges' fits."""
FEWEST = 4
"""Held-out points below which nothing is said (a table of two degrees and two phases has four)."""
MOST_SIGMA = 0.35
"""Spread of log(measured / predicted) above which rows are of several algorithms, not of a law."""
MOST_GLITCH = 1.5
"""A row this many times as long as one of more bytes among the same ranks is an accident."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is fitted together."""

    name: str
    """``rings/all_reduce``, ``direct``, ``exchanges/LIBRARY/PHASE``."""
    family: CheckFamily
    rows: tuple[Rows, ...]
    solve: Callable[[Sequence[Rows]], LinkFit]
    predict_s: Callable[[Values, Rows], FloatArray]
    never: tuple[int, ...] = ()
    """Ranks that the fit never sees; they are the held-out points of ``ep_degree``."""
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> tuple[Rows, ...]:
        """Rows that may be fitted."""
        return tuple(r for r in self.rows if r.comm.ranks not in self.never)


@dataclass(frozen=True, slots=True)
class Done:
    """A fitted job."""

    job: Job
    fit: LinkFit
    held_out: tuple[HeldOut, ...]


def screened(job: Job, bound_s: Callable[[Rows], FloatArray]) -> Job:
    """Refuse rows faster than their bytes at the stated rates, and accidents; count both."""
    refused = {"beats_link": 0, "glitch": 0}
    kept = []
    for rows in job.rows:
        fast = rows.time_s < bound_s(rows)
        odd = _glitch(rows) & ~fast
        refused["beats_link"] += int(fast.sum())
        refused["glitch"] += int(odd.sum())
        kept.append(rows.take(~(fast | odd)))
    counted = {rule: n for rule, n in refused.items() if n}
    return replace(job, rows=tuple(r for r in kept if len(r)), refused=counted)


def _glitch(rows: Rows) -> Mask:
    """Rows far longer than some row of more bytes."""
    order = np.lexsort((rows.time_s, rows.size))
    t = rows.time_s[order]
    later = np.minimum.accumulate(t[::-1])[::-1]
    found = np.zeros(len(t), bool)
    found[order] = t > MOST_GLITCH * later
    return found


def run(job: Job) -> Done | None:
    """Fit a job and judge it on held-out points; None where no one law describes its rows."""
    try:
        found = job.solve(job.seen)
    except InputError:
        return None
    if found.sigma > MOST_SIGMA:
        return None
    records: list[HeldOut | None] = []
    for split in ("interpolation", "shape"):
        parts = _split(job.seen, split)
        if parts is not None:
            records.append(_refitted(job, *parts, split))
    apart = [r for r in job.rows if r.comm.ranks in HELD_DEGREES]
    if job.family == "all_to_all" and apart and job.name.startswith("exchanges"):
        if job.never:
            records.append(errors(job, found.values, apart, "ep_degree"))
        else:
            rest = [r for r in job.rows if r.comm.ranks not in HELD_DEGREES]
            records.append(_refitted(job, rest, apart, "ep_degree"))
    held = [r for r in records if r]
    if not held:
        within = errors(job, found.values, job.rows, "in_sample")
        held = [within] if within else []
    return Done(job, found, tuple(held))


def _refitted(
    job: Job, train: Sequence[Rows], test: Sequence[Rows], split: Split
) -> HeldOut | None:
    try:
        found = job.solve(train)
    except InputError:
        return None
    return errors(job, found.values, test, split)


def _split(rows: Sequence[Rows], split: str) -> tuple[list[Rows], list[Rows]] | None:
    """Rows to fit and rows held out; None where the rows do not vary that way."""
    if split == "shape":
        shapes = sorted({r.shape for r in rows}, key=lambda s: zlib.crc32(repr(s).encode()))
        if len(shapes) < FEWEST:
            return None
        drawn = set(shapes[::4])
        return [r for r in rows if r.shape not in drawn], [r for r in rows if r.shape in drawn]
    train, test = [], []
    for each in rows:
        values = np.unique(each.size)
        keep = np.isin(each.size, values[1:-1:3])
        train.append(each.take(~keep))
        test.append(each.take(keep))
    if sum(map(len, test)) < FEWEST:
        return None
    return [r for r in train if len(r)], [r for r in test if len(r)]


def errors(job: Job, values: Values, rows: Sequence[Rows], split: Split) -> HeldOut | None:
    """Median, 90th percentile and bias of the relative error on ``rows``."""
    if not sum(map(len, rows)):
        return None
    ratio = np.concatenate([job.predict_s(values, r) / r.time_s for r in rows])
    error = np.abs(ratio - 1)
    origin = rows[0].origin
    return HeldOut(
        family=job.family,
        dtype=f"{rows[0].dtype} {job.name.removeprefix('exchanges/').replace('/', ' ')}",
        split=split,
        n=len(ratio),
        median_abs_error=round(float(np.median(error)), 4),
        p90_abs_error=round(float(np.quantile(error, 0.9)), 4),
        bias=round(float(np.exp(np.mean(np.log(ratio)))) - 1, 4),
        source=" ".join(x for x in (origin.source, origin.version) if x),
    )


def row_count(job: Job, used: bool) -> RowCount:
    """How many rows went in, and how many were refused by which rule."""
    origin, count = job.rows[0].origin, sum(map(len, job.rows))
    seen = sum(map(len, job.seen))
    refused = dict(job.refused)
    if not used:
        refused["no_one_law"] = count
    elif count > seen:
        refused["held_out"] = count - seen
    return RowCount(
        source=origin.source,
        version=origin.version,
        family=job.family,
        dtype=f"{job.rows[0].dtype} {job.name}",
        used=seen if used else 0,
        refused=refused,
    )
