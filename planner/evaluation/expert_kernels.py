"""Which library multiplies a pool's experts, and the calibration with its shares."""

from collections.abc import Iterable, Mapping
from typing import get_args

from planner.arch import Storage
from planner.errors import InputError
from planner.ops.op import COMPUTE_PRECISION
from planner.shard import LocalMoe, Shard
from planner.specs.calibration import Achieved, CalibrationSpec, Stored
from planner.specs.deployment import DEFAULT_KERNELS, Pool
from planner.specs.engine import ExpertKernels
from planner.specs.hardware import Precision

FAMILY = "grouped_gemm"
UNTUNED = "-untuned"
"""What a library is called after its name where it has no tiles tuned for the shape of experts."""

ExpertFormat = Precision | Stored
"""Format experts are multiplied in, or stored in where their kernel expands it itself."""


def with_expert_kernels(calibration: CalibrationSpec, pool: Pool, shard: Shard) -> CalibrationSpec:
    """Return the calibration with the grouped products that the pool's engine runs.

    The library that the pool names; else of the engine's, by format, the first that the part has
    shares of, where tokens are not sent to their experts: what receives them one rank at a time
    (DeepEP and its like) feeds the kernels of ``grouped_gemm``.  Formats that kernels expand
    themselves have a library wherever tokens are.

    Raises
    ------
    InputError
        The part has no shares of the library that the pool names in the format of its experts.
    """
    own, named = calibration.expert_kernels, pool.experts_kernel
    if named and named != DEFAULT_KERNELS:
        _require(named, calibration, shard)
    wanted: dict[ExpertFormat, tuple[str, ...]] = {}
    if named:
        wanted = dict.fromkeys((*calibration.grouped_gemm, *calibration.stored_experts), (named,))
    else:
        known = {each: None for laws in own.values() for each in laws}
        wanted = {
            each: _listed(pool.engine.expert_kernels, each, shard.moe)
            for each in known
            if (_stored(shard) == each if each in get_args(Stored) else not shard.uses_all_to_all)
        }
    chosen = {
        each: found
        for each, names in wanted.items()
        if (found := _first(calibration, each, names, shard.moe))
    }
    return _serving(calibration, chosen) if chosen else calibration


def _first(
    calibration: CalibrationSpec, each: ExpertFormat, names: Iterable[str], moe: LocalMoe | None
) -> str:
    """First of ``names`` that the part has shares of; empty: of none."""
    return next(filter(None, (kernels_of(calibration, each, name, moe) for name in names)), "")


def kernels_of(
    calibration: CalibrationSpec, each: ExpertFormat, library: str, moe: LocalMoe | None = None
) -> str:
    """Return what a library runs for the experts, by the name of its shares; empty: it has none.

    A library whose tiles are tuned shape by shape (experts held and their width) runs others,
    with shares of their own, where the shape is none of those.
    """
    kernels, untuned = calibration.expert_kernels, f"{library}{UNTUNED}"
    if each in kernels.get(untuned, {}) and not (moe and _tuned(calibration, moe)):
        return untuned
    return library if each in kernels.get(library, {}) else ""


def _tuned(calibration: CalibrationSpec, moe: LocalMoe) -> bool:
    return (moe.local_slots, round(moe.down.k)) in calibration.tuned_experts


def _stored(shard: Shard) -> str:
    """How the experts are stored; nothing where there are none."""
    return shard.moe.gate_up.storage if shard.moe else ""


def _listed(kernels: ExpertKernels, each: ExpertFormat, moe: LocalMoe | None) -> tuple[str, ...]:
    """Libraries that an engine lists for a format, of experts with biases where these have some."""
    if each == "mxfp4" and moe is not None and moe.biased:
        return kernels.mxfp4_biased
    found: tuple[str, ...] = getattr(kernels, each)
    return found


def library_of(calibration: CalibrationSpec, shard: Shard) -> str:
    """Return the library that multiplies the experts; empty: the part's own kernels do."""
    if shard.moe is None:
        return ""
    return calibration.experts_of.get(expert_format(calibration, shard.moe.gate_up.storage), "")


def untuned_note(library: str, shard: Shard) -> str:
    """What to say of a library that runs without tiles tuned for the experts; else nothing."""
    if shard.moe is None or not library.endswith(UNTUNED):
        return ""
    return (
        f"; the release that was measured has no tiles tuned for {shard.moe.local_slots} experts "
        f"of {shard.moe.down.k:.0f}: a file of tuned ones makes prompts faster"
    )


def in_whole_tiles(calibration: CalibrationSpec, shard: Shard) -> bool:
    """Whether the experts' time rests on how far their loads differ (:mod:`planner.ops.tiles`)."""
    if shard.moe is None:
        return False
    each = expert_format(calibration, shard.moe.gate_up.storage)
    laws: dict[str, Achieved] = {str(k): law for k, law in calibration.grouped_gemm.items()}
    laws |= {str(k): law for k, law in calibration.stored_experts.items()}
    return each in laws and laws[each].heights is not None


def expert_format(calibration: CalibrationSpec, storage: Storage) -> ExpertFormat:
    """Format that a part's shares of experts stored so are kept by."""
    for stored in calibration.stored_experts:
        if storage == stored:
            return stored
    return COMPUTE_PRECISION[storage]


def _require(named: str, calibration: CalibrationSpec, shard: Shard) -> None:
    """Raise where the library has no shares of what the experts are stored and multiplied in."""
    if shard.moe is None:
        raise InputError("", "experts_kernel", "this model has no routed experts; leave it out")
    storage = shard.moe.gate_up.storage
    each = expert_format(calibration, storage)
    known = tuple(name for name, laws in calibration.expert_kernels.items() if each in laws)
    if not kernels_of(calibration, each, named, shard.moe):
        has = ", ".join((DEFAULT_KERNELS, *known))
        raise InputError(
            "", "experts_kernel",
            f"{named!r} has no shares of {storage} experts on {calibration.name}; there are {has}",
        )  # fmt: skip


def _serving(calibration: CalibrationSpec, chosen: Mapping[ExpertFormat, str]) -> CalibrationSpec:
    """``calibration`` with each format's grouped products and residuals of the chosen library."""
    laws: dict[Precision, Achieved] = dict(calibration.grouped_gemm)
    stored: dict[Stored, Achieved] = dict(calibration.stored_experts)
    made = calibration.provenance
    sigma = dict(made.residual_sigma) if made else {}
    for each, name in chosen.items():
        law = calibration.expert_kernels[name][each]
        match each:
            case "mxfp4" | "int4":
                stored[each] = law
            case _:
                laws[each] = law
        residual = sigma.get(f"{FAMILY}/{each}/{name}")
        if residual is not None:
            sigma[f"{FAMILY}/{each}"] = residual
    if made:
        made = made.model_copy(update={"residual_sigma": sigma})
    update = {FAMILY: laws, "stored_experts": stored, "provenance": made, "experts_of": {**chosen}}
    return calibration.model_copy(update=update)
