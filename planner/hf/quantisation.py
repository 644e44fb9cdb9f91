"""``quantization_config`` -> the format of the published checkpoint."""

from typing import Any

from planner.hf.fields import Fields
from planner.specs.model import WeightFormat

_KNOWN = "fp8, mxfp4, compressed-tensors and modelopt with fp8, nvfp4, mxfp4 or int4 weights"


def native_format(config: Fields, text: Fields) -> WeightFormat:
    """Format of the large matrices; bf16 where the configuration names none.

    Parameters
    ----------
    config, text : the whole file and its text model (the same object where nothing is nested).

    Raises
    ------
    InputError
        The method is not one of those the project can count bytes of.

    References
    ----------
    .. [1] github vllm-project/compressed-tensors README; github NVIDIA/Model-Optimizer README.
    """
    owner = next((part for part in (config, text) if part.has("quantization_config")), None)
    if owner is None:
        return "bf16"
    table = owner.table("quantization_config")
    found = _method(table)
    if found is None:
        method = table.word("quant_method") or table.word("quant_algo")
        table.fail("quant_method", f"{method!r} is not known here; known: {_KNOWN}")
    experts = config.word("expert_dtype") or text.word("expert_dtype")
    return "mxfp4_fp8" if found == "fp8" and experts == "fp4" else found


def _method(table: Fields) -> WeightFormat | None:
    algorithm = table.word("quant_algo").upper()
    if algorithm == "MIXED_PRECISION":
        return _mixed(table)
    if algorithm in ("NVFP4", "FP8"):
        return "nvfp4" if algorithm == "NVFP4" else "fp8"
    method = table.word("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method == "compressed-tensors":
        return _compressed_tensors(table)
    return None


def _mixed(table: Fields) -> WeightFormat | None:
    layers = table.table("quantized_layers").data.values()
    algorithms = {layer.get("quant_algo") for layer in layers if isinstance(layer, dict)}
    if "NVFP4" in algorithms:
        return "nvfp4"
    return "fp8" if algorithms & {"FP8", "MXFP8"} else None


def _compressed_tensors(table: Fields) -> WeightFormat | None:
    groups = table.table("config_groups")
    if not groups.data:
        return None
    first = groups.table(next(iter(groups.data)))
    weights = first.table("weights")
    key: tuple[str, int, Any] = (
        weights.word("type"),
        weights.integer("num_bits"),
        weights.data.get("group_size"),
    )
    match key:
        case ("int", 4, _):
            return "int4"
        case ("float", 4, 16):
            return "nvfp4"
        case ("float", 4, _):
            return "mxfp4"
        case ("float", 8, _):
            return "fp8"
        case _:
            return None
