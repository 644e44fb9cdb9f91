"""Measured serving runs, as a person writes them down: what ran, under which load, how fast."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from planner.specs.base import Count, Spec
from planner.specs.deployment import KvFormat, Parallelism
from planner.specs.speculative import Drafts, Probability

Seconds = Annotated[float, Field(gt=0)]


class Framework(Spec):
    """The serving engine."""

    name: str
    """``vllm``, ``sglang``, ``tensorrt-llm``, …"""
    version: str | None = None
    """As the engine names it; null: not stated."""


class RunPrecision(Spec):
    """Number formats."""

    weights: Literal["bf16", "fp8", "fp4", "nvfp4", "mxfp4", "int4"]
    """``fp4`` is NVFP4."""
    gemm: str | None = None
    """Kernel family of dense products, for the record."""
    experts: str | None = None
    """Kernel family of expert products, for the record."""
    kv: KvFormat | None = None
    """Cache format; null: what the engine takes by default for these weights."""


class Workers(Spec):
    """Identical replicas of one role."""

    replicas: Count = 1
    attention_tp: Count = 1
    attention_dp: Count = 1
    moe_tp: Count = 1
    moe_ep: Count = 1
    pp: Count = 1
    gpus: Count
    """Devices of all replicas together."""

    def parallelism(self) -> Parallelism:
        """Return how one replica is divided."""
        return Parallelism(
            attention_tp=self.attention_tp,
            attention_dp=self.attention_dp,
            moe_tp=self.moe_tp,
            moe_ep=self.moe_ep,
            pp=self.pp,
        )

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        devices = self.replicas * self.attention_tp * self.attention_dp * self.pp
        if devices != self.gpus:
            raise ValueError(
                f"gpus is {self.gpus}, but {self.replicas} x attention_tp {self.attention_tp} x "
                f"attention_dp {self.attention_dp} x pp {self.pp} = {devices}"
            )
        self.parallelism()
        return self


class Aggregated(Workers):
    """Every replica does prefill and decode."""

    kind: Literal["aggregated"]


class Disaggregated(Spec):
    """Some replicas do prefill, the others decode."""

    kind: Literal["disaggregated"]
    gpus: Count
    prefill: Workers
    decode: Workers

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        parts = self.prefill.gpus + self.decode.gpus
        if parts != self.gpus:
            raise ValueError(f"gpus is {self.gpus}, but prefill and decode together have {parts}")
        return self


class RunWorkload(Spec):
    """A closed loop: ``concurrency`` clients, each with one request in flight, all start at once.

    Lengths are independent uniform integers in ``[length_min_share x max, max]``.
    """

    input_tokens_max: Count
    output_tokens_max: Count
    length_min_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    concurrency: Count
    requests: Count
    """Measured requests."""
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    """Served and finished before the measured ones start, with the same concurrency."""
    arrival: Literal["closed-loop"] = "closed-loop"
    prefix_cache: Literal[False] = False
    ignore_eos: bool = True

    def mean_tokens(self) -> tuple[float, float]:
        """Mean prompt and answer. [tokens]"""
        half = (1 + self.length_min_share) / 2
        return self.input_tokens_max * half, self.output_tokens_max * half


class EngineSettings(Spec):
    """Limits the engine was started with, where known; they go before its defaults."""

    max_sequences: Count | None = None
    max_step_tokens: Count | None = None
    memory_share: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_tokens: Count | None = None
    poll_steps: Count | None = None


class RunSpeculation(Spec):
    """Draft tokens, as far as a run states them; how many are accepted, at most one way."""

    method: Literal["mtp", "eagle", "eagle3"] = "mtp"
    """Engines call a model's own prediction module either name."""
    draft_tokens: Drafts | None = None
    acceptance: tuple[Probability, ...] = ()
    """Probability that draft ``i`` is accepted, given that all before it were."""
    tokens_per_step: Annotated[float, Field(ge=1)] | None = None
    """Mean tokens a step."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        drafts = self.draft_tokens
        if self.acceptance and self.tokens_per_step is not None:
            raise ValueError("give acceptance or tokens_per_step, not both")
        if (self.acceptance or self.tokens_per_step is not None) and drafts is None:
            raise ValueError("how many are accepted is stated, so state draft_tokens too")
        if drafts is not None and self.acceptance and len(self.acceptance) < drafts:
            raise ValueError(
                f"acceptance has {len(self.acceptance)} positions for draft_tokens {drafts}"
            )
        if drafts is not None and (self.tokens_per_step or 1) > drafts + 1:
            raise ValueError(
                f"tokens_per_step is {self.tokens_per_step:g}, at most {drafts + 1} can be with "
                f"draft_tokens {drafts}"
            )
        return self


class Measured(Spec):
    """Means over the measured requests."""

    mean_ttft_s: Seconds
    mean_tpot_s: Seconds
    """(latency - time to first token) / (output tokens - 1)."""
    output_tokens_per_s_per_device: Seconds | None = None
    total_tokens_per_s_per_device: Seconds | None = None


class RunSource(Spec):
    """Where the measurement was published."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str
    licence: str | None = None
    config: str | None = None
    """Runs of one configuration share it."""
    measured: str | None = None
    """Date."""
    image: str | None = None
    url: str | None = None


class Run(Spec):
    """One benchmark run: a line of a runs file."""

    id: str
    kind: Literal["serving"] = "serving"
    model: str
    accelerator: str
    framework: Framework
    precision: RunPrecision
    speculative: RunSpeculation | None = None
    """Speculative decoding; a name (``mtp``, ``mtp3``, ``eagle``) says the method alone."""
    deployment: Annotated[Aggregated | Disaggregated, Field(discriminator="kind")]
    workload: RunWorkload
    settings: EngineSettings = EngineSettings()
    measured: Measured | None = None
    """Absent, or nothing but nulls: predicted only."""
    source: RunSource = RunSource(title="not stated")
    another_run: dict[str, Any] | None = None
    """Figures of another run of the same configuration, for the record."""
    note: str | None = None
    corrected: str | None = None
    unusable: tuple[str, ...] = ()
    """Measured quantities that are predicted and listed, but neither scored nor fitted."""
    scored_apart: Any = None
    """Why the whole run is listed apart."""

    @field_validator("speculative", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        name = given.strip().lower()
        if name in ("", "none", "off"):
            return None
        found = re.fullmatch(r"(mtp|eagle3?)(?:[-_ ]?(\d+))?", name)
        if found is None:
            raise ValueError("is no known method; give mtp, eagle or none, or an object")
        return {"method": found[1], "draft_tokens": int(found[2]) if found[2] else None}

    @field_validator("measured", mode="before")
    @classmethod
    def _nothing_measured(cls, given: Any) -> Any:
        empty = isinstance(given, dict) and all(value is None for value in given.values())
        return None if empty else given

    @property
    def gpus(self) -> int:
        """All devices."""
        return self.deployment.gpus
