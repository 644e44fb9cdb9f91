"""Results of serving benchmark tools, each read into one form: seconds and tokens.

What each tool writes was read in its own source or documentation:

* vLLM, ``vllm bench serve --save-result`` (``vllm/benchmarks/serve.py``): one JSON object, or one a
  line with ``--append-result``; latencies in milliseconds.
* SGLang, ``sglang.bench_serving --output-file`` (``python/sglang/bench_serving.py``): one a line.
* AIPerf, ``profile_export_aiperf.json`` (``docs/reference/json-export-schema.md``), and GenAI-Perf
  before it: a block ``{unit, avg, p50, …}`` a metric; the unit is authoritative.
* GuideLLM, ``benchmarks.json`` (``src/guidellm/benchmark/schemas``): a list of benchmarks; its
  ``time_per_output_token_ms`` contains the first token, its ``inter_token_latency_ms`` is TPOT.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planner.errors import InputError

Tool = Literal["vllm", "sglang", "aiperf", "guidellm"]
STATISTICS = ("mean", "p50", "p90", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One measured run of a benchmark tool."""

    tool: Tool
    label: str
    model: str
    """As the server calls it; empty where the file does not say."""
    requests: int
    concurrency: int | None
    """Clients with one request in flight each; None: sent by rate, or all at once."""
    requests_per_s: float | None
    """Rate at which requests were sent; None: as fast as clients are free."""
    burstiness: float
    """Shape of the gamma distribution of gaps: 1 is Poisson."""
    input_tokens: float
    """Mean prompt."""
    output_tokens: float
    """Mean answer."""
    lengths: tuple[tuple[int, ...], tuple[int, ...]] | None
    """Every prompt and answer, where the file has them."""
    latency_s: dict[str, dict[str, float]]
    """``ttft``, ``tpot``, ``itl``, ``e2e`` -> ``mean``, ``p50``, … [s]"""
    output_tokens_per_s: float | None
    requests_done_per_s: float | None
    failed: int = 0


def read_benchmarks(path: str | Path, tool: Tool) -> list[Benchmark]:
    """Read the result of a benchmark tool: one run or several.

    Raises
    ------
    InputError
        The file cannot be read, is not JSON, or lacks a field; the message names it.
    """
    place = str(path)
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise InputError(place, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(place, "", "is not UTF-8 text") from None
    if tool == "guidellm":
        whole = _View(place, "", _parsed(place, text))
        return [_guidellm(each) for each in whole.items("benchmarks")]
    readers: dict[Tool, Callable[[_View], Benchmark]] = {
        "vllm": _vllm, "sglang": _sglang, "aiperf": _aiperf,
    }  # fmt: skip
    return [readers[tool](_View(at, "", data)) for at, data in _objects(place, text, tool)]


def _objects(place: str, text: str, tool: Tool) -> list[tuple[str, Any]]:
    """The whole file as one object, or one a line."""
    try:
        return [(place, json.loads(text))]
    except json.JSONDecodeError as error:
        if tool == "aiperf" or error.msg != "Extra data":
            raise InputError(f"{place}:{error.lineno}", "", f"is not JSON: {error.msg}") from None
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [(f"{place}:{n}", _parsed(f"{place}:{n}", line)) for n, line in lines]


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(place, "", f"is not JSON: {error.msg}") from None


@dataclass(frozen=True, slots=True)
class _View:
    """An object of a file that knows where it is."""

    place: str
    path: str
    data: Any

    def fail(self, name: str, problem: str) -> InputError:
        return InputError(self.place, f"{self.path}{name}", problem)

    def get(self, name: str) -> Any:
        """Value under a dotted name, None where something on the way is missing."""
        here = self.data
        for part in name.split("."):
            if not isinstance(here, dict) or here.get(part) is None:
                return None
            here = here[part]
        return here

    def number(self, name: str) -> float:
        """A number above zero that must be there."""
        value = self.get(name)
        if value is None:
            raise self.fail(name, "is missing; is this the result of another tool?")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(name, f"must be a number, got {value!r}")
        if not math.isfinite(value) or value <= 0:
            raise self.fail(name, f"must be above 0, got {value!r}; did requests fail?")
        return float(value)

    def maybe(self, name: str) -> float | None:
        """A number above zero, or None where it is absent, null, ``inf`` or 0."""
        value = self.get(name)
        if value in (None, "inf", 0, math.inf):
            return None
        return self.number(name)

    def inside(self, name: str) -> "_View":
        found = self.get(name)
        if not isinstance(found, dict):
            raise self.fail(name, "is missing; is this the result of another tool?")
        return _View(self.place, f"{self.path}{name}.", found)

    def items(self, name: str) -> "list[_View]":
        found = self.get(name) if isinstance(self.data, dict) else None
        if not isinstance(found, list) or not found:
            raise self.fail(name, "is missing or empty; is this the result of another tool?")
        return [_View(self.place, f"{name}[{i}].", each) for i, each in enumerate(found)]


def _vllm(run: _View) -> Benchmark:
    shape = run.maybe("burstiness")
    return _of_lines(run, "vllm", ("ttft", "tpot", "itl", "e2el"), shape or 1.0)


def _sglang(run: _View) -> Benchmark:
    return _of_lines(run, "sglang", ("ttft", "tpot", "itl", "e2e_latency"), 1.0)


def _of_lines(run: _View, tool: Tool, names: tuple[str, ...], shape: float) -> Benchmark:
    """A flat object: ``mean_ttft_ms``, ``p99_tpot_ms``, …"""
    done = run.number("completed")
    latency = {}
    for ours, theirs in zip(("ttft", "tpot", "itl", "e2e"), names, strict=True):
        keys = {"mean": "mean", "p50": "median", **{p: p for p in STATISTICS[2:]}}
        found = {k: run.maybe(f"{word}_{theirs}_ms") for k, word in keys.items()}
        latency[ours] = {k: v / 1000 for k, v in found.items() if v is not None}
    for name in ("mean_ttft_ms", "mean_tpot_ms"):
        run.number(name)
    clients = run.maybe("max_concurrency")
    return Benchmark(
        tool, str(run.get("label") or run.get("tag") or ""), str(run.get("model_id") or ""),
        int(done), int(clients) if clients else None, run.maybe("request_rate"), shape,
        run.number("total_input_tokens") / done, run.number("total_output_tokens") / done,
        _lengths(run), latency, run.maybe("output_throughput"), run.maybe("request_throughput"),
        int(run.maybe("failed") or 0),
    )  # fmt: skip


def _lengths(run: _View) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    both = []
    for name in ("input_lens", "output_lens"):
        found = run.get(name)
        if not isinstance(found, list) or not all(isinstance(n, int) for n in found):
            return None
        kept = tuple(n for n in found if n > 0)
        if not kept:
            return None
        both.append(kept)
    return both[0], both[1]


_AIPERF = {
    "ttft": "time_to_first_token", "tpot": "inter_token_latency", "e2e": "request_latency",
}  # fmt: skip
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}
_CLIENTS = (
    "input_config.loadgen.concurrency", "input_config.phases.profiling.concurrency",
    "input_config.perf_analyzer.stimulus.concurrency", "input_config.concurrency",
)  # fmt: skip
_RATES = (
    "input_config.loadgen.request_rate", "input_config.phases.profiling.request_rate",
    "input_config.perf_analyzer.stimulus.request_rate", "input_config.request_rate",
)  # fmt: skip


def _aiperf(run: _View) -> Benchmark:
    if not isinstance(run.data, dict):
        raise run.fail("", "is not a JSON object")
    latency = {ours: _block(run, theirs) for ours, theirs in _AIPERF.items() if run.get(theirs)}
    for ours in ("ttft", "tpot"):
        run.inside(_AIPERF[ours])
    clients = next((run.maybe(name) for name in _CLIENTS if run.get(name)), None)
    rate = next((run.maybe(name) for name in _RATES if run.get(name)), None)
    models = run.get("input_config.endpoint.model_names") or [""]
    failed = run.maybe("error_request_count.avg")
    counted = run.maybe("request_count.avg")
    return Benchmark(
        "aiperf", str(run.get("run_info.run_label") or ""), str(models[0]),
        int(counted or run.number("request_latency.count")),
        int(clients) if clients else None, rate, 1.0,
        run.number("input_sequence_length.avg"), run.number("output_sequence_length.avg"),
        None, latency, run.maybe("output_token_throughput.avg"),
        run.maybe("request_throughput.avg"), int(failed or 0),
    )  # fmt: skip


def _block(run: _View, name: str) -> dict[str, float]:
    block = run.inside(name)
    unit = block.get("unit")
    if unit not in _SECONDS:
        raise block.fail("unit", f"must be one of {', '.join(_SECONDS)}, got {unit!r}")
    found = {"mean": block.number("avg"), **{p: block.maybe(p) for p in STATISTICS[1:]}}
    return {k: v * _SECONDS[unit] for k, v in found.items() if v is not None}


_GUIDELLM = {
    "ttft": ("time_to_first_token_ms", 1e-3), "tpot": ("inter_token_latency_ms", 1e-3),
    "e2e": ("request_latency", 1.0),
}  # fmt: skip


def _guidellm(run: _View) -> Benchmark:
    metrics = run.inside("metrics")
    latency = {}
    for ours, (theirs, unit) in _GUIDELLM.items():
        block = metrics.inside(f"{theirs}.successful")
        found = {"mean": block.number("mean"), "p50": block.maybe("median")}
        found |= {p: block.maybe(f"percentiles.{p}") for p in STATISTICS[2:]}
        latency[ours] = {k: v * unit for k, v in found.items() if v is not None}
    strategy = run.get("config.strategy") or run.get("args.strategy") or {}
    kind = str(strategy.get("type_", ""))
    clients = strategy.get("streams") or strategy.get("max_concurrency")
    if kind == "synchronous":
        clients = 1
    rate = strategy.get("rate")
    return Benchmark(
        "guidellm", kind, str(run.get("config.backend.model") or ""),
        int(metrics.number("request_totals.successful")),
        int(clients) if clients else None, float(rate) if rate else None, 1.0,
        metrics.number("prompt_token_count.successful.mean"),
        metrics.number("output_token_count.successful.mean"),
        None, latency, metrics.maybe("output_tokens_per_second.successful.mean"),
        metrics.maybe("requests_per_second.successful.mean"),
        int(metrics.maybe("request_totals.errored") or 0),
    )  # fmt: skip
