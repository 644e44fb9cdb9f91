"""What share of a step each resource works: by hand, and whatever the layout."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import files
from planner.comm import Load
from planner.comm.collectives import ring_load
from planner.evaluation.replica import build
from planner.files.histograms import load_routing_profile
from planner.sourced import Sourced
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.speculative import Speculative
from planner.step import StepModel
from planner.step.timeline import Timeline, drawn, even, simulate_step, step_work

LAYOUTS: dict[str, dict[str, int]] = {
    "tensor parallel over nodes": {"attention_tp": 32, "moe_tp": 32},
    "tensor parallel": {"attention_tp": 8, "moe_tp": 8},
    "expert parallel": {"attention_dp": 32, "moe_ep": 32},
    "tensor parallel attention": {"attention_tp": 4, "attention_dp": 8, "moe_ep": 32},
    "gathered": {"attention_dp": 8, "moe_tp": 8},
}
SPECULATIVE = Speculative(method="mtp", draft_tokens=2, acceptance=(0.8, 0.6))
LOADS = {False: (16.0, 16 * 4096.0, 16 * 4096.0), True: (8192.0, 8192 * 2048.0, 8192 * 2048.0)}


@lru_cache(maxsize=64)
def model(
    layout: str, overlap: str = "none", drafts: bool = False, comm_factor: float = 1.0
) -> StepModel:
    pool = Pool(
        parallelism=Parallelism(**LAYOUTS[layout]), weights="fp8",
        overlap=overlap, limits=Limits(max_sequences=128, max_step_tokens=128),
        speculative=SPECULATIVE if drafts else None,
    )  # fmt: skip
    step = build(files.load_model("deepseek-v3"), files.load_hardware("hgx-b200"), pool).step
    overheads = step.overheads.model_copy(update={"comm_factor": Sourced(comm_factor, "test")})
    return replace(step, overheads=overheads)


def whole(found: Timeline) -> float:
    return found.busy["compute"] + found.network_share + found.busy["host"] + found.waiting_share


def test_without_overlap_the_network_share_is_that_of_the_network_parts() -> None:
    for layout in LAYOUTS:
        step = model(layout)
        found = simulate_step(step, even(step, LOADS[False], False))
        laid_out = step.decode_step(16, 4096, None)
        network_s = sum(p.time_s for p in laid_out.parts if p.bound == "network")
        assert found.time_s == pytest.approx(laid_out.time_s)
        assert found.network_share == pytest.approx(network_s / laid_out.time_s)
        assert found.busy["compute"] + found.network_share + found.busy["host"] == pytest.approx(1)
        assert found.waiting_share == pytest.approx(0, abs=1e-12)


def test_collectives_over_several_nodes_by_hand() -> None:
    """Sums over 32 ranks on 4 nodes, and one gathering of logits: NCCL inside, then a tree."""
    step = model("tensor parallel over nodes")
    found = simulate_step(step, even(step, LOADS[False], False))
    up, out, links = step.system.scale_up, step.system.scale_out, step.calibration.links
    assert out is not None
    rate = float(out.bytes_per_s) * float(links.scale_out_share)
    sums, size = 61 + 3 + 58, 2.0 * 7168 * 16  # after attention, dense and expert layers; 16 tokens
    inside = ring_load(links.rings["all_reduce"], 8, 2 * 7 / 8 * size, float(up.bytes_per_s))
    latency_s, bytes_s = 4 * float(out.latency_s), 4 * size / 8 / rate  # two levels, there and back
    part = 2.0 * 16 * step.shard.head.n
    logits = ring_load(links.rings["all_gather"], 8, 7 * 4 * part, float(up.bytes_per_s))
    logits_latency_s, logits_s = 3 * float(out.latency_s), 3 * part / rate
    on_scale_up_s = sums * float(inside.time_s) + float(logits.time_s)
    on_scale_out_s = sums * (latency_s + bytes_s) + logits_latency_s + logits_s
    whole_s = sums * (inside.fixed_s + latency_s + max(inside.scale_up_s, bytes_s))
    whole_s += logits.fixed_s + logits_latency_s + max(logits.scale_up_s, logits_s)
    assert found.busy["scale_up"] * found.time_s == pytest.approx(on_scale_up_s)
    assert found.busy["scale_out"] * found.time_s == pytest.approx(on_scale_out_s)
    assert found.network_share * found.time_s == pytest.approx(whole_s)


def test_levels_of_one_call_by_hand() -> None:
    together = Load(5.0, 2.0, 3.0)
    assert (together.time_s, *together.links_s) == (8.0, 7.0, 8.0)
    in_turn = Load(5.0, 2.0, 3.0, out_fixed_s=1.0)
    assert (in_turn.time_s, *in_turn.links_s) == (8.0, 6.0, 4.0)
    assert Load(5.0, 2.0).links_s == (7.0, 0.0)
    assert Load(5.0, 0.0, 2.0).links_s == (0.0, 7.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_twice_as_slow_collectives_take_the_network_share_longer(
    layout: str, prefill: bool, drafts: bool
) -> None:
    once, twice = (
        simulate_step(step, even(step, LOADS[prefill], prefill))
        for step in (model(layout, drafts=drafts, comm_factor=c) for c in (1.0, 2.0))
    )
    moved_s = once.network_share * once.time_s
    assert moved_s == pytest.approx(twice.time_s - once.time_s)
    assert whole(once) == pytest.approx(1)
    named = ("collectives", "dispatch", "combine")
    assert sum(once.critical.get(name, 0.0) for name in named) == pytest.approx(moved_s)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.booleans())
def test_what_unequal_ranks_neither_compute_nor_move_they_wait(seed: int, prefill: bool) -> None:
    step, routing = (
        model("expert parallel"),
        load_routing_profile("deepseek-r1-translation").routing,
    )
    rng = np.random.default_rng(seed)
    spread = LOADS[prefill][1] * rng.uniform(0.5, 1.5, 32)
    load = np.full(32, LOADS[prefill][0]), spread, spread
    moe = files.load_model("deepseek-v3").moe
    assert moe is not None
    found = simulate_step(step, step_work(step, load, prefill, drawn(step, routing, moe, seed)))
    assert found.waiting_share > 0
    assert whole(found) == pytest.approx(1)


@pytest.mark.parametrize("overlap", ["none", "shared_expert", "two_batch", "five_stage"])
@pytest.mark.parametrize("prefill", [False, True])
def test_bars_of_all_layers_add_up_to_the_shares_of_the_links(overlap: str, prefill: bool) -> None:
    step = model("expert parallel", overlap)  # no traffic in dense layers and output head
    found = simulate_step(step, even(step, LOADS[prefill], prefill), layers=range(58))
    rank = found.slowest_rank
    for stream in ("scale_up", "scale_out"):
        busy = sum(b.busy_s for b in found.bars if (b.rank, b.stream) == (rank, stream))
        assert busy == pytest.approx(found.busy[stream] * found.time_s)
    spans = {(b.start_s, b.end_s) for b in found.bars if b.rank == rank and "scale" in b.stream}
    under_way = sum(end - start for start, end in spans)
    assert under_way == pytest.approx(found.network_share * found.time_s)
    # both at once is more than the whole, neither alone is
    assert found.busy["compute"] <= 1
    assert found.network_share <= 1
    assert whole(found) >= 1 - 1e-9
