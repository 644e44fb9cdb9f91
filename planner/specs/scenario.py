"""The whole question, with every name resolved: nothing is read after this."""

from typing import Annotated

from pydantic import Field

from planner.specs.base import Count, Spec
from planner.specs.deployment import KvFormat, Limits, Pool
from planner.specs.hardware import AcceleratorSpec, ApiPrice, CalibrationSpec, Price, SystemSpec
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.workload import Run, Slo, Workload


class Hardware(Spec):
    """A system, its accelerator, what the accelerator achieves, and its prices."""

    system: SystemSpec
    accelerator: AcceleratorSpec
    calibration: CalibrationSpec
    prices: tuple[Price, ...] = ()


class Steady(Spec):
    """A decode batch held constant: no queue, no arrivals.  For profiles and capacities."""

    sequences_per_device: Count
    context_tokens: Annotated[float, Field(gt=0)]
    """Mean KV tokens a sequence."""
    tokens_per_s_per_user: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """User speeds at which the capacity is asked for."""


class Space(Spec):
    """What the planner may choose from; empty: everything that fits one to ``max_nodes`` nodes."""

    weights: tuple[WeightFormat, ...] = ()
    kv: tuple[KvFormat, ...] = ("bf16",)
    max_nodes_per_replica: Count = 2
    max_nodes: Count = 512
    limits: Limits = Limits()


class Scenario(Spec):
    """One question."""

    name: str
    title: str = ""
    model: ModelSpec
    hardware: tuple[Hardware, ...] = Field(min_length=1)
    """The first is the one asked about; ``compare`` takes them all."""
    deployment: Pool | None = None
    workload: Workload | None = None
    steady: Steady | None = None
    run: Run = Run()
    slo: Slo = Slo()
    space: Space = Space()
    api_prices: tuple[ApiPrice, ...] = ()
    notes: str = ""
