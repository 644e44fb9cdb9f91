"""What a model is: architecture facts of its published configuration, nothing computed.

Layers are described as groups.  ``attention`` partitions the layers by attention kind,
``dense_mlp`` and ``moe`` partition them by feed-forward kind; the two partitions are independent
because the cost of a layer is the sum of its two halves.
"""

from importlib import import_module
from os import PathLike
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.sourced import Sourced
from planner.specs.base import Count, Spec


class Indexer(Spec):
    """Lightning indexer of sparse attention: scores every past token, keeps the best ``top_k``."""

    heads: Count
    head_dim: Count
    top_k_tokens: Count
    """Context tokens the main attention then attends to."""
    shared: bool = False
    """The layers reuse the choice of an earlier layer: a cap, but no weights, keys or scoring."""


class Gqa(Spec):
    """Grouped-query attention (multi-head when ``kv_heads == heads``)."""

    kind: Literal["gqa"] = "gqa"
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    v_head_dim: Count | None = None
    """Value width where it differs from ``head_dim``."""
    window_tokens: Count | None = None
    """Sliding window (or chunk): context tokens attended at most."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "per_head", "full"] = "none"
    output_gate: bool = False
    """An output gate doubles the query projection."""
    sinks: bool = False
    """One learned logit a head."""
    indexer: Indexer | None = None


class Mla(Spec):
    """Multi-head latent attention: one compressed KV vector a token, shared by all heads."""

    kind: Literal["mla"] = "mla"
    layers: Count
    heads: Count
    q_lora_rank: Count | None = None
    kv_lora_rank: Count
    qk_nope_head_dim: Count
    qk_rope_head_dim: Annotated[int, Field(ge=0)]
    v_head_dim: Count
    output_gate: bool = False
    indexer: Indexer | None = None


class GatedDeltaNet(Spec):
    """Linear attention with a recurrent state instead of a KV cache (Qwen3-Next, Qwen3.5)."""

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    layers: Count
    key_heads: Count
    value_heads: Count
    key_head_dim: Count
    value_head_dim: Count
    conv_kernel: Count = 4


class KimiDeltaAttention(Spec):
    """Kimi delta attention: linear attention with a fine-grained (per-channel) decay."""

    kind: Literal["kda"] = "kda"
    layers: Count
    heads: Count
    head_dim: Count
    conv_kernel: Count = 4
    full_rank_gate: bool = False
    """The output gate is one matrix (K3) instead of a product of two narrow ones."""


class CompressedAttention(Spec):
    """Compressed MQA of DeepSeek-V4: one shared K=V vector a token, compressed along the context.

    Every layer keeps a raw window; ``compression`` context tokens become one cache entry
    (``None``: window only); with an ``indexer`` only the best compressed entries are attended.
    """

    kind: Literal["compressed"] = "compressed"
    layers: Count
    heads: Count
    head_dim: Count
    qk_rope_head_dim: Count
    q_lora_rank: Count
    o_groups: Count
    o_lora_rank: Count
    window_tokens: Count
    compression: Count | None = None
    indexer: Indexer | None = None


Attention = Annotated[
    Gqa | Mla | GatedDeltaNet | KimiDeltaAttention | CompressedAttention,
    Field(discriminator="kind"),
]


class DenseMlp(Spec):
    """Gated feed-forward layers without experts."""

    layers: Count
    intermediate_size: Count


GroupScore = Literal["best", "best_two"]
"""What ranks a group of experts: the score of its best (``topk_method: group_limited_greedy``,
DeepSeek-V2) or the sum of its two best (``noaux_tc``, DeepSeek-V3)."""


class Moe(Spec):
    """Mixture-of-experts feed-forward layers."""

    layers: Count
    experts: Count
    """Routed experts a layer."""
    top_k: Count
    """Routed experts a token goes to."""
    intermediate_size: Count
    shared_experts: Annotated[int, Field(ge=0)] = 0
    shared_intermediate_size: Annotated[int, Field(ge=0)] = 0
    """Width of all shared experts together."""
    shared_gate: bool = False
    """A learned scalar gate on the shared expert's output."""
    router_bias: bool = False
    expert_bias: bool = False
    latent_size: Count | None = None
    """Width of the vectors that travel to the experts, where it is not the hidden size."""
    scoring: Literal["softmax", "sigmoid", "sqrtsoftplus"] = "softmax"
    groups: Count = 1
    """Expert groups of group-limited routing."""
    top_k_groups: Count = 1
    """Groups a token may go to."""
    group_score: GroupScore = "best_two"
    """By what the groups of a token are chosen."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is larger than the {self.experts} experts")
        if self.experts % self.groups or self.top_k_groups > self.groups:
            raise ValueError(
                f"groups {self.groups} must divide {self.experts} experts and "
                f"top_k_groups {self.top_k_groups} must not exceed groups"
            )
        if (self.shared_experts > 0) != (self.shared_intermediate_size > 0):
            raise ValueError("shared_experts and shared_intermediate_size go together")
        return self


WeightFormat = Literal["bf16", "fp8", "nvfp4", "nvfp4_w4a16", "mxfp4", "int4", "mxfp4_fp8"]
"""How the large matrices are stored; what stays bf16 is said in ``arch.storage_format``.

``mxfp4_fp8`` is DeepSeek-V4's mixture: 4-bit routed experts, everything else as in ``fp8``.
"""


class Published(Spec):
    """What the maker states, kept beside what we count."""

    total_parameters: Sourced | None = None
    active_parameters: Sourced | None = None
    checkpoint_bytes: Sourced | None = None


class Quality(Spec):
    """A published benchmark score of the model. [percent unless the name says otherwise]"""

    benchmark: str
    score: Sourced


class ModelSpec(Spec):
    """One model's architecture."""

    name: str
    title: str
    hf_id: str
    aliases: tuple[str, ...] = ()
    source: str
    """Where the configuration was read."""
    hidden_size: Count
    vocab_size: Count
    tied_embeddings: bool = False
    max_context_tokens: Count
    attention: Annotated[tuple[Attention, ...], Field(min_length=1)]
    """Groups of alike layers; a multi-token-prediction module repeats a layer of the first."""
    dense_mlp: DenseMlp | None = None
    moe: Moe | None = None
    mtp_layers: Annotated[int, Field(ge=0)] = 0
    """Multi-token-prediction modules; not part of the main model's count."""
    mtp_copies_head: bool = False
    """The checkpoint holds embedding, final norm and head once more for each of these modules."""
    layer_vectors: Count = 2
    """Vectors of ``hidden_size`` a layer beside attention and MLP: its norms, mostly two."""
    hyper_connections: Annotated[int, Field(ge=0)] = 0
    """Parallel residual streams mixed by learned matrices (DeepSeek-V4: 4); 0: a plain residual."""
    native_format: WeightFormat = "bf16"
    """Format of the published checkpoint."""
    published: Published = Published()
    quality: tuple[Quality, ...] = ()
    notes: str = ""

    @classmethod
    def from_hf_config(cls, path: str | PathLike[str]) -> "ModelSpec":
        """Read a Hugging Face ``config.json``, or a folder that holds one.

        Raises
        ------
        InputError
            Names the file, the field, and for an unknown ``model_type`` the known ones.
        """
        # The door people look for is on the class; the reader is a layer above, so it is
        # looked up when called, not imported.
        reader = import_module("planner.hf")
        spec: ModelSpec = reader.model_from_hf_config(path)
        return spec

    @property
    def layers(self) -> int:
        """Transformer layers of the main model."""
        return sum(group.layers for group in self.attention)

    @model_validator(mode="after")
    def _partition(self) -> Self:
        dense = self.dense_mlp.layers if self.dense_mlp else 0
        moe = self.moe.layers if self.moe else 0
        if dense + moe != self.layers:
            raise ValueError(
                f"attention covers {self.layers} layers, "
                f"dense_mlp ({dense}) and moe ({moe}) cover {dense + moe}"
            )
        return self
