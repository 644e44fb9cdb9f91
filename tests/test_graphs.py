"""Captured graphs: what a decode step is padded to, and what that takes."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import files
from planner.evaluation.graphs import captured
from planner.evaluation.replica import Replica, build
from planner.evaluation.timing import TableTiming
from planner.files.engines import load_engine
from planner.serving.scheduler import attention_pairs
from planner.serving.timing import RankLoad
from planner.sourced import Sourced
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.engine import EngineSpec, GraphRules
from planner.specs.overheads import EngineOverheads
from planner.specs.speculative import Speculative
from planner.step import CapturedGraphs, StepModel
from planner.step.timeline import even, simulate_step

SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 48, 64)
CASES: dict[str, tuple[str, str, str, dict[str, int], str, int]] = {
    "tensor parallel": (
        "deepseek-r1", "hgx-h200", "fp8", {"attention_tp": 8, "moe_tp": 8}, "share", 0),
    "data parallel": (
        "deepseek-r1", "hgx-h200", "fp8", {"attention_dp": 8, "moe_ep": 8}, "share", 0),
    "drafts": ("deepseek-r1", "hgx-h800", "fp8", {"attention_dp": 8, "moe_ep": 8}, "share", 2),
    "two batches": (
        "deepseek-r1", "hgx-h800", "fp8", {"attention_dp": 8, "moe_ep": 8}, "two_batch", 0),
    "pipeline": (
        "deepseek-r1", "hgx-h100", "fp8", {"attention_dp": 8, "moe_ep": 8, "pp": 2}, "share", 0),
    "dense": ("llama-3.1-70b", "hgx-h100", "bf16", {"attention_tp": 4, "moe_tp": 4}, "share", 0),
}  # fmt: skip
MOST = 96


@lru_cache(maxsize=64)
def built(case: str, sizes: tuple[int, ...] = SIZES, rules: GraphRules | None = None) -> Replica:
    name, system, weights, degrees, overlap, drafts = CASES[case]
    spec = None
    if drafts:
        spec = Speculative(method="mtp", draft_tokens=drafts, acceptance=(0.8,) * drafts)
    overheads = EngineOverheads(
        prefill_step_host_s=Sourced(0.01, "test"), per_sequence_step_host_s=Sourced(1e-5, "test")
    )
    graphs = (rules or GraphRules()) if sizes else GraphRules()
    pool = Pool(
        parallelism=Parallelism(**degrees), weights=weights, overlap=overlap,  # type: ignore[arg-type]
        limits=Limits(max_sequences=MOST, max_step_tokens=1024, kv_tokens=400_000),
        speculative=spec,
        engine=EngineSpec(graph_batch_sizes=sizes, graphs=graphs, overheads=overheads),
    )  # fmt: skip
    return build(files.load_model(name), files.load_hardware(system), pool)


@lru_cache(maxsize=64)
def tables(case: str, sizes: tuple[int, ...] = SIZES, rules: GraphRules | None = None) -> Any:
    return built(case, sizes, rules).timing()


def step_s(case: str, sequences: float, context: float, sizes: tuple[int, ...] = SIZES) -> float:
    return float(built(case, sizes).step.decode_step_s(sequences, context, None))


def decoding(sequences: int, context: int) -> RankLoad:
    total = sequences * context
    return RankLoad(sequences, total, total, sequences)


def test_33_sequences_are_computed_as_40_but_read_the_cache_of_33() -> None:
    padded, plain = (
        {p.name: p for p in built("dense", sizes).step.decode_step(33, 1000, None).parts}
        for sizes in (SIZES, ())
    )
    # Llama 3.1 70B on 4 ranks: o has 2048 x 8192 in each of 80 layers; an H100 does 989.4 TFLOP/s
    by_hand_s = 80 * 2 * 40 * 2048 * 8192 / 989.4e12
    assert padded["attention/o"].compute_s == pytest.approx(by_hand_s, rel=1e-3)
    assert plain["attention/o"].compute_s == pytest.approx(by_hand_s * 33 / 40, rel=1e-3)
    core = next(name for name in plain if name.endswith("_core"))
    assert padded[core] == plain[core]


def test_33_sequences_take_the_work_of_40_beside_attention() -> None:
    step, plain = (built("data parallel", sizes).step for sizes in (SIZES, ()))
    context = 33 * 1000.0
    cores_s = sum(float(d.time_s) for d in plain.decode_attention(33.0, context, context))
    work, exposed_s = plain.experts(8 * 40.0, prefill=False)
    by_hand_s = (
        cores_s + float(plain.tokens(40.0).time_s) + float(plain.head(40.0).time_s)
        + float(work.time_s) + float(exposed_s) + plain.overhead_s + 33 * 1e-5
    )  # fmt: skip
    assert step.decode_step_s(33.0, 1000.0, None) == pytest.approx(by_hand_s, rel=1e-12)


def test_all_ranks_run_the_graph_of_the_busiest() -> None:
    timing = tables("data parallel")
    uneven = [decoding(33, 100), *(decoding(3, 100) for _ in range(7))]
    even = [decoding(33, 100), *(decoding(33, 50) for _ in range(7))]
    assert timing.segment(uneven).first_step_s == pytest.approx(
        timing.segment(even).first_step_s, rel=1e-12
    )
    at_home = tables("data parallel", SIZES, GraphRules(padding_stays_home=True))
    assert at_home.segment(uneven).first_step_s < timing.segment(uneven).first_step_s


def test_padding_that_stays_home_reaches_experts_only_without_an_exchange() -> None:
    rules = GraphRules(padding_stays_home=True)
    graphs = built("data parallel", SIZES, rules).step.graphs
    assert graphs is not None
    assert graphs.to_experts == "none"
    graphs = built("tensor parallel", SIZES, rules).step.graphs
    assert graphs is not None
    assert graphs.to_experts == "tokens"


def test_copies_of_one_sequence_touch_the_experts_of_one() -> None:
    alike = built("tensor parallel", SIZES, GraphRules(padding_alike=True)).step
    plain = built("tensor parallel", ()).step
    work, exposed_s = plain.experts(34.0, prefill=False)
    context = 33 * 1000.0
    cores_s = sum(float(d.time_s) for d in plain.decode_attention(33.0, context, context))
    by_hand_s = (
        cores_s + float(plain.tokens(40.0).time_s) + float(plain.head(40.0).time_s)
        + float(work.time_s) + float(exposed_s) + plain.overhead_s + 33 * 1e-5
    )  # fmt: skip
    assert alike.decode_step_s(33.0, 1000.0, None) == pytest.approx(by_hand_s, rel=1e-12)
    full, same = (step.decode_step_s(40.0, 1000.0, None) for step in (alike, plain))
    assert full == pytest.approx(same, rel=1e-12)


RULES = {
    "like tokens": GraphRules(),
    "copies": GraphRules(padding_alike=True),
    "at home": GraphRules(padding_stays_home=True, holds_head=False),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("case", CASES)
def test_the_table_of_a_padded_step_is_the_closed_form(case: str, rules: str) -> None:
    replica, timing = built(case, SIZES, RULES[rules]), tables(case, SIZES, RULES[rules])
    pp, dp = replica.shard.pp, replica.shard.attention_dp
    for sequences, context in ((pp, 10), (33, 150), (64, 4096), (66, 900), (96, 20_000)):
        segment = timing.segment([decoding(sequences, context) for _ in range(dp)])
        expected = replica.step.decode_step(sequences, context, None)
        per_token = expected.time_s / expected.tokens
        assert segment.first_step_s == pytest.approx(per_token, rel=1e-9)
        again = float(replica.step.decode_step_s(float(sequences), float(context), None))
        assert again == pytest.approx(expected.time_s, rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(CASES)), st.integers(1, MOST), st.integers(1, MOST), st.integers(1, 9000)
)
def test_padding_never_makes_a_step_faster_and_more_sequences_never_either(
    case: str, one: int, other: int, context: int
) -> None:
    few, many = sorted((one, other))
    assert step_s(case, few, context) >= step_s(case, few, context, ()) * (1 - 1e-12)
    assert step_s(case, few, context) <= step_s(case, many, context) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.integers(1, MOST), st.integers(1, 9000))
def test_with_every_size_captured_nothing_is_padded(
    case: str, sequences: int, context: int
) -> None:
    every = tuple(range(1, MOST + 1))
    if built(case).shard.pp > 1 and sequences % 2:
        sequences += 1  # half a sequence a micro-batch is one: as without graphs from two on
    plain = step_s(case, float(sequences), context, ())
    assert step_s(case, float(sequences), context, every) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("case", ["data parallel", "drafts", "two batches", "pipeline"])
@pytest.mark.parametrize("sequences", [34, 66])
def test_the_timeline_of_equal_ranks_takes_the_padded_step(case: str, sequences: int) -> None:
    for rules in RULES.values():
        step = built(case, SIZES, rules).step
        context = sequences * 1000.0
        found = simulate_step(step, even(step, (float(sequences), context, context), False))
        expected = float(step.decode_step_s(float(sequences), 1000.0, None))
        assert found.time_s == pytest.approx(expected, rel=1e-9)


def test_above_the_largest_size_a_step_is_not_padded_but_launched_kernel_by_kernel() -> None:
    for case in ("dense", "data parallel"):
        longer = step_s(case, 65, 500) - step_s(case, 65, 500, ())
        assert longer == pytest.approx(0.01, rel=1e-9)
        assert step_s(case, 64, 500) == pytest.approx(step_s(case, 64, 500, ()), rel=1e-12)


def test_a_head_outside_the_graph_has_real_rows() -> None:
    inside, outside = (
        built("dense", SIZES, GraphRules(holds_head=held)).step for held in (True, False)
    )
    longer = inside.decode_step_s(33.0, 10.0, None) - outside.decode_step_s(33.0, 10.0, None)
    head = float(inside.head(40.0).time_s) - float(inside.head(33.0).time_s)
    assert longer == pytest.approx(head, rel=1e-9, abs=1e-15)


def mixed(timing: TableTiming, sequences: int, prompt: int) -> float:
    load = decoding(sequences, 300)
    load.prefill_tokens, load.prompts_finished = prompt, 1
    load.prefill_pairs = load.prefill_capped_pairs = attention_pairs(0, prompt)
    return timing.segment([load]).first_step_s


def test_steps_with_prompts_are_padded_only_where_the_engine_captures_them() -> None:
    rules = GraphRules(mixed_steps=True, counted="tokens")
    plain, decode_only, both = (
        tables("dense", sizes, own) for sizes, own in (((), None), (SIZES, None), (SIZES, rules))
    )
    assert mixed(decode_only, 13, 30) == pytest.approx(mixed(plain, 13, 30), rel=1e-12)
    step = built("dense", ()).step
    more_s = float(step.tokens(48.0).time_s) - float(step.tokens(43.0).time_s)
    assert mixed(both, 13, 30) - mixed(plain, 13, 30) == pytest.approx(more_s, rel=1e-6)
    assert mixed(both, 13, 52) == pytest.approx(mixed(plain, 13, 52), rel=1e-12)  # 65 tokens


def sizes_of(engine: str, most: int, system: str = "hgx-h200", **more: Any) -> tuple[int, ...]:
    tp = more.pop("tp", 8)
    pool = Pool(
        parallelism=Parallelism(attention_tp=tp, moe_tp=tp), weights="fp8",
        limits=Limits(max_sequences=most, max_step_tokens=more.pop("tokens", 8192)),
        engine=load_engine(engine),
    )  # fmt: skip
    part = files.load_hardware(system).accelerator
    graphs = captured(pool, part, more.pop("query_tokens", 1), False)
    return graphs.sizes if graphs else ()


def test_engines_capture_what_their_limits_ask_for() -> None:
    assert sizes_of("vllm", 100)[-2:] == (192, 200)  # twice what may run
    assert sizes_of("vllm", 5) == (1, 2, 4, 8)
    assert sizes_of("vllm", 1024)[-1] == 512
    assert sizes_of("vllm", 1024, tokens=300)[-1] == 288
    assert sizes_of("sglang", 100)[-2:] == (96, 100)  # exactly what may run
    assert sizes_of("sglang", 4096)[-1] == 512
    assert sizes_of("sglang", 4096, tp=2)[-1] == 256
    assert sizes_of("sglang", 4096, "hgx-b200", tp=2)[-1] == 512
    assert sizes_of("tensorrt-llm", 300)[-2:] == (256, 300)
    assert sizes_of("generic", 300) == sizes_of("deepseek", 300) == ()


def test_sizes_in_tokens_are_those_of_the_drafts_of_a_sequence() -> None:
    assert sizes_of("vllm", 16, query_tokens=3)[:6] == (1, 2, 3, 6, 8, 11)
    assert sizes_of("sglang", 16, query_tokens=3) == (1, 2, 4, 8, 12, 16)


def test_a_broken_mean_is_padded_like_the_batch_it_stands_for() -> None:
    graphs = CapturedGraphs((1, 2, 4))
    np.testing.assert_array_equal(
        graphs.padded(np.array([0.0, 0.5, 2.1, 4.0, 4.5])), [0, 1, 4, 4, 4.5]
    )


def test_a_draft_module_and_host_time_by_row_follow_their_own_sizes() -> None:
    step: StepModel = built("drafts").step
    plain = replace(step, graphs=None)
    # 33 -> 40 sequences of 3 tokens each; rows of padding cost the host nothing
    padded = step.decode_step(33, 1000, None)
    larger = plain.decode_step(40, 1000, None)
    parts = [
        {p.name: p.time_s for p in s.parts if not p.name.endswith("_core")}
        for s in (padded, larger)
    ]
    assert {k: v for k, v in parts[0].items() if k != "draft/module"} == pytest.approx(
        {k: v for k, v in parts[1].items() if k != "draft/module"}
    )
    assert larger.overhead_s - padded.overhead_s == pytest.approx(7 * 5 * 1e-5)
