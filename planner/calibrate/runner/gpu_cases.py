"""Which module makes which operation ready."""

from collections.abc import Callable

from .gpu_attention import decode_case, prefill_case
from .gpu_case import GpuCase
from .gpu_dense import dense_case
from .gpu_memory import host_case, launch_case, memory_case, rows_case
from .operands import Gpu
from .points import Point

CASES: dict[str, Callable[[Gpu, Point], GpuCase]] = {
    "launch": launch_case,
    "hbm_read": memory_case,
    "hbm_write": memory_case,
    "hbm_copy": memory_case,
    "gemm": dense_case,
    "attention_prefill": prefill_case,
    "elementwise": rows_case,
    "host_copy": host_case,
}


def case_of(gpu: Gpu, point: Point, processors: int) -> GpuCase:
    """Make a point ready that is not of the MoE layer; ``processors`` decides splits to try."""
    if point.op == "attention_decode":
        return decode_case(gpu, point, processors)
    return CASES[point.op](gpu, point)
