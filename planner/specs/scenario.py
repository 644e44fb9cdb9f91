"""The whole question: as it is written in a file, and with every name resolved."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Count, Spec
from planner.specs.calibration import CalibrationSpec
from planner.specs.deployment import Deployment, Disaggregated, KvFormat, Limits, Pool
from planner.specs.engine import EngineSpec
from planner.specs.hardware import AcceleratorSpec, SystemSpec
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.operations import OperationsSpec
from planner.specs.prices import ApiPrice, Price
from planner.specs.routing import Routing
from planner.specs.speculative import Speculative
from planner.specs.workload import Run, Slo, Workload


class Hardware(Spec):
    """A system, its accelerator, what the accelerator achieves, and its prices."""

    system: SystemSpec
    accelerator: AcceleratorSpec
    calibration: CalibrationSpec
    prices: tuple[Price, ...] = ()
    """The first is the headline price."""


class Steady(Spec):
    """A decode batch held constant: no queue, no arrivals.  For profiles and capacities."""

    sequences_per_device: Annotated[float, Field(gt=0)]
    """May be below 1: one request on eight devices is 0.125."""
    context_tokens: Annotated[float, Field(gt=0)]
    """Mean KV tokens a sequence."""
    context_variation: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Standard deviation of a sequence's context over its mean (0: all alike)."""
    tokens_per_s_per_user: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """User speeds at which the capacity is asked for."""


class Reliability(Spec):
    """How often the load must find enough replicas up, and how often nodes fail: no defaults."""

    availability: Annotated[float, Field(gt=0, lt=1)]
    """Share of time in which enough replicas are up to keep the promises."""
    node_mtbf_h: Annotated[float, Field(gt=0)]
    """Mean time between failures of one node. [h]"""
    recovery_h: Annotated[float, Field(gt=0)]
    """From a failure to a replica that serves again: detection, a new node, weights. [h]"""


class Space(Spec):
    """What the planner may choose from."""

    weights: tuple[WeightFormat, ...] = ()
    """Empty: the model's published format."""
    kv: tuple[KvFormat, ...] = ("bf16",)
    max_nodes_per_replica: Count = 2
    """Nodes one replica may span."""
    max_nodes: Count = 512
    """Nodes in all."""
    max_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Budget at the headline price."""
    max_usd_per_million_tokens: Annotated[float, Field(gt=0)] | None = None
    """Budget over input and output tokens together, at this load."""
    max_rated_w: Annotated[float, Field(gt=0)] | None = None
    """Power cap: servers as rated, without the building's share."""
    limits: Limits = Limits()
    pools: Annotated[tuple[Literal["together", "apart"], ...], Field(min_length=1)] = ("together",)
    """One pool that does everything, or one that computes prompts and one that decodes."""
    prefill_systems: Literal["same", "any"] = "same"
    """Whether pools apart may be on two of the systems."""
    engines: tuple[EngineSpec, ...] = ()
    """By name or written out.  Empty: the generic engine."""
    speculative: Annotated[tuple[Speculative | None, ...], Field(min_length=1)] = (None,)
    """Ways to draft tokens; null: none."""
    batch_limits: tuple[Limits, ...] = ()
    """Limits to choose from.  Empty: ``limits`` alone."""
    reliability: Reliability | None = None
    """Spare replicas are bought for it; none without."""
    owned: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """System -> devices that are there already: only what a fleet needs beyond them is paid."""
    providers: tuple[str, ...] = ()
    """Providers to rent from.  Empty: any."""
    regions: tuple[str, ...] = ()
    """Regions to rent in, as offers name them; an offer that names none stays.  Empty: any."""
    redundant_per_rank: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Redundant experts on each expert-parallel rank, beyond those that fill the last one."""


class Claim(Spec):
    """A published statement that the scenario is set beside the prediction."""

    statement: str
    quantity: Literal[
        "hbm_bytes_needed", "saving_share", "training_usd", "decode_tokens_per_s_per_node"
    ]
    low: float
    high: float
    source: str
    conditions: str = ""


class Training(Spec):
    """Pre-training run, for cost claims."""

    accelerator_hours: Annotated[float, Field(gt=0)]
    usd_per_accelerator_hour: Annotated[float, Field(gt=0)]
    tokens: Annotated[float, Field(gt=0)]
    sequence_tokens: Count
    source: str


class _Common(Spec):
    """Fields a scenario has in its file and after names are resolved."""

    name: str
    title: str = ""
    deployment: Deployment | None = None
    """For `simulate` and `step`: exactly this runs."""
    operations: OperationsSpec | None = None
    """Failures, scaling and maintenance; None: every replica serves all the time."""
    steady: Steady | None = None
    run: Run = Run()
    slo: Slo = Slo()
    space: Space = Space()
    claims: tuple[Claim, ...] = ()
    training: Training | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _pools_of_operations(self) -> Self:
        if self.operations and not isinstance(self.deployment, Disaggregated):
            for role in ("prefill", "decode"):
                if getattr(self.operations, role) is not None:
                    raise ValueError(
                        f"operations.{role}: the deployment has no {role} pool; "
                        "write its fields under operations itself"
                    )
        return self


class ScenarioFile(_Common):
    """A scenario as written: models, systems and prices by name or path."""

    model: str
    """Catalogue name, path of a model YAML, or of a Hugging Face config.json."""
    routing: dict[str, Any] | str | None = None
    """How popular experts are: written out, or the name of a fitted profile."""
    kernels: str | None = None
    """Part whose products and attention cores stand for those of every system here: the same die,
    measured with libraries of another date; None: each part's own."""
    baseline_model: str | None = None
    """A second model on the same hardware, to compare with."""
    system: str | None = None
    systems: tuple[str, ...] = ()
    """Several systems, for `compare`; the first is the default."""
    workload: dict[str, Any] | str | None = None
    """Written out, or the path of a workload file beside this one."""
    prices: tuple[dict[str, Any] | str, ...] = ()
    """Providers of the shipped price list, or prices written out; the first is the headline."""
    api_prices: tuple[str, ...] = ()


class Scenario(_Common):
    """One question, complete: nothing is read after this."""

    model: ModelSpec
    baseline_model: ModelSpec | None = None
    routing: Routing | None = None
    """None: experts equally popular, every rank alike."""
    hardware: tuple[Hardware, ...] = Field(min_length=1)
    """The first is the one asked about; `compare` takes them all."""
    prefill_hardware: Hardware | None = None
    """Of ``deployment.prefill_system``; None: the first of ``hardware``."""
    workload: Workload | None = None
    api_prices: tuple[ApiPrice, ...] = ()

    @property
    def decoding(self) -> Pool | None:
        """The pool that decodes: the only one, or that of its role."""
        pools = self.deployment
        return pools.decode if isinstance(pools, Disaggregated) else pools
