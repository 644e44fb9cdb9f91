"""Triton kernels that move bytes: activation, quantisation, norm, rotation, a read, and nothing."""
# ruff: noqa: PLR0913, PLR0917 - a kernel's arguments are its interface

from .tri import Arg, constexpr, jit, tl


@jit()
def empty_kernel(x: Arg) -> None:
    """Do nothing: its time is that of a launch."""


@jit()
def read_kernel(x: Arg, sums: Arg, block: constexpr) -> None:
    """Read one block and write its sum."""
    program = tl.program_id(0)
    offset = program.to(tl.int64) * block + tl.arange(0, block)
    tl.store(sums + program, tl.sum(tl.load(x + offset), 0))


@jit()
def activate_kernel(
    x: Arg,
    ids: Arg,
    out: Arg,
    scales: Arg,
    width: Arg,
    gated: constexpr,
    local_only: constexpr,
    quantised: constexpr,
    groups: constexpr,
) -> None:
    """``silu(gate) * up`` of one row (``gated``) or the row itself, quantised in groups of 128.

    ``local_only`` skips the slots whose expert another device holds.
    """
    row = tl.program_id(0).to(tl.int64)
    wanted = True
    if local_only:
        wanted = tl.load(ids + row) >= 0
    if wanted:
        group = tl.program_id(1) * groups + tl.arange(0, groups)
        column = group[:, None] * 128 + tl.arange(0, 128)[None, :]
        inside = column < width
        if gated:
            value = tl.load(x + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
            up = tl.load(x + row * 2 * width + width + column, mask=inside, other=0.0)
            value = value / (1 + tl.exp(-value)) * up.to(tl.float32)
        else:
            value = tl.load(x + row * width + column, mask=inside, other=0.0).to(tl.float32)
        if quantised:
            scale = tl.maximum(tl.max(tl.abs(value), 1), 1e-10) / 448.0
            value = value / scale[:, None]
            tl.store(scales + row * (width // 128) + group, scale, mask=group < width // 128)
        tl.store(out + row * width + column, value.to(out.dtype.element_ty), mask=inside)


@jit()
def rms_norm_kernel(x: Arg, weight: Arg, out: Arg, hidden: Arg, block: constexpr) -> None:
    """Divide one row by its root mean square and scale it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < hidden
    value = tl.load(x + row * hidden + column, mask=inside, other=0.0).to(tl.float32)
    value *= tl.rsqrt(tl.sum(value * value, 0) / hidden + 1e-6)
    value *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * hidden + column, value.to(out.dtype.element_ty), mask=inside)


@jit(do_not_specialize=["heads"])
def rope_kernel(
    x: Arg, angles: Arg, out: Arg, heads: Arg, most_heads: constexpr, half: constexpr
) -> None:
    """Rotate the two halves of every head of one token."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, most_heads)
    column = tl.arange(0, half)
    inside = head[:, None] < heads
    at = (token * heads + head[:, None]) * 2 * half + column[None, :]
    angle = tl.load(angles + token * half + column)[None, :]
    cosine = tl.cos(angle)
    sine = tl.sin(angle)
    first = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + at + half, mask=inside, other=0.0).to(tl.float32)
    kind = out.dtype.element_ty
    tl.store(out + at, (first * cosine - second * sine).to(kind), mask=inside)
    tl.store(out + at + half, (second * cosine + first * sine).to(kind), mask=inside)
