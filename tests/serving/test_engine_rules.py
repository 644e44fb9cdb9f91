"""What each engine's rules do, small enough to follow on paper."""

import numpy as np
import pytest

from planner.errors import InfeasibleError
from planner.serving import (
    AffineTiming,
    Cluster,
    Handover,
    PoolSetup,
    ReplicaConfig,
    RequestStream,
    simulate,
    simulate_cluster,
)
from planner.serving.reference import PlainReplica, simulate_per_step
from planner.serving.waiting import ClassQueue

SECOND = AffineTiming(base_s=1.0)
ENGINES = pytest.mark.parametrize("engine", [simulate, simulate_per_step])


def stream(*rows):
    arrival_s, inputs, outputs = zip(*rows, strict=True)
    return RequestStream(np.array(arrival_s, float), np.array(inputs), np.array(outputs))


def config(**changes):
    roomy = {"max_sequences": 64, "max_step_tokens": 1000, "kv_capacity_tokens": 1000}
    return ReplicaConfig(1, **(roomy | changes))


@ENGINES
def test_decoding_waits_while_prompts_run_alone(engine):
    records = engine(stream((0.0, 4, 3), (0.5, 4, 2)), SECOND, config(policy="prefill_first"))
    # [0,1] prompt A; [1,2] prompt B, A waits; [2,3] A's 2nd and B's 2nd token; [3,4] A's 3rd
    assert records.first_token_s.tolist() == [1.0, 2.0]
    assert records.finish_s.tolist() == [4.0, 3.0]
    assert records.gap_mean_s == pytest.approx((2 + 1 + 1) / 3)  # A: 2 s and 1 s, B: 1 s


@ENGINES
def test_prompts_and_decode_steps_take_turns(engine):
    rules = {"policy": "interleaved", "decode_steps_between_prefills": 2}
    records = engine(stream((0.0, 4, 9), (0.0, 4, 9), (0.0, 4, 9)), SECOND, config(**rules))
    # prompt at 0, two steps, prompt at 3, two steps, prompt at 6
    assert records.first_token_s.tolist() == [1.0, 4.0, 7.0]


@ENGINES
def test_whole_prompts_wait_for_a_step_with_room(engine):
    rules = {"policy": "inflight", "chunked_prefill": False, "max_step_tokens": 10}
    records = engine(stream((0.0, 6, 2), (0.0, 6, 2), (0.0, 11, 2)), SECOND, config(**rules))
    assert records.first_token_s[:2].tolist() == [1.0, 2.0]
    assert records.rejected.tolist() == [False, False, True]


@ENGINES
def test_requests_are_seen_every_so_many_decode_steps(engine):
    records = engine(stream((0.0, 4, 30), (5.5, 4, 2)), SECOND, config(poll_steps=10))
    # the prompt's step ends at 1 and the inbox is read; then after ten decode steps
    assert records.admitted_s.tolist() == [0.0, 11.0]


@ENGINES
def test_a_host_that_plans_ahead_does_not_see_what_arrives_during_a_prompt(engine):
    arrivals = stream((0.0, 4, 30), (0.5, 4, 2))
    records = engine(arrivals, SECOND, config(poll_steps=10, polls_ahead=True))
    # looked at 0, as the prompt's step began; the next look is ten decode steps after its end
    assert records.admitted_s.tolist() == [0.0, 11.0]
    assert engine(arrivals, SECOND, config(poll_steps=10)).admitted_s.tolist() == [0.0, 1.0]


@ENGINES
def test_a_full_cache_puts_the_youngest_back_to_be_computed_again(engine):
    rules = {"kv_capacity_tokens": 20, "answer_reserve_share": 0.0, "preemption": "recompute"}
    records = engine(stream((0.0, 6, 10), (0.0, 6, 8)), SECOND, config(**rules))
    # both prompts in [0,1]; 12 + 2 k tokens after k decode steps: full at 20 after 4, at t = 5
    assert records.preemptions.tolist() == [0, 1]
    # A goes on to its 10th token, 5 more: t = 10.  B has 5 tokens; its 11 known tokens fit again
    # once A is gone, and it is computed in [10,11], its 6th token, then the 7th and 8th
    assert records.finish_s.tolist() == [10.0, 13.0]


@ENGINES
def test_a_swapped_sequence_pays_for_both_ways_and_loses_nothing(engine):
    rules = {
        "kv_capacity_tokens": 20, "answer_reserve_share": 0.0, "preemption": "swap",
        "swap_s_per_token": 0.1,
    }  # fmt: skip
    records = engine(stream((0.0, 6, 10), (0.0, 6, 8)), SECOND, config(**rules))
    # out at t = 5 with 10 tokens: that step takes 2 s; A ends at 11; B in again: 2 s, then 2 steps
    assert records.finish_s.tolist() == pytest.approx([11.0, 15.0])


@pytest.mark.parametrize("engine", [None, PlainReplica])
def test_a_cache_goes_over_the_link_before_the_first_token(engine):
    pools = (
        PoolSetup(SECOND, config(role="prefill")),
        PoolSetup(AffineTiming(base_s=0.5), config(role="decode")),
    )
    cluster = Cluster(pools, Handover(s_per_token=0.1, latency_s=0.05, overlap_share=0.5))
    rows = stream((0.0, 10, 3), (0.0, 10, 1))
    records = simulate_cluster(rows, cluster, **({"engine": engine} if engine else {}))
    # prompts done at 1; half of the 1 s transfer has gone before: there at 1.5 + 0.05
    assert records.first_token_s.tolist() == pytest.approx([1.55, 1.0])
    assert records.finish_s.tolist() == pytest.approx([2.55, 1.0])


def test_a_link_sends_one_cache_at_a_time():
    pools = (PoolSetup(SECOND, config(role="prefill")), PoolSetup(SECOND, config(role="decode")))
    rows = stream((0.0, 10, 2), (0.0, 10, 2))
    records = simulate_cluster(rows, Cluster(pools, Handover(s_per_token=0.1)))
    # both done at 1; there at 2 and 3; a decode step of 1 s each, the second joins at 3
    assert records.first_token_s.tolist() == pytest.approx([2.0, 3.0])


def test_arrivals_beyond_the_limit_are_turned_away_and_counted():
    pool = PoolSetup(SECOND, config(), max_outstanding=2)
    rows = stream((0.0, 4, 9), (0.1, 4, 9), (0.2, 4, 9), (20.0, 4, 2))
    records = simulate_cluster(rows, Cluster((pool,)))
    assert records.shed.tolist() == [False, False, True, False]
    assert records.rejected.sum() == 1
    assert records.finished.sum() == 3


def test_nothing_that_fits_is_an_error_with_a_remedy():
    rules = {"policy": "inflight", "chunked_prefill": False, "max_step_tokens": 10}
    with pytest.raises(InfeasibleError, match="max_step_tokens"):
        simulate(stream((0.0, 30, 2)), SECOND, config(**rules))


def test_an_urgent_class_goes_first_and_each_in_order():
    queue = ClassQueue([1, 0, 1, 0])
    for request in range(4):
        queue.append(request)
    assert queue.popleft() == 1
    queue.appendleft(1)
    assert [queue.popleft() for _ in range(len(queue))] == [1, 3, 0, 2]
