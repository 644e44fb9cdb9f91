"""Triton kernels of decode attention over a paged cache, split along the context.

The first kernel gives every split of a sequence a program, with its own running maximum and sum;
the second joins the splits.

References
----------
.. [1] T. Dao et al., "Flash-Decoding for long-context inference", 2023 (splits along the context).
.. [2] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, appendix C (absorption).
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel's arguments are its interface

from .tri import Arg, constexpr, jit, tl


@jit(do_not_specialize=["heads", "most_pages", "splits"])
def mla_split_kernel(
    query: Arg,
    cache: Arg,
    pages: Arg,
    lengths: Arg,
    partial: Arg,
    maxima: Arg,
    scale: Arg,
    heads: Arg,
    most_pages: Arg,
    splits: Arg,
    page: constexpr,
    latent: constexpr,
    rope: constexpr,
    bh: constexpr,
    bn: constexpr,
    upcast: constexpr,
) -> None:
    """Attend one sequence, some heads, one split: all heads share a cached row."""
    sequence = tl.program_id(0)
    split = tl.program_id(2)
    size: constexpr = latent + rope
    length = tl.load(lengths + sequence)
    each = tl.cdiv(tl.cdiv(length, splits), bn) * bn
    low = split * each
    high = tl.minimum(low + each, length)
    head = tl.program_id(1) * bh + tl.arange(0, bh)
    real = head < heads
    wide = tl.arange(0, latent)
    narrow = tl.arange(0, rope)
    query_at = query + (sequence * heads + head)[:, None].to(tl.int64) * size
    q = tl.load(query_at + wide[None, :], mask=real[:, None], other=0.0)
    q_rope = tl.load(query_at + latent + narrow[None, :], mask=real[:, None], other=0.0)
    if upcast:
        q = q.to(tl.float32)
        q_rope = q_rope.to(tl.float32)
    top = tl.full((bh,), -float("inf"), tl.float32)
    weight = tl.zeros((bh,), tl.float32)
    total = tl.zeros((bh, latent), tl.float32)
    for start in range(low, high, bn):
        token = start + tl.arange(0, bn)
        seen = token < high
        number = tl.load(pages + sequence * most_pages + token // page, mask=seen, other=0)
        at = cache + (number.to(tl.int64) * page + token % page)[:, None] * size
        c = tl.load(at + wide[None, :], mask=seen[:, None], other=0.0)
        c_rope = tl.load(at + latent + narrow[None, :], mask=seen[:, None], other=0.0)
        if upcast:
            c = c.to(tl.float32)
            c_rope = c_rope.to(tl.float32)
        score = tl.dot(q, tl.trans(c))
        score = tl.dot(q_rope, tl.trans(c_rope), score) * scale
        score = tl.where(seen[None, :], score, -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        share = tl.exp2(score - higher[:, None])
        fade = tl.exp2(top - higher)
        weight = weight * fade + tl.sum(share, 1)
        total = total * fade[:, None]
        total = tl.dot(share.to(c.dtype), c, total)
        top = higher
    at = (sequence * heads + head).to(tl.int64) * splits + split
    weight = tl.maximum(weight, 1e-30)
    tl.store(partial + at[:, None] * latent + wide[None, :], total / weight[:, None], real[:, None])
    tl.store(maxima + at, top + tl.log2(weight), mask=real)


@jit(do_not_specialize=["kv_heads", "most_pages", "splits"])
def gqa_split_kernel(
    query: Arg,
    keys: Arg,
    values: Arg,
    pages: Arg,
    lengths: Arg,
    partial: Arg,
    maxima: Arg,
    scale: Arg,
    kv_heads: Arg,
    most_pages: Arg,
    splits: Arg,
    group: constexpr,
    page: constexpr,
    size: constexpr,
    bh: constexpr,
    bn: constexpr,
    upcast: constexpr,
) -> None:
    """Attend one sequence, the ``group`` heads of one key-value head, one split."""
    sequence = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + sequence)
    each = tl.cdiv(tl.cdiv(length, splits), bn) * bn
    low = split * each
    high = tl.minimum(low + each, length)
    member = tl.arange(0, bh)
    real = member < group
    column = tl.arange(0, size)
    head = (sequence * kv_heads + kv_head) * group + member
    q = tl.load(
        query + head[:, None].to(tl.int64) * size + column[None, :], mask=real[:, None], other=0.0
    )
    if upcast:
        q = q.to(tl.float32)
    top = tl.full((bh,), -float("inf"), tl.float32)
    weight = tl.zeros((bh,), tl.float32)
    total = tl.zeros((bh, size), tl.float32)
    for start in range(low, high, bn):
        token = start + tl.arange(0, bn)
        seen = token < high
        number = tl.load(pages + sequence * most_pages + token // page, mask=seen, other=0)
        row = (number.to(tl.int64) * page + token % page) * kv_heads + kv_head
        at = row[:, None] * size + column[None, :]
        k = tl.load(keys + at, mask=seen[:, None], other=0.0)
        v = tl.load(values + at, mask=seen[:, None], other=0.0)
        if upcast:
            k = k.to(tl.float32)
            v = v.to(tl.float32)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(seen[None, :], score, -float("inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        share = tl.exp2(score - higher[:, None])
        fade = tl.exp2(top - higher)
        weight = weight * fade + tl.sum(share, 1)
        total = total * fade[:, None]
        total = tl.dot(share.to(v.dtype), v, total)
        top = higher
    at = head.to(tl.int64) * splits + split
    weight = tl.maximum(weight, 1e-30)
    tl.store(partial + at[:, None] * size + column[None, :], total / weight[:, None], real[:, None])
    tl.store(maxima + at, top + tl.log2(weight), mask=real)


@jit(do_not_specialize=["splits"])
def merge_kernel(partial: Arg, maxima: Arg, out: Arg, splits: Arg, size: constexpr) -> None:
    """Join the splits of one head."""
    head = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, size)
    top = tl.full((), -1e30, tl.float32)
    for split in range(0, splits):
        top = tl.maximum(top, tl.load(maxima + head * splits + split))
    weight = tl.zeros((), tl.float32)
    total = tl.zeros((size,), tl.float32)
    for split in range(0, splits):
        share = tl.exp2(tl.load(maxima + head * splits + split) - top)
        weight += share
        total += share * tl.load(partial + (head * splits + split) * size + column)
    tl.store(out + head * size + column, (total / weight).to(out.dtype.element_ty))
