"""How work on a device is timed and chosen, on a pretended device whose clock is arithmetic."""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from planner.calibrate.runner import backend_cuda, gpu_timing, work
from planner.calibrate.runner.case import Check, CheckFailedError
from planner.calibrate.runner.gpu_case import GpuCase, Probe, Way
from planner.calibrate.runner.gpu_timing import by_events
from planner.calibrate.runner.timing import Timed

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
STEP_S = 2e-5


class PretendedTorch:
    """Events read a counter that calls advance; graphs replay what they recorded."""

    def __init__(self, capturable: bool = True) -> None:
        self.now_s, self.capturable, self.capturing = 0.0, capturable, False
        self.recorded: list[int] = []
        self.turns: list[int] = []
        torch = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_s = torch.now_s

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, end: Any) -> float:
                return (end.at_s - self.at_s) * 1e3

        class CUDAGraph:
            def capture_begin(self, capture_error_mode: str) -> None:
                assert capture_error_mode == "thread_local"
                torch.capturing, torch.recorded = True, []

            def capture_end(self) -> None:
                torch.capturing = False

            def replay(self) -> None:
                torch.now_s += STEP_S * len(torch.recorded)

            def reset(self) -> None:
                torch.recorded = []

        self.cuda = SimpleNamespace(Event=Event, CUDAGraph=CUDAGraph, synchronize=lambda: None)

    def call(self, turn: int) -> None:
        if self.capturing and not self.capturable:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.turns.append(turn)
        if self.capturing:
            self.recorded.append(turn)
        else:
            self.now_s += STEP_S


def test_a_graph_of_many_calls_gives_the_time_of_one() -> None:
    torch = PretendedTorch()
    timed = by_events(torch, torch.call, 5)
    assert timed.timing == "graph"
    assert timed.time_s == pytest.approx(STEP_S)
    assert timed.min_s == pytest.approx(STEP_S)
    assert timed.repeats >= 7
    assert timed.inner * STEP_S >= gpu_timing.TARGET_S


def test_every_set_of_operands_has_its_turn() -> None:
    torch = PretendedTorch()
    timed = by_events(torch, torch.call, 300)
    assert timed.inner == 300
    assert set(torch.turns) == set(range(300))


def test_what_cannot_be_captured_is_timed_eagerly_and_says_so() -> None:
    torch = PretendedTorch(capturable=False)
    timed = by_events(torch, torch.call, 1)
    assert timed.timing == "eager"
    assert timed.time_s == pytest.approx(STEP_S)
    assert not torch.capturing


def test_a_graph_holds_no_more_calls_than_allowed() -> None:
    torch = PretendedTorch()
    assert by_events(torch, torch.call, 1, most=10).inner == 10


# --- choosing ----------------------------------------------------------------------------------


def way(name: str, error: float | None) -> Way:
    if error is None:
        return Way(lambda _: None, name)
    return Way(
        lambda _: None, name, None, (name,),
        lambda: Probe(lambda: None, lambda: Check(error, 0.01)),
    )  # fmt: skip


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> backend_cuda.CudaBackend:
    made = backend_cuda.CudaBackend("cpu", 0, True)
    times = {"slow": 3.0, "fast": 1.0, "wrong": 0.1, "wrong too": 0.1}

    def timed(case: GpuCase, chosen: Way, quick: bool = False) -> Timed:
        return Timed(times[chosen.name], times[chosen.name], 7, 1, "graph")

    monkeypatch.setattr(made, "_time", timed)
    return made


@needs_torch
def test_the_fastest_way_that_is_right_is_chosen(backend: backend_cuda.CudaBackend) -> None:
    case = GpuCase([way("slow", 1e-3), way("wrong", 0.5), way("fast", 2e-3)], work.Work(1, 1))
    chosen, error = backend._best(case)
    assert (chosen.name, error) == ("fast", 2e-3)


@needs_torch
def test_without_a_right_way_there_is_no_time(backend: backend_cuda.CudaBackend) -> None:
    case = GpuCase([way("wrong", 0.5), way("wrong too", float("nan"))], work.Work(1, 1))
    with pytest.raises(CheckFailedError, match=r"wrong: .*0\.5.*; wrong too: .*nan"):
        backend._best(case)


@needs_torch
def test_a_kernel_is_checked_once_in_a_run(backend: backend_cuda.CudaBackend) -> None:
    made = []

    def probe() -> Probe:
        made.append(1)
        return Probe(lambda: None, lambda: Check(1e-3, 0.01))

    case = GpuCase([Way(lambda _: None, "fast", None, ("key",), probe)], work.Work(1, 1))
    for _ in range(3):
        backend._best(case)
    assert made == [1]


def test_an_illegal_access_loses_the_device_and_a_full_memory_does_not() -> None:
    assert backend_cuda._lost(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not backend_cuda._lost(RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"))
    assert not backend_cuda._lost(ValueError("no token of this batch"))
