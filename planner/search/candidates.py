"""Every layout worth asking about on one system."""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.specs.deployment import Parallelism, Pool
from planner.specs.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layout."""

    pool: Pool

    @property
    def label(self) -> str:
        """Short name: ``DP8 EP8, fp8 weights, bf16 KV``."""
        p = self.pool
        return f"{p.parallelism.label()}, {p.weights} weights, {p.kv} KV"


def candidates(scenario: Scenario) -> Iterator[Candidate]:
    """Layouts on parts of a node, one node, and several nodes up to ``max_nodes_per_replica``.

    Attention by tensor parallelism, data parallelism or both; experts by tensor or expert
    parallelism; pipelines over nodes.  Only degrees that fill whole devices.
    """
    space, system = scenario.space, scenario.hardware[0].system
    for devices in _device_counts(system.devices_per_node, space.max_nodes_per_replica):
        for parallelism in _layouts(devices, system.devices_per_node, bool(scenario.model.moe)):
            for weights in space.weights or (scenario.model.native_format,):
                for kv in space.kv:
                    yield Candidate(
                        Pool(
                            parallelism=parallelism,
                            weights=weights,
                            kv=kv,
                            redundant_experts=_padding(scenario, parallelism.moe_ep),
                            limits=space.limits,
                        )
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
