"""What is run on what: parallelism, precision, limits of one pool of replicas."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from planner.specs.base import Count, Spec
from planner.specs.engine import EngineSpec
from planner.specs.model import WeightFormat
from planner.specs.overlap import OverlapPolicy
from planner.specs.prefix_cache import PrefixCacheChoice
from planner.specs.speculative import Speculative

KvFormat = Literal["bf16", "fp8"]

RouterName = Literal[
    "round_robin", "random", "least_requests", "least_kv", "power_of_two", "prefix_aware",
    "prefix_cost",
]  # fmt: skip
"""Who gets the next request: ``least_requests`` counts outstanding requests, ``least_kv`` their
prompt tokens, ``power_of_two`` takes the less loaded of two drawn at random, ``prefix_aware`` the
one whose cache has most of the prompt unless load is too uneven, ``prefix_cost`` the one where
prompt tokens to compute and tokens held are fewest together."""


ALL_GATHER = "all-gather"
"""Exchange that is none: every rank gathers all tokens."""

DEFAULT_KERNELS = "default"
"""Experts' products of the calibration's ``grouped_gemm``, whatever the engine prefers."""


class Parallelism(Spec):
    """How one replica is divided over devices.

    ``devices = attention_tp * attention_dp * pp = moe_tp * moe_ep * pp``.
    """

    attention_tp: Count = 1
    attention_dp: Count = 1
    context_parallel: Count = 1
    """Ranks *within* attention_tp that share out one sequence's KV cache instead of copying it
    (decode context parallelism); adds no devices."""
    moe_tp: Count = 1
    moe_ep: Count = 1
    pp: Count = 1

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.attention_tp * self.attention_dp * self.pp

    @model_validator(mode="after")
    def _same_devices(self) -> Self:
        attention, moe = self.attention_tp * self.attention_dp, self.moe_tp * self.moe_ep
        if attention != moe:
            raise ValueError(
                f"attention_tp * attention_dp = {attention} and moe_tp * moe_ep = {moe} "
                "must be the same devices"
            )
        if self.attention_tp % self.context_parallel:
            raise ValueError(
                f"context_parallel {self.context_parallel} must divide "
                f"attention_tp {self.attention_tp}"
            )
        return self

    def label(self) -> str:
        """Short name as the field writes it: ``DP8 EP8``, ``TP8``, ``TP8 PP2``."""
        parts = [
            f"{word}{size}"
            for word, size in (
                ("TP", self.attention_tp),
                ("DP", self.attention_dp),
                ("CP", self.context_parallel),
                ("EP", self.moe_ep),
                ("PP", self.pp),
            )
            if size > 1
        ]
        if self.moe_tp > 1 and self.moe_tp != self.attention_tp:
            parts.append(f"MoE-TP{self.moe_tp}")
        return " ".join(parts) or "1 device"


class Limits(Spec):
    """What the serving engine allows itself.  Choices, not facts."""

    max_sequences: Count = 512
    """Sequences one attention rank runs at once."""
    max_step_tokens: Count = 8192
    """Tokens one attention rank computes in one step (decode tokens included)."""
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of device memory the engine may use."""
    kv_tokens: Count | None = None
    """KV capacity of one attention rank as an engine's log states it; overrides the computed."""


class Pool(Spec):
    """Identical replicas behind one router."""

    replicas: Count = 1
    parallelism: Parallelism
    weights: WeightFormat
    kv: KvFormat = "bf16"
    redundant_experts: Annotated[int, Field(ge=0)] = 0
    """Extra copies of hot experts a layer; expert slots = experts + redundant."""
    router: RouterName = "least_requests"
    overlap_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of expert communication hidden behind computation: an assumption, listed as one."""
    exchange: str = ""
    """Library that dispatches tokens to experts, by its name among the calibration's
    ``links.exchanges`` (``deepep-low-latency-2025-02``); empty: the calibration's choice;
    ``all-gather``: none, every rank gathers all tokens and reduce-scatters the results."""
    experts_kernel: str = ""
    """Library of the experts' grouped products, by its name among the calibration's
    ``expert_kernels`` (``cutlass``, ``triton``); ``default``: those of ``grouped_gemm``; empty: as
    the engine chooses.  Tiles are those the library has for the shape of the experts."""
    attention_kernel: str = ""
    """Engine whose calls of attention are run, by its name among the calibration's
    ``attention_kernels`` (``vllm``, ``sglang``); ``default``: the part's own; empty: as the engine
    chooses."""
    overlap: OverlapPolicy = "share"
    """What runs while expert traffic is on the wire."""
    gate_apart: bool = False
    """In prompts, an expert's gate writes 16 bits and a second kernel converts them, as with
    DeepGEMM's contiguous products in SGLang and vLLM."""
    fused_norm: bool = False
    """Tensor-parallel sums and the norm after them run as one kernel."""
    prefix_cache: PrefixCacheChoice = None
    """Keep the KV of prompts for others that start alike: ``true``, or written out with a store
    behind; left out: nothing is found but ``workload.cached_input_share``."""
    speculative: Speculative | None = None
    """Draft tokens and verify several at once; None: one token a step."""
    limits: Limits = Limits()
    engine: EngineSpec = EngineSpec()
    """How it schedules: a shipped engine by name, or written out."""

    @model_validator(mode="after")
    def _one_overlap(self) -> Self:
        if self.overlap != "share" and self.overlap_share:
            raise ValueError(
                f"overlap_share {self.overlap_share:g} goes with overlap: share, "
                f"not with overlap: {self.overlap}"
            )
        return self


class Disaggregated(Spec):
    """Prompts are computed in one pool, answers decoded in another."""

    prefill: Pool
    decode: Pool
    prefill_system: str | None = None
    """System of the prefill pool by name; None: the scenario's, as for the decode pool."""
    transfer: Literal["scale_up", "scale_out"] | None = None
    """Link that takes the KV cache from prefill to decode; None: inside the domain where both
    pools are in one, else over the network."""
    transfer_overlap_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of a cache's transfer that runs while its prompt is still computed, layer by layer: an
    assumption, listed as one."""

    @model_validator(mode="after")
    def _one_cache(self) -> Self:
        if self.prefill.kv != self.decode.kv:
            raise ValueError(
                f"prefill.kv {self.prefill.kv} and decode.kv {self.decode.kv} must be one format: "
                "the cache moves as it is"
            )
        if self.decode.prefix_cache is not None:
            raise ValueError(
                "decode.prefix_cache: prompts are computed in the prefill pool; give it to prefill"
            )
        if self.prefill.speculative is not None:
            raise ValueError("prefill.speculative: the prefill pool decodes nothing; leave it out")
        return self


def _kind(data: Any) -> str:
    if isinstance(data, dict):
        return "pools" if data.keys() & {"prefill", "decode"} else "pool"
    return "pools" if isinstance(data, Disaggregated) else "pool"


Deployment = Annotated[
    Annotated[Pool, Tag("pool")] | Annotated[Disaggregated, Tag("pools")], Discriminator(_kind)
]
"""One pool that does everything, or ``prefill`` and ``decode``."""
