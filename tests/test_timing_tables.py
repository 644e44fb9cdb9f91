"""The tables of the event loop say what the step says."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.evaluation.power import PowerModel
from planner.evaluation.replica import Replica, build
from planner.evaluation.timing import TableTiming
from planner.serving.config import attention_pairs, capped_attention_pairs
from planner.serving.timing import RankLoad
from planner.specs.deployment import Limits, Parallelism, Pool

SMALL = Limits(max_sequences=96, max_step_tokens=2048)
CASES: dict[str, tuple[str, str, str, dict[str, int]]] = {
    "tensor parallel": ("deepseek-r1", "hgx-h200", "fp8", {"attention_tp": 8, "moe_tp": 8}),
    "data parallel": ("deepseek-r1", "hgx-h200", "fp8", {"attention_dp": 8, "moe_ep": 8}),
    "two nodes": ("deepseek-r1", "hgx-h800", "fp8",
                  {"attention_tp": 4, "attention_dp": 4, "moe_ep": 16}),
    "pipeline": ("deepseek-r1", "hgx-h100", "fp8", {"attention_dp": 8, "moe_ep": 8, "pp": 2}),
    "top-k": ("deepseek-v3.2", "hgx-h200", "fp8", {"attention_dp": 8, "moe_ep": 8}),
    "windows": ("gpt-oss-120b", "hgx-h100", "mxfp4", {"attention_tp": 2, "moe_tp": 2}),
    "states": ("qwen3.5-397b-a17b", "hgx-mi300x", "bf16", {"attention_tp": 8, "moe_ep": 8}),
    "compressed": ("deepseek-v4-flash", "hgx-b200", "mxfp4_fp8",
                   {"attention_dp": 4, "moe_ep": 4}),
    "dense": ("llama-3.1-70b", "hgx-a100", "bf16", {"attention_tp": 4, "moe_tp": 4}),
}  # fmt: skip
_BUILT: dict[tuple[str, float], tuple[Replica, TableTiming]] = {}


def built(case: str, overlap: float = 0.0) -> tuple[Replica, TableTiming]:
    if (case, overlap) not in _BUILT:
        name, system, weights, degrees = CASES[case]
        pool = Pool(
            parallelism=Parallelism(**degrees),
            weights=weights,  # type: ignore[arg-type]
            overlap_share=overlap,
            limits=SMALL,
        )
        replica = build(files.load_model(name), files.load_hardware(system), pool)
        _BUILT[case, overlap] = replica, replica.timing()
    return _BUILT[case, overlap]


def decoding(contexts: list[int], cap: int | None) -> RankLoad:
    """A rank that decodes sequences with these contexts."""
    capped = [c if cap is None else min(c, cap) for c in contexts]
    growing = [c for c in contexts if cap is None or c < cap]
    return RankLoad(len(contexts), sum(contexts), sum(capped), len(growing))


def with_prompt(load: RankLoad, position: int, tokens: int, cap: int | None) -> RankLoad:
    """The same rank with a chunk of a prompt, which it completes."""
    load.prefill_tokens = tokens
    load.prefill_pairs = attention_pairs(position, tokens)
    load.prefill_capped_pairs = capped_attention_pairs(position, tokens, cap)
    load.prompts_finished = 1
    load.prefill_longest = position + tokens
    return load


def direct_s(replica: Replica, ranks: list[RankLoad]) -> float:
    """Time of a step asked of the physics, without tables."""
    step = replica.step
    prefill = any(load.prefill_tokens for load in ranks)
    group = sum(load.sequences + load.prefill_tokens for load in ranks)
    work, hideable_s = step.experts(float(group), prefill)
    busy_s = max(_rank_s(replica, load) for load in ranks) + work.time_s
    return float(busy_s + step.exposed_s(hideable_s, busy_s) + step.overhead_s)


def _rank_s(replica: Replica, load: RankLoad) -> float:
    step, total = replica.step, 0.0
    if load.sequences + load.prefill_tokens == 0:
        return 0.0
    if load.sequences:
        x = float(load.sequences), float(load.context_tokens), float(load.capped_tokens)
        total += sum(float(core.time_s) for core in step.decode_attention(*x))
    if load.prefill_tokens:
        y = float(load.prefill_tokens), load.prefill_pairs, load.prefill_capped_pairs
        total += float(step.prompts(y[0]).time_s)
        far = float(load.prefill_longest)
        forms = [step.prefill_attention(*y, sparse=how, longest=far) for how in (True, False)]
        total += sum(min(float(a.time_s), float(b.time_s)) for a, b in zip(*forms, strict=True))
    total += float(step.tokens(float(load.sequences + load.prefill_tokens)).time_s)
    return total + float(step.head(float(load.sequences + load.prompts_finished)).time_s)


def some_ranks(case: str, seed: int, prompts: bool) -> list[RankLoad]:
    replica, _ = built(case)
    cap, dice = replica.cap_tokens, random.Random(seed)
    longest = dice.choice([100, 3000, 60_000])
    ranks = []
    for _ in range(replica.shard.attention_dp):
        contexts = [dice.randint(1, longest) for _ in range(dice.randint(0, 96))]
        load = decoding(contexts, cap)
        if prompts and dice.random() < 0.5:
            chunk = dice.randint(1, 2048 - len(contexts))
            with_prompt(load, dice.choice([0, 0, 5000]), chunk, cap)
        ranks.append(load)
    if not any(load.sequences or load.prefill_tokens for load in ranks):
        ranks[0] = decoding([10], cap)
    return ranks


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prompts", [False, True])
def test_a_segment_starts_with_the_time_of_the_step(case: str, prompts: bool) -> None:
    for overlap in (0.0, 0.5, 1.0):
        replica, timing = built(case, overlap)
        for seed in range(8):
            ranks = some_ranks(case, seed, prompts)
            segment = timing.segment(ranks)
            assert segment.first_step_s == pytest.approx(direct_s(replica, ranks), rel=1e-9)
            assert segment.valid_steps >= 1
            assert segment.slope_s_per_step >= 0
            assert 0 <= segment.prefill_s <= segment.first_step_s


@pytest.mark.parametrize("case", CASES)
def test_equal_ranks_take_the_decode_step_of_the_closed_form(case: str) -> None:
    replica, timing = built(case)
    cap, dp = replica.cap_tokens, replica.shard.attention_dp
    for sequences, context in ((replica.shard.pp, 1), (8, 150), (64, 4096), (96, 50_000)):
        ranks = [decoding([context] * sequences, cap) for _ in range(dp)]
        expected = replica.step.decode_step(sequences, context, cap).time_s
        assert timing.segment(ranks).first_step_s == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(sorted(CASES)), st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_a_stretch_predicts_every_step_it_is_valid_for(
    case: str, seed: int, overlap: float
) -> None:
    replica, timing = built(case, overlap)
    cap, dice = replica.cap_tokens, random.Random(seed)
    longest = dice.choice([100, 3000, 60_000])
    contexts = [
        [dice.randint(1, longest) for _ in range(dice.choice([0, 1, 5, 90]))]
        for _ in range(replica.shard.attention_dp)
    ]
    contexts[0] = contexts[0] or [dice.randint(1, longest)]
    segment = timing.segment([decoding(c, cap) for c in contexts])
    # the scheduler ends a stretch where a context reaches the cap
    reach = min((cap - c for row in contexts for c in row if cap and c < cap), default=10**6)
    last = min(segment.valid_steps, reach, 10**6) - 1
    for i in {0, 1, last // 2, last} & set(range(last + 1)):
        later = [decoding([c + i for c in row], cap) for row in contexts]
        predicted = segment.first_step_s + i * segment.slope_s_per_step
        assert predicted == pytest.approx(timing.segment(later).first_step_s, rel=1e-9)


def test_the_slowest_rank_sets_the_pace_until_another_overtakes_it() -> None:
    replica, timing = built("data parallel")
    # few long contexts are slower now; many short ones grow faster
    ranks = [decoding([90_000] * 4, None), decoding([3_000] * 80, None)]
    ranks += [RankLoad() for _ in range(6)]
    segment = timing.segment(ranks)
    assert 1 < segment.valid_steps < 1 << 62
    after = segment.valid_steps + 5
    later = [decoding([90_000 + after] * 4, None), decoding([3_000 + after] * 80, None), *ranks[2:]]
    affine = segment.first_step_s + after * segment.slope_s_per_step
    assert timing.segment(later).first_step_s > affine
    assert timing.segment(later).first_step_s == pytest.approx(direct_s(replica, later), rel=1e-9)


def test_prefill_is_charged_what_it_adds_to_the_step() -> None:
    _, timing = built("tensor parallel")
    alone = timing.segment([decoding([1000] * 32, None)])
    mixed = timing.segment([with_prompt(decoding([1000] * 32, None), 0, 1500, None)])
    assert alone.prefill_s == 0
    assert mixed.prefill_s == pytest.approx(mixed.first_step_s - alone.first_step_s)
    only = timing.segment([with_prompt(RankLoad(), 0, 1500, None)])
    assert only.prefill_s == only.first_step_s
    assert only.valid_steps == 1


@given(st.sampled_from(sorted(CASES)), st.integers(0, 10**6), st.booleans())
def test_power_lies_between_idle_and_maximum(case: str, seed: int, prompts: bool) -> None:
    replica, timing = built(case)
    power = replica.power()
    assert power is not None
    drawn = timing.segment(some_ranks(case, seed, prompts)).power_w
    most = power.devices * (power.host_w + power.max_w)
    assert power.idle_replica_w <= drawn <= most


def test_power_by_hand() -> None:
    power = PowerModel(8, 100.0, 700.0, 500.0)
    assert power.idle_replica_w == 8 * 600
    assert power.replica_w(0.25, 0.5) == 8 * (500 + 100 + 600 * 0.5)
    assert power.replica_w(7.0, 0.0) == 8 * 1200


def test_more_load_never_takes_less_time() -> None:
    for case in CASES:
        replica, timing = built(case)
        cap, dp = replica.cap_tokens, replica.shard.attention_dp

        def time(contexts: list[int], dp: int = dp, cap: Any = cap, timing: Any = timing) -> float:
            return timing.segment([decoding(contexts, cap) for _ in range(dp)]).first_step_s  # type: ignore[no-any-return]

        assert time([500]) <= time([501]) <= time([501, 1]) <= time([501] * 50)
