"""Choose the family by ``model_type`` and put the parts together."""

from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import InputError
from planner.hf import grouped, latent
from planner.hf.fields import Fields, read_json
from planner.hf.parts import FamilyReader, Parts
from planner.hf.quantisation import native_format
from planner.specs.model import ModelSpec

_FAMILIES: dict[str, FamilyReader] = {
    "dbrx": grouped.dbrx,
    "deepseek_v2": latent.deepseek,
    "deepseek_v3": latent.deepseek,
    "deepseek_v32": latent.deepseek,
    "deepseek_v4": latent.deepseek_v4,
    "glm4_moe": grouped.glm4_moe,
    "glm_moe_dsa": latent.deepseek,
    "gpt_oss": grouped.gpt_oss,
    "grok-1": grouped.mixtral,
    "kimi_k2": latent.deepseek,
    "kimi_linear": latent.kimi_linear,
    "llama": grouped.dense,
    "llama4_text": grouped.llama4,
    "mimo_v2_flash": grouped.mimo,
    "minimax_m2": grouped.minimax,
    "minimax_m3": grouped.minimax,
    "mistral": grouped.dense,
    "mixtral": grouped.mixtral,
    "olmoe": grouped.mixtral,
    "qwen2": grouped.dense,
    "qwen2_moe": grouped.qwen_moe,
    "qwen3": grouped.dense,
    "qwen3_5_moe_text": grouped.qwen_hybrid,
    "qwen3_5_text": grouped.qwen_hybrid,
    "qwen3_moe": grouped.qwen_moe,
    "qwen3_next": grouped.qwen_hybrid,
    "qwen3_vl_moe_text": grouped.qwen_moe,
    "qwen3_vl_text": grouped.dense,
    "step3p5": grouped.step,
    "step3p7": grouped.step,
}
_WRAPPERS = {
    "kimi_k25": "kimi_k2",
    "kimi_k3": "kimi_linear",
    "llama4": "llama4_text",
    "minimax_m3_vl": "minimax_m3",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
"""Types with a vision tower, and the type of the text model inside ``text_config``."""

KNOWN_MODEL_TYPES: tuple[str, ...] = tuple(sorted({*_FAMILIES, *_WRAPPERS}))
"""Values of ``model_type`` that can be read."""


def model_from_hf_config(path: str | PathLike[str]) -> ModelSpec:
    """Read the architecture from a Hugging Face ``config.json``.

    The public door to this function is ``ModelSpec.from_hf_config``.  Where a checkpoint wraps a
    text model (``text_config``), only that is described.  A separate ``hf_quant_config.json``
    is not read.

    Parameters
    ----------
    path : the file, or the directory that holds it.

    Returns
    -------
    ModelSpec
        Named after the file, or after its directory where the file is called ``config.json``.
        It has no published figures.

    Raises
    ------
    InputError
        The file cannot be read, the ``model_type`` or quantisation is not known, or a field is
        missing or cannot be; says which, on which line, and what would do.

    References
    ----------
    .. [1] transformers 5.23.0, models/*/configuration_*.py (meaning and defaults of the fields).
    """
    config = read_json(Path(path))
    kind, text = _text_model(config)
    try:
        return _spec(config, text, _FAMILIES[kind](text))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        problem = fault["msg"].removeprefix("Value error, ")
        field = ".".join(str(step) for step in fault["loc"])
        raise InputError(str(config.path), field, problem) from None


def _text_model(config: Fields) -> tuple[str, Fields]:
    """Type and fields of the text model, the type written into them where it is missing."""
    kind = config.word("model_type")
    if not kind:
        config.fail("model_type", f"is missing; known: {', '.join(KNOWN_MODEL_TYPES)}")
    if kind not in _FAMILIES and kind not in _WRAPPERS:
        config.fail("model_type", f"{kind!r} is not known; known: {', '.join(KNOWN_MODEL_TYPES)}")
    if not (kind in _WRAPPERS or config.has("text_config")):
        return kind, config
    text = config.table("text_config")
    inner = text.word("model_type", _WRAPPERS.get(kind, kind))
    if inner not in _FAMILIES:
        text.fail("model_type", f"{inner!r} is not known; known: {', '.join(sorted(_FAMILIES))}")
    return inner, Fields(text.path, text.text, text.data | {"model_type": inner}, text.prefix)


def _spec(config: Fields, text: Fields, parts: Parts) -> ModelSpec:
    path = config.path
    stem = path.resolve().parent.name if path.name == "config.json" else path.stem
    hf_id = config.word("_name_or_path") or stem or "model"
    tied_habit = text.word("model_type").startswith("grok")
    outer = config.flag("tie_word_embeddings", tied_habit)
    values: dict[str, Any] = {
        "name": (stem or "model").lower(),
        "title": hf_id.rsplit("/", maxsplit=1)[-1],
        "hf_id": hf_id,
        "source": f"{path} (Hugging Face configuration)",
        "hidden_size": text.integer("hidden_size", "d_model"),
        "vocab_size": text.integer("vocab_size"),
        "tied_embeddings": text.flag("tie_word_embeddings", outer),
        "max_context_tokens": text.integer("max_position_embeddings", "max_seq_len"),
        "attention": parts.attention,
        "dense_mlp": parts.dense,
        "moe": parts.moe,
        "mtp_layers": parts.mtp_layers,
        "mtp_copies_head": parts.mtp_copies_head and parts.mtp_layers > 0,
        "layer_vectors": parts.layer_vectors,
        "hyper_connections": parts.hyper_connections,
        "native_format": native_format(config, text),
    }
    return ModelSpec.model_validate(values)
