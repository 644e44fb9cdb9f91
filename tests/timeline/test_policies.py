"""Overlap policies: slots by hand, by law, and against the simulation of all ranks."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import files
from planner.errors import InputError
from planner.evaluation.replica import Replica, build
from planner.files.histograms import load_routing_profile
from planner.sourced import Sourced
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.engine import EngineSpec
from planner.specs.overheads import EngineOverheads
from planner.step.schedule import (
    FIVE_STAGE,
    PLAIN,
    SHARED_EXPERT,
    TWO_BATCH,
    Schedule,
    expert_layers_s,
    program,
    slot_s,
)
from planner.step.stages import STAGES
from planner.step.timeline import drawn, even, hottest, simulate_step, step_work
from planner.step.timeline.simulate import beside_s

POLICIES = ("none", "shared_expert", "two_batch", "five_stage")
LAYOUTS: dict[str, tuple[dict[str, int], int]] = {
    "wide": ({"attention_dp": 144, "moe_ep": 144}, 32),
    "four nodes": ({"attention_dp": 32, "moe_ep": 32}, 32),
    "tensor parallel attention": ({"attention_tp": 4, "attention_dp": 8, "moe_ep": 32}, 0),
    "pipeline": ({"attention_dp": 16, "moe_ep": 16, "pp": 2}, 0),
    "one node": ({"attention_dp": 8, "moe_tp": 8}, 0),
    "tensor parallel": ({"attention_tp": 8, "moe_tp": 8}, 0),
}


@lru_cache(maxsize=64)
def replica(layout: str, overlap: str, routing: str | None = None, **changes: Any) -> Replica:
    degrees, redundant = LAYOUTS[layout]
    pool = Pool(
        parallelism=Parallelism(**degrees), weights="fp8", redundant_experts=redundant,
        overlap=overlap, limits=Limits(max_sequences=128, max_step_tokens=128), **changes,
    )  # fmt: skip
    popularity = load_routing_profile(routing).routing if routing else None
    return build(files.load_model("deepseek-v3"), files.load_hardware("hgx-h800"), pool, popularity)


@pytest.mark.parametrize("plan", [PLAIN, SHARED_EXPERT, TWO_BATCH, FIVE_STAGE])
@pytest.mark.parametrize("layers", [1, 2, 7])
def test_a_program_has_the_slots_that_the_closed_form_counts(plan: Schedule, layers: int) -> None:
    kinds = Counter(
        (tuple(sorted(w[0] for w in computes)), transfer[0] if transfer else None)
        for computes, transfer in program(plan, layers)
    )
    counted: Counter[Any] = Counter()
    for slot in plan.slots:
        counted[tuple(sorted(slot.compute)), slot.transfer] += int(slot.count(layers))
    assert kinds == +counted


@pytest.mark.parametrize("plan", [PLAIN, SHARED_EXPERT, TWO_BATCH, FIVE_STAGE])
def test_a_program_does_every_stage_of_every_layer_once_for_each_micro_batch(
    plan: Schedule,
) -> None:
    done = Counter(
        work
        for computes, transfer in program(plan, 5)
        for work in (*computes, *((transfer,) if transfer else ()))
    )
    wanted = {
        (stage, micro, layer)
        for stage in STAGES
        if stage != "dense" and (plan is not PLAIN or not stage.endswith("_sms"))
        for micro in range(plan.micro_batches)
        for layer in range(5)
    }  # fmt: skip
    assert done == dict.fromkeys(wanted, 1)


def test_no_stage_runs_before_what_it_needs() -> None:
    order = ("attention_core", "dispatch", "experts", "combine")
    for plan in (PLAIN, SHARED_EXPERT, TWO_BATCH, FIVE_STAGE):
        ended: dict[Any, int] = {}
        for i, (computes, transfer) in enumerate(program(plan, 4)):
            for stage, micro, layer in (*computes, *((transfer,) if transfer else ())):
                if stage in order:
                    at = order.index(stage)
                    before = (order[at - 1], micro, layer) if at else ("combine", micro, layer - 1)
                    assert ended.get(before, -1) < i
                ended[stage, micro, layer] = i


def test_slots_by_hand() -> None:
    stage = dict.fromkeys(STAGES, 0.0) | {
        "attention_core": 3.0, "experts": 2.0, "dispatch": 1.0, "combine": 4.0, "shared_up": 0.5,
    }  # fmt: skip
    assert expert_layers_s(PLAIN, 10, stage, 0.0) == 105.0
    # 3 + max(1, 0.5) + 2 + max(4, 0) a layer
    assert expert_layers_s(SHARED_EXPERT, 10, stage, 0.0) == 100.0
    # 3, then 10 x (3 + 2 + 4), 9 x max(4, 3.5), 4 at the end
    assert expert_layers_s(TWO_BATCH, 10, stage, 0.0) == 3 + 10 * 9 + 9 * 4 + 4
    # 3, then 19 x (1 + 4), 20 x 2, and the last dispatch and combine
    assert expert_layers_s(FIVE_STAGE, 10, stage, 0.0) == 3 + 19 * 5 + 20 * 2 + 1 + 4


def test_a_transfer_beside_computation_by_hand() -> None:
    # of 4 s of transfer a quarter of the speed is gone for 2 s, in which 1.5 s of it are moved;
    # the other 2.5 follow at full speed
    assert slot_s(2.0, 4.0, 0.25) == 4.5
    # 3 s of it take 4 s beside computation, which ends first
    assert slot_s(5.0, 3.0, 0.25) == 5.0
    assert slot_s(4.0, 3.0, 0.25) == 4.0
    assert slot_s(0.0, 3.0, 0.25) == 3.0
    stage = dict.fromkeys(STAGES, 0.0) | {
        "attention_core": 3.0, "experts": 2.0, "dispatch": 1.0, "combine": 4.0, "shared_up": 0.5,
    }  # fmt: skip
    # 3, then 10 x (3 + 2 + (4 + 2.5 / 4)), 9 x (4 + 3.5 / 4), 4 + 0.5 / 4 at the end
    found = expert_layers_s(TWO_BATCH, 10, stage, 0.25)
    assert found == pytest.approx(3 + 10 * (5 + 4.625) + 9 * 4.875 + 4.125)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 0.9))
def test_a_transfer_beside_computation_hides_less_but_never_costs_more_than_in_sequence(
    compute_s: float, transfer_s: float, held_up: float
) -> None:
    took = float(slot_s(compute_s, transfer_s, held_up))
    assert max(compute_s, transfer_s) <= took <= compute_s + transfer_s + 1e-12
    assert float(slot_s(compute_s, transfer_s, held_up / 2)) <= took
    # the simulation's transfer, that starts with the computation, ends with the same slot
    moved = float(beside_s(np.array(transfer_s), np.array(compute_s), held_up))
    assert max(compute_s, moved) == pytest.approx(took)


def test_only_normal_kernels_beside_computation_are_held_up() -> None:
    step = replica("four nodes", "two_batch").step
    assert step.held_up(prefill=True) > 0.2
    assert step.held_up(prefill=False) == 0.0
    for overlap in ("none", "shared_expert"):
        assert replica("four nodes", overlap).step.held_up(prefill=True) == 0.0


def test_computation_waits_for_traffic_as_long_as_in_the_published_trace() -> None:
    scenario = files.load_scenario("published/deepseek-h800-prefill")
    assert isinstance(scenario.deployment, Pool)
    step = build(scenario.model, scenario.hardware[0], scenario.deployment).step
    took = step.prefill_step(16384, 4, 4096, None).time_s
    whole = step.beside_traffic(prefill=True).prefill_step(16384, 4, 4096, None)
    network = sum(p.time_s for p in whole.parts if p.name.startswith("expert_network"))
    computes = sum(p.time_s for p in whole.parts) - network
    assert took - computes == pytest.approx(0.16, abs=0.03)


def test_nothing_runs_beside_kernels_that_hold_every_multiprocessor() -> None:
    stage = dict.fromkeys(STAGES, 0.0) | {
        "attention_core": 3.0, "experts": 2.0, "dispatch": 1.0, "combine": 4.0,
        "dispatch_sms": 0.5, "combine_sms": 1.5,
    }  # fmt: skip
    # in sequence they are part of the transfer
    assert expert_layers_s(PLAIN, 10, stage, 0.0) == 100.0
    # 3, then 19 x (max(1, 0.5) + max(4, 3 + 1.5)), 20 x 2, and the last dispatch and combine
    assert expert_layers_s(FIVE_STAGE, 10, stage, 0.0) == 3 + 19 * 5.5 + 20 * 2 + 1 + 4


def test_what_low_latency_kernels_hold_is_what_was_measured() -> None:
    step = replica("wide", "five_stage").step
    found = step.stages(128.0, 128.0 * 144, prefill=False)
    assert found["dispatch_sms"] == pytest.approx(58 * 60e-6)  # 128 tokens, 8 experts each
    assert found["combine_sms"] == pytest.approx(58 * 50e-6)
    half = step.stages(64.0, 64.0 * 144, prefill=False)
    assert half["dispatch_sms"] == pytest.approx(58 * 30e-6)
    # normal kernels hold their share of multiprocessors throughout instead
    assert step.stages(128.0, 128.0 * 144, prefill=True)["dispatch_sms"] == 0.0
    assert replica("wide", "none").step.stages(128.0, 128.0 * 144, False)["combine_sms"] == 0.0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("overlap", POLICIES)
@pytest.mark.parametrize("prefill", [False, True])
def test_the_simulation_of_equal_ranks_is_the_closed_form(
    layout: str, overlap: str, prefill: bool
) -> None:
    step = replica(layout, overlap).step
    pp = step.shard.pp
    if prefill:
        expected = step.prefill_step(8192, 1, 4096, None).time_s
        load = (8192.0, 8192 * 2048.0, 8192 * 2048.0)
    else:
        expected = step.decode_step(64, 4096, None).time_s
        load = (64.0, 64 * 4096.0, 64 * 4096.0)
    found = simulate_step(step, even(step, load, prefill))
    assert found.time_s == pytest.approx(expected, rel=1e-9 if pp == 1 else 1e-2)
    assert sum(found.critical.values()) == pytest.approx(found.time_s)
    assert all(0 <= share <= 1 + 1e-9 for share in found.busy.values())


@pytest.mark.parametrize("layout", ["four nodes", "tensor parallel attention"])
@pytest.mark.parametrize("overlap", POLICIES)
@pytest.mark.parametrize("prefill", [False, True])
def test_the_simulation_of_equal_ranks_knows_what_the_closed_form_knows(
    layout: str, overlap: str, prefill: bool
) -> None:
    """Where a token goes under a placement, and an engine's own times."""
    names = ("prefill_factor", "comm_factor", "prefill_step_host_s", "per_sequence_step_host_s")
    values = 1.3, 1.2, 0.01, 0.0 if prefill else 1e-6
    overheads = EngineOverheads(
        **{name: Sourced(x, "test") for name, x in zip(names, values, strict=True)}
    )
    built = replica(
        layout, overlap, "deepseek-r1-translation", engine=EngineSpec(overheads=overheads)
    )
    step = built.step
    assert step.hot is not None
    assert step.hot.reach is not None
    if prefill:
        expected = step.prefill_step(8192, 2, 4096, None).time_s
        load = (8192.0, 8192 * 2048.0, 8192 * 2048.0)
    else:
        expected = step.decode_step(64, 4096, None).time_s
        load = (64.0, 64 * 4096.0, 64 * 4096.0)
    work = even(step, load, prefill)
    work = replace(work, rows=np.full_like(work.rows, 2.0)) if prefill else work
    assert simulate_step(step, work).time_s == pytest.approx(expected, rel=1e-9)


def test_ranks_drawn_from_the_routing_take_prompts_in_the_time_of_the_closed_form() -> None:
    routing = load_routing_profile("deepseek-r1-translation").routing
    for overlap in POLICIES:
        built = replica("four nodes", overlap, "deepseek-r1-translation")
        load = np.full(32, 16384.0), np.full(32, 16384 * 2048.0), np.full(32, 16384 * 2048.0)
        work = step_work(built.step, load, True, drawn(built.step, routing, built.model.moe, 3))
        found = simulate_step(built.step, work).time_s
        expected = built.step.prefill_step(16384, 4, 4096, None).time_s
        assert expected == pytest.approx(found, rel=0.02)


loads = st.floats(1e-6, 1e-2)


@given(st.fixed_dictionaries(dict.fromkeys(STAGES, loads)), st.integers(1, 80))
def test_overlap_never_beats_either_resource_nor_loses_to_the_sequence(
    stage: dict[Any, float], layers: int
) -> None:
    for plan in (PLAIN, SHARED_EXPERT, TWO_BATCH, FIVE_STAGE):
        n = plan.micro_batches
        time_s = expert_layers_s(plan, layers, stage, 0.0)
        transfers = n * layers * (stage["dispatch"] + stage["combine"])
        apart = ("dense", "dispatch_sms", "combine_sms") if plan is PLAIN else ("dense",)
        everything = n * layers * sum(t for name, t in stage.items() if name not in apart)
        assert max(transfers, everything - transfers) * (1 - 1e-12) <= time_s
        assert time_s <= everything * (1 + 1e-12)


@given(st.fixed_dictionaries(dict.fromkeys(STAGES, loads)), st.sampled_from(STAGES))
def test_a_slower_stage_never_makes_a_faster_step(stage: dict[Any, float], which: Any) -> None:
    slower = stage | {which: 2 * stage[which]}
    for plan in (PLAIN, SHARED_EXPERT, TWO_BATCH, FIVE_STAGE):
        assert expert_layers_s(plan, 58, slower, 0.0) >= expert_layers_s(plan, 58, stage, 0.0)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(POLICIES), st.booleans())
def test_unequal_ranks_lie_between_the_mean_rank_and_the_slowest_everywhere(
    seed: int, overlap: str, prefill: bool
) -> None:
    built = replica("four nodes", overlap, "deepseek-r1-translation")
    step, rng = built.step, np.random.default_rng(seed)
    moe, routing = built.model.moe, load_routing_profile("deepseek-r1-translation").routing
    tokens = 4096.0 if prefill else 128.0
    spread = tokens * 3000 * rng.uniform(0.5, 1.5, 32)
    load = np.full(32, tokens), spread, spread
    work = step_work(step, load, prefill, drawn(step, routing, moe, seed))
    time_s = simulate_step(step, work).time_s

    def level(pick: Any) -> float:
        """Every rank as loaded as ``pick`` of all ranks, layer by layer."""

        def flat(one: Any) -> Any:
            like = np.ones_like(one.tokens)
            return replace(
                one,
                attention=tuple(pick(x) * like for x in one.attention),
                pairs=pick(one.pairs, axis=1)[:, None] * like,
                touched=pick(one.touched, axis=1)[:, None] * like,
                inward=pick(one.inward, axis=1)[:, None] * like,
                inward_out=pick(one.inward_out, axis=1)[:, None] * like,
            )

        flattened = replace(work, whole=flat(work.whole), micro=tuple(map(flat, work.micro)))
        return simulate_step(step, flattened).time_s

    assert level(np.mean) * (1 - 1e-9) <= time_s <= level(np.max) * (1 + 1e-9)


def test_the_closed_form_is_close_to_ranks_drawn_from_the_same_routing() -> None:
    for overlap in POLICIES:
        built = replica("wide", overlap, "deepseek-r1-translation")
        routing = load_routing_profile("deepseek-r1-translation").routing
        load = np.full(144, 128.0), np.full(144, 128 * 4096.0), np.full(144, 128 * 4096.0)
        work = step_work(built.step, load, False, drawn(built.step, routing, built.model.moe, 3))
        found = simulate_step(built.step, work).time_s
        assert built.step.decode_step(128, 4096, None).time_s == pytest.approx(found, rel=0.04)


def test_every_collective_waits_for_the_slowest_rank() -> None:
    step = replica("four nodes", "none").step
    context = np.full(32, 128 * 4096.0)
    context[5] *= 2
    slow = simulate_step(
        step, step_work(step, (np.full(32, 128.0), context, context), False, hottest(step)),
        ranks=range(32), layers=(4,),
    )  # fmt: skip
    alike = simulate_step(step, even(step, (128.0, context[5], context[5]), False))
    # only the layers after the last combine are short on the others: nobody gains by being fast
    assert slow.time_s == pytest.approx(alike.time_s, rel=1e-9)
    assert slow.slowest_rank == 5
    begins = {bar.start_s for bar in slow.bars if bar.name == "dispatch"}
    assert len(begins) == 1
    last = max(b.end_s for b in slow.bars if b.name == "router")
    assert begins.pop() == pytest.approx(last)


def test_two_micro_batches_read_the_weights_twice() -> None:
    step = replica("wide", "two_batch").step
    whole = step.stages(32.0, 32.0 * 144, prefill=False)["experts"]
    half = step.stages(16.0, 16.0 * 144, prefill=False)["experts"]
    assert 2 * half > 1.6 * whole  # weights bind: each half takes nearly as long as the whole
    huge, rest = (step.stages(n, n * 144, prefill=True)["experts"] for n in (16384.0, 8192.0))
    assert 2 * rest == pytest.approx(huge, rel=0.02)  # compute binds: halves are halves
    # so that for a small batch the policy loses
    tiny = [replica("wide", o).step.decode_step(4, 500, None).time_s for o in POLICIES]
    assert tiny[2] > 1.1 * tiny[1]


def test_a_lone_sequence_is_not_cut() -> None:
    plain, cut = (replica("wide", o).step for o in ("none", "two_batch"))
    assert cut.decode_step(1, 4096, None).time_s == plain.decode_step(1, 4096, None).time_s
    assert cut.decode_step_s(1.0, 4096.0, None) == pytest.approx(
        float(plain.decode_step_s(1.0, 4096.0, None))
    )


def test_without_expert_traffic_a_policy_changes_nothing() -> None:
    for layout in ("tensor parallel", "one node"):
        times = {replica(layout, o).step.decode_step(64, 4096, None).time_s for o in POLICIES}
        assert len(times) == 1


def test_prefill_gives_multiprocessors_away_and_decode_does_not() -> None:
    step = replica("four nodes", "five_stage").step
    assert step.beside_traffic(prefill=False) is step
    beside = step.beside_traffic(prefill=True)
    ratio = beside.part.peak_flop_per_s("fp8") / step.part.peak_flop_per_s("fp8")
    assert ratio == pytest.approx(108 / 132)


def test_a_gate_apart_from_its_conversion_moves_four_bytes_more_in_prompts() -> None:
    plain, apart = (replica("four nodes", "none", gate_apart=g).step for g in (False, True))
    gates = [
        next(op for op in step.expert_ops(1024.0, prefill=True) if op.name == "routed_experts/gate")
        for step in (plain, apart)
    ]
    pairs = 1024 * 8 / 32
    assert gates[1].hbm_bytes - gates[0].hbm_bytes == pytest.approx(4 * 2048 * pairs)
    assert plain.expert_ops(1024.0, prefill=False) == apart.expert_ops(1024.0, prefill=False)


def test_a_fused_norm_saves_its_kernels() -> None:
    plain, fused = (replica("tensor parallel", "none", fused_norm=f).step for f in (False, True))
    before, after = (s.decode_step(8, 1000, None) for s in (plain, fused))
    norm = sum(p.time_s for p in before.parts if p.name == "norms/residual_norm")
    assert norm > 0
    assert before.time_s - after.time_s == pytest.approx(norm)
    alone = [replica("wide", "none", fused_norm=f).step for f in (False, True)]
    assert len({s.decode_step(8, 1000, None).time_s for s in alone}) == 1  # nothing to fuse with


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deployment.overlap": "three_batch"}, "deployment.overlap"),
        ({"deployment.overlap_share": 0.5}, "goes with overlap: share"),
        ({"steady.context_variation": -1}, "context_variation"),
    ],
)
def test_bad_overlap_is_one_clear_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        files.load_scenario("deepseek-profile-decode", changes)


def test_what_cutting_costs_is_shown_apart_from_what_it_hides() -> None:
    step = replica("wide", "two_batch").step
    few, many = (step.decode_step(n, 4096, None) for n in (4, 128))
    assert few.hidden_s < 0 < many.hidden_s
    assert few.by_component()["cutting"] == -few.hidden_s
    for one in (few, many):
        assert sum(one.by_component().values()) == pytest.approx(one.time_s)
