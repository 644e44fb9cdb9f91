"""What may happen to a fleet while it serves: failures, scaling, maintenance."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from planner.sourced import Sourced
from planner.specs.base import Count, Spec

CHOICE = "choice of the scenario"
"""Source of a number that a scenario writes bare."""


def _chosen(value: Any) -> Any:
    """Take a bare number as a choice of whoever wrote the scenario, which reports list."""
    if isinstance(value, int | float) and not isinstance(value, bool | Sourced):
        return Sourced(value, CHOICE, confidence="assumed")
    return value


Stated = Annotated[Sourced, BeforeValidator(_chosen), Field(gt=0)]
"""A number above 0 with its source, or written bare as the scenario's own choice."""

Time = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Failures(Spec):
    """Parts of one kind that break independently of each other."""

    component: Literal["device", "node", "link"]
    """Every device, every node, or every device's link to the network."""
    mtbf_s: Stated
    """Mean time between a repair and the next failure of one part; exponential. [s]"""
    mttr_s: Stated
    """Mean time to repair. [s]"""
    repair: Literal["exponential", "fixed"] = "exponential"
    speed_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Speed while broken: 0 is dead.  A slow device or node slows every step of its replica, a slow
    link what the network's bandwidth sets of them."""


class StartUp(Spec):
    """What passes before a replica serves: weights over a store's bandwidth, and all else."""

    load_bytes_per_s: Stated
    """At which one device's weights arrive. [bytes/s]"""
    other_s: Annotated[Sourced, BeforeValidator(_chosen), Field(ge=0)]
    """Provisioning, process start, compilation, warm-up. [s]"""


class Autoscale(Spec):
    """Replicas by what is seen: wanted = ceil(load / (target x capacity of a replica))."""

    signal: Literal["slots", "queue", "requests_per_s"]
    """``slots``: requests in the pool over sequences a replica runs at once; ``queue``: requests
    without a slot; ``requests_per_s``: requests that came since the last decision."""
    target_share: Share = 1.0
    """Load over capacity that is aimed at; 1 minus the headroom."""
    requests_per_replica: Annotated[float, Field(gt=0)] | None = None
    """Capacity of a replica with ``queue``: requests that may wait for it."""
    requests_per_s_per_replica: Annotated[float, Field(gt=0)] | None = None
    """Capacity of a replica with ``requests_per_s``."""
    min_replicas: Count
    max_replicas: Count
    interval_s: Annotated[float, Field(gt=0)]
    """Between decisions."""
    up_cool_down_s: Time = 0.0
    """Least time between two decisions to start replicas."""
    down_cool_down_s: Time
    """Replicas are stopped only when for this long no more were wanted."""

    @model_validator(mode="after")
    def _capacity(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}"
            )
        given = {
            "queue": self.requests_per_replica,
            "requests_per_s": self.requests_per_s_per_replica,
        }
        name = {"queue": "requests_per_replica", "requests_per_s": "requests_per_s_per_replica"}
        for signal, value in given.items():
            if (self.signal == signal) != (value is not None):
                raise ValueError(f"{name[signal]} goes with signal: {signal}, and only with it")
        return self


class Scheduled(Spec):
    """Replicas from a time of day on."""

    start_s: Time
    replicas: Count


class Maintained(Spec):
    """Replicas are drained, away, and started again, one after the other."""

    begin_s: Time
    """Since the start of the run. [s]"""
    duration_s: Annotated[float, Field(gt=0)]
    """Of each replica, from its last answer on. [s]"""
    replicas: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """By number from 0; empty: all of the pool."""


class PoolPlan(Spec):
    """What may happen to one pool."""

    spare_nodes: Annotated[int, Field(ge=0)] = 0
    """Nodes that stand by, without weights, for one whose part is dead."""
    autoscale: Autoscale | None = None
    schedule: tuple[Scheduled, ...] = ()
    """By time of day, rising; the first holds from the start."""
    maintenance: tuple[Maintained, ...] = ()

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.autoscale and self.schedule:
            raise ValueError("autoscale and schedule exclude each other; remove one")
        starts = [entry.start_s for entry in self.schedule]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError("schedule must start at start_s 0 and rise")
        return self


class OperationsSpec(PoolPlan):
    """What may happen to a fleet.  Fields of a pool hold for every pool that states none."""

    failures: tuple[Failures, ...] = ()
    on_failure: Literal["retry", "lose"] = "retry"
    """What becomes of requests on a replica that fails."""
    max_retries: Annotated[int, Field(ge=0)] = 3
    """Times a request begins anew before it counts as lost."""
    no_replica: Literal["queue", "shed"] = "queue"
    """What becomes of arrivals while no replica is up."""
    start_up: StartUp
    prefill: PoolPlan | None = None
    decode: PoolPlan | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    """Of failures; None: ``run.seed``."""

    def plan_of(self, role: str) -> PoolPlan:
        """Plan of the pool of a role."""
        own = {"prefill": self.prefill, "decode": self.decode}.get(role)
        return own if own is not None else self
