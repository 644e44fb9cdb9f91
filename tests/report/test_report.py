import json
import subprocess
import sys

from planner.evaluation import Result
from planner.report import PlanReport, Report
from planner.search import Plan


def test_report_says_what_the_result_says(result: Result, report: Report) -> None:
    assert report.to_dict() == result.to_dict()
    assert isinstance(report, Result)
    assert set(report.figures()) == {
        "latency", "load", "tokens", "use", "late", "memory", "step", "cost", "day",
    }  # fmt: skip


def test_plan_report_holds_reports(found: Plan, plan_report: PlanReport) -> None:
    assert json.dumps(plan_report.to_dict()) == json.dumps(found.to_dict())
    assert isinstance(plan_report.best, Report)
    assert plan_report.best is plan_report.options[0]
    assert "frontier" in plan_report.figures()


def test_importing_reports_imports_no_drawing() -> None:
    code = (
        "import sys, planner.report, planner.report.terminal, planner.report.html;"
        "print([m for m in ('rich', 'plotly', 'jinja2', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
