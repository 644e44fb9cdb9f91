"""A point: one measurement to make.  What identifies it is what a resumed run looks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = int | str

KEYS: dict[str, tuple[str, ...]] = {
    "launch": ("variant",),
    "hbm_read": ("bytes",),
    "hbm_write": ("bytes",),
    "hbm_copy": ("bytes",),
    "gemm": ("m", "k", "n"),
    "moe_router": ("tokens", "experts", "top_k", "variant"),
    "attention_decode": (
        "variant", "sequences", "context_tokens", "heads", "kv_heads", "head_dim",
        "kv_lora_rank", "rope_dim",
    ),
    "attention_prefill": (
        "variant", "sequences", "tokens", "heads", "kv_heads", "head_dim", "v_head_dim",
    ),
    "elementwise": ("variant", "tokens", "hidden"),
    "host_copy": ("variant", "bytes"),
    "all_reduce": ("ranks", "bytes"),
    "all_gather": ("ranks", "bytes"),
    "all_to_all": ("ranks", "bytes"),
    **dict.fromkeys(
        ("grouped_gemm", "moe_layer", "moe_permute", "moe_combine"),
        (
            "group_tokens", "experts", "local_experts", "top_k", "hidden", "intermediate",
            "k", "n", "distribution",
        ),
    ),
}  # fmt: skip
"""Fields that tell one point of an operation from another; all else in a row is a result."""

Key = tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement to make: an operation, its format and its shape."""

    op: str
    dtype: str
    fields: tuple[tuple[str, Value], ...]
    kernel: str = "own"
    rank: int = 0
    """Rounds of decreasing value: all of rank 0 is measured before any of rank 1."""

    @property
    def shape(self) -> dict[str, Value]:
        """Fields by name."""
        return dict(self.fields)

    @property
    def key(self) -> Key:
        """What identifies this point in a file of rows."""
        return key_of(self.as_dict())

    def as_dict(self) -> dict[str, Value]:
        """Say this point as the beginning of a row."""
        return {"op": self.op, "dtype": self.dtype, **self.shape, "kernel": self.kernel}

    def label(self) -> str:
        """Name this point in a line of progress."""
        shape = " ".join(f"{name}={value}" for name, value in self.fields)
        return f"{self.op} {self.dtype} {self.kernel} {shape}"


def point(op: str, dtype: str, rank: int = 0, kernel: str = "own", /, **fields: Value) -> Point:
    """Make a point from keyword arguments.

    >>> point("gemm", "bf16", m=1, k=2, n=3).label()
    'gemm bf16 own m=1 k=2 n=3'
    """
    return Point(op, dtype, tuple(fields.items()), kernel, rank)


def key_of(row: Mapping[str, Any]) -> Key:
    """Identify the point that a row (or the ``point`` of an error) belongs to.

    >>> key_of({"op": "gemm", "dtype": "fp32", "kernel": "own", "m": 1, "k": 2, "n": 3, "x": 9})
    ('gemm', 'fp32', 'own', 1, 2, 3)
    """
    op = row["op"]
    return (op, row.get("dtype"), row.get("kernel"), *(row.get(name) for name in KEYS[op]))


def selected(points: list[Point], only: str | None) -> list[Point]:
    """Points in order of value; ``only`` names operations, ``op`` or ``op:dtype``, with commas.

    Raises
    ------
    ValueError
        For an operation or a format of which there is no point, saying of which there are.
    """
    ordered = sorted(points, key=lambda p: p.rank)
    if not only:
        return ordered
    wanted = [part.strip().partition(":") for part in only.split(",") if part.strip()]
    formats: dict[str, list[str]] = {}
    for each in ordered:
        formats.setdefault(each.op, [])
        if each.dtype not in formats[each.op]:
            formats[each.op].append(each.dtype)
    for op, _, dtype in wanted:
        if op not in KEYS:
            raise ValueError(f"--only: no operation {op!r}; there are {', '.join(KEYS)}")
        if op not in formats:
            raise ValueError(f"--only: nothing to measure of {op} here; of {', '.join(formats)}")
        if dtype and dtype not in formats[op]:
            there = ", ".join(f"{op}:{name}" for name in formats[op])
            raise ValueError(f"--only: no {op}:{dtype} here; there are {there}")
    if not wanted:
        raise ValueError(f"--only names no operation; there are {', '.join(formats)}")
    return [
        p for p in ordered
        if any(p.op == op and dtype in ("", p.dtype) for op, _, dtype in wanted)
    ]  # fmt: skip
