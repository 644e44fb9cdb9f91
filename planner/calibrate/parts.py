"""The calibration of a part: its own kernels, those of engines beside them, what others lend."""

from collections.abc import Sequence

from planner.calibrate.calls import stated_peaks
from planner.calibrate.choice import (
    Chosen,
    attention_kernels,
    candidates,
    chosen,
    libraries,
    stored_experts,
)
from planner.calibrate.features import law_of, works
from planner.calibrate.fit import (
    VARIANTS,
    PartFit,
    conversion_law,
    fit_tables,
    taken,
    with_laws,
)
from planner.calibrate.laws import Fit
from planner.calibrate.screen import screen
from planner.calibrate.shapes import Key
from planner.calibrate.splits import errors_of
from planner.calibrate.tables import TRTLLM_GEN
from planner.calibrate.tuned import TUNED
from planner.errors import InputError
from planner.specs.calibration import Achieved, AttentionKernels, CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, Precision
from planner.specs.provenance import HeldOut, Provenance

KEPT: dict[str, tuple[Key, ...]] = {"h800-sxm": (("gemm", "fp8"),)}
"""Part -> laws that it takes from its sibling though it has rows: a few dozen products, of large
sizes most of them, do not determine tiles, waves and a curve of the bandwidth."""


LENDING = {"vllm": "sglang"}
"""Engine -> one before it in the alphabet that runs the same library's attention on these parts."""
ONE_LIBRARY = ("h100-sxm", "h200-sxm", *TRTLLM_GEN)
"""FlashAttention-3 on Hopper (vLLM's and SGLang's default there), and ``trtllm-gen`` on datacenter
Blackwell, which FlashInfer runs for both."""


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
        law = taken(stored["int4"], "Marlin's INT4 rows")
        made = made.model_copy(update={"stored_experts": {**stored, "mxfp4": law}})
    if any(c.key == FOUR_BITS and c.tables[0].dtype == "mxfp4" for c in choices):
        law = made.grouped_gemm["fp4"].model_copy(update={"multiplies": "fp4"})
        made = made.model_copy(update={"stored_experts": {**made.stored_experts, "mxfp4": law}})
    if not families or "grouped_gemm" in families:
        made = _with_libraries(made, part, found)
    made = _with_attention(made, part, found, families)
    if families and base.provenance and made.provenance:
        update = {"provenance": renewed(base.provenance, made.provenance, families)}
        made = made.model_copy(update=update)
    return made, found


def _with_libraries(
    spec: CalibrationSpec, part: AcceleratorSpec, found: PartFit
) -> CalibrationSpec:
    """``spec`` with the expert kernels of other libraries; their fits are added to ``found``."""
    kernels: dict[str, dict[Precision, Achieved]] = {}
    for name, choices in libraries(part.name, part.dense_flop_per_s.precisions()).items():
        own = fit_tables(choices, stated_peaks(part), spec.elementwise)
        laws = {choice.key[1]: own.laws[choice.key] for choice in choices if choice.key in own.laws}
        if laws:
            kernels[name] = laws  # type: ignore[assignment]
        spec = _counting(spec, name, own, found)
    update = {"expert_kernels": kernels, "tuned_experts": TUNED.get(part.name, ())}
    return spec.model_copy(update=update)


def _with_attention(
    spec: CalibrationSpec, part: AcceleratorSpec, found: PartFit, families: Sequence[str]
) -> CalibrationSpec:
    """``spec`` with attention as other engines call it; its fits are added to ``found``."""
    kernels, laws_of = dict(spec.attention_kernels), dict[str, dict[Key, Achieved]]()
    for name, choices in sorted(attention_kernels(part.name, families).items()):
        alike = laws_of.get(LENDING.get(name, ""), {}) if part.name in ONE_LIBRARY else {}
        own = fit_tables(choices, stated_peaks(part), spec.elementwise, alike=alike)
        laws_of[name] = own.laws
        laws = {
            each: {kind or "mla": law for (op, kind), law in own.laws.items() if op == family}
            for each, family in (("prefill", "attention_prefill"), ("decode", "attention_decode"))
        }
        again = {each: of for each, of in laws.items() if of}
        kernels[name] = kernels.get(name, AttentionKernels()).model_copy(update=again)
        spec = _counting(spec, name, own, found)
    return spec.model_copy(update={"attention_kernels": kernels})


def _counting(spec: CalibrationSpec, name: str, own: PartFit, found: PartFit) -> CalibrationSpec:
    """``spec`` with rows, errors and residuals of a library's fits, which ``found`` takes, too."""
    assert spec.provenance is not None
    made = spec.provenance
    fits: dict[tuple[str, ...], Fit] = {
        (family, kind or "mla", name): fit for (family, kind), fit in own.fits.items()
    }
    found.of_libraries.update(fits)
    sigma = {"/".join(key): round(fit.sigma, 4) for key, fit in fits.items()}
    update = {
        "rows": (*made.rows, *own.rows),
        "held_out": (*made.held_out, *own.held_out),
        "residual_sigma": {**made.residual_sigma, **sigma},
    }
    made = made.model_copy(update=update)
    found.rows, found.held_out = list(made.rows), list(made.held_out)
    return spec.model_copy(update={"provenance": made})


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


def transfer(
    base: CalibrationSpec, name: str, accelerators: tuple[str, ...], measured: CalibrationSpec
) -> CalibrationSpec:
    """Shares of a measured sibling for parts that were not measured, of the sibling's date."""
    fit = measured.provenance or base.provenance
    update = {
        "name": name,
        "accelerators": accelerators,
        "gemm": {**base.gemm, **{k: v for k, v in measured.gemm.items() if k in base.gemm}},
        "grouped_gemm": {
            **base.grouped_gemm,
            **{k: v for k, v in measured.grouped_gemm.items() if k in base.grouped_gemm},
        },
        "expert_kernels": measured.expert_kernels,
        "tuned_experts": measured.tuned_experts,
        "attention_kernels": measured.attention_kernels,
        "stored_experts": measured.stored_experts,
        **{n: getattr(measured, n) for pair in VARIANTS.items() for n in pair},
        "provenance": Provenance(
            fitted=fit.fitted if fit else "",
            transferred_from=measured.name,
            residual_sigma=measured.provenance.residual_sigma if measured.provenance else {},
        ),
    }
    return base.model_copy(update=update)


RUN_BY = {"flashattention-3": "vllm"}
"""Kernel of a source's rows -> engine whose calls of a sibling run it, too."""


def _as_called(measured: CalibrationSpec, kernel: str) -> CalibrationSpec:
    """``measured`` with attention by the laws of that kernel, where it has them."""
    kernels = measured.attention_kernels.get(RUN_BY.get(kernel, ""))
    if kernels is None:
        return measured
    update = {
        f"attention_{name}_variants": {k: law for k, law in laws.items() if k != "mla"}
        for name, laws in (("prefill", kernels.prefill), ("decode", kernels.decode))
    }
    return measured.model_copy(update=update)


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
            calls = _as_called(measured, table.kernel)
            try:
                laws = {w.key: law_of(calls, w.key) for w in parts if w.family != "conversion"}
            except InputError:
                continue
            laws[("conversion", "")] = conversion_law(0.6, measured.elementwise)
            error = errors_of(rows, lambda t: works(t, peaks), laws, "part")
            if error:
                note = f"{error.source}, shares of {measured.name}"
                found.append(error.model_copy(update={"source": note}))
    return found
