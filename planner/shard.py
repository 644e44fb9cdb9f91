"""The only divider: a whole model and a pool become one device's local shapes.

Everything above this module sees local shapes only; nothing above divides by tp, dp, ep or pp.
The device described is one of the fullest pipeline stage.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from planner import arch
from planner.errors import InfeasibleError, InputError
from planner.specs.deployment import ALL_GATHER, KvFormat, Pool
from planner.specs.model import Attention, DenseMlp, ModelSpec, Moe, WeightFormat
from planner.specs.speculative import Speculative


@dataclass(frozen=True, slots=True)
class LocalMatrix:
    """A weight matrix ``[k, n]`` as one device holds it, and how it is stored."""

    name: str
    component: str
    k: int
    n: int
    storage: arch.Storage

    @property
    def bytes_per_parameter(self) -> float:
        """Stored size of one weight, its share of the scales included. [bytes]"""
        return arch.bytes_per_parameter(self.storage)

    @property
    def stored_bytes(self) -> float:
        """HBM this matrix takes. [bytes]"""
        return self.k * self.n * self.bytes_per_parameter


@dataclass(frozen=True, slots=True)
class LocalAttention:
    """One device's part of a group of equal attention layers.

    Pair figures are for the heads of this device; the context one device reads is
    ``context / context_split``.
    """

    name: str
    layers: float
    matrices: tuple[LocalMatrix, ...]
    core: arch.AttentionCore
    head_share: float
    """Local heads over all heads; 1 / attention_tp."""
    entry_bytes: float
    """One cache entry, one layer, without the indexer's key. [bytes]"""
    held_bytes_per_token: float
    """Cache one context token adds on this device, one layer, indexer key included. [bytes]"""
    context_split: int
    query_elements: float
    """Query plus output width of this device's heads in decode. [elements]"""
    kv: KvFormat
    """Format of the cache."""


@dataclass(frozen=True, slots=True)
class LocalMoe:
    """One device's part of the expert layers."""

    layers: float
    experts: int
    slots: int
    """Expert slots of the whole layer: experts + redundant copies."""
    local_slots: int
    top_k: int
    groups: int
    top_k_groups: int
    gate_up: LocalMatrix
    down: LocalMatrix
    shared: tuple[LocalMatrix, ...]
    router: LocalMatrix
    latent: tuple[LocalMatrix, ...]
    message_elements: int
    """Width of the vector that travels to an expert. [elements]"""
    biased: bool = False
    """Whether experts add biases."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What one device of the fullest pipeline stage holds and computes."""

    hidden_size: int
    vocab_size: int
    attention: tuple[LocalAttention, ...]
    dense: tuple[LocalMatrix, ...]
    dense_layers: float
    moe: LocalMoe | None
    hyper: tuple[LocalMatrix, ...]
    """Matrices that mix residual streams, every layer; mostly none."""
    head: LocalMatrix
    layers: float
    attention_tp: int
    attention_dp: int
    context_parallel: int
    moe_tp: int
    moe_ep: int
    pp: int
    weights: WeightFormat
    kv: KvFormat
    weight_bytes: dict[str, float]
    """Resident bytes by component, this device."""
    gathers_tokens: bool = False
    """Every rank gathers all tokens and sums are scattered back, in place of an all-to-all."""
    windows_whole: bool = False
    """Layers that attend to a window keep the cache of every token."""

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.attention_tp * self.attention_dp * self.pp

    @property
    def stage_devices(self) -> int:
        """Devices of one pipeline stage."""
        return self.attention_tp * self.attention_dp

    @property
    def cap_tokens(self) -> int | None:
        """Longest context a capped attention layer reads: the cap of the loads. [tokens]"""
        return max((a.core.cap_tokens for a in self.attention if a.core.cap_tokens), default=None)

    @property
    def uses_all_to_all(self) -> bool:
        """Whether tokens travel to their experts one by one (expert parallel, attention DP)."""
        apart = self.moe is not None and self.attention_dp > 1 and self.moe_ep > 1
        return apart and not self.gathers_tokens

    @property
    def kv_bytes_per_token(self) -> float:
        """Growing cache of one more context token on this device. [bytes]"""
        return sum(
            a.layers * a.held_bytes_per_token / a.context_split
            for a in self.attention
            if a.core.cache_tokens is None or (self.windows_whole and a.core.cache_tokens)
        )

    @property
    def state_bytes_per_sequence(self) -> float:
        """Cache of a sequence that does not grow: full windows and recurrent states. [bytes]"""
        return sum(
            a.layers * a.core.state_bytes_per_sequence * a.head_share
            + a.layers * a.entry_bytes * a.core.raw_window_tokens
            + a.layers * a.entry_bytes * (not self.windows_whole) * (a.core.cache_tokens or 0)
            for a in self.attention
        )


def shard(model: ModelSpec, pool: Pool) -> Shard:
    r"""Divide ``model`` over the devices of one replica of ``pool``.

    Tensor parallelism splits columns, then rows, and replicates what has no head dimension (MLA
    down-projections, routers, norms) [1]_; expert parallelism deals out expert *slots*
    (experts + redundant copies) [2]_; pipeline parallelism takes :math:`\lceil L / pp \rceil`
    layers for the fullest stage.

    Returns
    -------
    Shard of one device.

    Raises
    ------
    InfeasibleError
        When a degree does not divide what it must.

    References
    ----------
    .. [1] M. Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.
    .. [2] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.4.
    """
    p = pool.parallelism
    if p.pp > model.layers:
        raise InfeasibleError("pipeline stages", p.pp, model.layers, "layers")
    stage = math.ceil(model.layers / p.pp) / model.layers
    attention = tuple(_attention(model, group, pool, stage) for group in model.attention)
    dense: tuple[LocalMatrix, ...] = ()
    if model.dense_mlp:
        cut = _divider(model, pool, p.attention_tp)
        width = model.dense_mlp.intermediate_size
        dense = tuple(cut(m, "dense_mlp") for m in arch.mlp_matrices(model.hidden_size, width, ""))
    dense_layers = model.dense_mlp.layers * stage if model.dense_mlp else 0.0
    moe = _moe(model, model.moe, pool, stage) if model.moe else None
    head = _divider(model, pool, p.attention_tp)(
        arch.Matrix("lm_head", model.hidden_size, model.vocab_size, "column"), "lm_head"
    )
    hyper = tuple(
        _divider(model, pool, 1)(m, "norms_other") for m in arch.hyper_connection_matrices(model)
    )
    return Shard(
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        attention=attention,
        dense=dense,
        dense_layers=dense_layers,
        moe=moe,
        hyper=hyper,
        head=head,
        layers=model.layers * stage,
        attention_tp=p.attention_tp,
        attention_dp=p.attention_dp,
        context_parallel=p.context_parallel,
        moe_tp=p.moe_tp,
        moe_ep=p.moe_ep,
        pp=p.pp,
        weights=pool.weights,
        kv=pool.kv,
        weight_bytes=_weight_bytes(model, pool, attention, dense, moe, stage),
        gathers_tokens=pool.exchange == ALL_GATHER,
        windows_whole=pool.engine.windows_whole,
    )


def draft_shard(model: ModelSpec, pool: Pool, wish: Speculative) -> Shard:
    """Divide the module that drafts tokens, on the devices of one pipeline stage.

    An MTP module is one more layer of the model, experts included; an EAGLE module has dense
    layers with the model's attention.  Embedding and output head are the model's own.

    Raises
    ------
    InputError
        The model has no prediction module.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437, section 2.2.
    .. [2] Y. Li et al., "EAGLE-3", arXiv:2503.01840, section 3.
    """
    layer = arch.first_layer(model)
    if wish.method == "mtp":
        if not model.mtp_layers:
            raise InputError(
                "", "deployment.speculative.method",
                f"{model.name} has no prediction module to draft with; use eagle",
            )  # fmt: skip
    else:
        layers, width = wish.draft_layers, wish.draft_intermediate_size or 1
        attention = layer.attention[0].model_copy(update={"layers": layers})
        mlp = DenseMlp(layers=layers, intermediate_size=width)
        layer = layer.model_copy(update={"attention": (attention,), "dense_mlp": mlp, "moe": None})
    weights = wish.draft_weights or pool.weights
    stage = pool.parallelism.model_copy(update={"pp": 1})
    inner = shard(layer, pool.model_copy(update={"parallelism": stage, "weights": weights}))
    held = {k: v for k, v in inner.weight_bytes.items() if k != "embedding_and_head"}
    joining = arch.bytes_per_parameter("bf16") * 2 * model.hidden_size**2
    return replace(inner, weight_bytes={"draft_module": sum(held.values()) + joining})


def _attention(model: ModelSpec, group: Attention, pool: Pool, stage: float) -> LocalAttention:
    p = pool.parallelism
    core = arch.attention_core(group)
    if core.heads % p.attention_tp:
        raise InfeasibleError(
            "attention_tp must divide the attention heads", p.attention_tp, core.heads, "heads"
        )
    kv_heads = min(core.kv_split, p.attention_tp)
    copies = p.attention_tp // kv_heads
    if core.kv_elements and copies % p.context_parallel:
        raise InfeasibleError(
            "context_parallel must divide the copies of the KV cache", p.context_parallel,
            copies, "copies", "lower context_parallel or raise attention_tp",
        )  # fmt: skip
    cut = _divider(model, pool, p.attention_tp)
    matrices = tuple(cut(m, "attention") for m in arch.attention_matrices(group, model.hidden_size))
    kept = -(-core.kv_split // p.attention_tp) / core.kv_split
    entry_bytes = arch.kv_entry_bytes(core, pool.kv) * kept
    return LocalAttention(
        name=group.kind,
        layers=group.layers * stage,
        matrices=matrices,
        core=core,
        head_share=1 / p.attention_tp,
        entry_bytes=entry_bytes,
        held_bytes_per_token=entry_bytes / core.context_per_entry + core.indexer_bytes_per_token,
        context_split=p.context_parallel,
        query_elements=core.decode_pair_flop / 2 / p.attention_tp,
        kv=pool.kv,
    )


def _moe(model: ModelSpec, moe: Moe, pool: Pool, stage: float) -> LocalMoe:
    p = pool.parallelism
    slots = moe.experts + pool.redundant_experts
    if slots % p.moe_ep:
        fitting = [n for n in range(slots, 0, -1) if slots % n == 0 and n <= p.moe_ep]
        raise InfeasibleError(
            f"moe_ep must divide the expert slots ({moe.experts} experts + "
            f"{pool.redundant_experts} redundant)",
            p.moe_ep,
            slots,
            "slots",
            f"take moe_ep {fitting[0]}, or redundant_experts {-moe.experts % p.moe_ep}",
        )
    hidden = model.hidden_size
    by_expert, by_token, whole = (
        _divider(model, pool, ways) for ways in (p.moe_tp, p.attention_tp, 1)
    )
    gate_up, down = (by_expert(m, "routed_experts") for m in arch.expert_matrices(moe, hidden))
    shared = arch.shared_expert_matrices(moe, hidden)
    return LocalMoe(
        layers=moe.layers * stage,
        experts=moe.experts,
        slots=slots,
        local_slots=slots // p.moe_ep,
        top_k=moe.top_k,
        groups=moe.groups,
        top_k_groups=moe.top_k_groups,
        gate_up=gate_up,
        down=down,
        shared=tuple(by_token(m, "shared_experts") for m in shared),
        router=whole(arch.router_matrix(moe, hidden), "router"),
        latent=tuple(whole(m, "latent") for m in arch.latent_matrices(moe, hidden)),
        message_elements=moe.latent_size or hidden,
        biased=moe.expert_bias,
    )


def _divider(model: ModelSpec, pool: Pool, ways: int) -> Callable[[arch.Matrix, str], LocalMatrix]:
    """Return what splits a matrix of a component ``ways`` ways and says how it is stored."""

    def divide(matrix: arch.Matrix, component: str) -> LocalMatrix:
        k, n = matrix.k, matrix.n
        if matrix.split == "column":
            n = _part(matrix, n, ways)
        elif matrix.split == "row":
            k = _part(matrix, k, ways)
        storage = arch.storage_format(pool.weights, component, model.moe is not None)
        if matrix.n == 1:  # the shared expert's gate is a vector, and vectors stay bf16
            storage = "bf16"
        return LocalMatrix(matrix.name, component, k, n, storage)

    return divide


def _part(matrix: arch.Matrix, size: int, ways: int) -> int:
    """One rank's part of a side: whole heads, copied when there are too few; padded vocabulary."""
    units = matrix.heads or size
    if units % ways == 0:
        return size // ways
    if matrix.heads and ways % matrix.heads == 0:
        return size // matrix.heads
    if matrix.name == "lm_head":
        return math.ceil(size / ways)
    what = "heads" if matrix.heads else "elements"
    raise InfeasibleError(f"the split of {matrix.name} must be even", ways, units, what)


def _weight_bytes(
    model: ModelSpec,
    pool: Pool,
    attention: tuple[LocalAttention, ...],
    dense: tuple[LocalMatrix, ...],
    moe: LocalMoe | None,
    stage: float,
) -> dict[str, float]:
    """Resident bytes by component on one device of the fullest stage.

    The first stage holds the input embedding and the last the output head; with pipelining the
    larger of the two stands for both.
    """
    tp, count = pool.parallelism.attention_tp, arch.parameters(model)
    plain = arch.bytes_per_parameter("bf16")
    embed, head = plain * count.embed / tp, plain * count.lm_head / tp
    if pool.parallelism.pp > 1 or model.tied_embeddings:
        embed, head = max(embed, head), 0.0
    vectors = count.norms_other + sum(
        g.layers * arch.attention_other_parameters(g, model.hidden_size) for g in model.attention
    )
    dense_layers = model.dense_mlp.layers * stage if model.dense_mlp else 0.0
    result = {
        "attention": sum(a.layers * _bytes(a.matrices) for a in attention),
        "dense_mlp": dense_layers * _bytes(dense),
        "embedding_and_head": embed + head,
        "norms_and_other": plain * stage * vectors,
    }
    if moe:
        expert = _bytes((moe.gate_up, moe.down)) * arch.padding(
            moe.gate_up.storage, moe.message_elements
        )
        if moe.biased:  # the second bias is added once, but every rank has it
            expert += plain * (moe.gate_up.n + moe.down.n)
        router = _bytes((moe.router,)) + _bytes(moe.latent)
        if model.moe and model.moe.router_bias:
            router += plain * moe.experts
        result["routed_experts"] = moe.layers * moe.local_slots * expert
        result["shared_experts"] = moe.layers * _bytes(moe.shared)
        result["router"] = moe.layers * router
    return result


def _bytes(matrices: tuple[LocalMatrix, ...]) -> float:
    return sum(m.stored_bytes for m in matrices)
