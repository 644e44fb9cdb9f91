"""What a serving engine costs beside its kernels, and how far these are from measured ones."""

from typing import Annotated

from pydantic import Field

from planner.sourced import Sourced
from planner.specs.base import Spec
from planner.specs.model import ModelSpec


def _neutral(value: float) -> Sourced:
    """A default that changes nothing until it is fitted."""
    return Sourced(value, source="assumption", note="not fitted", confidence="assumed")


Seconds = Annotated[Sourced, Field(ge=0, le=100)]
"""Host time that may be nothing. [s]"""

Factor = Annotated[Sourced, Field(gt=0, le=100)]
"""Measured time over the calibrated kernel's; 1 changes nothing."""


class EngineOverheads(Spec):
    """Host times and kernel factors of one engine.  The defaults change nothing."""

    request_host_s: Seconds = _neutral(0.0)
    """From a client's send to the scheduler's queue: front end, tokeniser, transport. [s]"""
    step_host_s: Seconds = _neutral(0.0)
    """Host time of a step that nothing hides; above 0 it stands in for the calibration's assumed
    one. [s]"""
    prefill_step_host_s: Seconds = _neutral(0.0)
    """The same, only of steps that compute a prompt. [s]"""
    per_sequence_step_host_s: Seconds = _neutral(0.0)
    """Host time of a step for each of a rank's decoding sequences. [s]"""
    layer_gap_s: Seconds = _neutral(0.0)
    """Time between the kernels of one layer that no kernel accounts for. [s]"""
    gemm_factor: Factor = _neutral(1.0)
    attention_factor: Factor = _neutral(1.0)
    """Of attention while decoding."""
    prefill_attention_factor: Factor = _neutral(1.0)
    """Of attention among a prompt's tokens: other kernels than decoding has."""
    moe_factor: Factor = _neutral(1.0)
    comm_factor: Factor = _neutral(1.0)
    floor_factor: Factor = _neutral(1.0)
    """Of the fixed time of every kernel: what a captured graph leaves of what a kernel timed on its
    own takes however small its work is."""
    prefill_factor: Factor = _neutral(1.0)
    """Of a prompt's own work, beside the factors above."""


class Effect(Spec):
    """What one group of runs adds to the logarithm of one parameter."""

    parameter: str
    level: str
    """``all``, ``weights``, ``family``, ``precision``, ``version``, ``part``, ``mode`` or
    ``ranks``."""
    group: str
    log_effect: float
    log_se: Annotated[float, Field(ge=0)]
    """Standard error after shrinkage."""


OTHER_MAKER, OTHER_MODEL = "elsewhere", "model"
OF_REPORTED = (OTHER_MAKER, OTHER_MODEL)
"""Cases of :class:`Width` that reported runs speak for: parts of a maker of whose parts no run was
fitted; models of which none was, on parts of the makers that were."""


class Width(Spec):
    """Quantiles of log(measured / predicted) over runs that were held out."""

    quantity: str
    seen: bool
    """Whether engine version, part and model were among the fitted ones."""
    case: str = ""
    """Of which kind of run: ``queued`` where the predicted time to first token is a queue, else
    ``aggregated`` or ``disaggregated``; empty: any.  Of reported runs: :data:`OF_REPORTED`."""
    low: float
    high: float
    n: int


class HeldOutError(Spec):
    """Errors of runs that were left out of a fit, all of a group together."""

    left_out: str
    """What was left out: configurations, parts, models, versions."""
    quantity: str
    n: int
    median_abs_error: float
    p90_abs_error: float
    bias: float


class OverheadsFit(Spec):
    """Overheads of all engines, fitted together."""

    fitted: str
    """Date."""
    source: str
    """What was measured, by whom."""
    runs: int
    start: dict[str, float]
    """Every parameter before any effect; factors, and seconds."""
    effects: tuple[Effect, ...]
    refused: tuple[str, ...] = ()
    """Parameter, level and group of effects the runs do not determine: left at their prior."""
    combinations: tuple[str, ...] = ()
    """Engine version, part and model that were fitted."""
    kernel_kinds: tuple[str, ...] = ()
    """Engine and kind of kernels (:func:`kernel_kind`) of the fitted models; found when a fit is
    read.  Empty: not known, factors of kernels are taken for every model."""
    makers: tuple[str, ...] = ()
    """Makers of the parts that were fitted; found when a fit is read.  Empty: not known."""
    models: tuple[str, ...] = ()
    """Models that were fitted, with any engine; found when a fit is read.  Empty: not known."""
    widths: tuple[Width, ...] = ()
    held_out: tuple[HeldOutError, ...] = ()
    held_out_by: str = "Every run was simulated anew with the overheads fitted without its group."
    """How runs that were left out were predicted."""


class ReportedWidths(Spec):
    """How far predictions were off on runs that others reported, which no fit has seen."""

    source: str
    widths: tuple[Width, ...]


SHARED_LEVELS = ("all", "weights", "part")
"""Levels of a fit that belong to no engine."""


def kernel_kind(model: ModelSpec) -> str:
    """Return what kernels a model runs on, ``mla moe``: kinds of attention, and experts or none."""
    kinds = sorted({group.kind for group in model.attention})
    return " ".join([*kinds, "moe" if model.moe else "dense"])
