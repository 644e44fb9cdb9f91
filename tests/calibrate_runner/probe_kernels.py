"""Run every kernel in Triton's interpreter against float64; print one JSON line each.

Started by a test with ``TRITON_INTERPRET=1``, which must be set before Triton is imported.
"""

import json
import sys

from planner.calibrate.runner import gpu_attention, gpu_memory, gpu_moe, gpu_moe_points
from planner.calibrate.runner.operands import Gpu


def probes(gpu):
    for dtype, tiles in gpu_moe.TILES.items():
        for tile in tiles:
            for whole in (True,) if dtype == "fp8_block" else (True, False):
                name = f"grouped_gemm {dtype} {tile} {'whole' if whole else 'ragged'}"
                yield name, gpu_moe.moe_probe(gpu, dtype, tile, whole)
    for variant, experts, top_k in (
        ("sigmoid_grouped", 64, 8),
        ("sigmoid", 48, 6),
        ("softmax", 8, 2),
    ):
        name = f"router {variant}"
        yield name, gpu_moe_points.router_probe(gpu, variant, experts, top_k)
    for heads in (4, 16, 80):
        block = gpu_attention.mla_blocks(heads)[0]
        shape = gpu_attention.Shape(1, 64, heads, 1, 64, 16)
        yield f"mla decode {heads} heads", gpu_attention.decode_probe(gpu, shape, block)
    for heads, kv_heads in ((4, 4), (8, 2), (16, 1)):
        shape = gpu_attention.Shape(1, 64, heads, kv_heads, 32)
        block = gpu_attention.GQA_BLOCKS[0]
        yield f"gqa decode {heads}/{kv_heads}", gpu_attention.decode_probe(gpu, shape, block)
    for variant, dtype in (
        ("rms_norm", "bf16"), ("rope", "bf16"), ("silu_mul", "bf16"), ("silu_mul", "fp8_block"),
        ("quantise", "fp8_block"),
    ):  # fmt: skip
        for hidden in (256, 384):
            name = f"{variant} {dtype} {hidden}"
            yield name, gpu_memory.rows_probe(gpu, variant, dtype, hidden)
    yield "read", gpu_memory.read_probe(gpu, 256)


def main():
    for name, probe in probes(Gpu("cpu", 7, small=True)):
        found = probe.check()
        row = {"name": name, "error": found.relative_error, "tolerance": found.tolerance}
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
