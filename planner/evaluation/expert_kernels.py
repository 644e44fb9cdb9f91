"""Which library multiplies a pool's experts, and the calibration with its shares."""

from collections.abc import Mapping

from planner.errors import InputError
from planner.ops.op import COMPUTE_PRECISION
from planner.shard import Shard
from planner.specs.deployment import DEFAULT_KERNELS, Pool
from planner.specs.hardware import Achieved, CalibrationSpec, Precision

FAMILY = "grouped_gemm"


def with_expert_kernels(calibration: CalibrationSpec, pool: Pool, shard: Shard) -> CalibrationSpec:
    """Return the calibration with the grouped products that the pool's engine runs.

    The library that the pool names; else of the engine's, by format, the first that the part has
    shares of, where tokens are not sent to their experts: what receives them one rank at a time
    (DeepEP and its like) feeds the kernels of ``grouped_gemm``.

    Raises
    ------
    InputError
        The part has no shares of the library that the pool names in the format of its experts.
    """
    own, named = calibration.expert_kernels, pool.experts_kernel
    if named and named != DEFAULT_KERNELS:
        _require(named, calibration, shard)
    wanted: dict[Precision, tuple[str, ...]] = {}
    if named:
        wanted = dict.fromkeys(calibration.grouped_gemm, (named,))
    elif not shard.uses_all_to_all:
        wanted = {name: getattr(pool.engine.expert_kernels, name) for name in _formats(own)}
    chosen = {
        precision: name
        for precision, names in wanted.items()
        if (name := next((n for n in names if precision in own.get(n, {})), None))
    }
    return _serving(calibration, chosen) if chosen else calibration


def library_of(calibration: CalibrationSpec, shard: Shard) -> str:
    """Return the library that multiplies the experts; empty: the part's own kernels do."""
    if shard.moe is None or shard.moe.gate_up.storage in calibration.stored_experts:
        return ""
    return calibration.experts_of.get(COMPUTE_PRECISION[shard.moe.gate_up.storage], "")


def _require(named: str, calibration: CalibrationSpec, shard: Shard) -> None:
    """Raise where the library has no shares of what the experts are stored and multiplied in."""
    if shard.moe is None:
        raise InputError("", "experts_kernel", "this model has no routed experts; leave it out")
    storage = shard.moe.gate_up.storage
    known: tuple[str, ...] = ()
    if storage not in calibration.stored_experts:
        precision = COMPUTE_PRECISION[storage]
        known = tuple(
            name for name, laws in calibration.expert_kernels.items() if precision in laws
        )
    if named not in known:
        has = ", ".join((DEFAULT_KERNELS, *known))
        raise InputError(
            "", "experts_kernel",
            f"{named!r} has no shares of {storage} experts on {calibration.name}; there are {has}",
        )  # fmt: skip


def _formats(kernels: Mapping[str, Mapping[Precision, Achieved]]) -> tuple[Precision, ...]:
    """Formats that any library of a part has shares of."""
    return tuple({precision: None for laws in kernels.values() for precision in laws})


def _serving(calibration: CalibrationSpec, chosen: Mapping[Precision, str]) -> CalibrationSpec:
    """``calibration`` with each format's grouped products and residuals of the chosen library."""
    laws: dict[Precision, Achieved] = dict(calibration.grouped_gemm)
    made = calibration.provenance
    sigma = dict(made.residual_sigma) if made else {}
    for precision, name in chosen.items():
        laws[precision] = calibration.expert_kernels[name][precision]
        residual = sigma.get(f"{FAMILY}/{precision}/{name}")
        if residual is not None:
            sigma[f"{FAMILY}/{precision}"] = residual
    if made:
        made = made.model_copy(update={"residual_sigma": sigma})
    update = {FAMILY: laws, "provenance": made, "experts_of": dict(chosen)}
    return calibration.model_copy(update=update)
