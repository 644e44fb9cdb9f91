"""What the event loop reads under overlap policies and speculation is what the physics says."""

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import files
from planner.evaluation.replica import Replica, build
from planner.evaluation.timing import TableTiming
from planner.serving import RequestStream, simulate
from planner.serving.reference import simulate_per_step
from planner.serving.scheduler import attention_pairs
from planner.serving.timing import RankLoad
from planner.sourced import Sourced
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.specs.engine import EngineSpec
from planner.specs.overheads import EngineOverheads
from planner.specs.speculative import Speculative

LAYOUTS: dict[str, dict[str, int]] = {
    "one node": {"attention_dp": 8, "moe_ep": 8},
    "two nodes": {"attention_tp": 4, "attention_dp": 4, "moe_ep": 16},
    "pipeline": {"attention_dp": 8, "moe_ep": 8, "pp": 2},
}
CASES = [
    ("one node", "shared_expert", 0), ("one node", "two_batch", 0), ("one node", "five_stage", 2),
    ("two nodes", "two_batch", 1), ("two nodes", "five_stage", 0), ("pipeline", "five_stage", 0),
    ("one node", "share", 3), ("pipeline", "share", 1),
]  # fmt: skip


@lru_cache(maxsize=16)
def built(layout: str, overlap: str, drafts: int) -> tuple[Replica, TableTiming]:
    spec = None
    if drafts:
        spec = Speculative(method="mtp", draft_tokens=drafts, acceptance=(0.8,) * drafts)
    pool = Pool(
        parallelism=Parallelism(**LAYOUTS[layout]), weights="fp8", overlap=overlap,  # type: ignore[arg-type]
        limits=Limits(max_sequences=96, max_step_tokens=1024, kv_tokens=40_000), speculative=spec,
    )  # fmt: skip
    replica = build(files.load_model("deepseek-r1"), files.load_hardware("hgx-h800"), pool)
    return replica, replica.timing()


def decoding(contexts: list[int]) -> RankLoad:
    return RankLoad(len(contexts), sum(contexts), sum(contexts), len(contexts))


@pytest.mark.parametrize(("layout", "overlap", "drafts"), CASES)
def test_equal_ranks_take_the_decode_step_of_the_closed_form(
    layout: str, overlap: str, drafts: int
) -> None:
    replica, timing = built(layout, overlap, drafts)
    dp, step = replica.shard.attention_dp, replica.step
    for sequences, context in ((2, 1), (8, 150), (64, 4096), (96, 50_000)):
        segment = timing.segment([decoding([context] * sequences) for _ in range(dp)])
        expected = step.decode_step(sequences, context, None)
        per_token = expected.time_s / expected.tokens
        assert segment.first_step_s == pytest.approx(per_token, rel=1e-9)
        again = float(step.decode_step_s(float(sequences), float(context), None))
        assert again == pytest.approx(expected.time_s, rel=1e-9)


@pytest.mark.parametrize(("layout", "overlap", "drafts"), CASES)
def test_equal_prompts_take_the_prefill_step_of_the_closed_form(
    layout: str, overlap: str, drafts: int
) -> None:
    replica, timing = built(layout, overlap, drafts)
    load = RankLoad(
        prefill_tokens=1000, prefill_pairs=1000 * 500.0, prefill_capped_pairs=1000 * 500.0,
        prompts_finished=1,
    )  # fmt: skip
    segment = timing.segment([load] * replica.shard.attention_dp)
    expected = replica.step.prefill_step(1000, 1, 1000, None).time_s
    assert segment.first_step_s == pytest.approx(expected, rel=1e-6)
    assert segment.prefill_s == segment.first_step_s


@pytest.mark.parametrize("overlap", ["share", "shared_expert", "two_batch"])
def test_a_named_engine_takes_its_own_time_over_prompts_in_the_closed_form_too(
    overlap: Any,
) -> None:
    pool = Pool(
        parallelism=Parallelism(**LAYOUTS["one node"]), weights="fp8", overlap=overlap,
        limits=Limits(max_sequences=96, max_step_tokens=1024, kv_tokens=40_000),
        engine=EngineSpec(overheads=EngineOverheads(
            prefill_factor=Sourced(1.5, "test"), prefill_step_host_s=Sourced(0.01, "test"),
        )),
    )  # fmt: skip
    replica = build(files.load_model("deepseek-r1"), files.load_hardware("hgx-h800"), pool)
    load = RankLoad(
        prefill_tokens=1000, prefill_pairs=1000 * 500.0, prefill_capped_pairs=1000 * 500.0,
        prompts_finished=1,
    )  # fmt: skip
    expected = replica.step.prefill_step(1000, 1, 1000, None)
    timing = replica.timing()
    assert timing.segment([load] * 8).first_step_s == pytest.approx(expected.time_s, rel=1e-6)
    plain, _ = built("one node", overlap, 0)
    own_s = plain.step.prefill_step(1000, 1, 1000, None).time_s - plain.step.overhead_s
    assert expected.time_s - expected.overhead_s == pytest.approx(1.5 * own_s)
    if overlap != "share":  # under slots, beside decoding: the factor takes what prompts add
        both = replace(load, sequences=8, context_tokens=4000, capped_tokens=4000, growing=8)
        slow, fast = (t.segment([both] * 8).prefill_s for t in (timing, plain.timing()))
        assert slow == pytest.approx(1.5 * fast + 0.01)
    shown = sum(part.time_s for part in expected.parts) + expected.overhead_s - expected.hidden_s
    assert shown == pytest.approx(expected.time_s)


@settings(max_examples=60)
@given(st.sampled_from(CASES), st.integers(0, 10**6))
def test_a_stretch_predicts_every_step_it_is_valid_for(
    case: tuple[str, str, int], seed: int
) -> None:
    replica, timing = built(*case)
    dice = random.Random(seed)
    longest = dice.choice([100, 3000, 60_000])
    contexts = [
        [dice.randint(1, longest) for _ in range(dice.choice([0, 1, 5, 90]))]
        for _ in range(replica.shard.attention_dp)
    ]
    contexts[0] = contexts[0] or [dice.randint(1, longest)]
    segment = timing.segment([decoding(c) for c in contexts])
    last = min(segment.valid_steps, 10**6) - 1
    for i in {0, 1, last // 2, last} & set(range(last + 1)):
        later = [decoding([c + i for c in row]) for row in contexts]
        predicted = segment.first_step_s + i * segment.slope_s_per_step
        assert predicted == pytest.approx(timing.segment(later).first_step_s, rel=1e-9)


def test_prompts_are_not_divided_by_the_tokens_of_a_step() -> None:
    replica, timing = built("one node", "share", 3)
    tokens = replica.step.tokens_per_step
    decode = timing.segment([decoding([1000] * 32) for _ in range(8)])
    mixed_ranks = [decoding([1000] * 32) for _ in range(8)]
    mixed_ranks[0].prefill_tokens = 500
    mixed_ranks[0].prefill_pairs = mixed_ranks[0].prefill_capped_pairs = attention_pairs(0, 500)
    mixed = timing.segment(mixed_ranks)
    assert tokens > 2
    assert mixed.first_step_s == pytest.approx(decode.first_step_s + mixed.prefill_s)


@pytest.mark.parametrize(("layout", "overlap", "drafts"), CASES[1:5])
def test_the_jumping_engine_agrees_with_the_stepping_one(
    layout: str, overlap: str, drafts: int
) -> None:
    replica, timing = built(layout, overlap, drafts)
    rng = np.random.default_rng(5)
    stream: Any = RequestStream(
        np.cumsum(rng.exponential(0.02, 60)), rng.integers(1, 900, 60), rng.integers(1, 80, 60)
    )
    config = replica.config(0.0)
    jumped, stepped = (
        run(stream, timing, config, replicas=1, router="least_requests")
        for run in (simulate, simulate_per_step)
    )
    assert jumped.finish_s == pytest.approx(stepped.finish_s, abs=1e-6)
    assert jumped.first_token_s == pytest.approx(stepped.first_token_s, abs=1e-6)
