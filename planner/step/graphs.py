"""Decode steps replayed from captured graphs: computed for a captured size, not for the batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from planner.ops import Real

if TYPE_CHECKING:
    from planner.step.model import StepModel


PaddingTo = Literal["tokens", "one", "none"]
"""To experts as tokens do; to those of one sequence, for all padding is copies of it; to none."""


@dataclass(frozen=True, slots=True)
class CapturedGraphs:
    """Sizes that an engine has captured, of one attention rank and pipeline micro-batch.

    A batch is padded to the next size; a batch above the last runs without a graph, and unpadded.
    Attention reads the cache of real sequences alone: a padding row has none.

    References
    ----------
    .. [1] vLLM documentation, "CUDA Graphs" (padding to captured sizes, full and piecewise).
    .. [2] SGLang, python/sglang/srt/model_executor/cuda_graph_runner.py.
    .. [3] TensorRT-LLM, tensorrt_llm/_torch/pyexecutor/cuda_graph_runner.py.
    """

    sizes: tuple[int, ...]
    """Sequences, rising."""
    mixed_tokens: tuple[int, ...] = ()
    """Tokens of steps that compute prompts, rising; empty: those run without graphs."""
    holds_head: bool = True
    """The output projection is part of the graph; else it runs on real rows."""
    to_experts: PaddingTo = "tokens"
    """Where padding rows go."""

    def holds(self, sequences: Real) -> NDArray[np.bool_]:
        """Whether a graph holds a decode step of so many sequences."""
        return np.less_equal(sequences, self.sizes[-1])

    def padded(self, sequences: Real) -> Real:
        """Sequences that a decode step of so many computes."""
        return padded_to(self.sizes, sequences)

    def sent(self, sequences: Real, padded: Real) -> Real:
        """Sequences whose tokens experts compute, out of ``padded`` with so many real ones.

        Copies of one sequence touch the experts of one; their further rows are not counted.
        """
        if self.to_experts == "tokens":
            return padded
        alike = self.to_experts == "one"
        return sequences + alike * (np.greater(padded, sequences) * 1.0)


@dataclass(frozen=True, slots=True)
class Computed:
    """What a decode step computes; loads as they are where it has no graph."""

    sequences: Real
    """Of one rank, padding included."""
    tokens: Real
    """Of one rank. [tokens]"""
    group_tokens: Real
    """Of all ranks, that go to experts. [tokens]"""
    group_sequences: Real
    rows: Real
    """Of the output head."""
    launch_s: Real = 0.0
    """Host time of launching its kernels one by one, where there is no graph. [s]"""


def padded_to(sizes: tuple[int, ...], count: Real) -> Real:
    """Return the next of ``sizes``, the count itself above the last; nothing stays nothing."""
    count = np.asarray(count, dtype=float)
    at = np.minimum(np.searchsorted(sizes, count), len(sizes) - 1)
    found = np.where((count > sizes[-1]) | (count <= 0), count, np.asarray(sizes, dtype=float)[at])
    return found if found.ndim else float(found)


def computed(model: "StepModel", sequences: Real) -> Computed:
    """Size of a decode step with ``sequences`` on every attention rank.

    All ranks run the graph of the busiest.  Without a graph every kernel is launched by the host,
    as in a step that computes prompts: the engine's host time of such a step is added.

    References
    ----------
    .. [1] :class:`CapturedGraphs`.
    """
    graphs, q, dp = model.graphs, model.query_tokens, model.shard.attention_dp
    own, everyone = sequences * q, sequences * dp
    if graphs is None:
        return Computed(sequences, own, q * everyone, everyone, own)
    pp = model.shard.pp
    size = pp * graphs.padded(sequences / pp)
    rows = size * q if graphs.holds_head else own
    sent = pp * graphs.sent(everyone / pp, size * dp / pp)
    launch_s = np.where(graphs.holds(sequences / pp), 0.0, eager_s(model))
    return Computed(size, size * q, sent * q, sent, rows, launch_s)


def rows_s(model: "StepModel", sequences: Real) -> Real:
    """Host time of the rows that one rank's sequences have in a decode step; padding has none. [s]

    References
    ----------
    .. [1] :class:`planner.specs.overheads.EngineOverheads`.
    """
    rows = model.query_tokens + (model.draft.spec.draft_tokens if model.draft else 0)
    return model.overheads.per_sequence_step_host_s * rows * sequences


def eager_s(model: "StepModel") -> float:
    """Host time of launching a step's kernels one by one. [s]

    References
    ----------
    .. [1] Taken to be what the engine's steps with prompts, which have no full graph, were fitted
       to need.
    """
    return float(model.overheads.prefill_step_host_s)
