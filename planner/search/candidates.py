"""Every layout worth asking about on one system."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from planner.specs.deployment import Parallelism, Pool
from planner.specs.engine import EngineSpec
from planner.specs.scenario import Scenario, Space


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layout."""

    pool: Pool
    label: str


def pool_label(pool: Pool, space: Space) -> str:
    """Short name: ``DP8 EP8, fp8 weights, bf16 KV``, then what else there was to choose."""
    parts = [pool.parallelism.label(), f"{pool.weights} weights", f"{pool.kv} KV"]
    if space.engines:
        parts.append(pool.engine.title or pool.engine.name)
    if pool.speculative is not None:
        parts.append(f"{pool.speculative.method} {pool.speculative.draft_tokens}")
    if len(space.redundant_per_rank) > 1 and pool.parallelism.moe_ep > 1:
        parts.append(f"{pool.redundant_experts} redundant experts")
    if len(space.batch_limits) > 1:
        limits = pool.limits
        parts.append(f"{limits.max_sequences} sequences, {limits.max_step_tokens} tokens a step")
    return ", ".join(parts)


def candidates(scenario: Scenario) -> Iterator[Candidate]:
    """Layouts on parts of a node, one node, and several nodes up to ``max_nodes_per_replica``.

    Attention by tensor parallelism, data parallelism or both; experts by tensor or expert
    parallelism; pipelines over nodes.  Only degrees that fill whole devices.  Each with every
    format, engine, way to draft, batch limit and redundancy of the space.
    """
    space, system = scenario.space, scenario.hardware[0].system
    for devices in _device_counts(system.devices_per_node, space.max_nodes_per_replica):
        for parallelism in _layouts(devices, system.devices_per_node, bool(scenario.model.moe)):
            for pool in _choices(scenario, parallelism):
                yield Candidate(pool, pool_label(pool, space))


def _choices(scenario: Scenario, parallelism: Parallelism) -> Iterator[Pool]:
    """Everything but the layout that a space leaves open."""
    space, ep = scenario.space, parallelism.moe_ep
    axes = product(
        space.weights or (scenario.model.native_format,),
        space.kv,
        space.engines or (EngineSpec(),),
        space.speculative,
        space.batch_limits or (space.limits,),
        space.redundant_per_rank if ep > 1 else (0,),
    )
    for weights, kv, engine, speculative, limits, each in axes:
        yield Pool(
            parallelism=parallelism,
            weights=weights,
            kv=kv,
            redundant_experts=_padding(scenario, ep) + (each * ep if scenario.model.moe else 0),
            engine=engine,
            speculative=speculative,
            limits=limits,
        )


def _device_counts(node: int, max_nodes: int) -> list[int]:
    """Powers of two of devices below a node and of nodes from one on, and ``max_nodes`` itself."""
    inside = [2**i for i in range(10) if 2**i < node]
    nodes = {2**i for i in range(20) if 2**i <= max_nodes} | {max_nodes}
    return inside + [node * n for n in sorted(nodes)]


def _layouts(devices: int, node: int, moe: bool) -> Iterator[Parallelism]:
    for pp in [n for n in (1, 2, 4, 8) if devices % n == 0 and (n == 1 or devices // n >= node)]:
        stage = devices // pp
        for tp in [n for n in range(1, stage + 1) if stage % n == 0 and n <= 2 * node]:
            dp = stage // tp
            if not moe:
                if dp == 1:
                    yield Parallelism(attention_tp=tp, moe_tp=tp, pp=pp)
                continue
            splits = {(1, stage), (stage, 1)} if stage > 1 else {(1, 1)}
            for moe_tp, moe_ep in sorted(splits):
                if moe_tp > 1 and dp > 1:
                    continue
                yield Parallelism(
                    attention_tp=tp, attention_dp=dp, moe_tp=moe_tp, moe_ep=moe_ep, pp=pp
                )


def _padding(scenario: Scenario, ranks: int) -> int:
    """Redundant experts that fill the last rank, so that any expert-parallel degree is possible."""
    moe = scenario.model.moe
    return -moe.experts % ranks if moe else 0
