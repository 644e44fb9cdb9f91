"""Triton kernels of the MoE layer: route, align, grouped product, weighted sum.

Names in kernels: ``rows`` of a matrix, ``slots`` (token, pick) pairs in the order of the picks.
"""
# ruff: noqa: PLR0913, PLR0917, PLR0912, SIM108 - a kernel's arguments are its interface

from .tri import Arg, constexpr, jit, tl


@jit(do_not_specialize=["slots"])
def count_kernel(ids: Arg, counts: Arg, slots: Arg, block: constexpr) -> None:
    """Count the picks of one expert a program."""
    expert = tl.program_id(0)
    offset = tl.arange(0, block)
    found = tl.zeros((block,), tl.int32)
    for start in range(0, slots, block):
        where = start + offset
        found += (tl.load(ids + where, mask=where < slots, other=-1) == expert).to(tl.int32)
    tl.store(counts + expert, tl.sum(found, 0))


@jit(do_not_specialize=["slots", "experts", "tile_rows"])
def place_kernel(
    ids: Arg,
    counts: Arg,
    places: Arg,
    tile_expert: Arg,
    padded: Arg,
    slots: Arg,
    experts: Arg,
    tile_rows: Arg,
    most_experts: constexpr,
    most_rows: constexpr,
    block: constexpr,
) -> None:
    """Write the slots of one expert where its tiles begin, in order, padded to whole tiles.

    Every program adds up the padded counts before its own: no atomics, no host, same order always.
    """
    expert = tl.program_id(0)
    every = tl.arange(0, most_experts)
    count = tl.load(counts + every, mask=every < experts, other=0)
    whole = (count + tile_rows - 1) // tile_rows * tile_rows
    begin = tl.sum(tl.where(every < expert, whole, 0), 0)
    mine = tl.sum(tl.where(every == expert, whole, 0), 0)
    if expert == experts - 1:
        tl.store(padded, begin + mine)
    seen = tl.zeros((), tl.int32)
    offset = tl.arange(0, block)
    for start in range(0, slots, block):
        where = start + offset
        hit = tl.load(ids + where, mask=where < slots, other=-1) == expert
        turn = tl.cumsum(hit.to(tl.int32), 0)
        tl.store(places + begin + seen + turn - 1, where, mask=hit)
        seen += tl.sum(hit.to(tl.int32), 0)
    rest = seen + tl.arange(0, most_rows)
    tl.store(places + begin + rest, tl.zeros((most_rows,), tl.int32) + slots, mask=rest < mine)
    for tile in range(begin // tile_rows, (begin + mine) // tile_rows):
        tl.store(tile_expert + tile, expert)


@jit(do_not_specialize=["slots", "picks"])
def grouped_gemm_kernel(
    x: Arg,
    weights: Arg,
    out: Arg,
    x_scale: Arg,
    weight_scale: Arg,
    places: Arg,
    tile_expert: Arg,
    padded: Arg,
    slots: Arg,
    picks: Arg,
    n: Arg,
    k: Arg,
    block_scaled: constexpr,
    swapped: constexpr,
    whole_n: constexpr,
    upcast: constexpr,
    bm: constexpr,
    bn: constexpr,
    bk: constexpr,
    band: constexpr,
) -> None:
    """``out[slot] = x[slot // picks] @ weights[expert].T`` over the tiles of all experts.

    ``block_scaled``: FP8 with one scale for 128 activations and for 128x128 weights, applied to
    the partial sum of each 128 of ``k``. ``swapped`` multiplies weights by activations, so that
    few tokens fill the narrow side of the matrix instruction.
    """
    program = tl.program_id(0)
    tiles_m = tl.cdiv(tl.load(padded), bm)
    tiles_n = tl.cdiv(n, bn)
    if program < tiles_m * tiles_n:
        in_band = band * tiles_n
        first = program // in_band * band
        height = tl.minimum(tiles_m - first, band)
        tile_m = first + program % in_band % height
        tile_n = program % in_band // height
        slot = tl.load(places + tile_m * bm + tl.arange(0, bm))
        here = slot < slots
        row = (slot // picks).to(tl.int64)
        expert = tl.load(tile_expert + tile_m).to(tl.int64)
        column = tile_n * bn + tl.arange(0, bn)
        inside = column < n
        depth = tl.arange(0, bk)
        x_at = x + row[:, None] * k + depth[None, :]
        weight_at = weights + expert * n * k + column[:, None].to(tl.int64) * k + depth[None, :]
        x_scale_at = x_scale + row * (k // 128)
        weight_scale_at = weight_scale + (expert * (n // 128) + tile_n * bn // 128) * (k // 128)
        if swapped:
            total = tl.zeros((bn, bm), tl.float32)
        else:
            total = tl.zeros((bm, bn), tl.float32)
        for step in range(0, k // bk):
            a = tl.load(x_at, mask=here[:, None], other=0.0)
            if whole_n:
                b = tl.load(weight_at)
            else:
                b = tl.load(weight_at, mask=inside[:, None], other=0.0)
            if upcast:
                a = a.to(tl.float32)
                b = b.to(tl.float32)
            if block_scaled:
                scale = tl.load(x_scale_at + step, mask=here, other=0.0)
                scale *= tl.load(weight_scale_at + step)
                if swapped:
                    total += tl.dot(b, tl.trans(a)) * scale[None, :]
                else:
                    total += tl.dot(a, tl.trans(b)) * scale[:, None]
            elif swapped:
                total = tl.dot(b, tl.trans(a), total)
            else:
                total = tl.dot(a, tl.trans(b), total)
            x_at += bk
            weight_at += bk
        if swapped:
            total = tl.trans(total)
        out_at = out + slot[:, None].to(tl.int64) * n + column[None, :]
        tl.store(out_at, total.to(out.dtype.element_ty), mask=here[:, None] & inside[None, :])


@jit(do_not_specialize=["picks"])
def combine_kernel(
    rows: Arg, ids: Arg, weights: Arg, out: Arg, picks: Arg, hidden: Arg, block: constexpr
) -> None:
    """Sum one token's local expert outputs by weight."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < hidden
    total = tl.zeros((block,), tl.float32)
    for pick in range(0, picks):
        slot = token * picks + pick
        local = tl.load(ids + slot) >= 0
        value = tl.load(rows + slot * hidden + column, mask=inside & local, other=0.0)
        total += tl.load(weights + slot) * value.to(tl.float32)
    tl.store(out + token * hidden + column, total.to(out.dtype.element_ty), mask=inside)


@jit(do_not_specialize=["experts"])
def router_kernel(
    logits: Arg,
    bias: Arg,
    ids: Arg,
    weights: Arg,
    experts: Arg,
    sigmoid: constexpr,
    groups: constexpr,
    kept_groups: constexpr,
    top_k: constexpr,
    width: constexpr,
    most: constexpr,
) -> None:
    """Pick ``top_k`` experts for one token; weights add up to one.

    ``sigmoid``: scores with a bias for choosing, best ``kept_groups`` of ``groups`` by the sum of
    their two best, as DeepSeek-V3 does; else softmax over the chosen logits.
    """
    token = tl.program_id(0)
    expert = tl.arange(0, width)
    inside = expert < experts
    worst = -float("inf")
    logit = tl.load(logits + token * experts + expert, mask=inside, other=worst)
    if sigmoid:
        score = 1 / (1 + tl.exp(-logit))
        choice = tl.where(inside, score + tl.load(bias + expert, mask=inside, other=0.0), worst)
    else:
        score = logit
        choice = logit
    if groups > 1:
        member = tl.arange(0, width // groups)
        table = tl.reshape(choice, (groups, width // groups))
        best = tl.max(table, 1)
        winner = tl.argmax(table, 1)
        second = tl.max(tl.where(member[None, :] == winner[:, None], worst, table), 1)
        total = best + second
        number = tl.arange(0, groups)
        tie = (total[:, None] == total[None, :]) & (number[:, None] < number[None, :])
        better = (total[:, None] > total[None, :]) | tie
        place = tl.sum(better.to(tl.int32), 0)
        table = tl.where((place < kept_groups)[:, None], table, worst)
        choice = tl.reshape(table, (width,))
    turn = tl.arange(0, most)
    chosen = tl.zeros((most,), tl.int32)
    value = tl.full((most,), worst, tl.float32)
    for pick in tl.static_range(top_k):
        winner = tl.argmax(choice, 0)
        chosen = tl.where(turn == pick, winner, chosen)
        mark = tl.sum(tl.where(expert == winner, score, 0.0), 0)
        value = tl.where(turn == pick, mark, value)
        choice = tl.where(expert == winner, worst, choice)
    if sigmoid:
        share = tl.where(turn < top_k, value, 0.0)
    else:
        share = tl.exp(value - tl.max(value, 0))
    share = share / tl.sum(share, 0)
    tl.store(ids + token * top_k + turn, chosen, mask=turn < top_k)
    tl.store(weights + token * top_k + turn, share, mask=turn < top_k)
