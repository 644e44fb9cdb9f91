"""From a run as it was measured to what the simulator takes: pools, limits, engine rules."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

from planner.arch import storage_format
from planner.errors import InputError
from planner.evaluation.expert_kernels import expert_format, kernels_of
from planner.files import load_accelerator, load_hardware, load_model, load_system, system_names
from planner.files.engines import load_engine
from planner.specs.deployment import DEFAULT_KERNELS, KvFormat, Limits, Pool
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.runs import Aggregated, Run
from planner.specs.scenario import Hardware
from planner.specs.speculative import Speculative
from planner.validation.drafts import drafting
from planner.validation.family import family_of
from planner.validation.starts import Role, as_run, usual_start

T = TypeVar("T")

FILLED = (
    "its expert-parallel ranks do not divide the experts: {copies} redundant copies are taken, the "
    "fewest that fill the ranks"
)
"""Said of a run whose expert slots are not stated."""


@dataclass(frozen=True)
class Setup:
    """A run with every name resolved."""

    run: Run
    model: ModelSpec
    hardware: Hardware
    prefill: Pool | None
    """Of a disaggregated run."""
    decode: Pool
    """Of a disaggregated run; of an aggregated one the pool that does both."""
    notes: tuple[str, ...] = ()
    """What was taken otherwise than the run states."""

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools, prefill first."""
        return (self.decode,) if self.prefill is None else (self.prefill, self.decode)


def resolve(run: Run) -> Setup:
    """Resolve the names of a run.

    Raises
    ------
    InputError
        Unknown model, part or engine.
    """
    model = _placed(run, "model", lambda: load_model(run.model))
    hardware = _placed(run, "accelerator", lambda: hardware_of(run.accelerator))
    engine = _placed(run, "framework.name", lambda: load_engine(family_of(run)))
    deployment, note = as_run(run)
    drafts, said = _placed(run, "speculative", lambda: drafting(run, model, engine.name))
    notes = said if note is None else (note, *said)
    if isinstance(deployment, Aggregated):
        role = Role(run, model, deployment, hardware, engine, "mixed")
        found = Setup(run, model, hardware, None, _pool(role, drafts), notes)
    else:
        found = Setup(
            run, model, hardware,
            _pool(Role(run, model, deployment.prefill, hardware, engine, "prefill")),
            _pool(Role(run, model, deployment.decode, hardware, engine, "decode"), drafts),
            notes,
        )  # fmt: skip
    copies = dict.fromkeys(pool.redundant_experts for pool in found.pools)
    filled = tuple(FILLED.format(copies=each) for each in copies if each)
    return replace(found, notes=(*found.notes, *filled))


def _placed(run: Run, field: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except InputError as error:
        raise InputError(run.id, field, error.problem) from None


@lru_cache(maxsize=64)
def hardware_of(accelerator: str) -> Hardware:
    """Return a system of this part: of several the one with the largest switched domain."""
    load_accelerator(accelerator)
    found = [s for s in map(load_system, system_names()) if s.accelerator == accelerator]
    if not found:
        raise InputError("", "accelerator", f"{accelerator!r}: no system with it is known")
    best = max(found, key=lambda s: (s.scale_up.topology == "switch", s.devices_per_node))
    return load_hardware(best.name)


def _pool(role: Role, drafts: Speculative | None = None) -> Pool:
    run, workers, own = role.run, role.workers, role.run.settings
    usual = usual_start(role)
    most = usual.limits.max_sequences or 1
    if role.name != "prefill" and role.engine.name != "tensorrt-llm":
        most = max(most, role.each_rank)
    rules: dict[str, object] = {
        "poll_steps": own.poll_steps or usual.poll_steps,
        "balance_steps": usual.balance_steps,
    }
    if usual.captured:
        graphs = role.engine.graphs.model_copy(update={"largest_over_running": None})
        rules |= {"graph_batch_sizes": usual.captured, "graphs": graphs}
    engine = role.engine.model_copy(update=rules)
    return Pool(
        replicas=workers.replicas,
        parallelism=workers.parallelism(),
        redundant_experts=_copies(workers.moe_ep, role.model),
        weights=weight_format(run, role.model, role.hardware),
        kv=run.precision.kv or usual.kv or kv_format(run, role.hardware),
        engine=engine,
        speculative=drafts,
        exchange=usual.exchange,
        experts_kernel=_known(usual.experts_kernel, role),
        limits=Limits(
            max_sequences=own.max_sequences or most,
            max_step_tokens=own.max_step_tokens or usual.limits.max_step_tokens,
            memory_share=own.memory_share or usual.limits.memory_share,
            kv_tokens=own.kv_tokens,
        ),
    )


def _known(library: str, role: Role) -> str:
    """``library`` where the part has shares of it in the run's format; else the engine's choice."""
    weights = weight_format(role.run, role.model, role.hardware)
    storage = storage_format(weights, "routed_experts")
    calibration = role.hardware.calibration
    each = expert_format(calibration, storage)
    known = library == DEFAULT_KERNELS or kernels_of(calibration, each, library)
    return library if known else ""


def _copies(ranks: int, model: ModelSpec) -> int:
    """Copies that give every rank as many experts: a run that was measured had them."""
    return -model.moe.experts % ranks if model.moe else 0


def weight_format(run: Run, model: ModelSpec, hardware: Hardware) -> WeightFormat:
    """Return the checkpoint's format, and how a part without units for it multiplies.

    ``fp4`` is the format the model is published in where that has four bits, else NVFP4.
    """
    given: WeightFormat | Literal["fp4"] = run.precision.weights
    if given == "fp4":
        own = model.native_format
        given = own if own in ("mxfp4", "mxfp4_fp8") else "nvfp4"
    if given == "nvfp4" and hardware.accelerator.dense_flop_per_s.fp4 is None:
        return "nvfp4_w4a16"
    return given


def kv_format(run: Run, hardware: Hardware) -> KvFormat:
    """Return the cache's format in most commands: fp8; bf16 with bf16 weights, SGLang on Hopper."""
    if run.precision.weights == "bf16":
        return "bf16"
    hopper = hardware.accelerator.dense_flop_per_s.fp4 is None
    return "bf16" if family_of(run) == "sglang" and hopper else "fp8"
