"""Both engines agree on replicas whose steps are padded to captured graphs."""

import dataclasses
from functools import lru_cache

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from planner import files
from planner.evaluation.replica import build
from planner.evaluation.timing import TableTiming
from planner.serving import Cluster, Handover, PoolSetup
from planner.sourced import Sourced
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.engine import EngineSpec, GraphRules
from planner.specs.overheads import EngineOverheads
from tests.serving.test_engines_agree import (
    CLUSTERS,
    CONFIGS,
    RULES,
    balanced,
    both,
    both_clusters,
    open_streams,
    some_fit,
    sums_agree,
)

KINDS = {
    "whole decode steps": ((2, 4), GraphRules()),
    "mixed steps too": ((1, 4, 8, 24), GraphRules(mixed_steps=True, counted="tokens")),
    "copies of one": ((2, 5), GraphRules(padding_alike=True)),
    "padding at home": ((1, 3, 6), GraphRules(padding_stays_home=True, captures_running=True)),
}
SHAPES = {1: {"attention_tp": 2, "moe_tp": 2}, 2: {"attention_dp": 2, "moe_ep": 2}}


@lru_cache(maxsize=16)
def timing_of(kind: str, ranks: int, overlap: str) -> TableTiming:
    sizes, rules = KINDS[kind]
    overheads = EngineOverheads(
        prefill_step_host_s=Sourced(0.002, "test"), per_sequence_step_host_s=Sourced(1e-5, "test")
    )
    pool = Pool(
        parallelism=Parallelism(**SHAPES[ranks]), weights="fp8", overlap=overlap,  # type: ignore[arg-type]
        limits=Limits(max_sequences=6, max_step_tokens=60, kv_tokens=300),
        engine=EngineSpec(graph_batch_sizes=sizes, graphs=rules, overheads=overheads),
    )  # fmt: skip
    model = files.load_model("qwen3-30b-a3b")
    return build(model, files.load_hardware("hgx-h200"), pool).timing()


REPLICAS = st.tuples(
    st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(SHAPES)),
    st.sampled_from(["share", "two_batch"]),
)  # fmt: skip


def all_but_energy_agree(jump, plain):
    # power is that of a stretch's first step, and a poll ends a stretch in one engine only
    np.testing.assert_allclose(jump.energy_j, plain.energy_j, rtol=1e-3)
    sums_agree(dataclasses.replace(jump, energy_j=plain.energy_j), plain)


@settings(max_examples=150, deadline=None)
@given(open_streams(), REPLICAS, CONFIGS, RULES, CLUSTERS)
def test_padded_steps_jump_to_where_steps_lead(stream, replica, config, rules, cluster):
    timing = timing_of(*replica)
    config = dataclasses.replace(config, ranks=timing.ranks, **rules)
    # seconds become fractions of steps: arrivals a hundred times as dense
    stream = dataclasses.replace(stream, arrival_s=np.asarray(stream.arrival_s) / 100)
    if not some_fit(stream, config):
        return
    jump, plain = both(stream, timing, config, cluster)
    all_but_energy_agree(jump, plain)
    assert balanced(jump)
    event(f"{replica[0]}, jumped {jump.stretches.sum() < plain.stretches.sum()}")


@settings(max_examples=60, deadline=None)
@given(open_streams(), REPLICAS, REPLICAS, st.tuples(CONFIGS, CONFIGS), CLUSTERS)
def test_padded_pools_apart_jump_to_where_steps_lead(stream, first, second, configs, cluster):
    pools = tuple(
        PoolSetup(
            timing_of(*kind),
            dataclasses.replace(config, ranks=timing_of(*kind).ranks, role=role),
            cluster["replicas"],
            cluster["router"],
        )
        for kind, config, role in zip((first, second), configs, ("prefill", "decode"), strict=True)
    )
    if not some_fit(stream, *(pool.config for pool in pools)):
        return
    joined = Cluster(pools, Handover(1e-5, 1e-4, 0.5))
    jump, plain = both_clusters(stream, joined, cluster["horizon_s"])
    all_but_energy_agree(jump, plain)
    assert balanced(jump)
