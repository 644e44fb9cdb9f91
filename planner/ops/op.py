"""The units of work.  Each keeps its real dimensions; FLOP and bytes are derived from them.

Work says nothing about time.  ``flop`` and ``hbm_bytes`` are of one call; ``count`` calls are
made in a step (one a layer).  Dimensions that depend on the batch may be arrays: every formula
takes either.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.arch import Storage
from planner.specs.calibration import AttentionVariant, OpFamily
from planner.specs.hardware import Precision

Real = float | NDArray[np.float64]
"""A scalar for one case, or an array for many."""


def larger(a: Real, b: Real) -> Real:
    """The larger of two, element by element; numpy takes ten times as long for two scalars.

    References
    ----------
    .. [1] Maximum.
    """
    if isinstance(a, float) and isinstance(b, float):
        return a if a >= b else b
    return np.maximum(a, b)


def smaller(a: Real, b: Real) -> Real:
    """The smaller of two, as :func:`larger`.

    References
    ----------
    .. [1] Minimum.
    """
    if isinstance(a, float) and isinstance(b, float):
        return a if a <= b else b
    return np.minimum(a, b)


ELEMENT_BYTES: dict[Precision, float] = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Size of one activation element. [bytes]"""

COMPUTE_PRECISION: dict[Storage, Precision] = {
    "bf16": "bf16",
    "fp8": "fp8",
    "nvfp4": "fp4",
    "nvfp4_w4a16": "bf16",
    "mxfp4": "bf16",
    "int4": "bf16",
}
"""Format the matrix units multiply in.

Weight-only formats are expanded to bf16 on the fly: mxfp4, int4, and NVFP4 on parts without units
for it (vLLM does so with Marlin kernels [1]_).

References
----------
.. [1] github vllm-project/vllm vllm/model_executor/layers/quantization/utils/marlin_utils_fp4.py.
"""


@dataclass(frozen=True, slots=True)
class Gemm:
    r"""Activations ``[m, k]`` times weights ``[k, n]``, result in bf16.

    .. math:: F = 2 m k n, \qquad B = a\,m k + w\,k n + 2\,m n

    with ``a`` bytes an activation and ``w`` bytes a weight: every operand crosses HBM once, which
    holds while a tile of the result stays on chip [1]_.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.

    Examples
    --------
    >>> Gemm("qkv", 1.0, 4096, 4096, "bf16", 2.0).flop
    33554432.0
    """

    name: str
    m: Real
    k: float
    n: float
    precision: Precision
    weight_bytes: float
    count: float = 1.0

    @property
    def family(self) -> OpFamily:
        """Calibration family."""
        return "gemm"

    @property
    def flop(self) -> Real:
        """Work of one call. [FLOP]"""
        return 2 * self.m * self.k * self.n

    @property
    def hbm_bytes(self) -> Real:
        """HBM traffic of one call. [bytes]"""
        activations = self.m * self.k * ELEMENT_BYTES[self.precision] + 2 * self.m * self.n
        return activations + self.k * self.n * self.weight_bytes


@dataclass(frozen=True, slots=True)
class Given:
    """Tokens that a grouped product is given, whoever holds the experts they chose."""

    tokens: Real
    pairs: Real
    """Pairs of theirs with an expert, held by this device or not."""
    elements: Real
    """Elements of them."""
    experts: float
    """Expert slots that this device holds."""
    among: float
    """Expert slots they chose among."""

    @property
    def rows_each(self) -> Real:
        """Rows an expert held, if all pairs were of experts held here."""
        return self.pairs / self.experts


@dataclass(frozen=True, slots=True)
class GroupedGemm:
    r"""One matrix product per expert: ``pairs`` (token, expert) rows over ``touched`` experts.

    .. math:: F = 2\,P k n, \qquad B = P\,(a k + 2 n) + w\,E_{touched}\,k n

    References
    ----------
    .. [1] DeepSeek-AI, "DeepGEMM", github.com/deepseek-ai/DeepGEMM, README (grouped GEMM).
    """

    name: str
    pairs: Real
    touched: Real
    k: float
    n: float
    precision: Precision
    weight_bytes: float
    count: float = 1.0
    storage: Storage | None = None
    """How the weights are stored; None: as they are multiplied."""
    given: Given | None = None
    """None: the tokens its pairs are of."""
    alike: bool = False
    """Whether every expert touched has as many rows, as where kernels are timed alone."""

    @property
    def family(self) -> OpFamily:
        """Calibration family."""
        return "grouped_gemm"

    @property
    def flop(self) -> Real:
        """Work of one call. [FLOP]"""
        return 2 * self.pairs * self.k * self.n

    @property
    def hbm_bytes(self) -> Real:
        """HBM traffic of one call. [bytes]"""
        activations = self.pairs * (self.k * ELEMENT_BYTES[self.precision] + 2 * self.n)
        return activations + self.touched * self.k * self.n * self.weight_bytes


@dataclass(frozen=True, slots=True)
class AttentionDecode:
    r"""One query a sequence against its cached context (MLA: absorbed).

    .. math:: F = f C_c + f_i C + f_t S, \qquad B = b C_c + b_i C + 2\,(q + s) S

    with ``C`` the summed context, ``C_c`` the summed capped context, ``S`` sequences, ``f`` FLOP a
    (query, context) pair, ``b`` cache bytes a token, index ``i`` the sparse indexer, ``q`` query
    plus output elements (bf16, once) and ``s`` bytes of recurrent state (read and written).

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1 and appendix C (absorption).
    .. [2] DeepSeek-AI, "FlashMLA", github.com/deepseek-ai/FlashMLA, docs (bytes and FLOP a pair).
    """

    name: str
    sequences: Real
    context_tokens: Real
    capped_tokens: Real
    pair_flop: float
    kv_bytes_per_token: float
    query_elements: float
    indexer_pair_flop: float = 0.0
    indexer_bytes_per_token: float = 0.0
    token_flop: float = 0.0
    state_bytes: float = 0.0
    count: float = 1.0
    precision: Precision = "bf16"
    variant: AttentionVariant | None = None
    """Kernel; None: MLA on a 16-bit cache, or one that nobody measured."""
    heads: float = 0.0
    """Heads of this device: rows of the products with each new token's keys."""
    cached_heads: float = 0.0
    """Heads of the cache on this device: tiles a sequence has at least."""
    new_tokens: float = 1.0
    """Tokens of a sequence whose queries one tile takes together."""
    readings: float = 1.0
    """Times units read the cache: from HBM once, further times from the chip's own cache."""

    @property
    def family(self) -> OpFamily:
        """Calibration family."""
        return "attention_decode"

    def of_at_least(self, keys: float) -> "AttentionDecode":
        """The same of contexts of ``keys`` tokens in the mean, where they are shorter."""
        least = keys * self.sequences
        return replace(
            self,
            context_tokens=larger(self.context_tokens, least),
            capped_tokens=larger(self.capped_tokens, least),
        )

    @property
    def indexer_flop(self) -> Real:
        """Part of ``flop`` that the indexer multiplies in 8 bits. [FLOP]"""
        return self.indexer_pair_flop * self.context_tokens

    @property
    def flop(self) -> Real:
        """Work of one call. [FLOP]"""
        return (
            self.pair_flop * self.capped_tokens
            + self.indexer_flop
            + self.token_flop * self.sequences
        )

    @property
    def cache_bytes(self) -> Real:
        """Part of ``hbm_bytes`` that sequences keep: cache, indexer keys, state. [bytes]"""
        return (
            self.kv_bytes_per_token * self.capped_tokens
            + self.indexer_bytes_per_token * self.context_tokens
            + 2 * self.state_bytes * self.sequences
        )

    @property
    def query_bytes(self) -> Real:
        """Part of ``hbm_bytes`` that is queries and results. [bytes]"""
        return 2 * self.query_elements * self.sequences

    @property
    def hbm_bytes(self) -> Real:
        """HBM traffic of one call. [bytes]"""
        return self.cache_bytes + self.query_bytes


@dataclass(frozen=True, slots=True)
class AttentionPrefill:
    r"""Causal attention of new prompt tokens over their context.

    MLA is not absorbed here, but where every query picks its own keys (sparse attention).

    .. math:: F = f P_c + f_i P + f_t T, \qquad B = 2\,(q + k) T

    with ``P`` the (query, context) pairs and ``P_c`` the capped ones; queries and outputs (``q``
    elements a token), keys and values (``k``, of cached heads) cross HBM once, in bf16.

    References
    ----------
    .. [1] T. Dao et al., "FlashAttention", arXiv:2205.14135 (traffic linear in tokens).
    """

    name: str
    tokens: Real
    pairs: Real
    capped_pairs: Real
    pair_flop: float
    query_elements: float
    indexer_pair_flop: float = 0.0
    token_flop: float = 0.0
    count: float = 1.0
    precision: Precision = "bf16"
    variant: AttentionVariant | None = None
    """Kernel; None: MLA, or one that nobody measured."""
    heads: float = 0.0
    """Heads, each of which takes an exponential a (query, context) pair."""
    key_elements: float | None = None
    """Keys and values of a token; None: as many as queries and outputs (heads share none)."""
    longest_tokens: Real | None = None
    """Longest context that one of the tokens sees; None: of the one prompt that has as many
    causal pairs. [tokens]"""

    @property
    def family(self) -> OpFamily:
        """Calibration family."""
        return "attention_prefill"

    @property
    def indexer_flop(self) -> Real:
        """Part of ``flop`` that the indexer multiplies in 8 bits. [FLOP]"""
        return self.indexer_pair_flop * self.pairs

    @property
    def flop(self) -> Real:
        """Work of one call. [FLOP]"""
        return (
            self.pair_flop * self.capped_pairs + self.indexer_flop + self.token_flop * self.tokens
        )

    @property
    def query_bytes(self) -> Real:
        """Part of ``hbm_bytes`` that is queries and outputs. [bytes]"""
        return 2 * self.query_elements * self.tokens

    @property
    def key_bytes(self) -> Real:
        """Part of ``hbm_bytes`` that is keys and values. [bytes]"""
        return 4 * self.key_width * self.tokens

    @property
    def key_width(self) -> float:
        """Half of a token's keys and values: its keys, where both are as wide. [elements]"""
        return (self.query_elements if self.key_elements is None else self.key_elements) / 2

    @property
    def hbm_bytes(self) -> Real:
        """HBM traffic of one call. [bytes]"""
        return self.query_bytes + self.key_bytes


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A memory-bound kernel: norms, rotary embedding, quantisation, gating, sampling.

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """

    name: str
    hbm_bytes: Real
    count: float = 1.0
    precision: Precision = "bf16"

    @property
    def family(self) -> OpFamily:
        """Calibration family."""
        return "elementwise"

    @property
    def flop(self) -> Real:
        """Work of one call: too little to bind. [FLOP]"""
        return 0.0


Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"]

Op = Gemm | GroupedGemm | AttentionDecode | AttentionPrefill | Elementwise


@dataclass(frozen=True, slots=True)
class Comm:
    """One collective over a group of ranks.

    ``bytes_per_rank`` is what each rank brings: its buffer (all-reduce), its part (all-gather,
    reduce-scatter: the part each rank ends with), or what it sends in total (all-to-all, p2p).
    All-to-all gives what leaves over scale-out apart; ``hideable`` is expert traffic that other
    work can cover.  Bytes are those of the mean rank; the busiest one takes in ``busiest_share``
    times as much over scale-up, ``busiest_scale_out_share`` over its network card.
    """

    name: str
    kind: Collective
    ranks: int
    ranks_in_domain: int
    bytes_per_rank: Real
    scale_out_bytes_per_rank: Real = 0.0
    count: float = 1.0
    hideable: bool = False
    phase: Literal["", "dispatch", "combine"] = ""
    """Half of an expert exchange."""
    mode: Literal["", "normal", "low_latency"] = ""
    """Kernels of prefill (a copy a node) or of decode (a copy an expert)."""
    one_copy_share: float = 1.0
    """Scale-up bytes with one copy a rank, over those with one copy an expert."""
    experts: float = 0.0
    """Expert slots of the model that tokens are sent to."""
    message_bytes: float = 0.0
    """One token on its way to one expert. [bytes]"""
    busiest_share: Real = 1.0
    busiest_scale_out_share: Real = 1.0
