"""Time of work on the device: a captured graph of many calls, replayed between two events."""

from time import perf_counter
from typing import Any

from .timing import REPEATS, Call, Timed, summary

TARGET_S = 4e-3
"""One replay lasts about this long, so that the events' resolution and one launch vanish."""
QUICK_S = 1.2e-3


def once(torch: Any, call: Call, sets: int, inner: int) -> float:
    """Seconds of ``inner`` calls between two events."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for turn in range(inner):
        call(turn % sets)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def capture(torch: Any, call: Call, sets: int, inner: int) -> Any:
    """Record ``inner`` calls; the current stream must not be the default one.

    ``torch.cuda.graph`` would collect garbage and empty the allocator's cache each time.
    """
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        for turn in range(inner):
            call(turn % sets)
    finally:
        graph.capture_end()
    return graph


def by_events(
    torch: Any, call: Call, sets: int, graph: bool = True, quick: bool = False, most: int = 200
) -> Timed:
    """Median and minimum time of a call on the device. [s]

    ``sets`` of operands are all visited where that takes less than a tenth of a second.  A call
    that cannot be captured (it asks the host) is timed as it is launched, and its row says so.
    """
    for turn in range(min(sets, 2) + 1):
        call(turn % sets)
    torch.cuda.synchronize()
    estimate_s = max(once(torch, call, sets, 2) / 2, 1e-7)
    inner = max(1, min(most, int((QUICK_S if quick else TARGET_S) / estimate_s) + 1))
    if estimate_s * sets < (0.01 if quick else 0.1):
        inner = max(inner, sets)
    repeats = 3 if quick else REPEATS
    if graph:
        try:
            captured = capture(torch, call, sets, inner)
        except RuntimeError:
            torch.cuda.synchronize()
        else:
            return _replayed(torch, captured, inner, repeats)
    return summary([once(torch, call, sets, inner) for _ in range(repeats)], inner, "eager")


def _replayed(torch: Any, captured: Any, inner: int, repeats: int) -> Timed:
    captured.replay()
    torch.cuda.synchronize()
    samples = [once(torch, lambda _: captured.replay(), 1, 1) for _ in range(repeats)]
    captured.reset()
    return summary(samples, inner, "graph")


def interpreted(call: Call) -> Timed:
    """Time one call on the host, where kernels run in the interpreter: a test, no measurement."""
    start = perf_counter()
    call(0)
    return summary([perf_counter() - start], 1, "clock")
