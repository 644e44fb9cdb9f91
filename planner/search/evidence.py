"""What the speed of a part rests on: its own measurements, another part's, or assumptions."""

from dataclasses import dataclass
from typing import Any, Literal

from planner.evaluation import Replica
from planner.ops.op import COMPUTE_PRECISION
from planner.specs.calibration import Achieved, CalibrationSpec

Basis = Literal["measured", "transferred", "assumed"]
ORDER: tuple[Basis, ...] = ("measured", "transferred", "assumed")
"""Best first."""
FROM_PRINT = "published fractions"
"""What a calibration is said to be transferred from when no part was measured for it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The weakest basis of the shares that a replica's step uses."""

    basis: Basis
    calibration: str
    transferred_from: str
    assumed: tuple[str, ...]
    """Families of operators whose share of the peak is an assumption."""

    @property
    def words(self) -> str:
        """One line for a person."""
        if self.basis == "measured":
            return f"measured on this part ({self.calibration})"
        if self.basis == "transferred":
            return f"measured on another part ({self.transferred_from}) and carried over"
        return f"assumed, measured by nobody here: {', '.join(self.assumed)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"words": self.words}


def evidence(*replicas: Replica) -> Evidence:
    """Return the weakest basis among replicas."""
    found = [_of(replica) for replica in replicas]
    return max(found, key=lambda each: ORDER.index(each.basis))


def _of(replica: Replica) -> Evidence:
    calibration = replica.hardware.calibration
    made = calibration.provenance
    origin = made.transferred_from if made else ""
    assumed = tuple(name for name, law in _used(replica, calibration) if _guessed(law))
    basis: Basis = "transferred" if origin else "measured"
    if assumed or made is None or origin == FROM_PRINT:
        basis = "assumed"
    if basis == "assumed" and not assumed:
        assumed = ("every share",)
    return Evidence(basis, calibration.name, origin, assumed)


def calibrated(calibration: CalibrationSpec) -> bool:
    """Whether a part's shares were fitted to its own measurements."""
    made = calibration.provenance
    return made is not None and not made.transferred_from


def _used(replica: Replica, calibration: CalibrationSpec) -> list[tuple[str, Achieved]]:
    """Shares of matrices and attention in the format of the weights."""
    # a mixture's experts are stored in fewer bits and multiplied as the rest is
    weights = replica.pool.weights
    precision = COMPUTE_PRECISION["fp8" if weights == "mxfp4_fp8" else weights]
    found = [("attention of prompts", calibration.attention_prefill),
             ("attention of answers", calibration.attention_decode)]  # fmt: skip
    if precision in calibration.gemm:
        found.append((f"{precision} matrices", calibration.gemm[precision]))
    moe = replica.shard.moe
    if moe and moe.gate_up.storage in calibration.stored_experts:
        law = calibration.stored_experts[moe.gate_up.storage]
        found.append((f"{moe.gate_up.storage} experts", law))
    elif moe and precision in calibration.grouped_gemm:
        found.append((f"{precision} experts", calibration.grouped_gemm[precision]))
    return found


def _guessed(law: Achieved) -> bool:
    """Whether both shares are assumptions: one side of a roofline alone often cannot be seen."""
    shares = (law.compute_share, law.memory_share)
    return all(share.confidence == "assumed" for share in shares)
