"""What an engine's kernels make of the calibrated ones: shares divided, floors multiplied."""

from functools import lru_cache

from planner.specs.base import Spec
from planner.specs.hardware import Achieved, CalibrationSpec, Curve
from planner.specs.overheads import EngineOverheads


@lru_cache(maxsize=512)
def _slower(achieved: Achieved, factor: float) -> Achieved:
    """``achieved`` with every time ``factor`` times as long (below 1: shorter)."""
    changed: dict[str, object] = {}
    for name in type(achieved).model_fields:
        value = getattr(achieved, name)
        if isinstance(value, Curve):
            shares = tuple(share / factor for share in value.shares)
            changed[name] = value.model_copy(update={"shares": shares})
        elif isinstance(value, Spec):
            raise TypeError(f"{name} of achieved shares: how a factor changes it is not said")
        elif isinstance(value, float) and name.endswith("_share"):
            changed[name] = value / factor
        elif isinstance(value, float) and name.endswith("_s"):
            changed[name] = value * factor
    return achieved.model_copy(update=changed)


def with_factors(calibration: CalibrationSpec, overheads: EngineOverheads) -> CalibrationSpec:
    """Return the calibration as this engine's kernels reach it.

    Factors of 1 change nothing.  Communication is not here: :class:`planner.step.StepModel`
    multiplies its time.
    """
    gemm, moe, core = (
        float(f)
        for f in (overheads.gemm_factor, overheads.moe_factor, overheads.attention_factor)
    )
    if gemm == moe == core == 1.0:
        return calibration
    return calibration.model_copy(
        update={
            "gemm": {name: _slower(a, gemm) for name, a in calibration.gemm.items()},
            "grouped_gemm": {name: _slower(a, moe) for name, a in calibration.grouped_gemm.items()},
            "elementwise": _slower(calibration.elementwise, gemm),
            "attention_decode": _slower(calibration.attention_decode, core),
            "attention_prefill": _slower(calibration.attention_prefill, core),
        }
    )
