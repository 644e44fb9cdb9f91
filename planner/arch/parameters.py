"""Matrices of the feed-forward half, and the parameter count of a whole model."""

from dataclasses import dataclass, fields

from planner.arch.attention import Matrix, attention_matrices, attention_other_parameters
from planner.specs.model import ModelSpec, Moe


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a model by component. [parameters]

    ``mtp`` (multi-token-prediction modules) is extra: not in ``total``, not in any active count.
    """

    embed: int
    lm_head: int
    """Zero when it is the embedding."""
    attention: int
    """Matrices, indexer, and the vectors inside attention."""
    dense_mlp: int
    routed_experts: int
    shared_experts: int
    latent: int
    router: int
    norms_other: int
    """Norms around the layers, final norm, hyper-connections."""
    mtp: int
    routed_active: int
    """Routed experts' parameters one token meets: part of ``routed_experts``."""
    tied_embeddings: bool

    @property
    def total(self) -> int:
        """All parameters of the main model. [parameters]"""
        return sum(getattr(self, name) for name in COMPONENTS)

    @property
    def active_with_embedding(self) -> int:
        """Parameters one token meets, both embeddings counted whole. [parameters]"""
        return self.total - self.routed_experts + self.routed_active

    @property
    def active_without_input_embedding(self) -> int:
        """As above without the input table (a look-up); a tied table still is the head."""
        return self.active_with_embedding - (0 if self.tied_embeddings else self.embed)

    @property
    def active_non_embedding(self) -> int:
        """As above without input table and output head. [parameters]"""
        return self.active_with_embedding - self.embed - self.lm_head


COMPONENTS: tuple[str, ...] = tuple(field.name for field in fields(Parameters))[:9]
"""Components of the main model: the keys of ``Parameters`` that add up to its total."""


def mlp_matrices(hidden_size: int, intermediate_size: int, prefix: str) -> tuple[Matrix, ...]:
    """Gated feed-forward network: ``gate_up [h, 2m]`` and ``down [m, h]``.

    Parameters
    ----------
    hidden_size, intermediate_size : ``h`` and ``m``. [elements]
    prefix : first part of the matrices' names, may be empty.

    References
    ----------
    .. [1] N. Shazeer, "GLU variants improve transformer", arXiv:2002.05202.
    """
    start = f"{prefix}_" if prefix else ""
    return (
        Matrix(f"{start}gate_up", hidden_size, 2 * intermediate_size, "column"),
        Matrix(f"{start}down", intermediate_size, hidden_size, "row"),
    )


def expert_matrices(moe: Moe, hidden_size: int) -> tuple[Matrix, ...]:
    """Matrices of one routed expert, on the latent width where there is one.

    Parameters
    ----------
    moe : the expert layers.
    hidden_size : width of the residual stream. [elements]

    References
    ----------
    .. [1] N. Shazeer et al., "Outrageously large neural networks", arXiv:1701.06538.
    .. [2] github NVIDIA-NeMo/Megatron-Bridge docs/models/kimi/kimi-k3.md (latent experts).
    """
    return mlp_matrices(moe.latent_size or hidden_size, moe.intermediate_size, "expert")


def shared_expert_matrices(moe: Moe, hidden_size: int) -> tuple[Matrix, ...]:
    """Matrices of all shared experts of a layer together, and their gate.

    Parameters
    ----------
    moe : the expert layers.
    hidden_size : width of the residual stream. [elements]

    References
    ----------
    .. [1] D. Dai et al., "DeepSeekMoE", arXiv:2401.06066.
    .. [2] transformers 5.23.0, models/qwen2_moe (gate).
    """
    if moe.shared_experts == 0:
        return ()
    matrices = mlp_matrices(hidden_size, moe.shared_intermediate_size, "shared")
    if moe.shared_gate:
        return (*matrices, Matrix("shared_gate", hidden_size, 1, "replicated"))
    return matrices


def latent_matrices(moe: Moe, hidden_size: int) -> tuple[Matrix, ...]:
    """Projections to the width the experts work on and back; empty without one.

    Parameters
    ----------
    moe : the expert layers.
    hidden_size : width of the residual stream. [elements]

    References
    ----------
    .. [1] github NVIDIA-NeMo/Megatron-Bridge docs/models/kimi/kimi-k3.md.
    """
    if moe.latent_size is None:
        return ()
    return (
        Matrix("latent_down", hidden_size, moe.latent_size, "replicated"),
        Matrix("latent_up", moe.latent_size, hidden_size, "replicated"),
    )


def router_matrix(moe: Moe, hidden_size: int) -> Matrix:
    """The router's matrix ``[h, experts]``.

    Parameters
    ----------
    moe : the expert layers.
    hidden_size : width of the residual stream. [elements]

    References
    ----------
    .. [1] N. Shazeer et al., "Outrageously large neural networks", arXiv:1701.06538.
    """
    return Matrix("router", hidden_size, moe.experts, "replicated")


def hyper_connection_matrices(model: ModelSpec) -> tuple[Matrix, ...]:
    """Matrices one layer mixes its residual streams with, twice a layer; empty without them.

    Parameters
    ----------
    model : its ``hyper_connections`` are the streams ``n``; the matrix is ``[n h, (2 + n) n]``.

    References
    ----------
    .. [1] transformers 5.23.0, models/deepseek_v4/modeling_deepseek_v4.py.
    """
    n = model.hyper_connections
    if n == 0:
        return ()
    return tuple(
        Matrix(f"hyper_{place}", n * model.hidden_size, (2 + n) * n, "replicated")
        for place in ("attention", "mlp")
    )


def router_parameters(moe: Moe, hidden_size: int) -> int:
    """Parameters of one layer's router, its bias where it is a parameter. [parameters]

    Parameters
    ----------
    moe : the expert layers.
    hidden_size : width of the residual stream. [elements]

    Notes
    -----
    The correction bias of auxiliary-loss-free balancing is a buffer, not a parameter.

    References
    ----------
    .. [1] github openai/gpt-oss gpt_oss/torch/model.py (bias).
    """
    return router_matrix(moe, hidden_size).parameters + (moe.experts if moe.router_bias else 0)


def expert_parameters(model: ModelSpec) -> int:
    """Parameters of one routed expert, matrices and biases; 0 without experts. [parameters]

    Parameters
    ----------
    model : the whole model.

    References
    ----------
    .. [1] transformers 5.23.0, models/{deepseek_v3, gpt_oss}/modeling_*.py.
    """
    if model.moe is None:
        return 0
    return _sum(expert_matrices(model.moe, model.hidden_size)) + expert_bias_parameters(model)


def expert_bias_parameters(model: ModelSpec) -> int:
    """Biases of one routed expert, kept in bf16. [parameters]

    Parameters
    ----------
    model : the whole model.

    References
    ----------
    .. [1] github openai/gpt-oss gpt_oss/torch/model.py.
    """
    moe = model.moe
    if moe is None or not moe.expert_bias:
        return 0
    return 2 * moe.intermediate_size + (moe.latent_size or model.hidden_size)


def parameters(model: ModelSpec) -> Parameters:
    """Count the parameters of ``model`` by component.

    Parameters
    ----------
    model : the whole model.

    Returns
    -------
    count : Parameters
        Equal, component by component, to the count of the published module.

    References
    ----------
    .. [1] transformers 5.23.0, models/*/modeling_*.py, counted on the meta device.
    .. [2] github deepseek-ai/DeepSeek-V3 README_WEIGHTS.md (multi-token prediction).
    """
    h = model.hidden_size
    embed = model.vocab_size * h
    moe, dense = model.moe, model.dense_mlp
    expert = expert_parameters(model)
    moe_layers = moe.layers if moe else 0
    return Parameters(
        embed=embed,
        lm_head=0 if model.tied_embeddings else embed,
        attention=sum(
            group.layers * _attention_layer(model, i) for i, group in enumerate(model.attention)
        ),
        dense_mlp=dense.layers * 3 * h * dense.intermediate_size if dense else 0,
        routed_experts=moe_layers * moe.experts * expert if moe else 0,
        shared_experts=moe_layers * _sum(shared_expert_matrices(moe, h)) if moe else 0,
        latent=moe_layers * _sum(latent_matrices(moe, h)) if moe else 0,
        router=moe_layers * router_parameters(moe, h) if moe else 0,
        norms_other=_norms_other(model),
        mtp=model.mtp_layers * mtp_module_parameters(model),
        routed_active=moe_layers * moe.top_k * expert if moe else 0,
        tied_embeddings=model.tied_embeddings,
    )


def mtp_module_parameters(model: ModelSpec) -> int:
    """Parameters of one multi-token-prediction module. [parameters]

    A layer of the first attention group with the experts, a matrix ``[2h, h]`` joining hidden
    state and embedding, a norm for each of the two, and a final norm where the module does not
    share the main model's head.

    Parameters
    ----------
    model : the whole model; a model without experts repeats its dense layer.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437, section 2.2.
    .. [2] github deepseek-ai/DeepSeek-V3 README_WEIGHTS.md.
    """
    h, moe, dense = model.hidden_size, model.moe, model.dense_mlp
    norms = 2 * h + (0 if model.mtp_copies_head else h)
    count = _attention_layer(model, 0) + _layer_vectors(model) + 2 * h * h + norms
    if moe is not None:
        count += moe.experts * expert_parameters(model) + router_parameters(moe, h)
        count += _sum(shared_expert_matrices(moe, h)) + _sum(latent_matrices(moe, h))
    elif dense is not None:
        count += 3 * h * dense.intermediate_size
    return count


def _attention_layer(model: ModelSpec, group: int) -> int:
    attention, h = model.attention[group], model.hidden_size
    return _sum(attention_matrices(attention, h)) + attention_other_parameters(attention, h)


def _layer_vectors(model: ModelSpec) -> int:
    """Norms around one layer's halves and its hyper-connections."""
    n = model.hyper_connections
    hyper = _sum(hyper_connection_matrices(model)) + (2 * ((2 + n) * n + 3) if n else 0)
    return model.layer_vectors * model.hidden_size + hyper


def _norms_other(model: ModelSpec) -> int:
    n, h = model.hyper_connections, model.hidden_size
    final_mix = n * n * h + n + 1 if n else 0
    return model.layers * _layer_vectors(model) + h + final_mix


def _sum(matrices: tuple[Matrix, ...]) -> int:
    return sum(matrix.parameters for matrix in matrices)
