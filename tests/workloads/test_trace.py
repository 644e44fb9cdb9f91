"""A trace as it is played: ranges, stretching, thinning, copies, horizons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.specs.arrivals import TraceArrivals
from planner.specs.requests import PrefixBlocks, RequestTable
from planner.specs.workload import Run, Workload
from planner.workloads import describe, measured_traffic, played

RUN = Run()


def table(times, ids=None, timed=True) -> RequestTable:
    count = len(times)
    prefixes = None
    if ids is not None:
        offsets = np.cumsum([0, *map(len, ids)])
        prefixes = PrefixBlocks(10, np.array([i for each in ids for i in each]), offsets)
    return RequestTable(
        np.array(times, float), np.arange(10, 10 + count), np.arange(1, 1 + count), prefixes, timed
    )


def trace(rows: RequestTable, **options) -> TraceArrivals:
    return TraceArrivals(file="a.csv", table=rows, **options)


FOUR = table([0, 1, 2, 3], [[1], [1, 2], [3], [3, 4]])
"""Four requests a second apart: it stands for 4 s."""


def test_a_trace_plays_as_recorded():
    out = played(trace(FOUR), RUN)
    assert out == FOUR
    assert played(trace(FOUR), Run(duration_s=2.0)).input_tokens.tolist() == [10, 11]
    assert played(trace(FOUR), Run(requests=3)).output_tokens.tolist() == [1, 2, 3]


def test_a_range_of_time_starts_at_its_own_beginning():
    out = played(trace(FOUR, from_s=1.0, to_s=3.0), RUN)
    assert out.arrival_s.tolist() == [0, 1]
    assert out.input_tokens.tolist() == [11, 12]
    assert out.prefixes.of(0) == [1, 2]


def test_ranges_of_lengths_leave_the_others_at_their_times():
    out = played(trace(FOUR, input_range_tokens=(11, 13), output_range_tokens=(1, 3)), RUN)
    assert out.arrival_s.tolist() == [1, 2]


def test_an_empty_range_says_what_there_is():
    message = r"it has 4 over 3 s, prompts of 10 to 13 tokens, answers of 1 to 4"
    with pytest.raises(InputError, match=message):
        played(trace(FOUR, from_s=9.0), RUN)


def test_time_is_stretched():
    out = played(trace(FOUR, time_scale=0.5), RUN)
    assert out.arrival_s.tolist() == [0, 0.5, 1, 1.5]


def test_copies_are_others_who_share_among_themselves():
    out = played(trace(FOUR, rate_scale=3.0, copy_shift_s=1.0), RUN)
    assert len(out) == 12
    assert out.arrival_s.max() < 4.0
    first_ids = [out.prefixes.of(i)[0] for i in range(12)]
    assert sorted(np.unique(first_ids, return_counts=True)[1]) == [2] * 6
    assert describe(out).reuse.hit_blocks == 3 * describe(FOUR).reuse.hit_blocks


def test_thinning_keeps_about_its_share():
    many = table(np.arange(10_000))
    kept = len(played(trace(many, rate_scale=0.3), RUN))
    assert kept == pytest.approx(3000, abs=4 * np.sqrt(10_000 * 0.3 * 0.7))
    assert len(played(trace(many, rate_scale=1.3), RUN)) == pytest.approx(13_000, abs=200)


def test_a_horizon_repeats_whole_passes_with_names_of_their_own():
    out = played(trace(FOUR, horizon_s=9.0), RUN)
    assert out.arrival_s.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert describe(out).reuse.hit_blocks == 4  # two in each whole pass, none between passes
    stretched = played(trace(FOUR, horizon_s=9.0, time_scale=2.0), RUN)
    assert stretched.arrival_s.tolist() == [0, 2, 4, 6, 8]


def test_blocks_drawn_at_random_keep_order_inside():
    out = played(trace(table(np.arange(100)), horizon_s=1000.0, resample_block_s=10.0), RUN)
    assert out.arrival_s.tolist() == list(range(1000))
    steps = np.diff(out.input_tokens).reshape(-1)
    inside = np.arange(1, 1000) % 10 != 0
    assert set(steps[inside]) == {1}
    assert (steps[~inside] != 1).sum() > 50
    with pytest.raises(InputError, match="must be at most the 4 s of the trace, got 5"):
        played(trace(FOUR, horizon_s=9.0, resample_block_s=5.0), RUN)
    with pytest.raises(InputError, match="all requests arrive at once"):
        played(trace(table([0, 0]), horizon_s=9.0), RUN)


def test_a_rate_replaces_the_times_and_keeps_the_order_of_what_is_shared():
    out = played(trace(FOUR, requests_per_s=2.0), Run(requests=10))
    assert out.input_tokens.tolist() == [10, 11, 12, 13, 10, 11, 12, 13, 10, 11]
    assert describe(out).reuse.hit_blocks == 5
    free = played(trace(table([0] * 50, timed=False), requests_per_s=2.0), Run(duration_s=5000))
    assert len(free) == pytest.approx(10_000, abs=400)
    assert len(np.unique(free.input_tokens)) == 50
    assert (np.diff(free.arrival_s) > 0).all()
    with pytest.raises(InputError, match=r"requests_per_s: is missing; a\.csv has lengths but no"):
        played(trace(table([0, 0], timed=False)), RUN)
    with pytest.raises(InputError, match=r"give run\.requests"):
        played(trace(FOUR, requests_per_s=2.0), RUN)


def test_a_file_must_have_been_read():
    with pytest.raises(InputError, match="was not read; use load_scenario"):
        played(TraceArrivals(file="a.csv"), RUN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_s": 3.0, "to_s": 2.0}, "to_s 2 must be after from_s 3"),
        ({"input_range_tokens": (9, 2)}, "must rise, got 9 to 2"),
        ({"resample_block_s": 2.0}, "needs horizon_s"),
        ({"requests_per_s": 2.0, "time_scale": 0.5}, "remove time_scale"),
    ],
)
def test_choices_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        trace(FOUR, **options)


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=30), st.floats(0.1, 4.0),
    st.floats(0.3, 3.0), st.none() | st.floats(5.0, 100.0), st.integers(0, 9),
)  # fmt: skip
def test_playing_keeps_rows_whole_sorted_and_the_same_for_a_seed(times, rate, stretch, end, seed):
    times = np.sort(times) + np.arange(len(times)) / 64
    rows = table(times, [[i, i + 100] for i in range(len(times))])
    arrivals = trace(rows, rate_scale=rate, time_scale=stretch, horizon_s=end)
    try:
        out = played(arrivals, Run(seed=seed))
    except InputError:
        assert rate < 1 or end is not None
        return
    assert (np.diff(out.arrival_s) >= 0).all()
    assert end is None or out.arrival_s.max() < end
    assert (out.output_tokens == out.input_tokens - 9).all()  # rows stay together
    assert all(len(out.prefixes.of(i)) == 2 for i in range(len(out)))
    assert out == played(arrivals, Run(seed=seed))
    if end is None and rate >= 1:
        assert int(rate) * len(rows) <= len(out) <= (int(rate) + 1) * len(rows)


def test_traffic_is_that_of_the_rows_sent():
    workload = Workload(arrivals=trace(FOUR, rate_scale=2.0))
    whole = measured_traffic(workload, RUN)
    assert whole.input_tokens == 11.5
    assert whole.square_input_tokens == (100 + 121 + 144 + 169) / 4
    short = measured_traffic(workload, Run(duration_s=2.0))
    assert short.duration_s == 2.0
    assert short.requests == pytest.approx(len(played(workload.arrivals, Run(duration_s=2.0))))
