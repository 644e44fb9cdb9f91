"""What a described workload amounts to."""

from typing import Any

import pytest

from planner import files
from planner.errors import InputError
from planner.specs.workload import Run, Workload
from planner.workloads import (
    mean_tokens,
    measured_traffic,
    peak_window,
    resolve_run,
    segment_at,
    whole_curve,
    window_traffic,
)

FIXED = {"input": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}}
LONG = {"start_s": 100, "input": {"kind": "fixed", "tokens": 100},
        "output": {"kind": "fixed", "tokens": 1000}}  # fmt: skip


def workload(arrivals: dict[str, Any], lengths: tuple[Any, ...] = (FIXED,)) -> Workload:
    return Workload.model_validate({"arrivals": arrivals, "lengths": lengths})


CURVE = workload({"kind": "curve", "window_s": 50, "requests_per_s": [1, 9, 2, 0]}, (FIXED, LONG))
"""Four windows; answers grow tenfold (to 1,000) in the last two."""


@pytest.mark.parametrize(
    ("length", "mean"),
    [
        ({"kind": "fixed", "tokens": 7}, 7),
        ({"kind": "uniform", "low_tokens": 800, "high_tokens": 1000}, 900),
        ({"kind": "lognormal", "mean_tokens": 300, "sigma": 1.5, "max_tokens": 9000}, 300),
        ({"kind": "quantiles", "bin_means_tokens": [1, 2, 6]}, 3),
    ],
)
def test_mean_lengths(length: dict[str, Any], mean: float) -> None:
    one = workload({"kind": "poisson", "requests_per_s": 1}, ({"input": length, "output": length},))
    assert mean_tokens(one.lengths[0].input) == mean


def test_windows_have_their_own_rate_and_lengths() -> None:
    first, third = window_traffic(CURVE, 0), window_traffic(CURVE, 2)
    assert (first.requests_per_s, first.output_tokens, first.requests) == (1, 10, 50)
    assert (third.requests_per_s, third.output_tokens, third.output_tokens_per_s) == (2, 1000, 2000)
    assert segment_at(CURVE, 99.9).start_s == 0
    assert segment_at(CURVE, 100).start_s == 100


def test_the_busiest_window_depends_on_what_is_counted() -> None:
    assert peak_window(CURVE, "peak_requests") == 1
    assert peak_window(CURVE, "peak_output") == 2  # 2 x 1,000 against 9 x 10


def test_a_window_is_measured_after_its_warm_up() -> None:
    run = resolve_run(CURVE, Run(window="peak_output", warmup_s=30))
    assert (run.start_s, run.warmup_s, run.duration_s) == (70, 30, 80)
    early = resolve_run(CURVE, Run(window=0, warmup_s=30))
    assert (early.start_s, early.warmup_s, early.duration_s) == (0, 0, 50)
    assert (
        measured_traffic(CURVE, Run(window="peak_output", warmup_s=30)).output_tokens_per_s == 2000
    )
    assert resolve_run(CURVE, Run(requests=5)) == Run(requests=5)


def test_the_whole_curve_weighs_windows_by_their_requests() -> None:
    day = whole_curve(CURVE)
    assert (day.duration_s, day.requests, day.requests_per_s) == (200, 600, 3)
    assert day.output_tokens == pytest.approx((500 * 10 + 100 * 1000) / 600)
    assert measured_traffic(CURVE, Run()) == day


def test_a_run_over_several_windows_is_measured_whole() -> None:
    # 25 s of 9/s, then 50 s of 2/s
    part = measured_traffic(CURVE, Run(start_s=50, warmup_s=25, duration_s=100))
    assert (part.duration_s, part.requests) == (75, 325)
    assert part.output_tokens == pytest.approx((225 * 10 + 100 * 1000) / 325)
    rest = measured_traffic(CURVE, Run(start_s=100))
    assert (rest.duration_s, rest.requests) == (100, 100)
    nothing = measured_traffic(CURVE, Run(start_s=150, duration_s=50))
    assert (nothing.requests_per_s, nothing.output_tokens) == (0, 1000)


def test_a_trace_is_its_own_mean() -> None:
    trace = workload(
        {"kind": "trace", "arrival_s": [10, 11, 20], "input_tokens": [1, 2, 6],
         "output_tokens": [3, 3, 3]}, ()
    )  # fmt: skip
    traffic = measured_traffic(trace, Run())
    assert (traffic.input_tokens, traffic.output_tokens, traffic.duration_s) == (3, 3, 10)
    assert traffic.requests == pytest.approx(3)


def test_constant_rates_last_as_long_as_the_run() -> None:
    poisson = workload({"kind": "poisson", "requests_per_s": 4})
    assert measured_traffic(poisson, Run(requests=100)).duration_s == 25
    assert measured_traffic(poisson, Run(duration_s=10)).requests == 40


@pytest.mark.parametrize("ask", [peak_window, window_traffic])
def test_only_a_curve_has_windows(ask: Any) -> None:
    poisson = workload({"kind": "poisson", "requests_per_s": 4})
    with pytest.raises(InputError, match="only a curve of rates has"):
        ask(poisson, "peak_output" if ask is peak_window else 0)
    with pytest.raises(InputError, match="the curve has 0 to 3"):
        window_traffic(CURVE, 4)


def test_the_shipped_day_has_the_published_traffic() -> None:
    day = files.load_scenario("deepseek-r1-day").workload
    assert day is not None
    whole = whole_curve(day)
    assert whole.duration_s == 86400
    assert whole.requests == pytest.approx(1.38e6, rel=0.01)
    assert (peak_window(day, "peak_output"), peak_window(day, "peak_requests")) == (66, 133)
    assert window_traffic(day, 66).output_tokens_per_s == pytest.approx(53e3, rel=0.01)
    assert window_traffic(day, 133).requests_per_s == pytest.approx(42.5, rel=0.01)
