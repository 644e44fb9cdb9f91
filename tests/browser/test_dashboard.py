"""The dashboard in a real Chromium: numbers, links, files, silence, and its own speed."""

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import planner

pytest.importorskip("streamlit")
pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SGLANG = "published/sglang-h100-decode"
PAGES = ("", "deployment", "experts", "compare", "trust")
WAIT_MS = 90_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("app") / "log").open("w")
    settings = {"STREAMLIT_SERVER_HEADLESS": "true", "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "planner.cli", "app", "--port", str(port)],
        cwd=ROOT, env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
        stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            break
        except OSError:
            assert server.poll() is None, "the dashboard did not start"
            time.sleep(0.25)
    yield url
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=10)
    log.close()


class Screen:
    """A page with everything it said and asked for."""

    def __init__(self, browser: Any, address: str, **view: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **view})
        self.address, self.said, self.asked = address, [], []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> "Screen":
        self.page.goto(f"{self.address}/{path}")
        self.page.locator("h1").first.wait_for(timeout=WAIT_MS)
        return self

    def metric(self, label: str) -> str:
        tile = self.page.locator("[data-testid=stMetric]").filter(has_text=label).first
        return str(tile.locator("[data-testid=stMetricValue]").inner_text(timeout=WAIT_MS)).strip()

    def until(self, label: str, value: str) -> None:
        tile = self.page.locator("[data-testid=stMetric]").filter(has_text=label)
        tile.filter(has_text=value).first.wait_for(timeout=WAIT_MS)

    def quiet(self) -> None:
        # Streamlit looks for its own host page under a deep link first, and goes on at the root
        loud = [line for line in self.said if "404" not in line]
        assert loud == []
        own = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        outside = [url for url in self.asked if not url.startswith(own)]
        assert outside == []


@pytest.fixture
def screen(browser: Any, address: str) -> Iterator[Screen]:
    shown = Screen(browser, address)
    yield shown
    shown.page.close()


def rate(changes: dict[str, Any]) -> str:
    found = planner.steady(planner.load_scenario(SGLANG, changes))
    return f"{found.tokens_per_s_per_device:,.0f}"


@pytest.mark.parametrize("view", ["light", "dark", "phone"])
def test_every_page_is_drawn_quietly_inside_its_window(
    browser: Any, address: str, view: str
) -> None:
    width = 390 if view == "phone" else 1280
    shown = Screen(
        browser, address, viewport={"width": width, "height": 900},
        color_scheme="dark" if view == "dark" else "light",
    )  # fmt: skip
    for name in PAGES:
        shown.open(name)
        if name:
            shown.page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=WAIT_MS)
        assert shown.page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert shown.page.locator("[data-testid=stException]").count() == 0
        assert shown.page.locator("[data-testid=stAlertContentError]").count() == 0
    shown.quiet()
    shown.page.close()


def test_a_slider_gives_the_apis_number_a_link_and_says_how_fast(
    screen: Screen, browser: Any, address: str, record_property: Any
) -> None:
    begun = time.perf_counter()
    screen.open("deployment")
    screen.until("Tokens/s a device", rate({}))
    first = time.perf_counter() - begun
    handle = screen.page.get_by_role("slider").first
    handle.focus()
    taken = []
    for sequences in (384, 512, 384, 256, 192, 128):
        expected = rate({"steady.sequences_per_device": sequences})
        begun = time.perf_counter()
        handle.press("ArrowRight" if sequences in (512,) or not taken else "ArrowLeft")
        screen.until("Tokens/s a device", expected)
        taken.append(time.perf_counter() - begun)
    median = statistics.median(taken)
    record_property("first_picture_s", first)
    record_property("slider_median_s", median)
    said = f"first numbers {first:.2f} s; slider to new numbers, median {median:.2f} s"
    sys.stderr.write(f"\n{said}\n")
    screen.page.wait_for_url(re.compile("sequences=128"))
    other = Screen(browser, address).open(screen.page.url.removeprefix(f"{address}/"))
    other.until("Tokens/s a device", rate({"steady.sequences_per_device": 128}))
    other.page.close()
    screen.quiet()


def test_a_scenario_goes_out_and_comes_back_in(screen: Screen, tmp_path: Path) -> None:
    screen.open("deployment?kv=fp8")
    expected = rate({"deployment.kv": "fp8"})
    screen.until("Tokens/s a device", expected)
    with screen.page.expect_download() as waiting:
        screen.page.get_by_role("button", name="scenario.yaml").click()
    saved = tmp_path / "mine.yaml"
    waiting.value.save_as(saved)
    screen.open("deployment?scenario=r1-chat-ep16")
    screen.page.get_by_role("button", name="Upload YAML").click()
    screen.page.locator("input[type=file]").first.set_input_files(saved)
    screen.until("Tokens/s a device", expected)
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: <img src=x onerror=alert(1)>\nmodel: ../../etc/passwd\n")
    screen.page.locator("input[type=file]").first.set_input_files(bad)
    refused = screen.page.locator("[data-testid=stAlertContentError]").first
    refused.wait_for(timeout=WAIT_MS)
    assert "cannot name files" in refused.inner_text()
    screen.quiet()


def test_a_histogram_moves_the_experts(screen: Screen, tmp_path: Path) -> None:
    screen.open("experts")
    found = planner.expert_load(planner.load_scenario(SGLANG))
    screen.until("Hottest rank, no balancing", f"{found.before.rank_ratio:.2f} x")
    path = tmp_path / "flat.json"
    path.write_text(json.dumps([[1.0] * 256] * 58))
    expected = planner.expert_load(path, model="deepseek-v3", ep=72, redundant=32)
    screen.page.locator("input[type=file]").last.set_input_files(path)
    screen.until("Hottest rank, no balancing", f"{expected.before.rank_ratio:.2f} x")
    screen.quiet()


def test_long_work_can_be_cancelled_and_others_are_served(
    screen: Screen, browser: Any, address: str
) -> None:
    screen.open("trust?view=Published+figures")
    ask = screen.page.get_by_role("button", name="Predict them")
    ask.click(timeout=WAIT_MS)
    cancel = screen.page.get_by_role("button", name="Cancel")
    cancel.wait_for(timeout=WAIT_MS)
    other = Screen(browser, address).open("deployment")
    other.until("Tokens/s a device", rate({}))
    other.page.close()
    begun = time.perf_counter()
    cancel.click()
    ask.wait_for(timeout=WAIT_MS)
    sys.stderr.write(f"\ncancelled in {time.perf_counter() - begun:.2f} s\n")
    screen.quiet()


def test_the_link_of_a_page_that_cannot_be_is_explained(screen: Screen) -> None:
    screen.open("deployment?scenario=../../../../etc/passwd&kv=%3Cscript%3Ealert(1)%3C/script%3E")
    screen.until("Tokens/s a device", rate({}))
    assert screen.page.locator("[data-testid=stAlert]").count() >= 1
    screen.quiet()
