"""The parts of the engine one by one: closed forms against plain sums, balancers against a scan."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.balance import LeastRequests, RoundRobin, balancer
from planner.serving.config import (
    ReplicaConfig,
    attention_pairs,
    cached_prefix,
    capped_attention_pairs,
)
from planner.serving.decoding import NEVER
from planner.serving.meter import BIN_WIDTH, Meter
from planner.serving.scheduler import Scheduler
from planner.serving.timing import AffineTiming, RankLoad, Segment, steps_beyond

TOKENS = st.integers(0, 60)
SEGMENTS = st.builds(
    Segment,
    first_step_s=st.floats(1e-4, 1.0),
    slope_s_per_step=st.one_of(st.just(0.0), st.floats(1e-12, 1e-2)),
    power_w=st.just(10.0),
    prefill_s=st.just(0.001),
)


@given(TOKENS, TOKENS, st.integers(1, 70))
def test_pairs_are_the_sum_of_the_queries_contexts(position, tokens, cap):
    contexts = [position + i for i in range(1, tokens + 1)]
    assert attention_pairs(position, tokens) == sum(contexts)
    assert capped_attention_pairs(position, tokens, cap) == sum(min(c, cap) for c in contexts)
    assert capped_attention_pairs(position, tokens, None) == sum(contexts)


@given(st.integers(1, 100_000), st.floats(0, 0.999))
def test_at_least_one_prompt_token_is_computed(tokens, share):
    assert 0 <= cached_prefix(tokens, share) < tokens


def test_the_cached_prefix_is_exact_where_floats_are_not():
    assert cached_prefix(1000, 0.7) == 700
    assert cached_prefix(1000, 0.9) == 900
    assert cached_prefix(3, 0.5) == 1


@given(SEGMENTS, st.floats(0, 1e4), st.floats(0, 500))
def test_a_cut_stretch_is_the_shortest_that_ends_after_the_arrival(segment, start_s, gap_s):
    time_s = start_s + gap_s
    steps = steps_beyond(segment, start_s, time_s)
    assert start_s + segment.elapsed_s(steps) > time_s
    assert steps == 1 or start_s + segment.elapsed_s(steps - 1) <= time_s


@given(SEGMENTS, st.integers(1, 300))
def test_elapsed_is_the_sum_of_the_steps(segment, steps):
    total = sum(segment.first_step_s + i * segment.slope_s_per_step for i in range(steps))
    assert segment.elapsed_s(steps) == pytest.approx(total, rel=1e-9)


@given(SEGMENTS, st.integers(1, 400), st.integers(1, 9), st.integers(0, 500), st.floats(-1, 200))
def test_a_metered_stretch_equals_its_steps_metered_one_by_one(
    segment, steps, sequences, held, gaps_from_s
):
    whole, single = Meter(), Meter()
    whole.gaps_from_s = single.gaps_from_s = gaps_from_s
    whole.add(segment, 0.0, steps, sequences, held)
    for i in range(steps):
        step = Segment(segment.first_step_s + i * segment.slope_s_per_step, power_w=10.0)
        start_s = segment.elapsed_s(i)
        if start_s + step.elapsed_s(1) != segment.elapsed_s(i + 1):
            # rounding: say exactly what the stretch says
            step = Segment(segment.elapsed_s(i + 1) - start_s, power_w=10.0)
        single.add(step, start_s, 1, sequences, held + i * sequences)
    assert whole.steps == single.steps
    assert whole.busy_s == pytest.approx(single.busy_s)
    assert whole.energy_j == pytest.approx(single.energy_j)
    assert whole.kv_token_s == pytest.approx(single.kv_token_s)
    assert abs(whole.gap_tokens - single.gap_tokens) <= sequences
    assert whole.prefill_s == 0.001
    assert sum(whole.gap_bins.values()) == whole.gap_tokens


def test_gaps_fall_into_bins_half_a_percent_wide():
    meter = Meter()
    meter.gaps_from_s = 0.0
    meter.add(Segment(0.010, 0.001), 0.0, 3, 2, 0)
    expected = {math.floor(math.log(gap) / BIN_WIDTH): 2 for gap in (0.010, 0.011, 0.012)}
    assert meter.gap_bins == expected
    assert meter.gap_sum_s == pytest.approx(2 * 0.033)


@given(st.integers(1, 5), st.lists(st.integers(-6, 3), max_size=200))
def test_least_requests_takes_the_first_of_the_least_loaded(members, moves):
    chooser, outstanding = LeastRequests(members), [0] * members
    for move in moves:
        if move < 0 or not any(outstanding):
            expected = outstanding.index(min(outstanding))
            assert chooser.take(1) == expected
            outstanding[expected] += 1
        else:
            loaded = [m for m in range(members) if outstanding[m]]
            member = loaded[move % len(loaded)]
            chooser.release(member, 1)
            outstanding[member] -= 1


def test_round_robin_takes_turns():
    chooser = RoundRobin(3)
    taken = []
    for _ in range(5):
        taken.append(chooser.take(1))
        chooser.release(taken[-1], 1)
    assert taken == [0, 1, 2, 0, 1]


def test_among_one_there_is_no_choice():
    chooser = balancer("least_requests", 1)
    assert [chooser.take(1), chooser.take(1)] == [0, 0]


REQUESTS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), min_size=1, max_size=25)


@given(REQUESTS, st.integers(1, 5), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 60)))
def test_a_rank_keeps_its_budget_its_slots_and_its_cache(requests, slots, budget, cap):
    inputs, outputs = (list(column) for column in zip(*requests, strict=True))
    config = ReplicaConfig(1, slots, budget, 150, cap, cached_input_share=0.25)
    cached = [config.cached_tokens(tokens) for tokens in inputs]
    rank = Scheduler(config, inputs, outputs, cached)
    for number in range(len(requests)):
        rank.add(number)
    unfinished, first_tokens = set(range(len(requests))), []
    admitted = set()
    while unfinished:
        admitted.update(rank.plan())
        load = rank.load
        reserved = sum(inputs[r] + outputs[r] for r in admitted & unfinished)
        assert reserved + rank.free_kv_tokens == 150
        assert len(admitted & unfinished) + rank.free_slots == config.slots
        assert load.context_tokens + load.sequences + rank.held_prompt_tokens <= reserved
        assert 1 <= load.sequences + load.prefill_tokens <= budget
        assert 0 <= load.growing <= load.sequences
        assert load.capped_tokens <= load.context_tokens
        if not admitted >= unfinished and rank.free_slots:
            # never idle with work that fits: the head of the queue does not
            head = rank.waiting[0]
            assert inputs[head] + outputs[head] > rank.free_kv_tokens
        steps = 1 if load.prefill_tokens else rank.left
        started, finished = rank.advance(steps)
        first_tokens += started
        unfinished -= set(finished)
    assert first_tokens == list(range(len(requests)))
    assert rank.free_kv_tokens == 150
    assert rank.held_prompt_tokens == 0
    assert rank.next_step == NEVER
    assert rank.load == RankLoad()


def test_an_affine_stretch_ends_where_another_rank_becomes_the_slowest():
    timing = AffineTiming(base_s=1.0, per_context_token_s=0.1)
    ahead = RankLoad(sequences=1, context_tokens=100, capped_tokens=100, growing=1)
    behind = RankLoad(sequences=4, context_tokens=90, capped_tokens=90, growing=4)
    segment = timing.segment([ahead, behind])
    # 100 + i against 90 + 4 i: equal after 3.33 steps
    assert segment.first_step_s == pytest.approx(11.0)
    assert segment.valid_steps == 4
