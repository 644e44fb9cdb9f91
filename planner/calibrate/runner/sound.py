"""What a row must say to be one: an operation's sizes, a format that is known, a time."""

from collections.abc import Mapping
from typing import Any

from .points import KEYS

FORMATS = (
    "fp32", "bf16", "fp16", "fp8_block", "fp8_tensor", "fp8_row", "nvfp4", "mxfp4", "int8",
    "mxfp4_w4a16", "mxfp4_w4a8", "int4",
)  # fmt: skip
"""Formats that products may be of."""
PRODUCTS = ("gemm", "grouped_gemm", "moe_layer", "attention_decode", "attention_prefill")
LABELS = ("dtype", "kernel", "variant", "distribution", "phase", "kv_dtype")
"""Words of a row: what tells one table of times from another."""
SIZES = frozenset(name for keys in KEYS.values() for name in keys if name not in LABELS) | {
    "pairs", "touched", "nodes", "flop", "bytes", "tokens", "hidden", "experts", "top_k"
}  # fmt: skip
"""Numbers of a row that are no time."""
MAY_BE_ZERO = {"flop", "rope_dim"}
MOST = 1e15
"""No size is larger: a product of three of them is still a number."""
SHORTEST_S, LONGEST_S = 5e-8, 1e4
"""No call of a kernel, or of numpy, takes less or more than this. [s]"""

_GROUP = ("group_tokens", "experts", "local_experts", "top_k")
NEEDED: dict[str, tuple[str, ...]] = {
    **{op: keys for op, keys in KEYS.items() if keys in (("bytes",), ("ranks", "bytes"))},
    "reduce_scatter": ("ranks", "bytes"),
    "all_to_all": ("ranks",),
    "gemm": ("m", "k", "n"),
    "moe_router": ("tokens", "experts", "top_k"),
    "attention_decode": ("sequences", "context_tokens", "heads"),
    "attention_prefill": ("sequences", "tokens", "heads", "head_dim", "v_head_dim"),
    "elementwise": ("bytes",),
    "host_copy": ("bytes",),
    "grouped_gemm": ("k", "n"),
    "moe_layer": (*_GROUP, "hidden", "intermediate"),
    "moe_permute": _GROUP,
    "moe_combine": _GROUP,
}
"""Sizes without which a row's work is not known."""
OF_VARIANT = {
    ("attention_decode", "mla"): ("kv_lora_rank", "rope_dim"),
    ("attention_decode", "gqa"): ("kv_heads", "head_dim"),
    ("attention_prefill", "mla"): (),
    ("attention_prefill", "gqa"): ("kv_heads",),
}
"""What each kind of attention needs besides; there are no other kinds."""
WITHIN = (
    ("local_experts", "experts"), ("top_k", "experts"), ("touched", "pairs"),
    ("kv_heads", "heads"), ("sequences", "context_tokens"), ("sequences", "tokens"),
)  # fmt: skip
"""Sizes of which the first cannot be more than the second."""

Fault = tuple[str, str]
"""Field, and what is wrong with it."""


def fault(row: Mapping[str, Any]) -> Fault | None:
    """What is wrong with a measured row whose ``op`` is known; None where nothing is.

    >>> fault({"op": "gemm", "dtype": "bf16", "m": 0, "k": 2, "n": 3, "time_s": 1e-6})
    ('m', 'must be a finite size >= 1, got 0')
    """
    return _time(row.get("time_s")) or point_fault(row) or _missing(row) or _too_large(row)


def point_fault(row: Mapping[str, Any]) -> Fault | None:
    """What is wrong with the words and sizes that a row, or a point, does give."""
    for name in LABELS:
        if not isinstance(row.get(name), str | None):
            return name, f"must be a word, got {row[name]!r}"
    for name in sorted(SIZES & row.keys()):
        value, least = row[name], 0 if name in MAY_BE_ZERO or row["op"] == "launch" else 1
        if value is not None and not (_is_number(value) and least <= value <= MOST):
            return name, f"must be a finite size >= {least}, got {_short(value)}"
    if row["op"] in PRODUCTS and row.get("dtype") not in FORMATS:
        return "dtype", f"{row.get('dtype')!r} is not known; known: {', '.join(FORMATS)}"
    return None


def _time(time_s: Any) -> Fault | None:
    if not _is_number(time_s):
        return "time_s", f"must be a time in seconds, got {_short(time_s)}"
    if not 0 < time_s < float("inf"):
        return "time_s", f"must be a finite time > 0, got {_short(time_s)}"
    if not SHORTEST_S <= time_s <= LONGEST_S:
        between = f"between {SHORTEST_S:g} and {LONGEST_S:g} s, as every call's is"
        return (
            "time_s",
            f"must be a time {between}, got {_short(time_s)} (in other units?)",
        )
    return None


def _missing(row: Mapping[str, Any]) -> Fault | None:
    op = row["op"]
    needed = list(NEEDED.get(op, ()))
    if op in ("attention_decode", "attention_prefill"):
        variant = row.get("variant") or "gqa"
        if (op, variant) not in OF_VARIANT:
            return "variant", f"{variant!r} is not known; known: mla, gqa"
        needed += OF_VARIANT[op, variant]
    if op in ("grouped_gemm", "moe_layer"):
        counted = row.get("pairs") is not None and row.get("touched") is not None
        if not counted and row.get("distribution") in (None, "", "balanced"):
            needed += _GROUP
        elif not counted:
            needed += ["pairs", "touched"]
    for name in needed:
        if row.get(name) is None:
            return name, f"is missing from a row of {op}"
    return None


def _too_large(row: Mapping[str, Any]) -> Fault | None:
    for part, whole in WITHIN:
        some, all_ = row.get(part), row.get(whole)
        if some is not None and all_ is not None and some > all_:
            return part, f"must be at most {whole}, got {some!r} of {all_!r}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
