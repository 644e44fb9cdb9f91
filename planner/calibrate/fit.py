"""Fit a part's achieved shares to measured times, with what it takes to judge them."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from planner.calibrate.choice import Chosen, candidates, chosen, libraries, stored_experts
from planner.calibrate.features import STORED, Peaks, law_of, stated_peaks, works
from planner.calibrate.laws import FEWEST_ROWS, Fit, Sample, fit_law
from planner.calibrate.rows import Table
from planner.calibrate.screen import screen
from planner.calibrate.shapes import Key, Limits
from planner.calibrate.splits import errors_of, held_out
from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.calibration import Achieved, CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, Precision
from planner.specs.provenance import HeldOut, Provenance, RowCount, Split

CONVERSION_SHARES = (0.25, 0.4, 0.6, 0.9)
"""Shares of bandwidth tried for the quantisation that a row's time includes."""
VARIANTS = {name: f"{name}_variants" for name in ("attention_decode", "attention_prefill")}
FEWEST_CURVED = 16
"""Rows below which shares are fitted as constants."""
MOST_SIGMA = 0.25
"""Spread of log(measured / predicted) above which rows are of several kernels, not of one law."""
SPLITS: tuple[Split, ...] = ("interpolation", "shape", "ep_degree")


@dataclass(slots=True)
class PartFit:
    """Everything found about one part."""

    most_sigma: float = MOST_SIGMA
    fits: dict[Key, Fit] = field(default_factory=dict)
    of_libraries: dict[tuple[str, ...], Fit] = field(default_factory=dict)
    """Family, precision and library -> fit of expert kernels beside the part's own."""
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
    choices: Sequence[Chosen], peaks: Peaks, elementwise: Achieved, most_sigma: float = MOST_SIGMA
) -> PartFit:
    """Fit every choice and hold points out of each, products before what is made of them.

    Parameters
    ----------
    elementwise : shares of the kernels beside the products, taken as they are.
    most_sigma : spread above which rows are refused as no one law's; infinite: all are fitted.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Ann. Math. Stat. 35(1), 1964.
    """
    found = PartFit(most_sigma=most_sigma)
    for choice in sorted(choices, key=lambda c: c.key[0] == "grouped_gemm"):
        _fit_choice(found, choice.key, choice.tables, peaks, elementwise)
    return found


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
    source, curved = tables[0].origin.source, rows >= FEWEST_CURVED
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


KEPT: dict[str, tuple[Key, ...]] = {"h800-sxm": (("gemm", "fp8"),)}
"""Part -> laws that it takes from its sibling though it has rows: a few dozen products, of large
sizes most of them, do not determine tiles, waves and a curve of the bandwidth."""


def choices_of(part: AcceleratorSpec, families: Sequence[str] = ()) -> list[Chosen]:
    """Tables that a part's calibration is fitted to, of ``families`` (empty: all)."""
    found = chosen(candidates(part.name), part.dense_flop_per_s.precisions())
    found += stored_experts(part.name)
    return [choice for choice in found if not families or choice.key[0] in families]


def fit_part(
    part: AcceleratorSpec, base: CalibrationSpec, families: Sequence[str] = ()
) -> tuple[CalibrationSpec, PartFit]:
    """Fit the calibration of one part; what has no rows keeps the shares of ``base``.

    Parameters
    ----------
    families : those to fit anew, the others keep shares and errors of ``base``; empty: all.

    Raises
    ------
    InputError
        No measured rows of the part are to be had.
    """
    kept = KEPT.get(part.name, ())
    choices = [choice for choice in choices_of(part, families) if choice.key not in kept]
    if not choices and not candidates(part.name):
        raise InputError(part.name, "", "no measured rows; pip install moe-planner[tables-nvidia]")
    found = fit_tables(choices, stated_peaks(part), base.elementwise)
    made = with_laws(base, part.name, (part.name,), found)
    stored = made.stored_experts
    if "int4" in stored and "mxfp4" not in stored:  # Marlin's kernels run both
        law = _taken(stored["int4"], "Marlin's INT4 rows")
        made = made.model_copy(update={"stored_experts": {**stored, "mxfp4": law}})
    if any(c.key == FOUR_BITS and c.tables[0].dtype == "mxfp4" for c in choices):
        law = made.grouped_gemm["fp4"].model_copy(update={"multiplies": "fp4"})
        made = made.model_copy(update={"stored_experts": {**made.stored_experts, "mxfp4": law}})
    if not families or "grouped_gemm" in families:
        made = _with_libraries(made, part, found)
    if families and base.provenance and made.provenance:
        update = {"provenance": renewed(base.provenance, made.provenance, families)}
        made = made.model_copy(update=update)
    return made, found


def _with_libraries(
    spec: CalibrationSpec, part: AcceleratorSpec, found: PartFit
) -> CalibrationSpec:
    """``spec`` with the expert kernels of other libraries; their fits are added to ``found``."""
    kernels: dict[str, dict[Precision, Achieved]] = {}
    assert spec.provenance is not None
    made = spec.provenance
    for name, choices in libraries(part.name, part.dense_flop_per_s.precisions()).items():
        own = fit_tables(choices, stated_peaks(part), spec.elementwise)
        laws = {choice.key[1]: own.laws[choice.key] for choice in choices if choice.key in own.laws}
        if laws:
            kernels[name] = laws  # type: ignore[assignment]
        fits: dict[tuple[str, ...], Fit] = {(*key, name): fit for key, fit in own.fits.items()}
        found.of_libraries.update(fits)
        made = made.model_copy(
            update={
                "rows": (*made.rows, *own.rows),
                "held_out": (*made.held_out, *own.held_out),
                "residual_sigma": {
                    **made.residual_sigma,
                    **{"/".join(key): round(fit.sigma, 4) for key, fit in fits.items()},
                },
            }
        )
    found.rows, found.held_out = list(made.rows), list(made.held_out)
    return spec.model_copy(update={"expert_kernels": kernels, "provenance": made})


def _taken(law: Achieved, note: str) -> Achieved:
    """``law`` where it stands for what was not measured."""
    names = ("compute_share", "memory_share")
    values = {name: getattr(law, name) for name in names}
    return law.model_copy(
        update={n: Sourced(float(v), v.source, note, "assumed") for n, v in values.items()}
    )


FOUR_BITS = ("grouped_gemm", "fp4")
"""Products of a part that multiplies MXFP4 as it is stored."""


OPS = {"grouped_gemm": ("grouped_gemm", "moe_layer")}
"""Family of shares -> operations whose rows they are fitted to, where it has another name."""


def renewed(old: Provenance, new: Provenance, families: Sequence[str]) -> Provenance:
    """``new`` for what was fitted anew, ``old`` for all else."""
    again = {op for family in families for op in OPS.get(family, (family,))}
    sigma = {k: v for k, v in old.residual_sigma.items() if k.split("/")[0] not in families}
    return new.model_copy(
        update={
            "rows": (*(r for r in old.rows if r.family not in again), *new.rows),
            "held_out": (*(h for h in old.held_out if h.family not in again), *new.held_out),
            "residual_sigma": {**sigma, **new.residual_sigma},
        }
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
    for (family, kind), law in found.laws.items():
        if family not in VARIANTS:
            expanded = family == "grouped_gemm" and kind in STORED.values()
            tables["stored_experts" if expanded else family][kind] = law
        elif kind:
            tables[VARIANTS[family]][kind] = law
            if kind == "gqa" and family == "attention_prefill" and (family, "") not in found.laws:
                known = not base.attention_prefill.memory_share.doubtful
                update[family] = law if known else _taken(law, "as grouped queries")
        else:
            update[family] = law
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


def transfer(
    base: CalibrationSpec, name: str, accelerators: tuple[str, ...], measured: CalibrationSpec
) -> CalibrationSpec:
    """Shares of a measured sibling for parts that were not measured."""
    own = base.provenance or measured.provenance
    update = {
        "name": name,
        "accelerators": accelerators,
        "gemm": {**base.gemm, **{k: v for k, v in measured.gemm.items() if k in base.gemm}},
        "grouped_gemm": {
            **base.grouped_gemm,
            **{k: v for k, v in measured.grouped_gemm.items() if k in base.grouped_gemm},
        },
        "expert_kernels": measured.expert_kernels,
        "stored_experts": measured.stored_experts,
        **{n: getattr(measured, n) for pair in VARIANTS.items() for n in pair},
        "provenance": Provenance(
            fitted=own.fitted if own else "",
            transferred_from=measured.name,
            residual_sigma=measured.provenance.residual_sigma if measured.provenance else {},
        ),
    }
    return base.model_copy(update=update)


def transfer_errors(
    part: AcceleratorSpec, measured: CalibrationSpec, tables: Sequence[Chosen] | None = None
) -> list[HeldOut]:
    """Error on the rows of ``part`` of shares fitted to another part."""
    peaks = stated_peaks(part)
    if tables is None:
        tables = choices_of(part)
    found = []
    for choice in tables:
        for table in choice.tables:
            rows = screen(table, peaks).table
            parts = works(rows, peaks)
            try:
                laws = {w.key: law_of(measured, w.key) for w in parts if w.family != "conversion"}
            except InputError:
                continue
            laws[("conversion", "")] = conversion_law(0.6, measured.elementwise)
            error = errors_of(rows, lambda t: works(t, peaks), laws, "part")
            if error:
                note = f"{error.source}, shares of {measured.name}"
                found.append(error.model_copy(update={"source": note}))
    return found
