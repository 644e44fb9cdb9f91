"""Cases small enough to follow on paper."""

import numpy as np
import pytest

from planner.errors import InfeasibleError, InputError
from planner.serving import (
    AffineTiming,
    ReplicaConfig,
    RequestStream,
    Segment,
    generate,
    simulate,
)
from planner.serving.reference import simulate_per_step
from planner.specs.workload import ClosedLoopArrivals, FixedLength, LengthSegment, Run, Workload

SECOND = AffineTiming(base_s=1.0)
ENGINES = pytest.mark.parametrize("engine", [simulate, simulate_per_step])


def stream(*rows):
    arrival_s, inputs, outputs = zip(*rows, strict=True)
    return RequestStream(np.array(arrival_s, float), np.array(inputs), np.array(outputs))


def config(ranks=1, **changes):
    roomy = {"max_sequences": 64, "max_step_tokens": 1000, "kv_capacity_tokens": 1000}
    return ReplicaConfig(ranks, **(roomy | changes))


def closed(concurrency, requests, think_s=0.0, tokens=(4, 3), duration_s=None):
    lengths = LengthSegment(
        input=FixedLength(tokens=tokens[0]), output=FixedLength(tokens=tokens[1])
    )
    workload = Workload(
        arrivals=ClosedLoopArrivals(concurrency=concurrency, think_s=think_s), lengths=(lengths,)
    )
    return generate(workload, Run(requests=requests, duration_s=duration_s))


class Recorder:
    """A timing that notes every load it is asked about."""

    def __init__(self, inner):
        self.inner, self.loads, self.longest = inner, [], []

    def segment(self, ranks, epoch=0):
        self.loads.append(
            [(r.sequences, r.context_tokens, r.prefill_tokens, r.prefill_pairs) for r in ranks]
        )
        self.longest.append([r.prefill_longest for r in ranks])
        return self.inner.segment(ranks, epoch)


@ENGINES
def test_one_request_takes_a_prompt_step_and_then_a_step_per_token(engine):
    timing = AffineTiming(base_s=1.0, per_context_token_s=0.1)
    records = engine(stream((5.0, 10, 3)), timing, config())
    # the prompt's step 1 s; decoding reads 10, then 11 tokens: 2.0 s and 2.1 s
    assert records.admitted_s[0] == 5.0
    assert records.first_token_s[0] == pytest.approx(6.0)
    assert records.finish_s[0] == pytest.approx(10.1)
    assert records.busy_s[0] == pytest.approx(5.1)
    assert records.end_s == pytest.approx(10.1)
    assert records.idle_s[0] == pytest.approx(5.0)
    assert records.gap_mean_s == pytest.approx(2.05)
    # in the cache: 10 in the prompt's step, then 11 and 12 with the token being written
    assert records.kv_token_s[0] == pytest.approx(10 * 1.0 + 11 * 2.0 + 12 * 2.1)


def test_a_pure_decode_stretch_is_one_event():
    records = simulate(stream((0.0, 10, 500)), SECOND, config())
    assert records.steps[0] == 500
    assert records.stretches[0] == 2


@ENGINES
def test_an_answer_of_one_token_ends_with_its_prompt(engine):
    records = engine(stream((0.0, 10, 1)), SECOND, config())
    assert records.first_token_s[0] == records.finish_s[0] == 1.0


@ENGINES
def test_a_long_prompt_is_cut_into_the_steps_budget(engine):
    timing = Recorder(AffineTiming(base_s=1.0, per_prefill_token_s=0.5))
    records = engine(stream((0.0, 10, 1)), timing, config(max_step_tokens=4))
    # chunks of 4, 4 and 2 tokens: 3 + 3 + 2 s; causal pairs 1+2+3+4, 5+..+8, 9+10
    assert records.first_token_s[0] == pytest.approx(8.0)
    assert timing.loads == [[(0, 0, 4, 10)], [(0, 0, 4, 26)], [(0, 0, 2, 19)]]
    assert timing.longest == [[4], [8], [10]]
    assert records.prefill_s[0] == pytest.approx(5.0)
    assert records.decode_s[0] == pytest.approx(3.0)


@ENGINES
def test_two_requests_share_steps(engine):
    records = engine(stream((0.0, 4, 3), (0.5, 4, 2)), SECOND, config())
    # [0,1] prompt A; [1,2] prompt B, A's 2nd token; [2,3] A's 3rd and B's 2nd token
    assert records.first_token_s.tolist() == [1.0, 2.0]
    assert records.finish_s.tolist() == [3.0, 3.0]


@ENGINES
def test_the_longest_context_of_a_step_is_that_of_its_longest_prompt(engine):
    timing = Recorder(SECOND)
    engine(stream((0.0, 3, 1), (0.0, 7, 1), (0.0, 2, 2)), timing, config())
    assert timing.longest == [[7], [0]]


@ENGINES
def test_decode_tokens_come_out_of_the_budget_first(engine):
    timing = Recorder(SECOND)
    engine(stream((0.0, 2, 9), (0.5, 5, 1)), timing, config(max_step_tokens=3))
    # A decodes from the second step on and leaves 2 tokens a step to B's prompt of 5
    assert [load[0][2] for load in timing.loads[:5]] == [2, 2, 2, 1, 0]
    assert [load[0][0] for load in timing.loads[:5]] == [0, 1, 1, 1, 1]


@ENGINES
def test_a_request_that_does_not_fit_blocks_the_ones_behind_it(engine):
    # A reserves 4 + 3 of 10; B needs 4 and waits for A; C needs 2, would fit, and waits behind B
    records = engine(
        stream((0.0, 4, 3), (0.1, 3, 1), (0.2, 1, 1)), SECOND, config(kv_capacity_tokens=10)
    )
    assert records.admitted_s.tolist() == [0.0, 3.0, 3.0]
    assert records.finish_s.tolist() == [3.0, 4.0, 4.0]
    assert records.max_queue() == 2
    assert records.mean_queue(0.0, 4.0) == pytest.approx((2.9 + 2.8) / 4)
    assert records.mean_running(0.0, 4.0) == pytest.approx((3 + 1 + 1) / 4)


@ENGINES
def test_a_slot_is_free_again_when_its_request_finishes(engine):
    records = engine(stream((0.0, 4, 3), (0.1, 4, 3)), SECOND, config(max_sequences=1))
    assert records.finish_s.tolist() == [3.0, 6.0]


@ENGINES
def test_ranks_wait_for_the_slowest_of_them(engine):
    timing = Recorder(AffineTiming(base_s=1.0, per_prefill_token_s=1.0))
    records = engine(stream((0.0, 5, 2), (0.0, 1, 2)), timing, config(ranks=2))
    # both prompts start together on a rank each; the short one waits for the long one
    assert timing.loads[0] == [(0, 0, 5, 15), (0, 0, 1, 1)]
    assert records.first_token_s.tolist() == [6.0, 6.0]
    assert records.finish_s.tolist() == [7.0, 7.0]


@ENGINES
def test_an_idle_rank_takes_part_in_the_step(engine):
    timing = Recorder(SECOND)
    engine(stream((0.0, 5, 2)), timing, config(ranks=2))
    assert timing.loads == [[(0, 0, 5, 15), (0, 0, 0, 0)], [(1, 5, 0, 0), (0, 0, 0, 0)]]


@ENGINES
def test_a_capped_context_stops_growing(engine):
    timing = AffineTiming(base_s=1.0, per_context_token_s=1.0)
    records = engine(stream((0.0, 4, 5)), timing, config(cap_tokens=5))
    # contexts 4, 5, 6, 7 are read as 4, 5, 5, 5
    assert records.finish_s[0] == pytest.approx(1.0 + 5 + 6 + 6 + 6)


@ENGINES
def test_a_cached_prefix_is_read_but_not_computed(engine):
    timing = Recorder(AffineTiming(base_s=1.0, per_prefill_token_s=1.0, per_context_token_s=0.1))
    records = engine(stream((0.0, 10, 2)), timing, config(cached_input_share=0.5))
    # 5 tokens with contexts 6 to 10
    assert timing.loads[0] == [(0, 0, 5, 40)]
    assert records.first_token_s[0] == pytest.approx(6.0)
    assert records.finish_s[0] == pytest.approx(8.0)


@ENGINES
def test_an_arrival_during_a_stretch_joins_at_the_next_boundary(engine):
    records = engine(stream((0.0, 4, 100), (10.5, 4, 2), (20.0, 4, 2)), SECOND, config())
    # one that arrives exactly at a boundary takes part a step later
    assert records.admitted_s.tolist() == [0.0, 11.0, 21.0]
    assert records.finish_s.tolist() == [100.0, 13.0, 23.0]


def test_an_arrival_that_has_to_wait_does_not_wake_the_replica():
    rows = stream((0.0, 4, 100), (10.5, 4, 100), (11.5, 4, 100), (150.5, 4, 100))
    blocked = {"max_sequences": 1}, {"kv_capacity_tokens": 110}
    for limit in blocked:
        records = simulate(rows, SECOND, config(**limit))
        # a prompt's step and a stretch for each
        assert records.stretches[0] == 8
        assert records.finish_s.tolist() == [100.0, 200.0, 300.0, 400.0]


def test_a_short_arrival_behind_a_long_one_does_not_wake_the_replica_either():
    # the third would fit beside the first, but the second is before it and does not
    rows = stream((0.0, 4, 90), (10.5, 40, 2), (20.5, 2, 2))
    records = simulate(rows, SECOND, config(kv_capacity_tokens=110))
    assert records.admitted_s.tolist() == [0.0, 90.0, 90.0]
    assert records.stretches[0] == 4


@ENGINES
def test_a_stretch_ends_where_another_rank_becomes_the_slowest(engine):
    # the third request takes rank 0's second place for its one step
    rows = stream((0.0, 10, 20), (0.0, 3, 20), (0.0, 1, 1), (0.0, 3, 20))
    timing = AffineTiming(base_s=1.0, per_context_token_s=0.1)
    records = engine(rows, timing, config(ranks=2))
    # 19 decode steps; rank 0 reads 10 + i tokens, rank 1 6 + 2 i
    slowest = sum(max(10 + i, 6 + 2 * i) for i in range(19))
    assert records.finish_s[0] == pytest.approx(1.0 + 19 * 1.0 + 0.1 * slowest)


@ENGINES
def test_requests_that_arrive_together_at_an_idle_replica_start_together(engine):
    records = engine(stream((3.0, 4, 2), (3.0, 4, 2)), SECOND, config())
    assert records.finish_s.tolist() == [5.0, 5.0]


@ENGINES
def test_a_constant_state_is_reserved_for_every_sequence(engine):
    # each takes 4 + 2 and 3 of state: two of three fit into 18, the third waits for the first
    records = engine(
        stream((0.0, 4, 2), (0.0, 4, 2), (0.0, 4, 2)),
        SECOND,
        config(kv_capacity_tokens=18, sequence_overhead_tokens=3),
    )
    assert records.admitted_s.tolist() == [0.0, 0.0, 2.0]
    assert records.kv_capacity_tokens == 18


@ENGINES
def test_a_request_longer_than_the_cache_is_rejected_and_counted(engine):
    records = engine(
        stream((0.0, 4, 2), (0.0, 40, 2), (0.0, 4, 2)), SECOND, config(kv_capacity_tokens=12)
    )
    assert records.rejected.tolist() == [False, True, False]
    assert records.finished.tolist() == [True, False, True]
    assert records.finish_s[2] == 2.0


def test_a_stream_of_which_nothing_fits_is_an_error():
    with pytest.raises(InfeasibleError, match="needs 42 tokens, has 12"):
        simulate(stream((0.0, 40, 2)), SECOND, config(kv_capacity_tokens=12))
    with pytest.raises(InfeasibleError, match="needs 42 tokens, has 12"):
        simulate(
            closed(2, None, tokens=(40, 2), duration_s=60.0), SECOND, config(kv_capacity_tokens=12)
        )


@ENGINES
def test_round_robin_takes_turns_and_least_requests_looks_at_the_load(engine):
    # the first request is long; the third finds it still at replica 0
    rows = stream((0.0, 4, 50), (1.0, 4, 2), (10.0, 4, 2), (10.5, 4, 2))
    turns = engine(rows, SECOND, config(), replicas=2, router="round_robin")
    fewest = engine(rows, SECOND, config(), replicas=2, router="least_requests")
    assert turns.replica.tolist() == [0, 1, 0, 1]
    assert fewest.replica.tolist() == [0, 1, 1, 0]


@ENGINES
def test_a_client_sends_its_next_request_after_its_answer(engine):
    records = engine(closed(concurrency=1, requests=3, think_s=0.5), SECOND, config())
    assert records.arrival_s.tolist() == [0.0, 3.5, 7.0]
    assert records.finish_s.tolist() == [3.0, 6.5, 10.0]


@ENGINES
def test_a_closed_loop_keeps_its_concurrency(engine):
    records = engine(closed(concurrency=4, requests=12), SECOND, config())
    assert records.arrival_s.tolist() == [0.0] * 4 + [3.0] * 4 + [6.0] * 4
    assert records.mean_running(0.0, records.end_s) == pytest.approx(4.0)


@ENGINES
def test_clients_stop_sending_when_the_time_is_over(engine):
    records = engine(closed(concurrency=1, requests=None, duration_s=6.0), SECOND, config())
    assert records.arrival_s.tolist() == [0.0, 3.0]
    assert records.finished.all()


@ENGINES
def test_a_horizon_leaves_running_and_queued_requests(engine):
    records = engine(
        stream((0.0, 4, 100), (0.5, 4, 100), (50.0, 4, 1)),
        SECOND,
        config(max_sequences=1),
        horizon_s=10.5,
    )
    # the third never arrives; the step in progress ends at 11
    assert records.running.tolist() == [True, False]
    assert records.queued.tolist() == [False, True]
    assert records.produced_tokens.tolist() == [11, 0]
    assert records.end_s == 11.0


@ENGINES
def test_energy_is_power_times_busy_time(engine):
    timing = AffineTiming(base_s=1.0, power_w=700.0)
    records = engine(stream((0.0, 4, 3), (100.0, 4, 2)), timing, config())
    assert records.energy_j[0] == pytest.approx(700.0 * 5)


def test_the_plain_engine_catches_a_timing_that_breaks_its_promise():
    class Liar:
        def segment(self, ranks, epoch=0):
            return Segment(1.0 + ranks[0].context_tokens)

    with pytest.raises(AssertionError, match="step 1 of a stretch"):
        simulate_per_step(stream((0.0, 4, 5)), Liar(), config())


@pytest.mark.parametrize(
    "changes", [{"max_sequences": 0}, {"cap_tokens": 0}, {"cached_input_share": 1.0}]
)
def test_a_limit_that_makes_no_sense_is_an_error(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        config(**changes)
