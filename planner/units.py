"""Numbers as people read them.  Inside the program every quantity is plain SI."""

from typing import Literal

Unit = Literal[
    "bytes",
    "bytes_per_s",
    "s",
    "flop",
    "flop_per_s",
    "tokens",
    "tokens_per_s",
    "w",
    "j",
    "usd",
    "share",
    "requests_per_s",
    "count",
]

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SYMBOL = {
    "bytes": "B", "bytes_per_s": "B/s", "flop": "FLOP", "flop_per_s": "FLOP/s", "w": "W",
    "tokens": "tokens", "tokens_per_s": "tokens/s", "requests_per_s": "requests/s", "j": "J",
    "count": "",
}  # fmt: skip


def human(value: float, unit: Unit) -> str:
    """Write ``value`` with the prefix people use.

    >>> human(150754820096, "bytes"), human(0.0123, "s"), human(4.8e12, "bytes_per_s")
    ('150.8 GB', '12.3 ms', '4.8 TB/s')
    >>> human(0.562, "share"), human(1234.5, "usd"), human(53_012, "tokens_per_s")
    ('56.2 %', '$1,234.50', '53.01 k tokens/s')
    """
    if unit == "s":
        return _duration(value)
    if unit == "usd":
        return f"-${-value:,.2f}" if value < 0 else f"${value:,.2f}"
    if unit == "share":
        return f"{100 * value:.3g} %"
    size, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1.0, ""))
    return f"{value / size:.4g} {prefix}{_gap(prefix, unit)}{_SYMBOL[unit]}".rstrip()


def _gap(prefix: str, unit: Unit) -> str:
    """Words keep a space after the prefix (``53 k tokens``), symbols do not (``5.3 kB``)."""
    return " " if prefix and unit in ("tokens", "tokens_per_s", "requests_per_s") else ""


def _duration(value_s: float) -> str:
    for size, name in ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value_s) >= size * (1.5 if size >= 60 else 1.0):
            return f"{value_s / size:.3g} {name}"
    return f"{value_s * 1e9:.3g} ns" if value_s else "0 s"
