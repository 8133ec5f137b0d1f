"""The fusion in Triton: five launches forward, one for the ragged part of the backward pass. README.md counts them.

    _pool     tokens gathered, embedded, normalised; softmax and pooling within a segment; values applied
    _project  the modalities merged into every subset; output projection
    _lift     layer norm, up-projection, GELU; then Shapley values instead of subsets, for all that follows is linear
    _score    label head
    _finish   the strongest labels with their shares; attention mass of the tokens

A segment is the tokens of one modality in one window. A tile of `_pool` has rows for the latents of several consecutive
segments, whose tokens lie one behind the other: the softmax is masked to a row's own segment, and W_v is read once a tile.
Row r of a window in `_project` and `_lift` is the subset with bit mask r (8 rows), or the full set alone (1 row).

Loops over tokens are `while`, not `range`: Triton 3.6's interpreter refuses bounds read from memory under numpy 2.4, and
a loop of one or two rounds has nothing to pipeline.

Kernels are described (`Launch`) before they are run, so that the same descriptions are compiled ahead of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from kernels.fusion.absorbed import Absorbed, PoolGradients, Pooled, TailGradients, inner_dtype, pooled_mean_gradient
from kernels.fusion.tensors import EPSILON, MODALITIES, SUBSETS, Fused, Tokens

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
def _embedded(
    ring, slot, when, table, offset, t, end, first, segments,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, several: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """Tokens at positions `t` < `end` with embeddings added and normalised `[T, D]`, and their 1 / deviation `[T]`."""
    d = tl.arange(0, d_block)
    valid = t < end
    here = valid[:, None] & (d < width)[None, :]
    segment = tl.zeros_like(t) + first
    for j in tl.static_range(1, several + 1):
        segment += (t >= tl.load(offset + tl.minimum(first + j, segments))).to(tl.int32)
    place = (segment % 3) * bins + tl.load(when + t, mask=valid, other=0)
    row = tl.load(slot + t, mask=valid, other=0).to(tl.int64)
    x = tl.load(ring + row[:, None] * width + d[None, :], mask=here, other=0.0).to(inner)
    x += tl.load(table + place[:, None] * width + d[None, :], mask=here, other=0.0).to(inner)
    x = tl.where(here, x - (tl.sum(x, axis=1) / width)[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(x * x, axis=1) / width + _EPSILON)
    return x * rstd[:, None], rstd


@triton.jit
def _pool(
    ring, slot, when, offset, table, probes, value, value_bias, pooled, lse, score, segments,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, latents: tl.constexpr, l_block: tl.constexpr,
    heads: tl.constexpr, length: tl.constexpr, e_block: tl.constexpr, e_tile: tl.constexpr, several: tl.constexpr,
    t_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """One head of `several` segments."""
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
    start = tl.load(offset + first)
    d = tl.arange(0, d_block)
    highest = tl.full((rows,), float("-inf"), inner)
    total = tl.zeros((rows,), inner)
    if last > start:
        known = live[:, None] & (d < width)[None, :]
        probe = tl.load(probes + group[:, None] * width + d[None, :], mask=known, other=0.0)
        mean = tl.zeros((rows, d_block), inner)
        t0 = start
        while t0 < last:
            t = t0 + tl.arange(0, t_block)
            x, _ = _embedded(
                ring, slot, when, table, offset, t, last, first, segments, bins, width, d_block, several, inner
            )
            x = _narrow(x, ring.dtype.element_ty, interpreted)
            logit = _dot(probe, tl.trans(x), tl.zeros((rows, t_block), inner), interpreted)
            mine = (t[None, :] >= begin[:, None]) & (t[None, :] < end[:, None])
            tl.store(score + t[None, :] * groups + group[:, None], logit, mask=mine)
            logit = tl.where(mine, logit, float("-inf"))
            higher = tl.maximum(highest, tl.max(logit, axis=1))
            finite = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN
            each = tl.exp(logit - finite[:, None])
            keep = tl.exp(highest - finite)
            total = total * keep + tl.sum(each, axis=1)
            mean = _dot(_narrow(each, x.dtype, interpreted), x, mean * keep[:, None], interpreted)
            highest = higher
            t0 += t_block
        present = total > 0
        mean = _narrow(mean / tl.where(present, total, 1.0)[:, None], ring.dtype.element_ty, interpreted)
        for e0 in tl.static_range(0, e_block, e_tile):
            e = e0 + tl.arange(0, e_tile)
            inside = (e < length)[None, :]
            place = (head * length + e)[None, :] * width + d[:, None]
            w = tl.load(value + place, mask=inside & (d < width)[:, None], other=0.0)
            o = _dot(mean, w, tl.zeros((rows, e_tile), inner), interpreted)
            o += tl.load(value_bias + head * length + e, mask=e < length, other=0.0)[None, :]
            place = (segment * groups + group)[:, None] * length + e[None, :]
            tl.store(pooled + place, _narrow(o, pooled.dtype.element_ty, interpreted), mask=present[:, None] & inside)
    sum = tl.where(total > 0, highest + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))
    tl.store(lse + segment * groups + group, sum, mask=live)


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
    """`n_block` labels of `w_block` windows. With 4 parts, the logit is by construction what the Shapley values sum to."""
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
        for i in tl.static_range(strongest):
            best = tl.min(tl.where((left == tl.max(left, axis=0)) & (key < c_block), key, c_block), axis=0)
            chosen = tl.where(s == i, best, chosen)
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
    ring, slot, when, offset, table, probes, lse, d_mean, shift, d_token, d_probes, mean, segments, count,
    bins: tl.constexpr, width: tl.constexpr, d_block: tl.constexpr, groups: tl.constexpr, g_block: tl.constexpr,
    t_block: tl.constexpr, inner: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """`g_block` latents' heads of one segment: gradients of its tokens and probes, and its mean token once more."""
    segment = tl.program_id(0)
    g = tl.program_id(1) * g_block + tl.arange(0, g_block)
    d = tl.arange(0, d_block)
    begin, end = tl.load(offset + segment), tl.load(offset + segment + 1)
    known = (g < groups)[:, None] & (d < width)[None, :]
    mine = (segment * groups + g)[:, None] * width + d[None, :]
    of_probes = tl.zeros((g_block, d_block), inner)
    average = tl.zeros((g_block, d_block), inner)
    if end > begin:
        kind = ring.dtype.element_ty
        probe = tl.load(probes + g[:, None] * width + d[None, :], mask=known, other=0.0)
        of_mean = _narrow(tl.load(d_mean + mine, mask=known, other=0.0), kind, interpreted)
        reference = tl.load(lse + segment * groups + g, mask=g < groups, other=float("inf"))
        common = tl.load(shift + segment * groups + g, mask=g < groups, other=0.0)
        t0 = begin
        while t0 < end:
            t = t0 + tl.arange(0, t_block)
            x, rstd = _embedded(
                ring, slot, when, table, offset, t, end, segment, segments, bins, width, d_block, 1, inner
            )
            low = _narrow(x, kind, interpreted)
            logit = _dot(probe, tl.trans(low), tl.zeros((g_block, t_block), inner), interpreted)
            attention = tl.exp(logit - reference[:, None])
            attention = tl.where((t < end)[None, :], attention, 0.0)
            slope = _dot(of_mean, tl.trans(low), tl.zeros((g_block, t_block), inner), interpreted)
            slope = _narrow(attention * (slope + common[:, None]), kind, interpreted)
            attention = _narrow(attention, kind, interpreted)
            of_probes = _dot(slope, low, of_probes, interpreted)
            average = _dot(attention, low, average, interpreted)
            grad = _dot(tl.trans(attention), of_mean, tl.zeros((t_block, d_block), inner), interpreted)
            grad = _dot(tl.trans(slope), probe, grad, interpreted)
            along = tl.sum(grad * x, axis=1) / width
            grad = rstd[:, None] * (grad - (tl.sum(grad, axis=1) / width)[:, None] - x * along[:, None])
            here = (t < end)[:, None] & (d < width)[None, :]
            place = d_token + (tl.program_id(1) * count + t).to(tl.int64)[:, None] * width + d[None, :]
            tl.store(place, grad, mask=here)
            t0 += t_block
    tl.store(d_probes + mine, of_probes, mask=known)
    tl.store(mean + mine, average, mask=known)


INTERPRETED = isinstance(_pool, InterpretedFunction)  # TRITON_INTERPRET=1 was set when triton was first imported


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel and all that it is launched with: tensors and integers by name, compile-time constants, warps, stages."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Tensor | int]
    constants: dict[str, Any]
    warps: int
    stages: int = 3

    def run(self) -> None:
        """Launch it on the current stream."""
        if min(self.grid) > 0:
            self.kernel[self.grid](**self.args, **self.constants, num_warps=self.warps, num_stages=self.stages)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tile sizes. `several`: segments a tile of `_pool`; `rows`: of the three matrix products; `*_n`: their columns."""

    several: int
    t_block: int
    e_tile: int
    rows: int
    project_n: int
    lift_n: int
    score_n: int
    k_block: int
    warps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Launches in order, and what they write."""

    launches: Sequence[Launch]
    result: Fused
    pooled: Pooled


def tiles(windows: int, dtype: torch.dtype, width: int) -> Tiles:
    """Sizes by counting: few windows spread the weights over many small blocks, many windows re-read them seldom."""
    if dtype not in (
        torch.bfloat16,
        torch.float16,
    ):  # twice the bytes, and no tensor cores: for checking, not for speed
        return Tiles(4, 16, 16, 16, 16, 16, 16, 32, warps=4 if width <= 256 else 8)
    warps = 4 if width <= 256 else 8
    if windows <= 8:
        return Tiles(4, 32, 32, 16, 16, 16, 16, 64, warps)
    if windows <= 64:
        return Tiles(4, 32, 32, 32, 32, 32, 16, 64, warps)
    return Tiles(8, 32, 32, 64, 64, 64, 32, 64, warps)


def forward(tokens: Tokens, a: Absorbed, k: int, chosen: Tiles | None = None) -> tuple[Fused, Pooled]:
    """The fusion. Tensors are contiguous and on one device; `ring` and the matrices of `a` are of one dtype."""
    plan = describe(tokens, a, k, chosen)
    for launch in plan.launches:
        launch.run()
    return plan.result, plan.pooled


def describe(tokens: Tokens, a: Absorbed, k: int, chosen: Tiles | None = None) -> Plan:
    """What `forward` launches, on memory not yet written. Works with meta tensors."""
    kind, inner = tokens.ring.dtype, inner_dtype(tokens.ring.dtype)
    segments, count = len(tokens.offset) - 1, len(tokens.slot)
    windows = segments // MODALITIES
    (latents, heads, width), length = a.probes.shape, a.value.shape[1]
    (labels, deep), wide = a.head.shape, len(a.up)
    groups = latents * heads
    size = tiles(windows, kind, width) if chosen is None else chosen
    subsets, parts = (SUBSETS, MODALITIES + 1) if k > 0 else (1, 1)

    def empty(*shape: int, dtype: torch.dtype = inner) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=tokens.ring.device)

    pooled = Pooled(
        empty(segments, latents, heads, length, dtype=kind),
        empty(segments, latents, heads),
        empty(count, latents, heads),
    )
    hidden, lifted = empty(windows, subsets, width), empty(windows, parts, deep, dtype=kind)
    shapley = empty(windows, MODALITIES if k > 0 else 0, labels)
    result = Fused(
        empty(windows, labels), empty(windows, k, dtype=torch.int64), empty(windows, k, MODALITIES), empty(count)
    )
    common = {
        "inner": tl.float64 if inner == torch.float64 else tl.float32,
        "interpreted": INTERPRETED and kind != torch.float64,
    }
    w_block, by_part = max(1, size.rows // subsets), max(1, size.rows // parts)
    e_block, l_block = _block(length), triton.next_power_of_2(latents)
    several = max(size.several, 16 // l_block)
    launches = [
        Launch(
            _pool,
            (triton.cdiv(segments, several), heads),
            dict(zip(Tokens._fields, tokens, strict=True)) | {
                "table": a.table, "probes": a.probes, "value": a.value, "value_bias": a.value_bias,
                "pooled": pooled.value, "lse": pooled.lse, "score": pooled.score, "segments": segments,
            },
            common | {
                "bins": a.table.shape[1], "width": width, "d_block": _block(width), "latents": latents,
                "l_block": l_block, "heads": heads, "length": length, "e_block": e_block,
                "e_tile": min(size.e_tile, e_block), "several": several, "t_block": size.t_block,
            },
            size.warps,
        ),
        Launch(
            _project,
            (triton.cdiv(windows, w_block), triton.cdiv(width, size.project_n)),
            {"pooled": pooled.value, "lse": pooled.lse, "out": a.out, "prior": a.prior, "hidden": hidden, "windows": windows},
            common | {
                "width": width, "groups": groups, "length": length, "e_block": e_block, "subsets": subsets,
                "w_block": w_block, "n_block": size.project_n,
            },
            4,
        ),
        Launch(
            _lift,
            (triton.cdiv(windows, w_block), triton.cdiv(wide, size.lift_n) + triton.cdiv(width, size.lift_n)),
            {"hidden": hidden, "offset": tokens.offset, "up": a.up, "up_bias": a.up_bias, "lifted": lifted, "windows": windows},
            common | {
                "width": width, "wide": wide, "subsets": subsets, "w_block": w_block, "n_block": size.lift_n,
                "k_block": size.k_block,
            },
            4,
        ),
        Launch(
            _score,
            (triton.cdiv(windows, by_part), triton.cdiv(labels, size.score_n)),
            {"lifted": lifted, "head": a.head, "base": a.base, "logits": result.logits, "shapley": shapley, "windows": windows},
            common | {
                "deep": deep, "labels": labels, "parts": parts, "w_block": by_part, "n_block": size.score_n,
                "k_block": size.k_block,
            },
            4,
        ),
        Launch(
            _finish,
            (windows,),
            {
                "offset": tokens.offset, "lse": pooled.lse, "score": pooled.score, "logits": result.logits,
                "shapley": shapley, "top": result.top, "shares": result.shares, "mass": result.mass,
                "windows": windows, "count": count,
            },
            {
                "groups": groups, "g_block": triton.next_power_of_2(groups), "t_block": 16, "labels": labels,
                "c_block": triton.next_power_of_2(labels), "strongest": k, "s_block": triton.next_power_of_2(max(k, 1)),
                "inner": common["inner"],
            },
            1 if labels <= 1024 else 4,
        ),
    ]  # fmt: skip
    return Plan(launches, result, pooled)


def _block(size: int) -> int:
    """A tile's extent: a power of two, and no less than a matrix instruction takes."""
    return max(16, triton.next_power_of_2(size))


def describe_pool_backward(
    tokens: Tokens, a: Absorbed, pooled: Pooled, d_mean: Tensor, shift: Tensor
) -> tuple[Launch, Tensor, Tensor, Tensor]:
    """The launch, and what it writes: gradients of tokens `[blocks, N, D]` and probes `[3B, L, H, D]`, and mean tokens."""
    kind, inner = tokens.ring.dtype, inner_dtype(tokens.ring.dtype)
    segments, (latents, heads, width) = len(tokens.offset) - 1, a.probes.shape
    d_probes, mean = torch.empty_like(d_mean, dtype=inner), torch.empty_like(d_mean, dtype=inner)
    blocks = triton.cdiv(latents * heads, 16)
    d_token = torch.zeros(blocks, len(tokens.slot), width, dtype=inner, device=tokens.ring.device)
    launch = Launch(
        _pool_backward,
        (segments, blocks),
        dict(zip(Tokens._fields, tokens, strict=True)) | {
            "table": a.table, "probes": a.probes, "lse": pooled.lse, "d_mean": d_mean, "shift": shift,
            "d_token": d_token, "d_probes": d_probes, "mean": mean, "segments": segments,
            "count": len(tokens.slot),
        },
        {
            "bins": a.table.shape[1], "width": width, "d_block": _block(width), "groups": latents * heads,
            "g_block": 16, "t_block": 16, "inner": tl.float64 if inner == torch.float64 else tl.float32,
            "interpreted": INTERPRETED and kind != torch.float64,
        },
        4 if width <= 256 else 8,
        stages=1,
    )  # fmt: skip
    return launch, d_token, d_probes, mean


def pool_backward(tokens: Tokens, a: Absorbed, pooled: Pooled, grads: TailGradients) -> PoolGradients:
    """Gradients of attention within each segment: the ragged part here, the dense rest as matrix products."""
    d_mean, shift = pooled_mean_gradient(pooled, a, grads)
    launch, d_token, d_probes, mean = describe_pool_backward(tokens, a, pooled, d_mean.contiguous(), shift.contiguous())
    launch.run()
    return PoolGradients(
        token=d_token.sum(0),
        probes=d_probes.sum(0),
        value=torch.einsum("slhe,slhd->hed", grads.value, mean),
        value_bias=grads.value.sum((0, 1)),
    )
