"""What to measure on a GPU, most informative first: the shapes of the catalogue's models.

Round 0 pins every curve at a few sizes, round 1 fills them in, round 2 adds other models, skew and
degrees of expert parallelism for holding out, round 3 what is nice to have.
"""

from itertools import product

from .plan_cpu import moe_fields, moe_points
from .points import Point, point
from .recorded import Recorded

R1 = (256, 8, 7168, 2048)
"""(experts, top_k, hidden, intermediate) of DeepSeek-R1."""
KIMI_K2 = (384, 8, 7168, 2048)
QWEN3_235B = (128, 8, 4096, 1536)
GPT_OSS_120B = (128, 4, 2880, 2880)
MIXTRAL = (8, 2, 4096, 14336)

DENSE = (
    (7168, 2112), (1536, 24576), (16384, 7168), (7168, 36864), (18432, 7168), (7168, 4096),
    (2048, 7168), (4096, 9216), (8192, 4096), (8192, 10240), (8192, 8192), (8192, 57344),
    (28672, 8192), (4096, 6144), (4096, 28672), (5120, 51200), (2880, 5120), (7168, 129280),
)  # fmt: skip
"""(k, n) of projections, dense layers and heads: R1, Qwen3-235B, Llama 70B and 8B, Qwen3-32B,
gpt-oss-120b; the first half comes first."""
ROWS = ((1, 64, 512, 4096), (16, 128, 1024, 8192), (8, 32, 256, 2048, 16384))
"""Rows of a dense product by round."""
PER_EXPERT = ((1, 16, 128), (4, 64, 512), (2, 32, 256, 1024), (8,))
"""Mean tokens an expert by round."""
MOST_PAIRS = 140_000
EXPERT_PARALLEL = ((8,), (32, 128), (256, 2, 64))
"""Degrees of expert parallelism of R1 by round (1 is in every round)."""
MLA_HEADS = ((128,), (16,), (64,))
"""Heads on one device by round: R1 with attention data-parallel, R1 at TP8, Kimi-K2."""
GQA = ((64, 8, 128), (8, 1, 128), (64, 8, 64), (64, 4, 128), (32, 8, 128))
"""(heads, kv_heads, head_dim): Llama 70B, the same at TP8, gpt-oss-120b, Qwen3-235B, Mixtral."""
CONTEXTS = (
    ((1, 4096), (32, 4096), (128, 4096), (64, 16384)),
    ((8, 4096), (256, 1024), (16, 16384), (4, 65536), (256, 4096)),
    ((64, 1024), (64, 8192), (1, 65536), (16, 4096), (128, 8192), (256, 512), (32, 1024)),
)
"""(sequences, context of each) by round."""
PROMPTS = (((1, 4096), (1, 1024)), ((4, 2048), (1, 16384), (1, 8192)), ((1, 2048), (1, 512)))
"""(prompts, tokens of each) by round."""
ELEMENTWISE = (
    ("rms_norm", "bf16"), ("quantise", "fp8_block"), ("silu_mul", "bf16"),
    ("silu_mul", "fp8_block"), ("rope", "bf16"),
)  # fmt: skip


def group_tokens(shape: tuple[int, int, int, int], per_expert: int) -> int:
    """Tokens of a group that give every expert so many on average (at least one token).

    >>> group_tokens(R1, 16)
    512
    """
    return max(1, shape[0] * per_expert // shape[1])


def _batches(
    rank: int,
    shape: tuple[int, int, int, int],
    locals_: tuple[int, ...],
    per_expert: tuple[int, ...],
    distribution: str = "balanced",
) -> list[dict[str, int | str]]:
    return [
        moe_fields(group_tokens(shape, each), shape, local, distribution)
        for local, each in product(locals_, per_expert)
        if local * each <= MOST_PAIRS
    ]


def _moe_r1() -> list[Point]:
    found: list[Point] = []
    both = ("grouped_gemm", "moe_layer")
    for rank, sizes in enumerate(PER_EXPERT):
        for dtype in ("fp8_block", "bf16"):
            for fields in _batches(rank, R1, (256,), sizes):
                found += moe_points(rank, dtype, fields, both)
                if dtype == "fp8_block":
                    found += moe_points(rank, dtype, fields, ("moe_permute", "moe_combine"))
    return found + _moe_r1_parallel() + _moe_r1_skewed()


def _moe_r1_parallel() -> list[Point]:
    found: list[Point] = []
    both = ("grouped_gemm", "moe_layer")
    for rank, degrees in enumerate(EXPERT_PARALLEL):
        locals_ = tuple(256 // degree for degree in degrees)
        for step, sizes in enumerate(PER_EXPERT[:3]):
            later = max(rank, step)
            for fields in _batches(later, R1, locals_, sizes):
                found += moe_points(later, "fp8_block", fields, both)
                if rank < 2:
                    found += moe_points(later + 1, "bf16", fields, ("grouped_gemm",))
    return found


def _moe_r1_skewed() -> list[Point]:
    found: list[Point] = []
    both = ("grouped_gemm", "moe_layer")
    for distribution in ("zipf", "lognormal"):
        for local, sizes in ((256, (1, 16, 128)), (8, (16, 128, 512)), (32, (64,))):
            for fields in _batches(1, R1, (local,), sizes, distribution):
                found += moe_points(1, "fp8_block", fields, both)
        for fields in _batches(2, R1, (256,), (4, 64, 256), distribution):
            found += moe_points(2, "fp8_block", fields, ("grouped_gemm",))
            found += moe_points(3, "bf16", fields, ("grouped_gemm",))
    return found


def _moe_recorded(recorded: Recorded) -> list[Point]:
    """Layers of as many experts as were recorded, routed as those were; none where none fits."""
    found: list[Point] = []
    for shape in (R1, QWEN3_235B, GPT_OSS_120B, KIMI_K2, MIXTRAL):
        if shape[0] != len(recorded.counts) or not recorded.allows(shape[1]):
            continue
        dtype = "bf16" if shape == GPT_OSS_120B else "fp8_block"
        for local, sizes in ((shape[0], (16, 128)), (shape[0] // 8, (64,))):
            for fields in _batches(1, shape, (local,), sizes, "recorded"):
                found += moe_points(1, dtype, fields, ("grouped_gemm", "moe_layer"))
    return found


def _moe_others() -> list[Point]:
    found: list[Point] = []
    both = ("grouped_gemm", "moe_layer")
    for shape in (QWEN3_235B, GPT_OSS_120B, KIMI_K2, MIXTRAL):
        dtypes = ("bf16",) if shape == GPT_OSS_120B else ("fp8_block", "bf16")
        for rank, sizes in ((1, (16, 128)), (2, (1, 64, 512)), (3, (4, 32, 256))):
            for dtype in dtypes:
                for fields in _batches(rank, shape, (shape[0],), sizes):
                    found += moe_points(rank, dtype, fields, both if rank < 3 else both[:1])
        if shape != MIXTRAL:
            for fields in _batches(2, shape, (shape[0] // 8,), (4, 32, 128)):
                found += moe_points(2, dtypes[0], fields, both)
    return found


def _moe_library() -> list[Point]:
    found: list[Point] = []
    for rank, sizes in ((1, (1, 16, 128)), (2, (64, 512)), (3, (4, 256))):
        for dtype, local in product(("bf16", "fp8_row"), (256, 8)):
            for fields in _batches(rank, R1, (local,), sizes):
                found += moe_points(rank, dtype, fields, ("grouped_gemm",), "library")
    return found


def _dense() -> list[Point]:
    found = []
    dtypes = ("bf16", "fp8_block", "fp8_tensor", "fp8_row")
    for (rank, rows), (place, (k, n)) in product(enumerate(ROWS), enumerate(DENSE)):
        for dtype, m in product(dtypes, rows):
            late = rank + (place >= len(DENSE) // 2) + (dtype in ("fp8_tensor", "fp8_row"))
            if m * n <= 1 << 30 and not (dtype == "fp8_block" and k % 128):
                found.append(point("gemm", dtype, min(late, 3), "library", m=m, k=k, n=n))
    for rank, (k, n) in enumerate(((7168, 4096), (16384, 7168), (18432, 7168))):
        rows = (1, 16, 64, 256, 1024, 4096)
        found += [point("gemm", "fp8_block", 1 + rank, m=m, k=k, n=n) for m in rows]
    return found


def _attention() -> list[Point]:
    found = []
    for (step, batches), (later, heads) in product(enumerate(CONTEXTS), enumerate(MLA_HEADS)):
        for sequences, context in batches:
            size = {"sequences": sequences, "context_tokens": sequences * context}
            found.append(
                point(
                    "attention_decode", "bf16", min(step + later, 3), **size, variant="mla",
                    heads=heads[0], kv_lora_rank=512, rope_dim=64,
                )
            )  # fmt: skip
    for (step, batches), (place, (heads_, kv_heads, wide)) in product(
        enumerate(CONTEXTS), enumerate(GQA)
    ):
        shape = {"heads": heads_, "kv_heads": kv_heads, "head_dim": wide}
        for sequences, context in batches:
            size = {"sequences": sequences, "context_tokens": sequences * context}
            late = min(step + (place > 0) + (place > 2), 3)
            found.append(point("attention_decode", "bf16", late, **size, variant="gqa", **shape))
            if place == 0 and step < 2:
                found.append(
                    point(
                        "attention_decode", "bf16", step + 1, "library", **size, variant="gqa",
                        **shape,
                    )
                )  # fmt: skip
    shapes = (("mla", 128, 128, 192, 128), ("gqa", 64, 8, 128, 128), ("gqa", 64, 8, 64, 64))
    for (step, prompts), (place, shape5) in product(enumerate(PROMPTS), enumerate(shapes)):
        variant, heads_, kv_heads, wide, v_wide = shape5
        for count, length in prompts:
            found.append(
                point(
                    "attention_prefill", "bf16", step + (place == 2), "library", variant=variant,
                    sequences=count, tokens=count * length, heads=heads_, kv_heads=kv_heads,
                    head_dim=wide, v_head_dim=v_wide,
                )
            )  # fmt: skip
    return found


def _memory() -> list[Point]:
    found = [point("launch", "none", variant="graph_node")]
    found += [point("launch", "none", 1, variant=v) for v in ("graph_replay", "eager")]
    sizes = ((1 << 30, 1 << 26, 1 << 22, 1 << 20), (1 << 32, 1 << 28, 1 << 24, 1 << 18), (1 << 16,))
    for rank, each in enumerate(sizes):
        for size in each:
            found.append(point("hbm_read", "fp32", rank, bytes=size))
            found.append(point("hbm_write", "fp32", rank, bytes=size))
            found.append(point("hbm_copy", "fp32", rank, bytes=2 * size))
    for rank, each in ((1, (1 << 28, 1 << 20, 1 << 12)), (3, (1 << 30, 1 << 24, 1 << 16))):
        for size, variant in product(each, ("h2d", "d2h")):
            found.append(point("host_copy", "u8", rank, "library", variant=variant, bytes=size))
    return found


def _rows() -> list[Point]:
    found = []
    for rank, tokens in ((0, (64, 4096)), (1, (1, 512)), (2, (8, 16384)), (3, (2048,))):
        for (variant, dtype), count in product(ELEMENTWISE, tokens):
            shape = {"tokens": count, "hidden": 7168}
            found.append(point("elementwise", dtype, rank, variant=variant, **shape))
    for (variant, dtype), count in product(ELEMENTWISE, (64, 1024)):
        shape = {"tokens": count, "hidden": 2048}
        found.append(point("elementwise", dtype, 2, variant=variant, **shape))
    routers = (("sigmoid_grouped", 256, 8), ("sigmoid", 384, 8), ("softmax", 128, 8))
    for rank, counts in ((1, (64, 4096)), (3, (1, 512, 16384))):
        for count, (variant, experts, top_k) in product(counts, routers):
            shape = {"tokens": count, "experts": experts, "top_k": top_k}
            found.append(point("moe_router", "fp32", rank, variant=variant, **shape))
    return found


def _collectives(devices: int) -> list[Point]:
    ops = ("all_reduce", "all_gather", "all_to_all")
    sizes = enumerate(((1 << 14, 1 << 20, 1 << 26), (1 << 17, 1 << 23, 1 << 28), (1 << 12,)))
    return [
        point(op, "bf16", rank, "library", ranks=devices, bytes=size)
        for rank, each in sizes
        for size, op in product(each, ops)
    ]


def _once(points: list[Point]) -> list[Point]:
    """Drop later repeats of a point; the earliest round counts."""
    kept: dict[object, Point] = {}
    for each in sorted(points, key=lambda p: p.rank):
        kept.setdefault(each.key, each)
    return list(kept.values())


def cuda_plan(devices: int = 1, recorded: Recorded | None = None) -> list[Point]:
    """Every point worth measuring, in four rounds of decreasing value.

    With ``recorded`` counts also layers of as many experts, routed as those were.
    """
    found = _memory() + _dense() + _moe_r1() + _attention() + _rows()
    found += _moe_others() + _moe_library() + (_moe_recorded(recorded) if recorded else [])
    return _once(found + (_collectives(devices) if devices > 1 else []))


def tiny_cuda_plan(recorded: Recorded | None = None) -> list[Point]:
    """One small point of every kind: seconds, even where a kernel runs in the interpreter."""
    parts = ("grouped_gemm", "moe_layer", "moe_permute", "moe_combine")
    found = [point("launch", "none", variant="graph_node")]
    found += [point(op, "fp32", bytes=1 << 12) for op in ("hbm_read", "hbm_write", "hbm_copy")]
    for dtype in ("bf16", "fp8_block"):
        fields = moe_fields(6, (4, 2, 256, 128), 4, "balanced")
        found += moe_points(0, dtype, fields, parts)
        found += moe_points(0, dtype, {**fields, "local_experts": 2}, ("moe_layer",))
    if recorded and len(recorded.counts) == 4 and recorded.allows(2):
        found += moe_points(0, "bf16", {**fields, "distribution": "recorded"}, ("moe_layer",))
    found += [
        point("gemm", "bf16", 0, "library", m=8, k=128, n=128),
        point("gemm", "fp8_block", m=8, k=128, n=256),
        *moe_points(0, "bf16", fields, ("grouped_gemm",), "library"),
    ]
    for variant, experts in (("sigmoid_grouped", 32), ("sigmoid", 24), ("softmax", 8)):
        shape = {"tokens": 3, "experts": experts, "top_k": 4}
        found.append(point("moe_router", "fp32", variant=variant, **shape))
    size = {"sequences": 2, "context_tokens": 256}
    latent = {"heads": 16, "kv_lora_rank": 64, "rope_dim": 16}
    heads = {"heads": 4, "kv_heads": 2, "head_dim": 16}
    for kernel in ("own", "library"):
        found.append(
            point("attention_decode", "bf16", 0, kernel, **size, variant="gqa", **heads)
        )  # fmt: skip
    found.append(point("attention_decode", "bf16", **size, variant="mla", **latent))
    prompt = {"sequences": 1, "tokens": 32, "v_head_dim": 16}
    found.append(
        point("attention_prefill", "bf16", 0, "library", variant="gqa", **prompt, **heads)
    )  # fmt: skip
    for variant, dtype in ELEMENTWISE:
        found.append(point("elementwise", dtype, variant=variant, tokens=3, hidden=256))
    found.append(point("host_copy", "u8", 0, "library", variant="h2d", bytes=4096))
    found += [
        point(op, "bf16", 0, "library", ranks=2, bytes=4096)
        for op in ("all_reduce", "all_gather", "all_to_all")
    ]
    return found
