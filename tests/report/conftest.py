import pytest

from planner import files
from planner.evaluation import Result, evaluate
from planner.report import PlanReport, Report
from planner.search import Plan, plan
from planner.specs.deployment import Parallelism, Pool
from planner.specs.scenario import Scenario, Space
from planner.specs.workload import (
    CurveArrivals,
    FixedLength,
    LengthSegment,
    LognormalLength,
    Run,
    Slo,
    Workload,
)


@pytest.fixture(scope="package")
def scenario() -> Scenario:
    """A few hundred requests to a small model with experts, in the busiest minute of three."""
    return Scenario(
        name="small",
        title="A small day",
        model=files.load_model("olmoe-1b-7b"),
        hardware=(files.load_hardware("hgx-h100"),),
        workload=Workload(
            title="Three minutes.",
            arrivals=CurveArrivals(window_s=60, requests_per_s=(4.0, 9.0, 2.0)),
            lengths=(
                LengthSegment(
                    input=LognormalLength(mean_tokens=500, sigma=0.8, max_tokens=3000),
                    output=FixedLength(tokens=120),
                ),
            ),
        ),
        run=Run(window="peak_output", warmup_s=30),
        slo=Slo(ttft_p95_s=0.5, tpot_p95_s=0.02),
        space=Space(max_nodes_per_replica=1),
        deployment=Pool(
            replicas=2,
            parallelism=Parallelism(attention_dp=2, moe_ep=2),
            weights="bf16",
        ),
        api_prices=files.api_prices()[:2],
    )


@pytest.fixture(scope="package")
def result(scenario: Scenario) -> Result:
    return evaluate(scenario)


@pytest.fixture(scope="package")
def report(result: Result) -> Report:
    return Report.of(result)


@pytest.fixture(scope="package")
def found(scenario: Scenario) -> Plan:
    return plan(scenario)


@pytest.fixture(scope="package")
def plan_report(found: Plan) -> PlanReport:
    return PlanReport.of(found)
