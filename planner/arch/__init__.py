"""Parameters, FLOP and KV bytes of the whole model, unsharded.

Vocabulary used by everything above: an attention layer is a list of weight matrices
(:class:`Matrix`) plus what its core does with the context (:class:`AttentionCore`).
"""

from planner.arch.attention import (
    Matrix,
    Split,
    attention_matrices,
    attention_other_parameters,
)
from planner.arch.core import AttentionCore, attended_entries, attention_core
from planner.arch.flop import TokenFlop, flop_per_token, training_flop_per_token
from planner.arch.kv import (
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    kv_bytes_per_token_layer,
    kv_entry_bytes,
)
from planner.arch.parameters import (
    COMPONENTS,
    Parameters,
    expert_bias_parameters,
    expert_matrices,
    expert_parameters,
    hyper_connection_matrices,
    latent_matrices,
    mlp_matrices,
    mtp_module_parameters,
    parameters,
    router_matrix,
    router_parameters,
    shared_expert_matrices,
)
from planner.arch.storage import (
    Storage,
    bytes_per_parameter,
    checkpoint_bytes,
    first_layer,
    padding,
    resident_bytes,
    storage_format,
)

__all__ = [
    "COMPONENTS",
    "AttentionCore",
    "Matrix",
    "Parameters",
    "Split",
    "Storage",
    "TokenFlop",
    "attended_entries",
    "attention_core",
    "attention_matrices",
    "attention_other_parameters",
    "bytes_per_parameter",
    "checkpoint_bytes",
    "expert_bias_parameters",
    "expert_matrices",
    "expert_parameters",
    "first_layer",
    "flop_per_token",
    "hyper_connection_matrices",
    "kv_bytes_per_sequence",
    "kv_bytes_per_token",
    "kv_bytes_per_token_layer",
    "kv_entry_bytes",
    "latent_matrices",
    "mlp_matrices",
    "mtp_module_parameters",
    "padding",
    "parameters",
    "resident_bytes",
    "router_matrix",
    "router_parameters",
    "shared_expert_matrices",
    "storage_format",
    "training_flop_per_token",
]
