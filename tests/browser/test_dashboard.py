"""The dashboard in a real Chromium: numbers, links, files, silence, and its own speed."""

import http.client
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
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.files.benchmarks import read_benchmarks
from planner.report.words import seconds, usd
from planner.validation.own import beside

pytest.importorskip("streamlit")
pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SGLANG = "published/sglang-h100-decode"
PAGES = ("", "deployment", "simulate", "experts", "compare", "trust")
DRAWN_AT_ONCE = ("deployment", "experts", "compare", "trust")
APART = "deepseek-production-day"
QUICK = "r1-distill-7b-rtx5090"
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
    server.wait(timeout=30)
    log.close()


class Screen:
    """A page with everything it said and asked for."""

    def __init__(self, browser: Any, address: str, **view: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **view})
        self.page.set_default_timeout(WAIT_MS)
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
        if name in DRAWN_AT_ONCE:
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


def test_the_front_door_shows_a_plan_and_says_how_soon(
    screen: Screen, record_property: Any
) -> None:
    found = planner.plan(planner.load_scenario("r1-chat"))
    begun = time.perf_counter()
    screen.open("")
    screen.until("Devices", str(found.best.devices))
    answer = time.perf_counter() - begun
    screen.page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=WAIT_MS)
    picture = time.perf_counter() - begun
    record_property("front_door_answer_s", answer)
    record_property("front_door_picture_s", picture)
    sys.stderr.write(f"\nfront door: answer {answer:.2f} s, with charts {picture:.2f} s\n")
    assert screen.metric("TTFT p95") == seconds(found.best.metrics.ttft_s.p95)
    screen.page.get_by_text("Why the other").click()
    screen.page.get_by_text("What would have to change").wait_for(timeout=WAIT_MS)
    screen.quiet()


def test_a_simulation_is_shared_by_its_link_and_taken_along(
    screen: Screen, browser: Any, address: str, tmp_path: Path
) -> None:
    screen.open(f"simulate?scenario={QUICK}&requests=1000")
    screen.page.get_by_role("button", name="Simulate", exact=True).click(timeout=WAIT_MS)
    changes = {
        "run.requests": 1000, "run.duration_s": None, "run.warmup_s": 0.0,
        "run.warmup_requests": 100,
    }  # fmt: skip
    found = planner.simulate(planner.load_scenario(QUICK, changes))
    screen.until("TTFT p95", seconds(found.metrics.ttft_s.p95))
    with screen.page.expect_download() as waiting:
        screen.page.get_by_role("button", name="requests.csv").click()
    saved = tmp_path / "requests.csv"
    waiting.value.save_as(saved)
    rows = saved.read_text().splitlines()
    assert len(rows) == 1001
    assert float(rows[1].split(",")[9]) == found.requests()["ttft_s"][0]
    other = Screen(browser, address).open(screen.page.url.removeprefix(f"{address}/"))
    other.until("E2E p95", seconds(found.metrics.e2e_s.p95))
    other.page.close()
    screen.quiet()


def test_a_trace_goes_in_and_a_bad_one_is_refused(screen: Screen, tmp_path: Path) -> None:
    screen.open(f"simulate?scenario={QUICK}")
    screen.page.get_by_text("Your own traffic").click()
    good = tmp_path / "mine.csv"
    lines = [f"{2.5 * i},{200 + i},{40 + i % 7}" for i in range(60)]
    good.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]))
    given = screen.page.locator("input[type=file]").last
    given.set_input_files(good)
    screen.page.get_by_text("60 requests (table)").wait_for(timeout=WAIT_MS)
    screen.page.get_by_role("button", name="Simulate", exact=True).click()
    run = {"warmup_requests": 6, "seed": 1}
    found = planner.simulate(planner.load_scenario(QUICK, {"workload": str(good), "run": run}))
    screen.until("TTFT p95", seconds(found.metrics.ttft_s.p95))
    bad = tmp_path / "bad.csv"
    bad.write_text("arrival_s,input_tokens,output_tokens\n0,12,-3\n")
    given.set_input_files(bad)
    refused = screen.page.locator("[data-testid=stAlertContentError]").first
    refused.wait_for(timeout=WAIT_MS)
    assert "output_tokens" in refused.inner_text()
    screen.quiet()


def test_a_million_requests_show_progress_and_are_cancelled(
    screen: Screen, record_property: Any
) -> None:
    screen.open("simulate?scenario=r1-lengths-100k&requests=1000000")
    ask = screen.page.get_by_role("button", name="Simulate", exact=True)
    ask.click(timeout=WAIT_MS)
    bar = screen.page.locator("[data-testid=stProgress]")
    bar.filter(has_text="of 1,000,000 requests done").first.wait_for(timeout=WAIT_MS)
    shown = bar.first.inner_text()
    assert "left" in shown
    begun = time.perf_counter()
    screen.page.get_by_role("button", name="Cancel").click()
    ask.wait_for(timeout=WAIT_MS)
    taken = time.perf_counter() - begun
    record_property("cancel_s", taken)
    sys.stderr.write(f"\n{shown!r}; cancelled in {taken:.2f} s\n")
    screen.quiet()


def test_a_fleet_that_scales_is_one_click_away_and_its_replicas_are_drawn(screen: Screen) -> None:
    screen.open("simulate")
    screen.page.get_by_role("button", name="Autoscaling", exact=True).click(timeout=WAIT_MS)
    screen.page.wait_for_url(re.compile("scenario=r1-chat-autoscale"))
    screen.open("simulate?scenario=r1-chat-autoscale&requests=1000")
    screen.page.get_by_role("button", name="Simulate", exact=True).click(timeout=WAIT_MS)
    changes = {
        "run.requests": 1000, "run.duration_s": None, "run.warmup_s": 0.0,
        "run.warmup_requests": 100,
    }  # fmt: skip
    found = planner.simulate(planner.load_scenario("r1-chat-autoscale", changes))
    assert found.operations is not None
    screen.until("Replicas serving", f"{found.operations.pools[0].mean_serving:.3g}")
    assert found.intervals is not None
    low, high = found.intervals.latency["ttft_s"]["p95"]
    screen.page.get_by_text(f"90 %: {seconds(low)} to {seconds(high)}").first.wait_for()
    screen.page.get_by_text("Replicas over the run").wait_for(timeout=WAIT_MS)
    screen.quiet()


def test_a_benchmark_goes_in_and_stands_beside_its_prediction(screen: Screen) -> None:
    screen.open(f"trust?view=Your+benchmarks&scenario={QUICK}&tool=vllm")
    path = ROOT / "tests" / "data" / "benchmarks" / "vllm.json"
    screen.page.locator("input[type=file]").last.set_input_files(path)
    screen.page.get_by_role("button", name="Predict them").click(timeout=WAIT_MS)
    (made,) = (beside(run, planner.load_scenario(QUICK)) for run in read_benchmarks(path, "vllm"))
    inside = [row.inside for row in made.rows if row.inside is not None]
    screen.until("Inside 90 %", f"{sum(inside)} of {len(inside)}")
    screen.page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=WAIT_MS)
    screen.quiet()


def test_ways_to_pay_cross_where_the_api_says(screen: Screen) -> None:
    screen.open(f"compare?view=Rent%2C+buy+or+API&scenario={QUICK}&used=50")
    screen.page.get_by_role("button", name="Draw up the bill").click(timeout=WAIT_MS)
    found = planner.break_even(planner.load_scenario(QUICK), utilisation=0.5)
    screen.until("Devices", str(found.result.devices))
    assert found.own is not None
    assert screen.metric("Owning, a device-hour") == usd(found.own.usd_per_hour)
    for name in ("own_usd_per_device_hour", "own_usd_per_million_output_tokens"):
        low, high = found.intervals[name]
        screen.page.get_by_text(f"90 %: {usd(low)} to {usd(high)}").first.wait_for()
    screen.quiet()


def test_pools_apart_are_changed_on_deployment_and_give_the_apis_number(screen: Screen) -> None:
    screen.open(f"deployment?scenario={APART}")

    def expected(changes: dict[str, Any]) -> str:
        found = planner.steady(planner.load_scenario(APART, changes))
        return f"{found.tokens_per_s_per_device:,.0f}"

    screen.until("Tokens/s a device", expected({}))
    screen.page.get_by_text("Pools apart").wait_for(timeout=WAIT_MS)
    screen.page.get_by_role("slider").first.press("ArrowRight")
    screen.until("Tokens/s a device", expected({"steady.sequences_per_device": 96}))
    screen.open(f"deployment?scenario={APART}&ep=72&kv=fp8")
    caches = ("deployment.decode.kv", "deployment.prefill.kv")
    fewer = {"attention_tp": 1, "attention_dp": 72, "moe_ep": 72}
    changes: dict[str, Any] = {f"deployment.decode.parallelism.{k}": v for k, v in fewer.items()}
    screen.until("Tokens/s a device", expected({**changes, **dict.fromkeys(caches, "fp8")}))
    screen.quiet()


def test_pools_apart_are_simulated_and_changed_by_their_own_sliders(screen: Screen) -> None:
    screen.open(f"simulate?scenario={APART}&requests=1000")
    slider = screen.page.get_by_role("slider", name="Prefill replicas")
    slider.press("ArrowRight", timeout=WAIT_MS)
    screen.page.wait_for_url(re.compile("prefill_replicas=30"))
    screen.page.get_by_role("button", name="Simulate", exact=True).click(timeout=WAIT_MS)
    changes = {
        "run.requests": 1000, "run.duration_s": None, "run.warmup_s": 0.0,
        "run.warmup_requests": 100, "deployment.prefill.replicas": 30,
    }  # fmt: skip
    found = planner.simulate(planner.load_scenario(APART, changes))
    assert found.intervals is not None
    screen.until("TTFT p95", seconds(found.metrics.ttft_s.p95))
    screen.until("TPOT p95", seconds(found.metrics.tpot_s.p95))
    low, high = found.intervals.latency["ttft_s"]["p95"]
    screen.page.get_by_text(f"90 %: {seconds(low)} to {seconds(high)}").first.wait_for()
    screen.quiet()


def test_a_figure_is_saved_as_svg_once_that_is_asked_for(screen: Screen, tmp_path: Path) -> None:
    screen.open("deployment")
    screen.page.get_by_text("SVG", exact=True).click(timeout=WAIT_MS)
    figure = screen.page.locator(".js-plotly-plot").first
    camera = figure.locator("[data-title='Download plot']")  # of PNG it says so
    camera.wait_for(state="attached", timeout=WAIT_MS)
    figure.hover()
    with screen.page.expect_download() as waiting:
        camera.click()
    assert waiting.value.suggested_filename.endswith(".svg")
    saved = tmp_path / "figure.svg"
    waiting.value.save_as(saved)
    assert saved.read_text().startswith("<svg")
    screen.quiet()


def test_uploads_from_elsewhere_and_paths_out_of_the_server_are_refused(address: str) -> None:
    host = address.removeprefix("http://")
    asked = [
        ("PUT", "/_stcore/upload_file/someone/something"),
        ("GET", "/media/../../../../etc/passwd"),
        ("GET", "/component/x/../../../../etc/passwd"),
    ]
    answers = []
    for method, path in asked:
        with closing(http.client.HTTPConnection(host, timeout=20)) as server:
            server.request(method, path, b"x" if method == "PUT" else None)
            with server.getresponse() as answer:
                answers.append((answer.status, answer.read()))
    assert answers[0][0] == 403
    assert all(b"root:" not in body for _, body in answers)


def test_a_phone_shows_every_name_and_number_of_a_figure(browser: Any, address: str) -> None:
    shown = Screen(browser, address, viewport={"width": 390, "height": 844})
    shown.open("deployment")
    shown.page.locator(".js-plotly-plot .main-svg").nth(8).wait_for(timeout=WAIT_MS)
    cut = shown.page.evaluate(
        """() => [...document.querySelectorAll('.js-plotly-plot text')].filter(t => {
            const own = t.getBoundingClientRect();
            const all = t.closest('svg').getBoundingClientRect();
            return own.width && (own.right > all.right + 1 || own.left < all.left - 1);
        }).map(t => t.textContent)"""
    )
    assert cut == []
    shown.page.locator(".names").get_by_text("activations, buffers").first.wait_for()
    shown.page.close()


def test_the_link_of_a_page_that_cannot_be_is_explained(screen: Screen) -> None:
    screen.open("deployment?scenario=../../../../etc/passwd&kv=%3Cscript%3Ealert(1)%3C/script%3E")
    screen.until("Tokens/s a device", rate({}))
    assert screen.page.locator("[data-testid=stAlert]").count() >= 1
    screen.quiet()
