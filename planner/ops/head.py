"""The output head: from a hidden state to the next token."""

from planner.ops.layer import dense
from planner.ops.op import Elementwise, Op, Real
from planner.shard import Shard
from planner.sourced import Sourced

KERNELS_TO_CHOOSE = Sourced(
    5,
    source="github NVIDIA/TensorRT-LLM, pull request 10476",
    note="small kernels that take as long as finding the largest of few rows of logits: 15 us with "
    "torch.argmax and the clearing before it, for gpt-oss at batch 1 on a device not named; "
    "on MI300 40 us (sgl-project/sglang, pull request 25251), 23 by this count; other engines and "
    "vocabularies are taken to need as many",
    confidence="assumed",
)


def head_ops(shard: Shard, rows: Real) -> list[Op]:
    """Output projection and greedy choice of ``rows`` tokens that need a next token.

    Every tensor-parallel rank holds all gathered logits, converts them to 32 bits and looks for
    the largest itself.

    References
    ----------
    .. [1] H. Touvron et al., "LLaMA", arXiv:2302.13971 (untied output projection).
    .. [2] NVIDIA, TensorRT-LLM, pull request 18836 (logits are gathered and converted whole).
    .. [3] :data:`KERNELS_TO_CHOOSE`.
    """
    logits, kernels = rows * shard.head.n * shard.attention_tp, float(KERNELS_TO_CHOOSE)
    return [
        dense(shard.head, rows, 1.0),
        Elementwise("lm_head/logits", 6.0 * logits),
        Elementwise("lm_head/sample", 4.0 * logits / kernels, kernels),
    ]
