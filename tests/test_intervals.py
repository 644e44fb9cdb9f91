"""Intervals: they hold the point, they widen with what is not known, and they collapse."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files, search
from planner.evaluation import (
    Replica,
    Result,
    build,
    evaluate,
    power_error,
    steady,
    with_intervals,
)
from planner.evaluation.evaluate import resimulate
from planner.evaluation.intervals import LATENCIES, MOST_RUNS, WHICH
from planner.evaluation.spread import (
    CONFIDENCE_LOG_SD,
    Spread,
    Z,
    engine_spread,
    joint,
    kernel_log_sd,
    law_log_sd,
    of_share,
    step_spreads,
)
from planner.evaluation.thinning import divided, thinned
from planner.files.overheads import fit_of
from planner.search.effort import Effort
from planner.search.screen import screen
from planner.search.slower import replicas_at
from planner.sourced import Sourced
from planner.specs.deployment import Parallelism, Pool
from planner.specs.scenario import Scenario
from planner.specs.workload import (
    FixedLength,
    LengthSegment,
    PoissonArrivals,
    Run,
    Slo,
    UniformLength,
    Workload,
)

LENGTHS = LengthSegment(
    input=UniformLength(low_tokens=200, high_tokens=600), output=FixedLength(tokens=60)
)


def small(rate: float = 20.0, requests: int = 400, replicas: int = 2) -> Scenario:
    return Scenario(
        name="small",
        model=files.load_model("olmoe-1b-7b"),
        hardware=(files.load_hardware("hgx-h100"),),
        workload=Workload(
            arrivals=PoissonArrivals(requests_per_s=rate), lengths=(LENGTHS,)
        ),
        run=Run(requests=requests),
        slo=Slo(ttft_p95_s=0.5, tpot_p95_s=0.02),
        deployment=Pool(
            replicas=replicas, parallelism=Parallelism(attention_dp=2, moe_ep=2), weights="bf16"
        ),
    )  # fmt: skip


def exact(*_: object) -> tuple[Spread, ...]:
    return ()


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate(small())


def steps(result: Result) -> list[tuple[object, float]]:
    return [(result.decode, 1.0)]


def test_every_interval_holds_its_point(result: Result) -> None:
    found = with_intervals(result).intervals
    assert found is not None
    for name in LATENCIES:
        for which in WHICH:
            low, high = found.latency[name][which]
            assert low <= getattr(getattr(result.metrics, name), which) <= high
    for name, (low, high) in found.rates.items():
        assert low <= getattr(result.metrics.steady, name) <= high
    for cost, within in zip(result.costs, found.usd, strict=True):
        for name, (low, high) in within.items():
            assert low <= getattr(cost, name) <= high
    low, high = found.goodput_requests_per_s
    assert low <= result.metrics.goodput_requests_per_s <= high
    assert result.energy is not None
    assert set(found.energy) == {
        "fleet_w", "wh_per_million_tokens", "wh_per_million_output_tokens",
    }  # fmt: skip
    for name, (low, high) in found.energy.items():
        assert low <= getattr(result.energy, name) <= high


def test_power_may_be_off_by_its_law_within_idle_and_maximum_by_hand(result: Result) -> None:
    found = with_intervals(result, lambda *_: ()).intervals
    power, energy = result.replica.power(), result.energy
    assert found is not None
    assert power is not None
    assert energy is not None
    idle_w = power.idle_replica_w * result.replicas
    most_w = result.devices * (power.host_w + power.max_w)
    low, high = found.energy["fleet_w"]
    assert low == pytest.approx(max(idle_w, energy.fleet_w / 1.4))
    assert high == pytest.approx(min(most_w, energy.fleet_w * 1.4))
    per_token = energy.wh_per_million_tokens
    assert found.energy["wh_per_million_tokens"] == pytest.approx(
        (per_token * low / energy.fleet_w, per_token * high / energy.fleet_w)
    )


def test_slower_steps_take_more_power_at_the_same_load_by_hand(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_error, "POWER_LOG", 0.0)
    found = with_intervals(result, lambda *_: (Spread("a", 0.0, math.log(1.5), ""),)).intervals
    assert found is not None
    assert result.energy is not None
    low, high = found.energy["fleet_w"]
    assert low == result.energy.fleet_w
    power = result.replica.power()
    assert power is not None
    idle_w = power.idle_replica_w * result.replicas
    # requests and time are the same, steps half as long again: so is what is above idle, but for
    # batches that grow with the wait
    assert idle_w < low < high <= idle_w + 1.5 * (low - idle_w)


def test_every_run_for_intervals_can_be_watched(result: Result) -> None:
    asked: list[object] = []
    with_intervals(result, watch=asked.append)
    assert 0 < len(asked) <= MOST_RUNS


def test_without_any_spread_an_interval_is_the_noise_of_the_simulation(result: Result) -> None:
    found = with_intervals(result, exact).intervals
    assert found is not None
    assert found.step_factor == (1.0, 1.0)
    p95 = result.metrics.tpot_s.p95
    width = result.metrics.tpot_s.half_width.p95
    assert width is not None
    low, high = found.latency["tpot_s"]["p95"]
    factor = math.exp(width * 1.7291 / 2.0930 / p95)
    assert (high / p95, p95 / low) == pytest.approx((factor, factor))
    assert found.latency["itl_s"]["p95"] == (result.metrics.itl_s.p95,) * 2
    assert found.usd[0]["usd_per_million_output_tokens"] == pytest.approx(
        (result.costs[0].usd_per_million_output_tokens,) * 2
    )


def test_a_wider_cause_never_narrows_a_latency(result: Result) -> None:
    def spreads(high: float) -> object:
        return lambda *_: (Spread("a", -high, high, ""),)

    narrow, wide = (with_intervals(result, spreads(h)).intervals for h in (0.1, 0.4))  # type: ignore[arg-type]
    assert narrow is not None
    assert wide is not None
    for name in ("tpot_s", "e2e_s"):
        for which in WHICH:
            inner, outer = narrow.latency[name][which], wide.latency[name][which]
            assert outer[0] <= inner[0]
            assert inner[1] <= outer[1]


def test_steps_twice_as_long_make_an_idle_fleet_twice_as_slow() -> None:
    alone = evaluate(small(rate=0.5, requests=60))
    slower, _ = resimulate(alone, [2.0])
    assert slower.tpot_s.p50 == pytest.approx(2 * alone.metrics.tpot_s.p50, rel=0.05)


@given(st.lists(st.tuples(st.floats(-2, 0), st.floats(0, 2)), max_size=5))
def test_more_causes_never_narrow(ends: list[tuple[float, float]]) -> None:
    causes = [Spread(str(i), low, high, "") for i, (low, high) in enumerate(ends)]
    low, high = joint(causes)
    assert low <= 0 <= high
    for kept in range(len(causes)):
        fewer = joint(causes[:kept])
        assert low <= fewer[0]
        assert fewer[1] <= high


def test_causes_add_by_squares() -> None:
    assert joint([Spread("a", -0.3, 0.6, ""), Spread("b", -0.4, 0.8, "")]) == pytest.approx(
        (-0.5, 1.0)
    )


def test_a_spread_without_its_point_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold 0"):
        Spread("a", 0.1, 0.2, "")


def test_an_unsure_share_moves_the_whole_by_its_share() -> None:
    low, high = of_share(0.25, math.log(2) / Z)
    assert (math.exp(low), math.exp(high)) == pytest.approx((0.875, 1.25))


def replica_of(part: str, engine: str | None = None, **pool: object) -> Replica:
    made = {
        "parallelism": {"attention_tp": 8, "moe_tp": 8}, "weights": "fp8",
        **({"engine": engine} if engine else {}), **pool,
    }  # fmt: skip
    scenario = files.load_scenario("r1-chat", {"system": part, "deployment": made})
    assert scenario.decoding is not None
    return build(scenario.model, scenario.hardware[0], scenario.decoding)


def width(replica: Replica) -> float:
    step = replica.step.decode_step(16.0, 2000.0, replica.cap_tokens)
    low, high = joint(step_spreads(replica, [(step, 1.0)]))
    return high - low


def test_a_part_whose_shares_are_another_parts_is_less_sure() -> None:
    assert width(replica_of("hgx-h200", "sglang")) < width(replica_of("gaudi3-8", "sglang"))
    own = replica_of("hgx-h200")
    assert own.hardware.calibration.provenance is not None
    made = own.hardware.calibration.provenance.model_copy(
        update={"transferred_from": "another", "rows": ()}
    )
    moved = own.hardware.calibration.model_copy(update={"provenance": made})
    for law in ("gemm/fp8", "grouped_gemm/fp8", "attention_decode/gqa"):
        assert law_log_sd(law, moved) > law_log_sd(law, own.hardware.calibration)


def test_an_assumed_share_is_less_sure_than_a_fitted_one() -> None:
    calibration = replica_of("hgx-h200").hardware.calibration
    fp8 = calibration.gemm["fp8"]
    guessed = fp8.model_copy(
        update={"memory_share": Sourced(0.8, "assumption", confidence="assumed")}
    )
    changed = calibration.model_copy(update={"gemm": {**calibration.gemm, "fp8": guessed}})
    assert law_log_sd("gemm/fp8", changed) == pytest.approx(
        math.hypot(law_log_sd("gemm/fp8", calibration), CONFIDENCE_LOG_SD["assumed"])
    )


def test_an_engine_new_to_the_fit_is_less_sure_and_none_at_all_no_surer() -> None:
    fit = fit_of("sglang")
    assert fit is not None
    version = next(c for c in fit.combinations if "h200-sxm | deepseek-r1" in c)
    known = replica_of("hgx-h200", "sglang")
    name = version.split(" | ")[0].removeprefix("sglang ")
    engine = known.pool.engine.model_copy(update={"version": name})
    fitted = replace(known, pool=known.pool.model_copy(update={"engine": engine}))
    for quantity in ("mean_tpot_s", "mean_ttft_s"):
        seen, new = engine_spread(fitted, quantity), engine_spread(known, quantity)
        without = engine_spread(replica_of("hgx-h200"), quantity)
        assert new.low <= seen.low
        assert seen.high <= new.high
        assert without.high - without.low >= seen.high - seen.low


def test_kernels_count_by_their_share_of_the_step() -> None:
    replica = replica_of("hgx-h200", "sglang")
    step = replica.step.decode_step(16.0, 2000.0, replica.cap_tokens)
    one = replace(step, parts=tuple(p for p in step.parts if p.name == "attention/mla_core"))
    alone = replace(one, time_s=sum(p.time_s for p in one.parts), overhead_s=0.0)
    assert kernel_log_sd(replica, [(alone, 1.0)]) == pytest.approx(
        law_log_sd(one.parts[0].law, replica.hardware.calibration)
    )


def test_a_steady_step_and_its_rates_move_against_each_other() -> None:
    found = steady(files.load_scenario("deepseek-profile-decode"))
    within = found.interval90()
    low, high = within["step_s"]
    assert low < found.step.time_s < high
    assert within["tokens_per_s_per_user"] == pytest.approx([1 / high, 1 / low])


def test_twice_as_long_steps_take_more_replicas_and_equal_ones_as_many(result: Result) -> None:
    line = screen(result.traffic, 0.0, result.replica)
    rate = float(line.requests_per_s[len(line) // 2])
    assert replicas_at(line, rate, 7, 1.0) == 7
    assert replicas_at(line, rate, 7, 0.5) <= 7
    assert replicas_at(line, rate, 7, 1.3) > 7
    assert replicas_at(line, float(line.requests_per_s[0]), 7, 1.1) == math.inf


def test_a_plan_says_how_many_devices_its_promises_may_take() -> None:
    scenario = small(rate=40.0).model_copy(update={"deployment": None})
    found = search.plan_intervals(search.plan(scenario, effort=Effort(in_full=1, probed=0))).best
    assert found is not None
    assert found.intervals is not None
    low, high = found.intervals.devices
    assert low <= found.devices <= high
    shown = found.to_dict()
    assert shown["interval90"]["devices"] == [low, high]
    assert len(shown["ttft_s"]["interval90"]["p95"]) == 2
    assert shown["costs"][0]["interval90"]["usd_per_million_output_tokens"]
    json.dumps(shown["interval90"])


def test_a_part_of_a_fleet_has_the_same_load_a_replica() -> None:
    long = evaluate(small(rate=200.0, requests=24_500, replicas=4))
    part = thinned(long)
    assert part is not None
    assert part.scenario.workload is not None
    assert part.pools[0].pool.replicas == 2
    assert part.scenario.run.requests == 12_250
    arrivals = part.scenario.workload.arrivals
    assert isinstance(arrivals, PoissonArrivals)
    assert arrivals.requests_per_s == 100.0
    assert resimulate(part, [1.0])[0].tpot_s.mean == pytest.approx(
        long.metrics.tpot_s.mean, rel=0.03
    )


def test_a_trace_is_thinned_and_a_short_run_left_whole(result: Result) -> None:
    trace = files.load_scenario("prefix-caching").workload
    assert trace is not None
    assert thinned(result) is None
    assert divided(trace, 2) is not None
