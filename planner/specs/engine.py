"""How a serving engine schedules.  What it costs beside kernels is in ``overheads``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Count, Spec
from planner.specs.overheads import EngineOverheads, OverheadsFit

Policy = Literal["mixed", "prefill_first", "inflight", "interleaved"]
"""What a step holds when prompts wait beside decoding sequences.

``mixed`` decoding first, chunks of prompts in what the token budget leaves; ``prefill_first``
prompts alone, decoding waits; ``inflight`` as mixed, but whole prompts only; ``interleaved`` one
prompt alone, then a number of decode steps.
"""

Preemption = Literal["none", "recompute", "swap"]

ShareOf = Literal["device", "static", "free"]
"""What ``limits.memory_share`` is a share of.

``device`` of the device's memory, for everything the engine holds (vLLM, JetStream); ``static`` of
what is free before weights are loaded, for weights and cache, activations beside it (SGLang);
``free`` of what is free once weights, activations and buffers are held, for the cache alone
(TensorRT-LLM).
"""

Gathers = Literal["never", "in_a_box", "always"]
"""Where ranks of attention data parallelism gather all tokens for their experts, if a deployment
names no exchange: nowhere, where links join no more than :data:`BOX_DEVICES`, or everywhere."""

BOX_DEVICES = 8


class EngineLimits(Spec):
    """The engine's own defaults; a deployment's ``limits`` go before them."""

    max_sequences: Count | None = None
    max_step_tokens: Count | None = None
    memory_share: Annotated[float, Field(gt=0, le=1)] | None = None


class LargestByMemory(Spec):
    """Largest captured batch on parts with less memory than this."""

    below_gib: Annotated[float, Field(gt=0)]
    few_devices: Count
    """Where a replica has fewer than four devices."""
    many_devices: Count


class GraphRules(Spec):
    """Which of an engine's batch sizes a deployment captures, and what is padded to them."""

    counted: Literal["sequences", "tokens"] = "sequences"
    """What the sizes count; they differ where a step verifies drafts.  Sizes that count tokens
    end at a step's tokens."""
    largest_over_running: Annotated[float, Field(ge=1)] | None = None
    """No size above this many times the sequences a step can hold."""
    captures_running: bool = False
    """Where the list goes beyond what a rank may run at once, exactly that is captured."""
    largest_by_memory: tuple[LargestByMemory, ...] = ()
    """Rising; the first that applies.  None applies: the whole list."""
    mixed_steps: bool = False
    """Steps that compute prompts are padded, too, where the list reaches their tokens."""
    holds_head: bool = True
    """The output projection is captured; else it runs on real rows."""
    padding_alike: bool = False
    """Padding is copies of one sequence: it goes to the experts of one."""
    padding_stays_home: bool = False
    """Padding is not sent where tokens travel to their experts one by one."""


class ExpertKernels(Spec):
    """Libraries of grouped products by the format they multiply in, best first.

    The first runs that a part has shares of; where there is none, or tokens are sent to their
    experts, those of the calibration's ``grouped_gemm``.  Weights that a kernel expands itself
    go by how they are stored, wherever tokens are; where there is none, those of
    ``stored_experts``.
    """

    bf16: tuple[str, ...] = ()
    fp8: tuple[str, ...] = ()
    fp4: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    mxfp4: tuple[str, ...] = ()
    mxfp4_biased: tuple[str, ...] = ()
    """Of experts with biases, as gpt-oss has them, for which engines have kernels of their own."""
    int4: tuple[str, ...] = ()


class EngineSpec(Spec):
    """Scheduling of one engine.  The defaults are those of the generic engine."""

    name: str = "generic"
    title: str = ""
    version: str = ""
    """Version these rules were read from."""
    source: str = "assumption"
    """Keys of the references, comma-separated."""
    policy: Policy = "mixed"
    chunked_prefill: bool = True
    """A prompt may be computed in several steps.  Without it a prompt longer than the step's
    tokens is rejected."""
    decode_steps_between_prefills: Count = 1
    """Of ``interleaved``."""
    answer_reserve_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the answer's tokens still to come for which a request is only admitted if the KV
    cache has room: 1 never runs out, 0 admits as soon as the prompt fits."""
    preemption: Preemption = "none"
    """What happens to the youngest sequence when the cache is full."""
    room_steps: Count = 1
    """Decode steps of all sequences for which admission leaves room beside that, and for which
    preemption makes room."""
    memory_share_of: ShareOf = "device"
    sampling_bytes: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Memory that is kept for sampling all sequences at once, by sequence and vocabulary entry;
    0: none beside that of a step. [bytes]"""
    kv_block_tokens: Count = 1
    """Granularity of the KV cache; a sequence wastes half a block. [tokens]"""
    poll_steps: Count = 1
    """The scheduler looks for new requests every this many decode steps; it always does after a
    step with prefill and when idle."""
    polls_ahead: bool = False
    """The look that goes with a step with prefill is at its start, not its end: the host runs a
    step ahead of the device (overlapped scheduling), so what arrives meanwhile waits for the next.
    Of no effect where every step looks."""
    balance_steps: Annotated[int, Field(ge=0)] = 0
    """Decode steps for which prompts wait until every attention data-parallel rank has one."""
    stream_interval_tokens: Count = 1
    """Tokens sent to the client at once, after the first."""
    stream_counts_first: bool = True
    """The first token, sent at once, is none of the next ones: after it ``k`` more, not up to the
    ``k``-th."""
    graph_batch_sizes: tuple[Count, ...] = ()
    """Decode batches are padded up to the next of these (captured graphs); above the last they
    are not, and every kernel is launched by the host.  Empty: no padding, no such time."""
    graphs: GraphRules = GraphRules()
    gathers: Gathers = "never"
    expert_kernels: ExpertKernels = ExpertKernels()
    attention_kernels: str = ""
    """Whose attention it calls, by name among a calibration's ``attention_kernels``; empty, or
    none of a part: the part's own."""
    windows_whole: bool = False
    """Layers that attend to a window keep the cache of every token."""
    limits: EngineLimits = EngineLimits()
    overheads: EngineOverheads = EngineOverheads()
    """What is stated here goes before what is fitted."""
    fit: OverheadsFit | None = None
    """Overheads fitted to measured runs, from which those of a part, format and mode are taken."""
    notes: str = ""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.answer_reserve_share < 1 and self.preemption == "none":
            raise ValueError(
                f"answer_reserve_share {self.answer_reserve_share:g} may fill the cache; "
                "say what happens then: preemption: recompute or swap"
            )
        if self.policy == "inflight" and self.chunked_prefill:
            raise ValueError("inflight runs whole prompts; use mixed, or chunked_prefill: false")
        if self.balance_steps and self.policy in ("prefill_first", "interleaved"):
            raise ValueError(f"balance_steps is not known of {self.policy}")
        if self.preemption == "swap" and self.policy in ("prefill_first", "interleaved"):
            raise ValueError(f"swap is not known of {self.policy}; use recompute")
        if list(self.graph_batch_sizes) != sorted(set(self.graph_batch_sizes)):
            raise ValueError("graph_batch_sizes must rise")
        if not self.graph_batch_sizes and self.graphs != GraphRules():
            raise ValueError("graphs say how graph_batch_sizes are used; state those, too")
        return self
