"""Speculative decoding as work: verification of several tokens, and the module that drafts them."""

import math
from dataclasses import dataclass, replace

from planner.ops import AttentionDecode, Elementwise, Gemm, Op, Real
from planner.ops.op import COMPUTE_PRECISION
from planner.shard import Shard, draft_shard
from planner.sourced import Sourced
from planner.specs.deployment import Pool
from planner.specs.hardware import AcceleratorSpec
from planner.specs.model import ModelSpec
from planner.specs.speculative import Speculative

KERNELS_A_STEP = Sourced(
    26,
    source="github NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/speculative/mtp.py (MTPEagleWorker)",
    note="small kernels around verification, counted: accept 8, save and restore lengths 2, "
    "indices 9, cache lengths 2, next inputs 5; other engines are taken to need as many",
    confidence="assumed",
)

KERNELS_A_PASS = Sourced(
    6,
    source="github NVIDIA/TensorRT-LLM, tensorrt_llm/_torch/speculative/mtp.py (MTPEagleWorker)",
    note="small kernels after each draft pass, counted: hidden states of the last token twice, its "
    "position twice, token id, cache length; other engines are taken to need as many",
    confidence="assumed",
)

MLA_TILE_ROWS = Sourced(
    64,
    source="github deepseek-ai/FlashMLA, block size of decode; issue 30 (H20, 16 heads)",
    note="rows of a tile of MLA decode kernels on Hopper, heads times new tokens of a sequence; "
    "one to four new tokens of 16 heads take the same time on an H20, five or six twice that",
)

TOKENS_APART = ("sm100", "sm103")
"""Where each new token of a sequence is computed apart.

References
----------
.. [1] NVIDIA, TensorRT-LLM, cpp/tensorrt_llm/kernels/trtllmGenKernels/fmha/fmhaKernels.h
   (``computeNumCtas``: as many thread blocks a sequence as it has new tokens); FlashInfer runs the
   same kernels for SGLang and vLLM.
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one device does to draft tokens, and how many a step then yields."""

    shard: Shard
    """The draft module's layers on this device."""
    spec: Speculative

    @property
    def query_tokens(self) -> int:
        """Tokens of one sequence in a verification pass: the drafts and the one before them."""
        return self.spec.query_tokens

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens a sequence gains in a step."""
        return self.spec.expected_tokens

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(tokens a sequence, number of passes) of the draft module in a step.

        The first pass takes in every verified token, for its cache; the others one token each.

        References
        ----------
        .. [1] Y. Li et al., "EAGLE", arXiv:2401.15077, section 3 (features of all verified tokens
           enter the draft model, then it runs on its own outputs).
        """
        rest = self.spec.draft_tokens - 1
        return ((self.query_tokens, 1), *(((1, rest),) if rest else ()))

    def bookkeeping(self, sequences: Real) -> list[Op]:
        """Small kernels of a step: which tokens were accepted, and each pass's next inputs.

        Two of a pass move hidden states, the others a few integers a sequence: launches.

        References
        ----------
        .. [1] :data:`KERNELS_A_STEP` and :data:`KERNELS_A_PASS`.
        """
        drafts, moves = self.spec.draft_tokens, 2
        small = float(KERNELS_A_STEP) + drafts * (float(KERNELS_A_PASS) - moves)
        moved = 4.0 * self.shard.hidden_size * sequences
        return [
            Elementwise("draft/accepted_and_next", 16.0 * self.query_tokens * sequences, small),
            Elementwise("draft/last_hidden", moved, float(drafts * moves)),
        ]

    def joining(self, tokens: Real) -> list[Op]:
        """What joins hidden state and embedding: a look-up, two norms, ``[2h, h]``, on every rank.

        References
        ----------
        .. [1] DeepSeek-AI, "DeepSeek-V3", arXiv:2412.19437, section 2.2.
        """
        h = self.shard.hidden_size
        return [
            Elementwise("draft/embedding_and_norms", 4.0 * h * tokens, 3),
            Elementwise("draft/concatenation", 8.0 * h * tokens),
            Gemm("draft/joining", tokens, 2 * h, h, COMPUTE_PRECISION["bf16"], 2.0),
        ]


def draft(model: ModelSpec, pool: Pool) -> Draft | None:
    """Shard the draft module of ``pool``; None without speculation.

    Raises
    ------
    InputError
        The model has no prediction module to draft with.
    """
    spec = pool.speculative
    return None if spec is None else Draft(draft_shard(model, pool, spec), spec)


def tokens_apart(part: AcceleratorSpec) -> bool:
    """Whether attention kernels of ``part`` compute each new token of a sequence apart.

    References
    ----------
    .. [1] :data:`TOKENS_APART`.
    """
    return any(name in part.architecture for name in TOKENS_APART)


def verifying(op: AttentionDecode, queries: int, part: AcceleratorSpec) -> AttentionDecode:
    """Attention of ``queries`` new tokens a sequence over its cache.

    Kernels on Hopper multiply whole tiles of rows (heads times new tokens), so that a tile begun
    takes as long as a full one; the cache is read once.  On datacenter Blackwell every new token
    has thread blocks of its own, which read the cache again: from L2, but at the rate of a block,
    which many blocks share with HBM; so it is taken to cost as much as another sequence.

    References
    ----------
    .. [1] Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
       ICML 2023, section 3 (all drafts are verified in one pass).
    .. [2] :data:`MLA_TILE_ROWS` and :data:`TOKENS_APART`.
    """
    if queries == 1:
        return op
    computed = float(queries)
    rows, tile = op.heads * queries, float(MLA_TILE_ROWS)
    if "Hopper" in part.architecture and op.name == "attention/mla_core" and rows > tile:
        computed = math.ceil(rows / tile) * tile / op.heads
    apart = tokens_apart(part)
    return replace(
        op,
        pair_flop=computed * op.pair_flop,
        query_elements=queries * op.query_elements,
        indexer_pair_flop=queries * op.indexer_pair_flop,
        token_flop=queries * op.token_flop,
        new_tokens=1.0 if apart else computed,
        readings=float(queries) if apart else 1.0,
    )
