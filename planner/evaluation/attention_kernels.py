"""Whose attention a pool runs, and the calibration with its shares."""

from planner.errors import InputError
from planner.specs.calibration import Achieved, AttentionVariant, CalibrationSpec
from planner.specs.deployment import DEFAULT_KERNELS, Pool

FAMILIES = ("prefill", "decode")


def with_attention_kernels(calibration: CalibrationSpec, pool: Pool) -> CalibrationSpec:
    """Return the calibration with attention as the pool's engine calls it.

    The engine that the pool names; else that of its engine's profile, where the part has shares of
    it.  Kernels it has none of stay the part's own, which are TensorRT-LLM's; but not its prompts
    of MLA in 8 bits, which other engines multiply in 16.

    Raises
    ------
    InputError
        The part has no shares of attention as the engine that the pool names calls it.
    """
    known, named = calibration.attention_kernels, pool.attention_kernel
    if named and named not in (DEFAULT_KERNELS, *known):
        has = ", ".join((DEFAULT_KERNELS, *known))
        raise InputError(
            "", "attention_kernel",
            f"{named!r} has no shares on {calibration.name}; there are {has}",
        )  # fmt: skip
    name = named or pool.engine.attention_kernels
    if name and name != DEFAULT_KERNELS:
        calibration = _in_16_bits(calibration)
    return _serving(calibration, name) if name in known else calibration


def _in_16_bits(calibration: CalibrationSpec) -> CalibrationSpec:
    """``calibration`` without prompts of MLA in 8 bits."""
    prompts = dict(calibration.attention_prefill_variants)
    prompts.pop("mla_fp8_cache", None)
    return calibration.model_copy(update={"attention_prefill_variants": prompts})


def _serving(calibration: CalibrationSpec, name: str) -> CalibrationSpec:
    """``calibration`` with an engine's shares and residuals in place of the part's own."""
    made = calibration.provenance
    sigma = dict(made.residual_sigma) if made else {}
    update: dict[str, object] = {"attention_of": name}
    for each in FAMILIES:
        family = f"attention_{each}"
        variants: dict[AttentionVariant, Achieved] = dict(
            getattr(calibration, f"{family}_variants")
        )
        laws: dict[AttentionVariant | str, Achieved]
        laws = getattr(calibration.attention_kernels[name], each)
        for kind, law in laws.items():
            own = family if kind == "mla" else f"{family}/{kind}"
            if f"{family}/{kind}/{name}" in sigma:
                sigma[own] = sigma[f"{family}/{kind}/{name}"]
            if kind == "mla":
                update[family] = law
            else:
                variants[kind] = law  # type: ignore[index]
        update[f"{family}_variants"] = variants
    if made:
        update["provenance"] = made.model_copy(update={"residual_sigma": sigma})
    return calibration.model_copy(update=update)
