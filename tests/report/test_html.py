import importlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from planner.evaluation import Result
from planner.report import PlanReport, Report
from planner.report.html import fragment, page, write_html
from planner.report.words import HOW
from planner.search import Comparison, Plan, Row
from planner.specs.hardware import Reference

HOSTILE = '<script>alert("x")</script> & "quotes"'


class Links(HTMLParser):
    """Collects tags, and what every attribute leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [(tag, k, v or "") for k, v in attrs if k in ("src", "href", "srcset")]


def read(text: str) -> Links:
    parser = Links()
    parser.feed(text)
    return parser


def without_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.S)


@pytest.fixture(scope="module")
def text(found: Plan) -> str:
    return page(found)


def test_page_loads_nothing_from_elsewhere(text: str) -> None:
    for tag, name, target in read(text).links:
        if tag == "a":
            assert target.startswith(("https://", "http://"))
        else:
            assert (tag, name, target) == ("link", "href", "data:,")
    assert "default-src 'none'" in text
    assert "@import" not in without_scripts(text)
    assert "url(" not in without_scripts(text)


def test_plotly_is_there_once(text: str) -> None:
    assert len(re.findall(r"plotly\.js v\d", text[:40_000_000])) == 1
    assert len(text) < 6_000_000


def test_hostile_names_stay_text(result: Result) -> None:
    scenario = result.scenario.model_copy(update={"title": HOSTILE, "notes": HOSTILE})
    text = page(replace(result, scenario=scenario))
    assert read(text).tags.count("script") == read(page(result)).tags.count("script")
    assert "&lt;script&gt;alert" in text
    assert '<script>alert("x")' not in text


def test_hostile_providers_cannot_leave_the_figures(result: Result) -> None:
    cost = result.costs[0]
    price = cost.price.model_copy(update={"provider": '</script><img src="x">'})
    text = page(replace(result, costs=(replace(cost, price=price), *result.costs[1:])))
    assert "img" not in read(text).tags


def test_page_holds_the_numbers_and_every_refusal(text: str, found: Plan) -> None:
    body = without_scripts(text)
    best = found.best
    assert best
    assert f">{best.devices}<" in body
    for refusal in found.rejections:
        assert refusal.label.partition(",")[0] in body
    for assumption in best.assumptions:
        assert assumption.name in body
    for source in best.sources:
        assert source.replace("&", "&amp;") in body


def test_sources_lead_to_their_pages_and_nowhere_else(result: Result) -> None:
    key = result.sources[0]
    good = {key: Reference(title="A paper", url="https://example.org/paper", retrieved="2026")}
    evil = {key: Reference(title="A paper", url="javascript:alert(1)")}
    assert ("a", "href", "https://example.org/paper") in read(page(result, good)).links
    assert not [link for link in read(page(result, evil)).links if link[0] == "a"]


@pytest.mark.parametrize("place", sorted(set(HOW.values())))
def test_every_pointer_to_a_formula_leads_somewhere(place: str) -> None:
    parts = place.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        assert found.__doc__
        return
    pytest.fail(f"{place} is not a module")


def test_file_appears_whole_or_not_at_all(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_html(result, tmp_path / "new" / "report.html")
    before = path.read_text("utf-8")
    assert before.startswith("<!doctype html>")

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_html(result, path)
    assert path.read_text("utf-8") == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_comparison_page_has_every_system(scenario, found: Plan) -> None:
    rows = (Row(scenario.hardware[0], found, ""), Row(scenario.hardware[0], None, "too small"))
    text = without_scripts(page(Comparison(scenario, rows)))
    assert "Systems side by side" in text
    assert "too small" in text


def test_plan_without_an_answer_has_a_page(found: Plan) -> None:
    text = page(replace(found, best=None, options=()))
    assert "No fleet of up to" in text


def test_notebook_fragment_has_no_scripts(report: Report, plan_report: PlanReport) -> None:
    for text in (report._repr_html_(), plan_report._repr_html_(), fragment(plan_report)):
        assert "script" not in read(text).tags
        assert not read(text).links
        assert "HBM of one device" in text
