"""HBM footprint of one device, and the KV capacity that is left."""

from dataclasses import dataclass
from typing import Any, assert_never

from planner.errors import InfeasibleError
from planner.ops.op import ELEMENT_BYTES
from planner.shard import Shard
from planner.sourced import Sourced
from planner.specs.deployment import Limits
from planner.specs.engine import EngineSpec
from planner.specs.hardware import AcceleratorSpec

RESERVED_BYTES = Sourced(
    0.6e9,
    source="vllm start-up logs: 79.19 GiB of an H100's 79.65, 139.81 of 140.40, 267.69 of 268.59",
    note="memory that the driver's tool shows and no program gets",
    confidence="derived",
)
CONTEXT_BYTES = Sourced(
    0.76e9,
    source="sglang start-up log: 78.48 of 79.19 GiB of an H100 are free before weights",
    note="driver context",
    confidence="derived",
)
WORKSPACE_BYTES = Sourced(
    0.27e9,
    source="vllm start-up logs, one device: 0.07 to 0.25 GiB outside PyTorch",
    note="workspaces of libraries",
    confidence="derived",
)
GRAPH_BYTES = Sourced(
    1.8e9,
    source="vllm and sglang start-up logs: 0.3 to 3.5 GiB, median 1.6",
    note="captured graphs",
    confidence="derived",
)
COLLECTIVE_BUFFER_BYTES = Sourced(
    1.9e9,
    source="vllm and sglang start-up logs, two to eight devices: 0.7 to 2.3 GiB, median 1.8",
    note="buffers of the collective library and of the engine's all-reduce",
    confidence="derived",
)
LOW_LATENCY_BATCH_TOKENS = Sourced(
    128,
    source="github deepseek-ai/DeepEP README (num_max_dispatch_tokens_per_rank)",
    note="tokens a rank for which all-to-all buffers are laid out",
    confidence="assumed",
)

GENERIC = EngineSpec()


@dataclass(frozen=True, slots=True)
class Memory:
    """What one device holds.  All sizes in bytes unless the name says otherwise."""

    capacity_bytes: float
    usable_bytes: float
    """What the engine may use, cache included."""
    weights: dict[str, float]
    activations_bytes: float
    communication_bytes: float
    runtime_bytes: float
    kv_bytes: float
    """Left for the KV cache; 0 when nothing is left."""
    kv_bytes_per_token: float
    """Growing cache of one context token on this device."""
    state_bytes_per_sequence: float
    """Constant cache of one sequence on this device (windows, recurrent states)."""
    kv_capacity_tokens_per_rank: int
    """Context tokens one attention rank can hold."""
    ranks: int
    stated: bool
    """Whether the capacity was given by the user instead of computed."""

    @property
    def weights_bytes(self) -> float:
        """All weights of this device."""
        return sum(self.weights.values())

    @property
    def fixed_bytes(self) -> float:
        """Everything but the cache."""
        return (
            self.weights_bytes
            + self.activations_bytes
            + self.communication_bytes
            + self.runtime_bytes
        )

    @property
    def kv_capacity_tokens(self) -> int:
        """Context tokens all attention ranks of a replica can hold together."""
        return self.kv_capacity_tokens_per_rank * self.ranks

    @property
    def fits(self) -> bool:
        """Whether weights and buffers leave room for at least one context token."""
        return self.kv_capacity_tokens_per_rank > 0

    @property
    def short_by_bytes(self) -> float:
        """Bytes a device lacks to hold weights, buffers and one token; 0 when it fits."""
        if self.fits:
            return 0.0
        needed = self.fixed_bytes + self.kv_bytes_per_token + self.state_bytes_per_sequence
        return max(0.0, needed - self.usable_bytes)

    @property
    def sequence_overhead_tokens(self) -> int:
        """Constant cache of a sequence, counted in context tokens (rounded up)."""
        if not self.kv_bytes_per_token:
            return 0
        return -int(-self.state_bytes_per_sequence // self.kv_bytes_per_token)

    def require(self) -> None:
        """Raise InfeasibleError when it does not fit."""
        if not self.fits:
            raise InfeasibleError(
                "HBM per device",
                self.usable_bytes + self.short_by_bytes,
                self.usable_bytes,
                "bytes",
                "spread it over more devices, store weights in fewer bits, "
                "or raise limits.memory_share",
            )

    def per_device_bytes(self) -> dict[str, float]:
        """Every component, the cache and what stays free; adds up to the capacity when it fits."""
        free = self.capacity_bytes - self.fixed_bytes - self.kv_bytes
        return {
            **self.weights,
            "activations": self.activations_bytes,
            "communication": self.communication_bytes,
            "runtime": self.runtime_bytes,
            "kv_cache": self.kv_bytes,
            "reserve": max(0.0, free),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "fits": self.fits,
            "short_by_bytes": self.short_by_bytes,
            "kv_capacity_tokens": self.kv_capacity_tokens,
            "kv_capacity_tokens_per_rank": self.kv_capacity_tokens_per_rank,
            "capacity_bytes": self.capacity_bytes,
            "usable_bytes": self.usable_bytes,
            "weights_bytes": self.weights_bytes,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "state_bytes_per_sequence": self.state_bytes_per_sequence,
            "per_device_bytes": self.per_device_bytes(),
        }


def footprint(
    shard: Shard,
    part: AcceleratorSpec,
    limits: Limits,
    draft: Shard | None = None,
    engine: EngineSpec = GENERIC,
) -> Memory:
    r"""Divide the HBM of one device.

    Of capacity ``M`` less what the driver keeps, weights ``W``, activations ``A``, communication
    buffers ``C``, workspaces ``S``, the driver's context ``D`` and captured graphs ``G`` the cache
    gets, by what ``memory_share`` :math:`u` is a share of, and never more than the rest,

    .. math:: M_{KV} = \begin{cases}
              u M - W - A - C - S & \text{device (vLLM) [1]} \\
              u (M - C - D) - W & \text{static (SGLang) [2]} \\
              u (M - W - A - C - S - D - G) & \text{free (TensorRT-LLM) [3]}
              \end{cases}, \qquad tokens = \lfloor M_{KV} / b_{KV} \rfloor

    Windows and recurrent states do not grow and are not in ``b_KV``; a sequence brings them along
    (``state_bytes_per_sequence``).

    Parameters
    ----------
    draft : the module that drafts tokens, if any: its weights, and a cache of its own.
    engine : what it takes ``limits.memory_share`` of, and what sampling takes.

    References
    ----------
    .. [1] W. Kwon et al., "PagedAttention", arXiv:2309.06180, section 2 (where HBM goes); github
       vllm-project/vllm vllm/v1/worker/gpu_worker.py (determine_available_memory), whose log
       lines add up to this within 0.01 GiB in 18 of 20 starts (docs/memory.md).
    .. [2] github sgl-project/sglang python/sglang/srt/model_executor/model_runner.py
       (profile_max_num_token).
    .. [3] NVIDIA, "How to Change KV Cache Behavior", nvidia.github.io/TensorRT-LLM
       (free_gpu_memory_fraction).
    """
    capacity = float(part.memory_bytes)
    held = shard.weight_bytes | (draft.weight_bytes if draft else {})
    weights = {name: size for name, size in held.items() if size}
    activations = activation_bytes(shard, limits, engine.sampling_bytes)
    communication = communication_bytes(shard)
    beside = float(CONTEXT_BYTES) + float(GRAPH_BYTES)
    runtime = beside + float(WORKSPACE_BYTES)
    fixed = sum(weights.values()) + activations + communication + runtime
    seen = capacity - float(RESERVED_BYTES)
    share, most = limits.memory_share, seen - fixed
    match engine.memory_share_of:
        case "device":
            left = min(seen * share - (fixed - beside), most)
        case "static":
            before = seen - communication - float(CONTEXT_BYTES)
            left = min(before * share - sum(weights.values()), most)
        case "free":
            left = most * share if most > 0 else most
        case _:
            assert_never(engine.memory_share_of)
    per_token = shard.kv_bytes_per_token + (draft.kv_bytes_per_token if draft else 0.0)
    tokens = max(0, int(left // per_token)) if per_token else 0
    if limits.kv_tokens is not None:
        tokens = limits.kv_tokens
    return Memory(
        capacity_bytes=capacity,
        usable_bytes=fixed + left,
        weights=weights,
        activations_bytes=activations,
        communication_bytes=communication,
        runtime_bytes=runtime,
        kv_bytes=tokens * per_token,
        kv_bytes_per_token=per_token,
        state_bytes_per_sequence=shard.state_bytes_per_sequence
        + (draft.state_bytes_per_sequence if draft else 0.0),
        kv_capacity_tokens_per_rank=tokens,
        ranks=shard.attention_dp,
        stated=limits.kv_tokens is not None,
    )


def activation_bytes(shard: Shard, limits: Limits, sampling_bytes: float = 0.0) -> float:
    r"""Largest working set of a step: of its layers, or of sampling where an engine reserves that.

    .. math:: \max(P\,(h\,(a + 2) + m\,(4 + 1)) + 8\,T h + 4\,S V_{tp},\; s\,S V + 2.4\,T h)

    Permuted expert inputs and outputs, residual, logits; with ``P`` (token, expert) pairs of this
    device, ``m`` the local expert width, ``T`` tokens of a full step of one rank, ``S`` sequences,
    ``V`` the vocabulary, which is gathered before sampling, and ``s`` bytes an entry.

    References
    ----------
    .. [1] sglang, python/sglang/srt/layers/moe (permuted layout); the sum of its buffers.
    .. [2] github vllm-project/vllm vllm/v1/worker/gpu_model_runner.py (profile_run,
       _dummy_sampler_run): the most sequences at once, sampled; docs/memory.md.
    """
    tokens = limits.max_step_tokens / shard.pp
    sequences = min(limits.max_sequences, limits.max_step_tokens)
    sampling = sampling_bytes * sequences * shard.vocab_size + 2.4 * tokens * shard.hidden_size
    working = 8.0 * tokens * shard.hidden_size
    logits = 4.0 * sequences * shard.head.n
    if shard.dense:
        working += 5.0 * tokens * shard.dense[0].n / 2
    if shard.moe:
        moe = shard.moe
        pairs = tokens * shard.attention_dp * moe.top_k / shard.moe_ep
        act = ELEMENT_BYTES["fp8" if moe.gate_up.storage == "fp8" else "bf16"]
        working += pairs * (moe.message_elements * (act + 2.0) + 5.0 * moe.gate_up.n / 2)
    return max(working + logits, sampling)


def communication_bytes(shard: Shard) -> float:
    r"""Buffers of the collective library, and of low-latency all-to-all where it is used.

    .. math:: 4\,E\,T_{max}\,(2 h + 4 h / 128)

    two send and two receive buffers of ``T_max`` tokens for each of ``E`` expert slots.

    References
    ----------
    .. [1] github deepseek-ai/DeepEP, csrc/config.hpp (LowLatencyLayout).
    """
    if shard.devices == 1:
        return 0.0
    total = float(COLLECTIVE_BUFFER_BYTES)
    if shard.moe and shard.uses_all_to_all:
        h = shard.moe.message_elements
        total += 4 * shard.moe.slots * float(LOW_LATENCY_BATCH_TOKENS) * (2 * h + 4 * h / 128)
    return total
