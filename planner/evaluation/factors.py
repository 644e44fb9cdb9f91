"""What an engine's kernels make of the calibrated ones: shares divided, floors multiplied."""

from functools import lru_cache

from planner.sourced import Sourced
from planner.specs.base import Spec
from planner.specs.calibration import Achieved, CalibrationSpec, Curve
from planner.specs.overheads import EngineOverheads
from planner.specs.tilings import Tiling


@lru_cache(maxsize=512)
def _slower(achieved: Achieved, factor: float, floor: float) -> Achieved:
    """``achieved`` with its times ``factor`` times as long, its floor ``floor`` times."""
    changed: dict[str, object] = {}
    for name in type(achieved).model_fields:
        value = getattr(achieved, name)
        if isinstance(value, Curve):
            shares = tuple(share / factor for share in value.shares)
            changed[name] = value.model_copy(update={"shares": shares})
        elif isinstance(value, Tiling):
            continue  # tiles and parts stay what they are; their times are beside them
        elif isinstance(value, Spec):
            raise TypeError(f"{name} of achieved shares: how a factor changes it is not said")
        elif isinstance(value, float) and name.endswith("_share"):
            changed[name] = value / factor
        elif isinstance(value, float) and name.endswith("_s"):
            changed[name] = value * (floor if name == "floor_s" else factor)
    return achieved.model_copy(update=changed)


def with_factors(calibration: CalibrationSpec, overheads: EngineOverheads) -> CalibrationSpec:
    """Return the calibration as this engine's kernels reach it.

    Factors of 1 change nothing.  Communication is not here: :class:`planner.step.StepModel`
    multiplies its time.
    """
    gemm, moe, core = overheads.gemm_factor, overheads.moe_factor, overheads.attention_factor
    prompt = overheads.prefill_attention_factor
    floor, old = float(overheads.floor_factor), calibration
    host_s = old.step_overhead_s
    if overheads.step_host_s > 0:
        host_s = Sourced(0.0, overheads.step_host_s.source, "the engine's own stands in for it")
    elif gemm == moe == core == prompt == floor == 1.0:
        return old
    return old.model_copy(
        update={
            "gemm": {name: _slower(a, float(gemm), floor) for name, a in old.gemm.items()},
            "grouped_gemm": {
                name: _slower(a, float(moe), floor) for name, a in old.grouped_gemm.items()
            },
            "stored_experts": {
                name: _slower(a, float(moe), floor) for name, a in old.stored_experts.items()
            },
            "elementwise": _slower(old.elementwise, float(gemm), floor),
            "attention_decode_variants": {
                name: _slower(a, float(core), floor)
                for name, a in old.attention_decode_variants.items()
            },
            "attention_prefill_variants": {
                name: _slower(a, float(prompt), floor)
                for name, a in old.attention_prefill_variants.items()
            },
            "attention_decode": _slower(old.attention_decode, float(core), floor),
            "attention_prefill": _slower(old.attention_prefill, float(prompt), floor),
            "step_overhead_s": host_s,
        }
    )
