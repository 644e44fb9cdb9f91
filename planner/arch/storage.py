"""Bytes: how weights are stored, and what a whole model and its checkpoint weigh."""

from typing import Literal, assert_never

from planner.arch.attention import attention_matrices
from planner.arch.parameters import (
    COMPONENTS,
    Parameters,
    expert_bias_parameters,
    mtp_module_parameters,
    parameters,
    shared_expert_matrices,
)
from planner.specs.model import ModelSpec, WeightFormat

Storage = Literal["bf16", "fp8", "nvfp4", "nvfp4_w4a16", "mxfp4", "int4"]
"""How one matrix is stored."""

_EXPERTS = ("routed_experts",)
_MLP = ("dense_mlp", "routed_experts", "shared_experts")
_LINEAR = ("attention", *_MLP)


def storage_format(model_format: WeightFormat, component: str, has_experts: bool = True) -> Storage:
    """How the matrices of ``component`` are stored in a model of ``model_format``.

    Only matrices of attention, MLP and experts are ever quantised; embedding, head, router,
    latent projections and every vector stay bf16.

    =========== ===================================== =============================
    format      with experts                          without experts
    =========== ===================================== =============================
    bf16        --                                    --
    fp8         attention, dense, shared, routed      attention, dense
    nvfp4       dense, shared, routed                 attention, dense
    nvfp4_w4a16 as nvfp4, multiplied in bf16          attention, dense
    mxfp4       routed                                attention, dense
    int4        routed                                attention, dense
    mxfp4_fp8   routed mxfp4; attention, dense,       --
                shared fp8
    =========== ===================================== =============================

    Parameters
    ----------
    model_format : format of the whole model.
    component : one of ``COMPONENTS``.
    has_experts : whether the model has routed experts.

    Raises
    ------
    ValueError
        ``component`` is not one of ``COMPONENTS``.

    References
    ----------
    .. [1] Hugging Face nvidia/DeepSeek-R1-FP4 hf_quant_config.json (attention left in bf16).
    .. [2] github openai/gpt-oss README (mxfp4 on the expert matrices).
    .. [3] Hugging Face moonshotai/Kimi-K2-Thinking config.json (int4 experts).
    .. [4] github deepseek-ai/DeepSeek-V3 README_WEIGHTS.md (fp8).
    """
    if component not in COMPONENTS:
        raise ValueError(f"component {component!r} is not one of {', '.join(COMPONENTS)}")
    quantised: tuple[str, ...]
    match model_format:
        case "bf16":
            return "bf16"
        case "fp8":
            return "fp8" if component in _LINEAR else "bf16"
        case "mxfp4_fp8":
            if component in _EXPERTS:
                return "mxfp4"
            return "fp8" if component in _LINEAR else "bf16"
        case "nvfp4" | "nvfp4_w4a16":
            quantised = _MLP if has_experts else _LINEAR
        case "mxfp4" | "int4":
            quantised = _EXPERTS if has_experts else _LINEAR
        case _:
            assert_never(model_format)
    return model_format if component in quantised else "bf16"


def bytes_per_parameter(storage: Storage) -> float:
    """Bytes of one weight, its share of the scales included. [bytes]

    fp8 has an fp32 scale per 128 x 128 block, nvfp4 an 8-bit scale per 16, mxfp4 an 8-bit scale
    per 32, int4 a bf16 scale per 32.

    Parameters
    ----------
    storage : how the matrix is stored.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437, section 3.3 (block-wise fp8).
    .. [2] OCP, "Microscaling Formats (MX) Specification v1.0".
    .. [3] NVIDIA, "Introducing NVFP4", developer.nvidia.com, 2025.
    """
    match storage:
        case "bf16":
            return 2.0
        case "fp8":
            return 1 + 4 / 128**2
        case "nvfp4" | "nvfp4_w4a16":
            return 0.5 + 1 / 16
        case "mxfp4":
            return 0.5 + 1 / 32
        case "int4":
            return 0.5 + 2 / 32
        case _:
            assert_never(storage)


def resident_bytes(model: ModelSpec, weights: WeightFormat) -> dict[str, float]:
    """Bytes of the main model's weights by component, unsharded, without prediction modules.

    Parameters
    ----------
    model : the whole model.
    weights : format to store it in, not necessarily the published one.

    Returns
    -------
    dict
        One entry for each of ``COMPONENTS``. [bytes]

    References
    ----------
    .. [1] Hugging Face deepseek-ai/DeepSeek-V3 model.safetensors.index.json (total 688.59 GB,
       which this formula and the prediction module give to 0.002 %).
    """
    counts = parameters(model)
    return {
        name: _component_bytes(model, weights, name, getattr(counts, name), vectors)
        for name, vectors in _vectors(model).items()
    }


def checkpoint_bytes(model: ModelSpec, weights: WeightFormat | None = None) -> float:
    """Bytes of the tensors of the published checkpoint, prediction modules included. [bytes]

    Parameters
    ----------
    model : the whole model.
    weights : format; the published one when not given.

    References
    ----------
    .. [1] Hugging Face deepseek-ai/DeepSeek-V3 model.safetensors.index.json.
    .. [2] github deepseek-ai/DeepSeek-V3 README_WEIGHTS.md (copied embedding and head).
    """
    weights = weights or model.native_format
    main = sum(resident_bytes(model, weights).values())
    return main + model.mtp_layers * _mtp_module_bytes(model, weights)


def padding(storage: Storage, hidden_size: int) -> float:
    """What kernels hold of experts over what is stored: MXFP4's sides of whole 256.

    References
    ----------
    .. [1] vLLM start-up logs of gpt-oss-120b on one H100: 64.38 GiB for Triton's kernels, 65.97 for
       Marlin's, which pad the experts' own width as well; 60.8 GiB are stored (docs/memory.md).
    """
    return -(-hidden_size // 256) * 256 / hidden_size if storage == "mxfp4" else 1.0


def _component_bytes(
    model: ModelSpec, weights: WeightFormat, name: str, count: int, vectors: int
) -> float:
    storage = storage_format(weights, name, has_experts=model.moe is not None)
    return (count - vectors) * bytes_per_parameter(storage) + 2 * vectors


def _vectors(model: ModelSpec) -> dict[str, int]:
    """Parameters of each component that stay bf16 whatever the format."""
    h, moe = model.hidden_size, model.moe
    attention = parameters(model).attention - sum(
        group.layers * matrix.parameters
        for group in model.attention
        for matrix in attention_matrices(group, h)
    )
    vectors = dict.fromkeys(COMPONENTS, 0) | {"attention": attention}
    if moe is not None:
        gates = sum(m.parameters for m in shared_expert_matrices(moe, h)[2:])
        vectors["shared_experts"] = moe.layers * gates
        vectors["routed_experts"] = moe.layers * moe.experts * expert_bias_parameters(model)
    return vectors


def _mtp_module_bytes(model: ModelSpec, weights: WeightFormat) -> float:
    """One module: a layer stored like the main model's, the rest bf16, and the copied head."""
    layer = first_layer(model)
    layer_parameters: Parameters = parameters(layer)
    in_layer = layer_parameters.total - 2 * model.vocab_size * model.hidden_size
    rest = mtp_module_parameters(model) - in_layer
    stored = resident_bytes(layer, weights)
    copies = 0
    if model.mtp_copies_head:
        copies = model.hidden_size * (2 * model.vocab_size + 1)
    inside = sum(stored.values()) - stored["embed"] - stored["lm_head"]
    return inside + 2 * (rest + copies)


def first_layer(model: ModelSpec) -> ModelSpec:
    """The layer a prediction module repeats, as a model of its own.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437, section 2.2.
    """
    one = {"layers": 1}
    return model.model_copy(
        update={
            "attention": (model.attention[0].model_copy(update=one),),
            "dense_mlp": None
            if model.moe or model.dense_mlp is None
            else model.dense_mlp.model_copy(update=one),
            "moe": model.moe.model_copy(update=one) if model.moe else None,
            "tied_embeddings": False,
        }
    )
