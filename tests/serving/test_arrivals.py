"""Described traffic becomes a stream of requests."""

import numpy as np
import pytest

from planner.errors import InputError
from planner.serving import generate
from planner.specs.workload import (
    ClosedLoopArrivals,
    CurveArrivals,
    FixedLength,
    GammaArrivals,
    LengthSegment,
    LognormalLength,
    PoissonArrivals,
    QuantileLength,
    Run,
    TraceArrivals,
    UniformLength,
    Workload,
)
from planner.workloads import draw_lengths

SHORT = LengthSegment(input=FixedLength(tokens=10), output=FixedLength(tokens=5))


def workload(arrivals, *lengths):
    return Workload(arrivals=arrivals, lengths=lengths or (SHORT,))


def test_poisson_gaps_have_the_asked_mean_and_vary_as_much():
    stream = generate(workload(PoissonArrivals(requests_per_s=4)), Run(requests=100_000))
    gaps = np.diff(stream.arrival_s)
    assert gaps.mean() == pytest.approx(0.25, rel=0.02)
    assert gaps.std() == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gamma_gaps_have_the_asked_mean_and_variation(cv):
    arrivals = GammaArrivals(requests_per_s=4, cv=cv)
    gaps = np.diff(generate(workload(arrivals), Run(requests=100_000)).arrival_s)
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


@pytest.mark.parametrize(
    "arrivals", [PoissonArrivals(requests_per_s=5), GammaArrivals(requests_per_s=5, cv=3)]
)
def test_arrivals_end_with_the_duration_or_the_requests_whichever_is_first(arrivals):
    long = generate(workload(arrivals), Run(duration_s=1000.0))
    assert long.arrival_s[-1] < 1000.0
    assert len(long.arrival_s) == pytest.approx(5000, rel=0.2)
    assert len(generate(workload(arrivals), Run(duration_s=1000.0, requests=7)).arrival_s) == 7
    few = generate(workload(arrivals), Run(duration_s=10.0, requests=10_000))
    assert few.arrival_s[-1] < 10.0


def test_the_same_seed_gives_the_same_stream_and_another_seed_another():
    first, again, other = (
        generate(workload(PoissonArrivals(requests_per_s=4)), Run(requests=50, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first.arrival_s.tobytes() == again.arrival_s.tobytes()
    assert first.arrival_s.tobytes() != other.arrival_s.tobytes()


def test_other_lengths_leave_the_arrival_times_alone():
    arrivals = PoissonArrivals(requests_per_s=4)
    long = LengthSegment(
        input=LognormalLength(mean_tokens=900, sigma=1, max_tokens=9000),
        output=UniformLength(low_tokens=1, high_tokens=99),
    )
    other_output = LengthSegment(input=long.input, output=FixedLength(tokens=3))
    streams = [
        generate(workload(arrivals, x), Run(requests=50)) for x in (SHORT, long, other_output)
    ]
    assert streams[0].arrival_s.tobytes() == streams[1].arrival_s.tobytes()
    assert streams[1].input_tokens.tobytes() == streams[2].input_tokens.tobytes()


def test_a_curve_has_each_windows_rate():
    curve = CurveArrivals(window_s=1000, requests_per_s=(2.0, 0.0, 8.0))
    stream = generate(workload(curve), Run())
    counts = np.histogram(stream.arrival_s, bins=[0, 1000, 2000, 3000])[0]
    assert counts == pytest.approx([2000, 0, 8000], rel=0.1)
    assert np.all(np.diff(stream.arrival_s) >= 0)


def test_a_curve_starts_at_the_time_of_day_and_counts_from_there():
    curve = CurveArrivals(window_s=1000, requests_per_s=(2.0, 0.0, 8.0))
    stream = generate(workload(curve), Run(start_s=1500, duration_s=1000))
    assert 500 <= stream.arrival_s[0] < 501
    assert stream.arrival_s[-1] < 1000
    assert len(stream.arrival_s) == pytest.approx(4000, rel=0.1)


def test_a_curve_is_over_at_its_end():
    curve = CurveArrivals(window_s=10, requests_per_s=(2.0,))
    assert generate(workload(curve), Run(duration_s=1e6)).arrival_s[-1] < 10
    with pytest.raises(InputError, match="before the end of the curve at 10 s, got 10"):
        generate(workload(curve), Run(start_s=10))


def test_lengths_follow_the_time_of_day():
    late = LengthSegment(start_s=600, input=FixedLength(tokens=70), output=FixedLength(tokens=7))
    stream = generate(
        workload(PoissonArrivals(requests_per_s=1), SHORT, late),
        Run(duration_s=200, start_s=500),
    )
    after = stream.arrival_s >= 100
    assert set(stream.input_tokens[after]) == {70}
    assert set(stream.output_tokens[~after]) == {5}


def test_a_closed_loop_draws_the_same_lengths_for_every_simulation():
    lengths = LengthSegment(
        input=UniformLength(low_tokens=1, high_tokens=1000), output=FixedLength(tokens=2)
    )
    late = LengthSegment(start_s=60, input=FixedLength(tokens=70), output=FixedLength(tokens=7))
    stream = generate(workload(ClosedLoopArrivals(concurrency=8), lengths, late), Run(requests=10))
    first, second = stream.drawer(), stream.drawer()
    assert [first(0.0) for _ in range(9)] == [second(1.0) for _ in range(9)]
    assert first(60.0) == (70, 7)


def test_a_trace_is_cut_and_otherwise_untouched():
    trace = TraceArrivals(
        arrival_s=(0, 1, 2, 3), input_tokens=(4, 5, 6, 7), output_tokens=(1, 2, 3, 4)
    )
    whole = generate(Workload(arrivals=trace), Run())
    assert whole.arrival_s.tolist() == [0, 1, 2, 3]
    assert generate(Workload(arrivals=trace), Run(duration_s=2.0)).input_tokens.tolist() == [4, 5]
    assert generate(Workload(arrivals=trace), Run(requests=3)).output_tokens.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "arrivals",
    [
        PoissonArrivals(requests_per_s=1),
        GammaArrivals(requests_per_s=1, cv=2),
        ClosedLoopArrivals(concurrency=1),
    ],
)
def test_arrivals_without_an_end_are_an_error(arrivals):
    with pytest.raises(InputError, match=r"give run\.requests or run\.duration_s"):
        generate(workload(arrivals), Run())


def test_a_run_without_a_single_arrival_is_an_error():
    with pytest.raises(InputError, match="no request arrives"):
        generate(workload(PoissonArrivals(requests_per_s=1e-9)), Run(duration_s=1.0))


def test_lengths_have_the_described_distribution():
    rng = np.random.default_rng(0)
    normal = draw_lengths(
        LognormalLength(mean_tokens=1000, sigma=0.8, max_tokens=10**6), 200_000, rng
    )
    assert normal.mean() == pytest.approx(1000, rel=0.02)
    assert np.log(normal).std() == pytest.approx(0.8, rel=0.02)
    uniform = draw_lengths(UniformLength(low_tokens=3, high_tokens=5), 1000, rng)
    assert set(uniform) == {3, 4, 5}
    bins = draw_lengths(QuantileLength(bin_means_tokens=(0.2, 7.6, 90.0)), 1000, rng)
    assert set(bins) == {1, 8, 90}
    cut = draw_lengths(LognormalLength(mean_tokens=2, sigma=2, max_tokens=50), 1000, rng)
    assert cut.min() == 1
    assert cut.max() == 50
