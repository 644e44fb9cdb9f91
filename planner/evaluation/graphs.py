"""Which graphs an engine has captured in a deployment, and what its steps are padded to."""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from planner.serving.timing import RankLoad
from planner.specs.deployment import Pool
from planner.specs.engine import GraphRules
from planner.specs.hardware import AcceleratorSpec
from planner.step import StepModel
from planner.step.graphs import CapturedGraphs, PaddingTo, computed

MANY_DEVICES = 4
"""Devices of a replica from which SGLang captures larger batches."""


def captured(
    pool: Pool, part: AcceleratorSpec, query_tokens: int, exchanged: bool
) -> CapturedGraphs | None:
    """Return the graphs of one pool's replicas; None where the engine states no sizes.

    Parameters
    ----------
    query_tokens : tokens of one sequence that a decode step computes.
    exchanged : tokens travel to their experts one by one.

    References
    ----------
    .. [1] vLLM, vllm/config/vllm.py, ``_set_cudagraph_sizes``.
    .. [2] SGLang, python/sglang/srt/server_args.py and model_executor/cuda_graph_runner.py.
    .. [3] TensorRT-LLM, pyexecutor/model_engine.py, ``_filter_cuda_graph_batch_sizes``.
    """
    engine, rules = pool.engine, pool.engine.graphs
    if not engine.graph_batch_sizes:
        return None
    each = query_tokens if rules.counted == "tokens" else 1
    kept = _kept(pool, part, each, query_tokens)
    if not kept:
        return None
    return CapturedGraphs(
        sizes=tuple(sorted({math.ceil(size / each) for size in kept})),
        mixed_tokens=kept if rules.mixed_steps else (),
        holds_head=rules.holds_head,
        to_experts=_to_experts(rules, exchanged),
    )


def _to_experts(rules: GraphRules, exchanged: bool) -> PaddingTo:
    if exchanged and rules.padding_stays_home:
        return "none"
    return "one" if rules.padding_alike else "tokens"


def _kept(pool: Pool, part: AcceleratorSpec, each: int, query_tokens: int) -> tuple[int, ...]:
    """Sizes of the engine's list that this deployment captures, as the list counts them."""
    rules, running = pool.engine.graphs, _most_sequences(pool, query_tokens)
    largest = _by_memory(pool, part)
    if rules.largest_over_running is not None:
        largest = min(largest, rules.largest_over_running * running * each)
    if rules.counted == "tokens":
        largest = min(largest, pool.limits.max_step_tokens)
    kept = [size for size in pool.engine.graph_batch_sizes if size <= largest]
    if rules.captures_running and kept and kept[-1] > running:
        kept = [*(size for size in kept if size < running), running]
    return tuple(kept)


def _most_sequences(pool: Pool, query_tokens: int) -> int:
    """Most sequences of one rank that a decode step can hold."""
    limits = pool.limits
    if pool.engine.policy in ("prefill_first", "interleaved"):
        return limits.max_sequences
    return max(1, min(limits.max_sequences, limits.max_step_tokens // query_tokens))


def _by_memory(pool: Pool, part: AcceleratorSpec) -> float:
    """Largest size for a part's memory; infinite where the engine has no such rule."""
    shape = pool.parallelism
    many = shape.attention_tp * shape.attention_dp >= MANY_DEVICES
    gib = float(part.memory_bytes) / 2**30
    for limit in pool.engine.graphs.largest_by_memory:
        if gib < limit.below_gib:
            return limit.many_devices if many else limit.few_devices
    return math.inf


class Size(NamedTuple):
    """What a step computes where a graph holds it; 0 stands for the load as it is."""

    sequences: int = 0
    """Of every rank."""
    tokens: int = 0
    rows: int = 0
    """Of the output head."""
    group_tokens: int = 0
    group_sequences: int = 0
    one_more: bool = False
    """Of all ranks, one sequence more goes to experts where any is padded; of every micro-batch of
    a pipeline."""
    tokens_with_prompts: int = 0
    """Of every rank, where a graph holds a step with prompts. [tokens]"""
    launch_s: float = 0.0
    """Host time of a step without a graph. [s]"""
    without: "Size | None" = None
    """Of the same step without its prompts, where it has any."""


NO_GRAPH = Size()


@dataclass(slots=True)
class PaddedSizes:
    """The size of every step, looked up by the busiest rank."""

    model: StepModel
    graphs: CapturedGraphs
    _known: dict[int, Size] = field(init=False, default_factory=lambda: {0: NO_GRAPH})
    _mixed: dict[tuple[int, int], Size] = field(init=False, default_factory=dict)
    """By most sequences and which of the mixed graphs."""

    @classmethod
    def of(cls, model: StepModel) -> Self | None:
        """Return the sizes of a replica; None where nothing is captured."""
        return None if model.graphs is None else cls(model, model.graphs)

    def of_step(self, ranks: list[RankLoad]) -> Size:
        """Size of the step with these loads."""
        most = prompts = 0
        for load in ranks:
            most = max(most, load.sequences)
            prompts += load.prefill_tokens
        size = self._known.get(most)
        if size is None:
            size = self._known[most] = self._decoding(most)
        if not prompts:
            return size
        at, held = self._which(ranks), self._mixed
        if (most, at) not in held:
            held[most, at] = self._with_prompts(at, size)
        return held[most, at]

    def _decoding(self, most: int) -> Size:
        """Size of a step that only decodes: as many sequences as the busiest rank has."""
        found, graphs = computed(self.model, float(most)), self.graphs
        launch_s = float(found.launch_s)
        if not graphs.holds(most / self.model.shard.pp):
            return Size(launch_s=launch_s)
        sequences = round(float(found.sequences))
        tokens = sequences * self.model.query_tokens
        rows = tokens if graphs.holds_head else 0
        if graphs.to_experts != "tokens":
            return Size(sequences, tokens, rows, one_more=graphs.to_experts == "one")
        dp = self.model.shard.attention_dp
        return Size(sequences, tokens, rows, dp * tokens, dp * sequences)

    def _which(self, ranks: list[RankLoad]) -> int:
        """Which of the graphs of steps with prompts holds this one: their number, where none."""
        sizes, q = self.graphs.mixed_tokens, self.model.query_tokens
        if not sizes:
            return 0
        most = 0
        for load in ranks:
            most = max(most, q * load.sequences + load.prefill_tokens)
        return bisect_left(sizes, most / self.model.shard.pp)

    def _with_prompts(self, at: int, without: Size) -> Size:
        graphs = self.graphs
        if at == len(graphs.mixed_tokens):
            return Size(without=without)
        tokens = self.model.shard.pp * graphs.mixed_tokens[at]
        sent = self.model.shard.attention_dp if graphs.to_experts == "tokens" else 0
        return Size(group_tokens=sent * tokens, tokens_with_prompts=tokens, without=without)
