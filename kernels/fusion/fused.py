"""The fusion in Triton: five launches forward, one for the ragged part of the backward pass. README.md counts them.

    _pool     tokens gathered, embedded, normalised; softmax and pooling within a segment; values applied
    _project  the modalities merged into every subset; output projection
    _lift     layer norm, up-projection, GELU; then Shapley values instead of subsets, for all that follows is linear
    _score    label head
    _finish   the strongest labels with their shares; attention mass of the tokens

A segment is the tokens of one modality in one window. A tile of `_pool` has rows for the latents of several consecutive
segments, whose tokens lie one behind the other: the softmax is masked to a row's own segment, and W_v is read once a
tile. Row r of a window in `_project` and `_lift` is the subset with bit mask r (8 rows), or the full set alone (1 row).

Loops over tokens are `while`, not `range`: Triton 3.6's interpreter refuses bounds read from memory under numpy 2.4,
and a loop of one or two rounds has nothing to pipeline.

`launch.py` sizes them and launches them.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"
# Triton's language has no types: what a kernel is given is said in its docstring and in `launch.py`.

from __future__ import annotations

import triton
import triton.language as tl

from kernels.fusion.tensors import EPSILON

_EPSILON = tl.constexpr(EPSILON)


@triton.jit
def _dot(a, b, sum, interpreted: tl.constexpr):
    """sum + a @ b, in full precision. The interpreter's product of bfloat16 matrices is garbage: float32 there."""
    if interpreted:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sum, input_precision="ieee")
    return tl.dot(a, b, sum, input_precision="ieee", out_dtype=sum.dtype)


@triton.jit
def _narrow(x, kind: tl.constexpr, interpreted: tl.constexpr):
    """To the dtype of the tokens, rounded to nearest; the interpreter cuts bfloat16 off instead, so by hand there."""
    if interpreted and kind == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        x = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return x.to(kind)


@triton.jit
def _piece(ring, table, row, place, valid, d0, width: tl.constexpr, d_block: tl.constexpr, inner: tl.constexpr):
    """`d_block` columns of tokens with their embeddings added, `[T, d_block]`; zero beyond the width."""
    d = d0 + tl.arange(0, d_block)
    here = valid[:, None] & (d < width)[None, :]
    x = tl.load(ring + row[:, None] * width + d[None, :], mask=here, other=0.0).to(inner)
    return x + tl.load(table + place[:, None] * width + d[None, :], mask=here, other=0.0).to(inner)


@triton.jit
def _found(
    ring, slot, when, table, offset, t, end, first, segments,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, several: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """Where tokens at positions `t` < `end` are: row of the ring, of the table; and their mean and 1 / deviation.

    The variance is joined from those of the columns' blocks (Chan, Golub, LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979): one pass, and nothing cancels.
    """
    valid = t < end
    segment = tl.zeros_like(t) + first
    for j in tl.static_range(1, several + 1):
        segment += (t >= tl.load(offset + tl.minimum(first + j, segments))).to(tl.int32)
    place = (segment % 3) * bins + tl.load(when + t, mask=valid, other=0)
    row = tl.load(slot + t, mask=valid, other=0).to(tl.int64)
    mean = tl.zeros(t.shape, inner)
    square = tl.zeros(t.shape, inner)
    for d0 in range(0, width, d_block):
        d = d0 + tl.arange(0, d_block)
        x = _piece(ring, table, row, place, valid, d0, width, d_block, inner)
        here = tl.minimum(d_block, width - d0).to(inner)
        of_piece = tl.sum(x, axis=1) / here
        x = tl.where((d < width)[None, :], x - of_piece[:, None], 0.0)
        apart = of_piece - mean
        mean += apart * (here / (d0 + here))
        square += tl.sum(x * x, axis=1) + apart * apart * (here * d0 / (d0 + here))
    return row, place, mean, 1 / tl.sqrt(square / width + _EPSILON)


@triton.jit
def _normal(
    ring, table, row, place, valid, mean, rstd, d0,
    width: tl.constexpr, d_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`d_block` columns of normalised tokens, in the tokens' dtype; zero beyond the width and beyond the tokens."""
    here = valid[:, None] & (d0 + tl.arange(0, d_block) < width)[None, :]
    x = (_piece(ring, table, row, place, valid, d0, width, d_block, inner) - mean[:, None]) * rstd[:, None]
    return _narrow(tl.where(here, x, 0.0), ring.dtype.element_ty, interpreted)


@triton.jit
def _pool(
    ring, slot, when, offset, table, probes, value, value_bias, pooled, lse, score, segments,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, latents: tl.constexpr, l_block: tl.constexpr,
    heads: tl.constexpr, length: tl.constexpr, e_block: tl.constexpr, several: tl.constexpr, t_block: tl.constexpr,
    inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """One head of `several` segments. Nothing as wide as a token is held in registers, only `d_block` columns."""
    first = tl.program_id(0) * several
    head = tl.program_id(1)
    rows: tl.constexpr = several * l_block
    groups: tl.constexpr = latents * heads
    row = tl.arange(0, rows)
    segment, latent = first + row // l_block, row % l_block
    live = (segment < segments) & (latent < latents)
    group = latent * heads + head
    begin = tl.load(offset + segment, mask=live, other=0)
    end = tl.load(offset + segment + 1, mask=live, other=0)
    last = tl.load(offset + tl.minimum(first + several, segments))
    d, e = tl.arange(0, d_block), tl.arange(0, e_block)
    highest = tl.full((rows,), float("-inf"), inner)
    total = tl.zeros((rows,), inner)
    o = tl.zeros((rows, e_block), inner)
    t0 = tl.load(offset + first)
    while t0 < last:
        t = t0 + tl.arange(0, t_block)
        valid = t < last
        at, place, mean, rstd = _found(
            ring, slot, when, table, offset, t, last, first, segments, bins, width, d_block, several, inner
        )
        logit = tl.zeros((rows, t_block), inner)
        for d0 in range(0, width, d_block):
            x = _normal(ring, table, at, place, valid, mean, rstd, d0, width, d_block, inner, interpreted)
            known = live[:, None] & (d0 + d < width)[None, :]
            probe = tl.load(probes + group[:, None] * width + (d0 + d)[None, :], mask=known, other=0.0)
            logit = _dot(probe, tl.trans(x), logit, interpreted)
        mine = (t[None, :] >= begin[:, None]) & (t[None, :] < end[:, None])
        tl.store(score + t[None, :] * groups + group[:, None], logit, mask=mine)
        logit = tl.where(mine, logit, float("-inf"))
        higher = tl.maximum(highest, tl.max(logit, axis=1))
        finite = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN
        each = tl.exp(logit - finite[:, None])
        keep = tl.exp(highest - finite)
        highest = higher
        total = total * keep + tl.sum(each, axis=1)
        each = _narrow(each, ring.dtype.element_ty, interpreted)
        o *= keep[:, None]
        for d0 in range(0, width, d_block):
            x = _normal(ring, table, at, place, valid, mean, rstd, d0, width, d_block, inner, interpreted)
            average = _dot(each, x, tl.zeros((rows, d_block), inner), interpreted)
            weight = value + (head * length + e)[None, :] * width + (d0 + d)[:, None]
            w = tl.load(weight, mask=(e < length)[None, :] & (d0 + d < width)[:, None], other=0.0)
            o = _dot(_narrow(average, ring.dtype.element_ty, interpreted), w, o, interpreted)
        t0 += t_block
    present = total > 0
    some = tl.where(present, total, 1.0)
    o = o / some[:, None] + tl.load(value_bias + head * length + e, mask=e < length, other=0.0)[None, :]
    known = present[:, None] & (e < length)[None, :]
    where = pooled + (segment * groups + group)[:, None] * length + e[None, :]
    tl.store(where, _narrow(o, pooled.dtype.element_ty, interpreted), mask=known)
    tl.store(lse + segment * groups + group, tl.where(present, highest + tl.log(some), float("-inf")), mask=live)


@triton.jit
def _project(
    pooled, lse, out, prior, hidden, windows,
    width: tl.constexpr, groups: tl.constexpr, length: tl.constexpr, e_block: tl.constexpr, subsets: tl.constexpr,
    w_block: tl.constexpr, n_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`n_block` columns of the state of every subset of `w_block` windows."""
    window = tl.program_id(0) * w_block + tl.arange(0, w_block)
    n = tl.program_id(1) * n_block + tl.arange(0, n_block)
    e = tl.arange(0, e_block)
    subset = tl.arange(0, subsets) + (7 if subsets == 1 else 0)
    live, inside = window < windows, e < length
    sum = tl.zeros((w_block * subsets, n_block), inner)
    for group in range(groups):
        place = window * (3 * groups) + group
        v = tl.load(lse + place, mask=live, other=float("-inf"))
        a = tl.load(lse + place + groups, mask=live, other=float("-inf"))
        t = tl.load(lse + place + 2 * groups, mask=live, other=float("-inf"))
        in_v = tl.where((subset & 1)[None, :] > 0, v[:, None], float("-inf"))
        in_a = tl.where((subset & 2)[None, :] > 0, a[:, None], float("-inf"))
        in_t = tl.where((subset & 4)[None, :] > 0, t[:, None], float("-inf"))
        highest = tl.maximum(tl.maximum(in_v, in_a), in_t)
        highest = tl.where(highest == float("-inf"), 0.0, highest)
        of_v, of_a, of_t = tl.exp(in_v - highest), tl.exp(in_a - highest), tl.exp(in_t - highest)
        total = of_v + of_a + of_t
        scale = 1 / tl.where(total > 0, total, 1.0)
        # What is missing was never written: the mask skips it.
        o = pooled + (place * length)[:, None] + e[None, :]
        o_v = tl.load(o, mask=(v > float("-inf"))[:, None] & inside[None, :], other=0.0).to(inner)
        o_a = tl.load(o + groups * length, mask=(a > float("-inf"))[:, None] & inside[None, :], other=0.0).to(inner)
        o_t = tl.load(o + 2 * groups * length, mask=(t > float("-inf"))[:, None] & inside[None, :], other=0.0).to(inner)
        merged = (of_v * scale)[:, :, None] * o_v[:, None, :]
        merged += (of_a * scale)[:, :, None] * o_a[:, None, :]
        merged += (of_t * scale)[:, :, None] * o_t[:, None, :]
        merged = _narrow(tl.reshape(merged, (w_block * subsets, e_block)), out.dtype.element_ty, interpreted)
        place_w = out + n[None, :] * (groups * length) + group * length + e[:, None]
        w = tl.load(place_w, mask=(n < width)[None, :] & inside[:, None], other=0.0)
        sum = _dot(merged, w, sum, interpreted)
    sum += tl.load(prior + n, mask=n < width, other=0.0)[None, :]
    row = tl.program_id(0) * (w_block * subsets) + tl.arange(0, w_block * subsets)
    known = (row < windows * subsets)[:, None] & (n < width)[None, :]
    tl.store(hidden + row[:, None] * width + n[None, :], sum, mask=known)


@triton.jit
def _lift(
    hidden, offset, up, up_bias, lifted, windows,
    width: tl.constexpr, wide: tl.constexpr, subsets: tl.constexpr, w_block: tl.constexpr, n_block: tl.constexpr,
    k_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`n_block` columns of what the head reads of `w_block` windows: first those of the FFN, then those of the state.

    With 8 subsets a window's rows of it are the Shapley values of video, audio, text, and the empty set.
    """
    rows: tl.constexpr = w_block * subsets
    tiles: tl.constexpr = (wide + n_block - 1) // n_block
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    live = (row < windows * subsets)[:, None]
    tile = tl.program_id(1)
    k = tl.arange(0, k_block)
    if tile < tiles:
        n = tile * n_block + tl.arange(0, n_block)
        total = tl.zeros((rows,), inner)
        for k0 in range(0, width, k_block):
            here = live & (k0 + k < width)[None, :]
            total += tl.sum(tl.load(hidden + row[:, None] * width + (k0 + k)[None, :], mask=here, other=0.0), axis=1)
        mean = total / width
        square = tl.zeros((rows,), inner)
        y = tl.zeros((rows, n_block), inner)
        for k0 in range(0, width, k_block):
            here = live & (k0 + k < width)[None, :]
            h = tl.load(hidden + row[:, None] * width + (k0 + k)[None, :], mask=here, other=0.0)
            h = tl.where(here, h - mean[:, None], 0.0)
            square += tl.sum(h * h, axis=1)
            inside = (n < wide)[None, :] & (k0 + k < width)[:, None]
            w = tl.load(up + n[None, :] * width + (k0 + k)[:, None], mask=inside, other=0.0)
            y = _dot(_narrow(h, up.dtype.element_ty, interpreted), w, y, interpreted)
        y = y / tl.sqrt(square / width + _EPSILON)[:, None]
        y += tl.load(up_bias + n, mask=n < wide, other=0.0)[None, :]
        y = 0.5 * y * (1 + tl.erf(y * 0.7071067811865476))
        limit = wide
    else:
        n = (tile - tiles) * n_block + tl.arange(0, n_block)
        y = tl.load(hidden + row[:, None] * width + n[None, :], mask=live & (n < width)[None, :], other=0.0)
        n = wide + n
        limit = wide + width
    kind = lifted.dtype.element_ty
    if subsets == 1:
        tl.store(
            lifted + row[:, None] * (wide + width) + n[None, :],
            _narrow(y, kind, interpreted),
            mask=live & (n < limit)[None, :],
        )
    else:
        window = tl.program_id(0) * w_block + tl.arange(0, w_block)
        y = tl.reshape(y, (w_block, subsets, n_block))
        subset = tl.arange(0, subsets)
        size = (subset & 1) + (subset >> 1 & 1) + (subset >> 2 & 1)
        place = lifted + (window * 4)[:, None] * (wide + width) + n[None, :]
        known = (window < windows)[:, None] & (n < limit)[None, :]
        for m in tl.static_range(3):
            member = subset >> m & 1
            chance = tl.where(size - member == 1, 1, 2).to(inner) / 6
            shapley = tl.sum(y * tl.where(member == 1, chance, -chance)[None, :, None], axis=1)
            begin = tl.load(offset + window * 3 + m, mask=window < windows, other=0)
            end = tl.load(offset + window * 3 + m + 1, mask=window < windows, other=0)
            # What is absent has no share by definition; rounding must not say otherwise.
            shapley = tl.where((end > begin)[:, None], shapley, 0.0)
            tl.store(place + m * (wide + width), _narrow(shapley, kind, interpreted), mask=known)
        empty = tl.sum(tl.where((subset == 0)[None, :, None], y, 0.0), axis=1)
        tl.store(place + 3 * (wide + width), _narrow(empty, kind, interpreted), mask=known)


@triton.jit
def _score(
    lifted, head, base, logits, shapley, windows,
    deep: tl.constexpr, labels: tl.constexpr, parts: tl.constexpr, w_block: tl.constexpr, n_block: tl.constexpr,
    k_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`n_block` labels of `w_block` windows. With 4 parts a logit is, by construction, the Shapley values' sum."""
    rows: tl.constexpr = w_block * parts
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    n = tl.program_id(1) * n_block + tl.arange(0, n_block)
    k = tl.arange(0, k_block)
    y = tl.zeros((rows, n_block), inner)
    for k0 in range(0, deep, k_block):
        here = (row < windows * parts)[:, None] & (k0 + k < deep)[None, :]
        x = tl.load(lifted + row[:, None] * deep + (k0 + k)[None, :], mask=here, other=0.0)
        inside = (n < labels)[None, :] & (k0 + k < deep)[:, None]
        w = tl.load(head + n[None, :] * deep + (k0 + k)[:, None], mask=inside, other=0.0)
        y = _dot(x, w, y, interpreted)
    window = tl.program_id(0) * w_block + tl.arange(0, w_block)
    known = (window < windows)[:, None] & (n < labels)[None, :]
    bias = tl.load(base + n, mask=n < labels, other=0.0)[None, :]
    if parts == 1:
        tl.store(logits + window[:, None] * labels + n[None, :], y + bias, mask=known)
    else:
        y = tl.reshape(y, (w_block, parts, n_block))
        part = tl.arange(0, parts)
        for m in tl.static_range(3):
            one = tl.sum(tl.where((part == m)[None, :, None], y, 0.0), axis=1)
            tl.store(shapley + (window * 3 + m)[:, None] * labels + n[None, :], one, mask=known)
        tl.store(logits + window[:, None] * labels + n[None, :], tl.sum(y, axis=1) + bias, mask=known)


@triton.jit
def _finish(
    offset, lse, score, logits, shapley, top, shares, mass, windows, count,
    groups: tl.constexpr, g_block: tl.constexpr, t_block: tl.constexpr, labels: tl.constexpr, c_block: tl.constexpr,
    strongest: tl.constexpr, s_block: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """One window: its strongest labels, lowest index first among equals, and the attention mass of its tokens."""
    window = tl.program_id(0)
    if strongest > 0:
        c = tl.arange(0, c_block)
        s = tl.arange(0, s_block)
        left = tl.load(logits + window * labels + c, mask=c < labels, other=float("-inf"))
        left = tl.where(left != left, float("inf"), left)  # NaN is the strongest, as torch.topk has it
        key = tl.where(c < labels, c, c_block)  # padding is never chosen, even among labels that are -inf
        chosen = tl.zeros((s_block,), tl.int32)
        for rank in tl.static_range(strongest):
            best = tl.min(tl.where((left == tl.max(left, axis=0)) & (key < c_block), key, c_block), axis=0)
            chosen = tl.where(s == rank, best, chosen)
            left = tl.where(c == best, float("-inf"), left)
            key = tl.where(c == best, c_block, key)
        known = s < strongest
        tl.store(top + window * strongest + s, chosen.to(tl.int64), mask=known)
        for m in tl.static_range(3):
            share = tl.load(shapley + (window * 3 + m) * labels + chosen, mask=known & (chosen < labels), other=0.0)
            tl.store(shares + (window * strongest + s) * 3 + m, share, mask=known)
    g = tl.arange(0, g_block)
    used = g < groups
    v = tl.load(lse + window * (3 * groups) + g, mask=used, other=float("-inf"))
    a = tl.load(lse + window * (3 * groups) + groups + g, mask=used, other=float("-inf"))
    t = tl.load(lse + window * (3 * groups) + 2 * groups + g, mask=used, other=float("-inf"))
    highest = tl.maximum(tl.maximum(v, a), t)
    highest = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.exp(v - highest) + tl.exp(a - highest) + tl.exp(t - highest)
    scale = 1 / tl.where(total > 0, total * groups, 1.0)
    end = tl.load(offset + window * 3 + 3)
    t0 = tl.load(offset + window * 3)
    while t0 < end:
        i = t0 + tl.arange(0, t_block)
        here = (i < end)[:, None] & used[None, :]
        each = tl.load(score + i[:, None] * groups + g[None, :], mask=here, other=float("-inf"))
        each = tl.exp(each - highest[None, :]) * scale[None, :]
        tl.store(mass + i, tl.sum(each, axis=1), mask=i < end)
        t0 += t_block
    if window == windows - 1:  # the tokens after the last belong to nobody
        t0 = end
        while t0 < count:
            i = t0 + tl.arange(0, t_block)
            tl.store(mass + i, tl.zeros((t_block,), inner), mask=i < count)
            t0 += t_block


@triton.jit
def _pool_backward(
    ring, slot, when, offset, table, probes, lse, d_mean, shift, d_token, d_probes, mean_token, segments, count,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, groups: tl.constexpr, g_block: tl.constexpr,
    t_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`d_block` columns of one segment: gradients of tokens (a part for each `g_block` rows) and of probes; mean token.

    What the layer norm's gradient needs of the other columns, sum(g) and sum(g * x) over a token, follows from the
    products of tokens with probes and with gradients, which every block has anyway.
    """
    segment, part = tl.program_id(0), tl.program_id(1)
    mine = tl.program_id(2) * d_block
    g = part * g_block + tl.arange(0, g_block)
    d = tl.arange(0, d_block)
    used = g < groups
    begin, end = tl.load(offset + segment), tl.load(offset + segment + 1)
    of_probes = tl.zeros((g_block, d_block), inner)
    average = tl.zeros((g_block, d_block), inner)
    reference = tl.load(lse + segment * groups + g, mask=used, other=0.0)
    common = tl.load(shift + segment * groups + g, mask=used, other=0.0)
    kind = ring.dtype.element_ty
    of_mean_at = d_mean + (segment * groups + g)[:, None] * width + d[None, :]
    probe_at = probes + g[:, None] * width + d[None, :]
    t0 = begin
    while t0 < end:
        t = t0 + tl.arange(0, t_block)
        valid = t < end
        at, place, mean, rstd = _found(
            ring, slot, when, table, offset, t, end, segment, segments, bins, width, d_block, 1, inner
        )
        logit = tl.zeros((g_block, t_block), inner)
        slope = tl.zeros((g_block, t_block), inner)
        sum_mean = tl.zeros((g_block,), inner)
        sum_probe = tl.zeros((g_block,), inner)
        for d0 in range(0, width, d_block):
            x = _normal(ring, table, at, place, valid, mean, rstd, d0, width, d_block, inner, interpreted)
            known = used[:, None] & (d0 + d < width)[None, :]
            probe = tl.load(probe_at + d0, mask=known, other=0.0)
            of_mean = _narrow(tl.load(of_mean_at + d0, mask=known, other=0.0), kind, interpreted)
            logit = _dot(probe, tl.trans(x), logit, interpreted)
            slope = _dot(of_mean, tl.trans(x), slope, interpreted)
            sum_mean += tl.sum(of_mean.to(inner), axis=1)
            sum_probe += tl.sum(probe.to(inner), axis=1)
        attention = tl.where(used[:, None] & valid[None, :], tl.exp(logit - reference[:, None]), 0.0)
        of_logit = attention * (slope + common[:, None])
        along = tl.sum(attention * slope + of_logit * logit, axis=0) / width
        level = tl.sum(attention * sum_mean[:, None] + of_logit * sum_probe[:, None], axis=0) / width
        attention = _narrow(attention, kind, interpreted)
        of_logit = _narrow(of_logit, kind, interpreted)
        x = _normal(ring, table, at, place, valid, mean, rstd, mine, width, d_block, inner, interpreted)
        known = used[:, None] & (mine + d < width)[None, :]
        probe = tl.load(probe_at + mine, mask=known, other=0.0)
        of_mean = _narrow(tl.load(of_mean_at + mine, mask=known, other=0.0), kind, interpreted)
        of_probes = _dot(of_logit, x, of_probes, interpreted)
        average = _dot(attention, x, average, interpreted)
        grad = _dot(tl.trans(attention), of_mean, tl.zeros((t_block, d_block), inner), interpreted)
        grad = _dot(tl.trans(of_logit), probe, grad, interpreted)
        grad = rstd[:, None] * (grad - level[:, None] - x.to(inner) * along[:, None])
        where = d_token + (part * count + t).to(tl.int64)[:, None] * width + (mine + d)[None, :]
        tl.store(where, grad, mask=valid[:, None] & (mine + d < width)[None, :])
        t0 += t_block
    where = (segment * groups + g).to(tl.int64)[:, None] * width + (mine + d)[None, :]
    known = used[:, None] & (mine + d < width)[None, :]
    tl.store(d_probes + where, of_probes, mask=known)
    tl.store(mean_token + where, average, mask=known)
