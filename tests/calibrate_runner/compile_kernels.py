"""Compile the kernels of the whole plan for a GPU that is not there; print one JSON line each."""

import json
import sys

from planner.calibrate.runner import gpu_attention, gpu_memory, gpu_moe, gpu_moe_points, tri
from planner.calibrate.runner.compile_ahead import kernels
from planner.calibrate.runner.operands import Gpu
from planner.calibrate.runner.plan_cuda import cuda_plan

state: dict[str, str] = {}


def launch(kernel, grid, *args, **options):
    """Compile as the runner does, and look at what came out."""
    made = kernel.warmup(*args, grid=grid, **options)
    ptx = made.asm["ptx"]
    row = {
        "probe": state["probe"], "kernel": kernel.fn.__name__, "shared": made.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"), "tcgen05": ptx.count("tcgen05.mma"),
        "mma": ptx.count("mma.sync"), "fp8": "e4m3" in ptx or "kind::f8f6f4" in ptx,
    }  # fmt: skip
    sys.stdout.write(json.dumps(row) + "\n")


def main(capability, only):
    tri.compile_for(int(capability))
    for module in (gpu_attention, gpu_memory, gpu_moe, gpu_moe_points):
        module.launch = launch
    for key, probe in kernels(cuda_plan(), Gpu("meta", 0)):
        if key[0].startswith(only):
            state["probe"] = " ".join(map(str, key))
            probe.launch()


if __name__ == "__main__":
    main(*sys.argv[1:])
