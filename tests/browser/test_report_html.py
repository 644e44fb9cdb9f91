"""The HTML report in a real Chromium: drawn, quiet, offline, and inside its page."""

from pathlib import Path
from typing import Any

import pytest

from planner import files
from planner.report.html import write_html
from planner.search import plan
from planner.specs.scenario import Scenario, Space
from planner.specs.workload import CurveArrivals, FixedLength, LengthSegment, Run, Slo, Workload

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1200, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenario = Scenario(
        name="browser",
        title="A report in a browser",
        model=files.load_model("r1-distill-qwen-7b"),
        hardware=(files.load_hardware("hgx-h100"),),
        workload=Workload(
            arrivals=CurveArrivals(window_s=60, requests_per_s=(4.0, 8.0)),
            lengths=(LengthSegment(input=FixedLength(tokens=400), output=FixedLength(tokens=100)),),
        ),
        run=Run(window=1, warmup_s=20),
        slo=Slo(ttft_p95_s=1.0, tpot_p95_s=0.05),
        space=Space(max_nodes_per_replica=1),
        api_prices=files.api_prices()[:1],
    )
    return write_html(plan(scenario), tmp_path_factory.mktemp("report") / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(SIZES))
def test_report_is_drawn_without_errors_or_requests(
    browser: Any, report: Path, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    figures = page.locator("[data-figure]")
    names = [figures.nth(i).get_attribute("data-figure") for i in range(figures.count())]
    assert names == [
        "latency", "cost", "frontier", "day", "load", "tokens", "use", "late", "step", "memory"
    ]  # fmt: skip
    for name in names:
        page.locator(f"#plot-{name} svg.main-svg").first.wait_for()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("[data-figure] .main-svg")].filter(svg =>
            svg.getBoundingClientRect().right > innerWidth + 1).length"""
    )
    assert outside == 0
    page.close()


def test_text_of_figures_follows_the_colour_scheme(browser: Any, report: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    title = page.locator("#plot-latency .gtitle")
    title.wait_for()
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert title.evaluate("e => getComputedStyle(e).fill") == ink
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        """() => getComputedStyle(document.querySelector("#plot-latency .gtitle")).fill
            === getComputedStyle(document.body).color"""
    )
    assert page.evaluate("getComputedStyle(document.body).color") != ink
    page.close()


def test_appendix_opens_by_keyboard(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    first = page.locator("details").first
    assert not first.evaluate("e => e.open")
    first.locator("summary").press("Enter")
    assert first.evaluate("e => e.open")
    assert first.locator("table").is_visible()
    page.close()
