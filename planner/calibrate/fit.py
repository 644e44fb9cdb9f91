"""Fit a part's achieved shares to measured times, with what it takes to judge them."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.calibrate.calls import STORED, Peaks
from planner.calibrate.choice import Chosen
from planner.calibrate.features import works
from planner.calibrate.laws import FEWEST_ROWS, Fit, Sample, fit_law, ungrouped
from planner.calibrate.rows import Table
from planner.calibrate.screen import screen
from planner.calibrate.shapes import Key, Limits
from planner.calibrate.splits import errors_of, held_out
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, CalibrationSpec
from planner.specs.provenance import HeldOut, Provenance, RowCount, Split

CONVERSION_SHARES = (0.25, 0.4, 0.6, 0.9, 3.6)
"""Shares of bandwidth tried for the quantisation that a row's time includes; the last is of rows
that stayed in the last cache (4.9 times the memory's rate on RTX PRO 6000, by Chips and Cheese)."""
VARIANTS = {name: f"{name}_variants" for name in ("attention_decode", "attention_prefill")}
FEWEST_CURVED = 16
"""Rows below which shares are fitted as constants."""
MOST_SIGMA = 0.25
"""Spread of log(measured / predicted) above which rows are of several kernels, not of one law."""
SPLITS: tuple[Split, ...] = ("interpolation", "shape", "ep_degree")
ELEMENTWISE: Key = ("elementwise", "")
"""Law of the kernels that only move bytes."""


@dataclass(slots=True)
class PartFit:
    """Everything found about one part."""

    most_sigma: float = MOST_SIGMA
    alike: Mapping[Key, Achieved] = field(default_factory=dict)
    """Laws of the same kernels in another engine's calls."""
    fits: dict[Key, Fit] = field(default_factory=dict)
    of_libraries: dict[tuple[str, ...], Fit] = field(default_factory=dict)
    """Family, precision or kernel, and library -> fit beside the part's own."""
    rows: list[RowCount] = field(default_factory=list)
    held_out: list[HeldOut] = field(default_factory=list)

    @property
    def laws(self) -> dict[Key, Achieved]:
        """Fitted shares by family and precision."""
        return {key: fit.law for key, fit in self.fits.items()}


def conversion_law(share: float, elementwise: Achieved) -> Achieved:
    """Quantisation: its bytes, and the start of a kernel like the other small ones."""
    return elementwise.model_copy(
        update={"memory_share": Sourced(share, "assumption", "found beside the product", "assumed")}
    )


LEAST_FLOOR_S = 1e-7
"""Lowest floor, so that it has a logarithm: of a product after a conversion, and of the products
of a whole layer, beside which more kernels are charged than libraries that fuse them start. [s]"""


def after_conversion(elementwise: Achieved) -> Limits:
    """Limits of a product whose rows begin with a conversion charged as a kernel of its own.

    Two kernels in a captured graph cost no less than twice what one does; where the conversion's
    assumed floor is more than its half, the product's may be less.  Of tiles in waves, whose
    shortest product is a whole tile: a curve's would take the place of its smallest shares.
    """
    floor_s = 2 * Limits().floor_s - float(elementwise.floor_s)
    return Limits(waves_floor_s=max(LEAST_FLOOR_S, floor_s))


def fit_tables(
    choices: Sequence[Chosen],
    peaks: Peaks,
    elementwise: Achieved,
    most_sigma: float = MOST_SIGMA,
    alike: Mapping[Key, Achieved] | None = None,
) -> PartFit:
    """Fit every choice and hold points out of each, products before what is made of them.

    Parameters
    ----------
    elementwise : shares of the kernels beside the products, taken as they are unless there are
        rows of such kernels.
    most_sigma : spread above which rows are refused as no one law's; infinite: all are fitted.
    alike : laws of the same kernels in another engine's calls, for what these rows do not tell.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Ann. Math. Stat. 35(1), 1964.
    """
    found = PartFit(most_sigma=most_sigma, alike=alike or {})
    for choice in sorted(choices, key=_in_turn):
        beside = row_wise(elementwise, found)
        _fit_choice(found, choice.key, choice.tables, peaks, beside)
    return found


def _in_turn(choice: Chosen) -> int:
    """Place of what is fitted: what others take as it is first, last what needs their laws.

    Those are products of experts, and heads that share keys.
    """
    if choice.key == ELEMENTWISE:
        return 0
    return 2 if choice.key[0] == "grouped_gemm" or ungrouped(choice.key) != choice.key else 1


def row_wise(elementwise: Achieved, found: PartFit) -> Achieved:
    """``elementwise`` with the share of the bandwidth and the floor of rows, where they were."""
    law = found.laws.get(ELEMENTWISE)
    if law is None:
        return elementwise
    update = {"memory_share": law.memory_share, "floor_s": law.floor_s}
    return elementwise.model_copy(update=update)


def _fit_choice(
    found: PartFit, key: Key, tables: Sequence[Table], peaks: Peaks, elementwise: Achieved
) -> None:
    """Fit ``key`` to what is believed of ``tables``, if one law describes them."""
    screened = [screen(table, peaks) for table in tables]
    kept = [s.table for s in screened if len(s.table)]
    fits = sum(map(len, kept)) >= FEWEST_ROWS and _fit_one(found, key, kept, peaks, elementwise)
    for table, result in zip(tables, screened, strict=True):
        used, refused = len(result.table), dict(result.refused)
        if used and not fits:
            used, refused["no_one_law"] = 0, used
        found.rows.append(_count(table, used, refused))


def _count(table: Table, used: int, refused: Mapping[str, int]) -> RowCount:
    name = " ".join(x for x in (table.origin.source, table.kernel) if x)
    return RowCount(
        source=name,
        version=table.origin.version,
        family=table.op,
        dtype=table.dtype,
        used=used,
        refused=dict(refused),
    )


def _fit_one(
    found: PartFit, key: Key, tables: list[Table], peaks: Peaks, elementwise: Achieved
) -> bool:
    rows = sum(map(len, tables))
    source, curved = tables[0].origin.source, rows >= FEWEST_CURVED and key != ELEMENTWISE
    converts = any(table.labels.get("includes") == "quantise" for table in tables)
    limits = after_conversion(elementwise) if converts else Limits()
    if all(table.labels.get("includes") == "layer" for table in tables):
        limits = replace(limits, floor_s=LEAST_FLOOR_S)
    if key[0] == "gemm" and not _streams(tables, peaks):
        copied = float(elementwise.memory_share)
        limits = replace(limits, least_memory_share=0.99 * copied, memory_share=copied)
    tries = []
    for share in CONVERSION_SHARES if converts else (1.0,):
        beside = {
            ("elementwise", ""): elementwise,
            ("conversion", ""): conversion_law(share, elementwise),
        }
        same = ungrouped(key)
        if same[0] == "attention_decode" and (law := found.laws.get(same, found.alike.get(same))):
            beside[same] = law
        samples = [Sample(works(t, peaks), t.time_s) for t in tables]
        tries.append((fit_law(key, samples, beside, source, limits, curved), beside))
    fit, beside = min(tries, key=lambda pair: pair[0].sigma)
    if fit.sigma > found.most_sigma:
        return False
    found.fits[key] = fit
    for split in SPLITS:
        found.held_out += _held(key, tables, split, peaks, (beside, source, limits, curved))
    seen = {(h.family, h.dtype) for h in found.held_out}
    for table in tables:
        error = errors_of(table, lambda t: works(t, peaks), {**beside, key: fit.law}, "in_sample")
        if error and (error.family, error.dtype) not in seen:
            found.held_out.append(error)
    return True


LARGE_BYTES = 8e6
"""Traffic of a product from which transfer, not its start, decides where it binds. [bytes]"""


def _streams(tables: Sequence[Table], peaks: Peaks) -> bool:
    """Whether some large product of the rows waits for memory: else copies say what that gives."""
    parts = [work for table in tables for work in works(table, peaks) if work.family == "gemm"]
    return any(np.any((w.memory_s > w.compute_s) & (w.call_bytes > LARGE_BYTES)) for w in parts)


def _held(
    key: Key,
    tables: list[Table],
    split: Split,
    peaks: Peaks,
    how: tuple[Mapping[Key, Achieved], str, Limits, bool],
) -> list[HeldOut]:
    """Fit without the held-out points of every table, and compare on them."""
    beside, source, limits, curved = how
    masks = [held_out(table, split) for table in tables]
    if all(mask is None for mask in masks):
        return []
    pairs = list(zip(tables, masks, strict=True))
    train = [t if m is None else t.take(~m) for t, m in pairs]
    samples = [Sample(works(t, peaks), t.time_s) for t in train if len(t)]
    if sum(map(len, samples)) < FEWEST_ROWS:
        return []
    law = fit_law(key, samples, beside, source, limits, curved).law
    errors = [
        errors_of(t.take(m), lambda t: works(t, peaks), {**beside, key: law}, split)
        for t, m in pairs
        if m is not None
    ]
    return [error for error in errors if error]


def taken(law: Achieved, note: str) -> Achieved:
    """``law`` where it stands for what was not measured."""
    names = ("compute_share", "memory_share")
    values = {name: getattr(law, name) for name in names}
    return law.model_copy(
        update={n: Sourced(float(v), v.source, note, "assumed") for n, v in values.items()}
    )


def with_laws(
    base: CalibrationSpec, name: str, accelerators: tuple[str, ...], found: PartFit
) -> CalibrationSpec:
    """``base`` with the fitted shares in place of its own."""
    tables: dict[str, dict[str, Achieved]] = {
        name: dict(getattr(base, name))
        for name in ("gemm", "grouped_gemm", "stored_experts", *VARIANTS.values())
    }
    update: dict[str, object] = {"name": name, "accelerators": accelerators}
    update["elementwise"] = row_wise(base.elementwise, found)
    laws = {key: law for key, law in found.laws.items() if key != ELEMENTWISE}
    for (family, kind), law in laws.items():
        if family not in VARIANTS:
            expanded = family == "grouped_gemm" and kind in STORED.values()
            tables["stored_experts" if expanded else family][kind] = law
        elif kind:
            tables[VARIANTS[family]][kind] = law
        else:
            update[family] = law
    prompts = [found.laws.get(("attention_prefill", kind)) for kind in ("", "gqa", "gqa_256")]
    if prompts[0] is None and (grouped_queries := prompts[1] or prompts[2]):
        known = not base.attention_prefill.memory_share.doubtful
        law = grouped_queries if known else taken(grouped_queries, "as grouped queries")
        update["attention_prefill"] = law
    for family, name_of in VARIANTS.items():
        tables[name_of] |= _of_other_widths(family, base, found)
    decode = tables[VARIANTS["attention_decode"]]
    if ("attention_decode", "") in found.laws:  # else those would take the shares of MLA
        for kind in ("gqa", "gqa_fp8_cache"):
            decode.setdefault(kind, base.attention_decode)
    gemm, grouped = tables["gemm"], tables["grouped_gemm"]
    for each, law in grouped.items():
        if law.compute_curve is None and ("grouped_gemm", each) not in found.laws:
            grouped[each] = _not_above(law, gemm[each])
    update["provenance"] = Provenance(
        fitted=datetime.datetime.now(datetime.UTC).date().isoformat(),
        rows=tuple(found.rows),
        held_out=tuple(found.held_out),
        residual_sigma={
            "/".join(part for part in key if part): round(fit.sigma, 4)
            for key, fit in found.fits.items()
        },
    )
    return base.model_copy(update={**update, **tables})


def _not_above(grouped: Achieved, gemm: Achieved) -> Achieved:
    """Shares of a grouped product that was not fitted, no better than the product's."""
    update: dict[str, Sourced] = {}
    for name, better in (("compute_share", min), ("memory_share", min), ("floor_s", max)):
        own, other = getattr(grouped, name), getattr(gemm, name)
        if better(own, other) != own:
            update[name] = Sourced(float(other), other.source, "as gemm", "derived")
    return grouped.model_copy(update=dict(update))


def _of_other_widths(family: str, base: CalibrationSpec, found: PartFit) -> dict[str, Achieved]:
    """Shares of heads of the usual width where only others were measured, unless a sibling's."""
    if base.provenance and base.provenance.transferred_from:
        return {}
    return {
        kind: taken(found.laws[family, other], f"as {other}")
        for kind in ("gqa", "gqa_fp8_cache")
        for other in (kind.replace("gqa", f"gqa_{width}") for width in (64, 192, 256))
        if (family, other) in found.laws and (family, kind) not in found.laws
    }
