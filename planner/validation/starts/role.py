"""Replicas of a run, and what their engine was started with."""

import math
import re
from dataclasses import dataclass

from planner.specs.deployment import KvFormat, Limits
from planner.specs.engine import EngineSpec
from planner.specs.model import ModelSpec
from planner.specs.runs import Run, Workers
from planner.specs.scenario import Hardware


@dataclass(frozen=True)
class Start:
    """What an engine was started with."""

    limits: Limits
    poll_steps: int = 1
    """Decode steps between two looks for new requests."""
    balance_steps: int = 0
    """Decode steps for which prompts wait until every attention rank has one."""
    captured: tuple[int, ...] = ()
    """Batch sizes of its graphs; none: those of the engine."""
    exchange: str = ""
    """How tokens reach their experts; empty: as the engine does by default."""
    experts_kernel: str = ""
    """Library that multiplies the experts; empty: as the engine does by default."""
    kv: KvFormat | None = None
    """Format of the cache; none: as most commands have it (:mod:`planner.validation.setup`)."""


@dataclass(frozen=True)
class Role:
    """Replicas of a run, and what they do."""

    run: Run
    model: ModelSpec
    workers: Workers
    hardware: Hardware
    engine: EngineSpec
    name: str
    """``mixed``, ``prefill`` or ``decode``."""

    @property
    def amd(self) -> bool:
        """Whether AMD makes the part."""
        return self.hardware.accelerator.vendor == "AMD"

    @property
    def blackwell(self) -> bool:
        """Whether the part is NVIDIA's and multiplies FP4."""
        return not self.amd and self.hardware.accelerator.dense_flop_per_s.fp4 is not None

    def older_than(self, *release: int) -> bool:
        """Whether the engine's release is known and comes before this one."""
        own = re.match(r"v?(\d+(?:\.\d+)+)", str(self.run.framework.version))
        return own is not None and tuple(map(int, own[1].split("."))) < release

    @property
    def clients(self) -> int:
        """Requests in flight."""
        return self.run.workload.concurrency

    def limits(self, **stated: float | None) -> Limits:
        """Return the engine's default limits, but for what a command states."""
        own = self.engine.limits.model_dump(exclude_none=True)
        return Limits(**own | {name: value for name, value in stated.items() if value is not None})

    @property
    def rack(self) -> bool:
        """Whether the part sits in a rack-scale system (GB200, GB300)."""
        return self.hardware.accelerator.name.startswith("gb")

    @property
    def each_rank(self) -> int:
        """Clients a rank, were they spread evenly."""
        ranks = self.workers.attention_dp * self.workers.replicas
        return math.ceil(self.clients / ranks)


def rising(sizes: list[int], most: int) -> tuple[int, ...]:
    """Return sizes up to the most, rising, the most among them."""
    return tuple(sorted({size for size in sizes if 0 < size < most} | {most}))
