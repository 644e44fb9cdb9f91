"""What every reader of a model family returns, and how layers are sorted into groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.hf.fields import Fields
from planner.specs.model import Attention, DenseMlp, Moe


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The halves of the layers, and what else differs between families."""

    attention: tuple[Attention, ...]
    dense: DenseMlp | None = None
    moe: Moe | None = None
    mtp_layers: int = 0
    mtp_copies_head: bool = False
    layer_vectors: int = 2
    hyper_connections: int = 0


FamilyReader = Callable[[Fields], Parts]


def layer_count(config: Fields) -> int:
    """Transformer layers."""
    return config.integer("num_hidden_layers", "n_layers", "num_layers", most=10_000)


def dense_layers(
    config: Fields, width: str = "intermediate_size", count: int = 0
) -> DenseMlp | None:
    """``count`` layers with a plain MLP of the width in field ``width``."""
    if count == 0:
        return None
    return DenseMlp(layers=count, intermediate_size=config.integer(width))


def leading_dense(config: Fields) -> int:
    """Layers without experts, as DeepSeek's family writes it."""
    layers = layer_count(config)
    if config.has("mlp_layer_types"):
        return config.items("mlp_layer_types", "dense", "sparse", length=layers).count("dense")
    if isinstance(config.data.get("moe_layer_freq"), list):
        return config.items("moe_layer_freq", 0, 1, length=layers).count(0)
    first = config.integer("first_k_dense_replace", default=0, least=0)
    every = config.integer("moe_layer_freq", default=1)
    if first > layers:
        config.fail("first_k_dense_replace", f"must be at most the {layers} layers, got {first}")
    return sum(layer < first or layer % every != 0 for layer in range(layers))


def count_kinds(
    config: Fields, kinds: Sequence[str], default: Callable[[int], str]
) -> dict[str, int]:
    """Layers of each kind, from ``layer_types`` or else from ``default(layer)``."""
    layers = layer_count(config)
    if config.has("layer_types"):
        given = config.items("layer_types", *kinds, length=layers)
    else:
        given = [default(layer) for layer in range(layers)]
    return {kind: given.count(kind) for kind in kinds if kind in given}
