"""What is worth measuring on a processor: small shapes of the same kinds, minutes in all."""

from .points import Point, point
from .recorded import Recorded

GEMM_SHAPES = ((1024, 1024), (4096, 1024), (1024, 4096), (2048, 2048), (3072, 1536), (768, 3072))
"""(k, n) of the dense products."""
GEMM_ROWS = ((1, 8, 64, 256), (2, 16, 128, 512), (4, 32))
"""Rows by round."""
MOE_SHAPES = (
    (32, 4, 1024, 256),
    (16, 2, 1024, 512),
    (64, 8, 512, 512),
    (64, 6, 768, 256),
    (8, 2, 1024, 1024),
)
"""(experts, top_k, hidden, intermediate)."""
MOE_TOKENS = ((1, 16, 128), (4, 64, 512), (2, 32))
"""Tokens of the group by round."""
HEADS = (("gqa", 16, 4, 64), ("gqa", 32, 8, 128))
LATENT = (16, 512, 64)
"""Heads, latent and rope dimensions."""
TINY_SHAPES = ((8, 2, 64, 32),)
"""The same of the self-test."""
BATCHES = (((1, 512), (8, 512), (4, 2048)), ((16, 1024), (1, 4096), (2, 1024)), ((8, 2048),))
"""(sequences, context of each) by round."""


def moe_fields(
    group_tokens: int, shape: tuple[int, int, int, int], local: int, distribution: str
) -> dict[str, int | str]:
    """Fields of a point of a MoE layer of ``(experts, top_k, hidden, intermediate)``."""
    experts, top_k, hidden, intermediate = shape
    return {
        "group_tokens": group_tokens,
        "experts": experts,
        "local_experts": local,
        "top_k": top_k,
        "hidden": hidden,
        "intermediate": intermediate,
        "distribution": distribution,
    }


def moe_points(
    rank: int, dtype: str, fields: dict[str, int | str], ops: tuple[str, ...], kernel: str = "own"
) -> list[Point]:
    """Points of one batch: its two products (with ``k`` and ``n``), and what else is asked."""
    hidden, width = int(fields["hidden"]), int(fields["intermediate"])
    found = []
    for op in ops:
        if op == "grouped_gemm":
            for k, n in ((hidden, 2 * width), (width, hidden)):
                found.append(point(op, dtype, rank, kernel, **fields, k=k, n=n))
        else:
            found.append(point(op, dtype, rank, kernel, **fields))
    return found


def decode_points(rank: int, sequences: int, context: int) -> list[Point]:
    """Attention of one new token a sequence, all contexts of one length."""
    size = {"sequences": sequences, "context_tokens": sequences * context}
    heads, latent, rope = LATENT
    found = [
        point(
            "attention_decode", "fp32", rank, **size,
            variant="mla", heads=heads, kv_lora_rank=latent, rope_dim=rope,
        )
    ]  # fmt: skip
    for variant, count, kv_heads, head_dim in HEADS:
        shape = {"heads": count, "kv_heads": kv_heads, "head_dim": head_dim}
        found.append(
            point("attention_decode", "fp32", rank, **size, variant=variant, **shape)
        )  # fmt: skip
    return found


def _memory_and_launch() -> list[Point]:
    found = [point("launch", "none", variant="call")]
    for rank, sizes in enumerate(((1 << 26, 1 << 20), (1 << 23, 1 << 25), (1 << 16,))):
        for size in sizes:
            found.append(point("hbm_read", "fp32", rank, bytes=size))
            found.append(point("hbm_write", "fp32", rank, bytes=size))
            found.append(point("hbm_copy", "fp32", rank, bytes=2 * size))
    return found


def _moe() -> list[Point]:
    found = []
    parts = ("grouped_gemm", "moe_layer")
    for rank, tokens in enumerate(MOE_TOKENS):
        for shape in MOE_SHAPES[: 3 if rank == 0 else None]:
            for count in tokens:
                fields = moe_fields(count, shape, shape[0], "balanced")
                found += moe_points(rank, "fp32", fields, parts)
    extra = ("moe_layer", "moe_permute", "moe_combine")
    for count in (64, 512):
        for distribution in ("zipf", "lognormal"):
            fields = moe_fields(count, MOE_SHAPES[0], 32, distribution)
            found += moe_points(1, "fp32", fields, (*extra, "grouped_gemm"))
        found += moe_points(1, "fp32", moe_fields(count, MOE_SHAPES[0], 32, "balanced"), extra[1:])
        for local in (8, 2):
            fields = moe_fields(count * 4, MOE_SHAPES[0], local, "zipf")
            found += moe_points(1, "fp32", fields, ("moe_layer", "grouped_gemm"))
        for variant, experts, top_k in (("sigmoid_grouped", 256, 8), ("softmax", 128, 4)):
            router = {"tokens": count, "experts": experts, "top_k": top_k}
            found.append(point("moe_router", "fp32", 1, **router, variant=variant))
    return found


def _recorded(recorded: Recorded, shapes: tuple[tuple[int, int, int, int], ...]) -> list[Point]:
    return [
        each
        for shape in shapes
        if shape[0] == len(recorded.counts) and recorded.allows(shape[1])
        for count in (64, 512)
        for each in moe_points(
            1, "fp32", moe_fields(count, shape, shape[0], "recorded"), ("moe_layer", "grouped_gemm")
        )
    ]


def cpu_plan(recorded: Recorded | None = None) -> list[Point]:
    """Every point worth measuring here, in three rounds of decreasing value.

    With ``recorded`` counts also layers of as many experts, routed as those were.
    """
    found = _memory_and_launch() + _moe() + (_recorded(recorded, MOE_SHAPES) if recorded else [])
    for rank, rows in enumerate(GEMM_ROWS):
        found += [
            point("gemm", "fp32", rank, m=m, k=k, n=n)
            for k, n in GEMM_SHAPES[: 4 if rank == 0 else None]
            for m in rows
        ]
    for rank, batches in enumerate(BATCHES):
        for sequences, context in batches:
            found += decode_points(rank, sequences, context)
    for rank, (sequences, length) in enumerate(((1, 512), (4, 256), (1, 1024))):
        shape = {"heads": 8, "kv_heads": 2, "head_dim": 64, "v_head_dim": 64}
        size = {"sequences": sequences, "tokens": sequences * length}
        found.append(point("attention_prefill", "fp32", rank, variant="gqa", **size, **shape))
    for variant in ("rms_norm", "silu_mul", "rope"):
        for tokens in (16, 256, 2048):
            found.append(
                point("elementwise", "fp32", 1, variant=variant, tokens=tokens, hidden=1024)
            )
    return found


def tiny_cpu_plan(recorded: Recorded | None = None) -> list[Point]:
    """One small point of every operation: a self-test of seconds."""
    fields = moe_fields(16, TINY_SHAPES[0], 8, "zipf")
    parts = ("grouped_gemm", "moe_layer", "moe_permute", "moe_combine")
    size = {"sequences": 2, "context_tokens": 128}
    heads = {"heads": 4, "kv_heads": 2, "head_dim": 16}
    return [
        *(_recorded(recorded, TINY_SHAPES) if recorded else ()),
        point("launch", "none", variant="call"),
        *(point(op, "fp32", bytes=1 << 16) for op in ("hbm_read", "hbm_write", "hbm_copy")),
        point("gemm", "fp32", m=8, k=64, n=96),
        *moe_points(0, "fp32", fields, parts),
        *moe_points(0, "fp32", {**fields, "local_experts": 2}, ("moe_layer",)),
        point("moe_router", "fp32", tokens=9, experts=32, top_k=4, variant="sigmoid_grouped"),
        point("moe_router", "fp32", tokens=9, experts=32, top_k=4, variant="softmax"),
        point(
            "attention_decode", "fp32", **size, variant="mla", heads=4, kv_lora_rank=32, rope_dim=8
        ),
        point("attention_decode", "fp32", **size, variant="gqa", **heads),
        point(
            "attention_prefill", "fp32", variant="gqa", sequences=2, tokens=64,
            **heads, v_head_dim=16,
        ),
        *(
            point("elementwise", "fp32", variant=v, tokens=8, hidden=64)
            for v in ("rms_norm", "silu_mul", "rope")
        ),
    ]  # fmt: skip
