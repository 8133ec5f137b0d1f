"""The fusion after absorption, in plain torch: the function of `naive` in fewer operations (README.md counts them).

What is constant is multiplied out once (`absorb`); values are projected after pooling; and everything linear after the
nonlinearities runs on Shapley values instead of subsets. It serves on CPUs, under torch.compile it is what the kernels
have to beat, and its explicit gradients are those of the op: autograd is off inside a registered op, and computing anew
is cheaper than keeping what autograd would keep.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.fusion.tensors import EPSILON, MODALITIES, SUBSETS, Fused, Tokens, Weights


class Absorbed(NamedTuple):
    """Weights, constants multiplied out. Matrices are of the tokens' dtype, biases and `prior` of `inner_dtype`."""

    table: Tensor  # [3, T, D], modality and time embedding
    probes: Tensor  # [L, H, D], query . key / sqrt(E), with the layer norm's gain; what does not vary by token cancels
    value: Tensor  # [H, E, D], with the gain
    value_bias: Tensor  # [H, E], with the shift
    out: Tensor  # [D, L * H * E]
    prior: Tensor  # [D]
    up: Tensor  # [F, D], with the gain
    up_bias: Tensor  # [F], with the shift
    head: Tensor  # [C, F + D], head . down beside head
    base: Tensor  # [C], head . down_bias + head_bias


class Pooled(NamedTuple):
    """Softmax statistics of each segment: `value` `[3B, L, H, E]`, its attention's value; `lse` `[3B, L, H]`, logarithm
    of the sum of exponentials, -inf without tokens (and then `value` is anything); `score` `[N, L, H]`.

    exp(lse) is the sum of the usual pair (maximum, sum), without the pair: subsets merge by lse just as exactly."""

    value: Tensor
    lse: Tensor
    score: Tensor


def inner_dtype(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: float32, and float64 for float64, whose only use is to check gradients."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def absorb(w: Weights, dtype: torch.dtype | None = None) -> Absorbed:
    """Multiply the constants out, in `inner_dtype`; differentiable, so that training can absorb anew each step."""
    dtype = w.query.dtype if dtype is None else dtype
    inner = inner_dtype(dtype)
    modality, time, gain, shift, query, key, value, value_bias, out, prior = (
        part.to(inner)
        for part in (w.modality, w.time, w.gain, w.shift, w.query, w.key, w.value, w.value_bias, w.out, w.prior)
    )
    up_gain, up_shift, up, up_bias, down, down_bias, head, head_bias = (
        part.to(inner) for part in (w.up_gain, w.up_shift, w.up, w.up_bias, w.down, w.down_bias, w.head, w.head_bias)
    )
    return Absorbed(
        table=(modality.unsqueeze(1) + time).to(dtype),
        probes=(torch.einsum("lhe,hed->lhd", query, key) * gain / math.sqrt(query.shape[-1])).to(dtype).contiguous(),
        value=(value * gain).to(dtype),
        value_bias=value_bias + value @ shift,
        out=out.to(dtype),
        prior=prior,
        up=(up * up_gain).to(dtype),
        up_bias=up_bias + up @ up_shift,
        head=torch.cat([head @ down, head], dim=1).to(dtype),
        base=head_bias + head @ down_bias,
    )


def shapley_weights(like: Tensor) -> Tensor:
    """`[3, 8]`: what each subset's worth counts in each modality's Shapley value. Made by arithmetic, on the device."""
    subset = torch.arange(SUBSETS, device=like.device)
    member = subset >> torch.arange(MODALITIES, device=like.device).unsqueeze(1) & 1
    others = member.sum(0) - member
    chance = torch.where(others == 1, 1, 2).to(like.dtype) / 6  # others! (2 - others)! / 3!
    return torch.where(member == 1, chance, -chance)


def fuse(tokens: Tokens, a: Absorbed, k: int, longest: int) -> Fused:
    """The fusion. `longest`: no segment has more tokens; a constant, so that shapes are static for a compiler."""
    return finish(tokens, a, pool(tokens, a, longest), k, longest)


def finish(tokens: Tokens, a: Absorbed, pooled: Pooled, k: int, longest: int) -> Fused:
    """Everything after attention within the segments."""
    logits, shapley = tail(pooled, a, shares=k > 0)
    top = logits.topk(k).indices
    shares = shapley.gather(2, top.unsqueeze(1).expand(-1, MODALITIES, -1)).transpose(1, 2).contiguous()
    return Fused(logits, top, shares, mass(tokens, pooled, longest))


def pool(tokens: Tokens, a: Absorbed, longest: int) -> Pooled:
    """Attention within each segment."""
    x, _, index, valid = _normalised(tokens, a, longest)
    inner = x.dtype
    score = torch.einsum("std,lhd->stlh", x, a.probes.to(inner)).masked_fill(~valid[..., None, None], -torch.inf)
    lse = score.logsumexp(1)
    attention = torch.exp(score - _finite(lse).unsqueeze(1))
    mean = torch.einsum("stlh,std->slhd", attention, x)
    value = torch.einsum("slhd,hed->slhe", mean, a.value.to(inner)) + a.value_bias
    flat = torch.zeros(len(tokens.slot) + 1, *score.shape[2:], dtype=inner, device=x.device)
    return Pooled(
        value, lse, flat.index_copy(0, torch.where(valid, index, len(flat) - 1).flatten(), score.flatten(0, 1))[:-1]
    )


def tail(pooled: Pooled, a: Absorbed, shares: bool) -> tuple[Tensor, Tensor]:
    """Logits `[B, C]` and Shapley values `[B, 3, C]` of every label (no labels' without `shares`)."""
    inner = a.prior.dtype
    subsets = torch.arange(0 if shares else SUBSETS - 1, SUBSETS, device=a.prior.device)
    attended = torch.einsum("brmlh,bmlhe->brlhe", *_parts(pooled, subsets))
    h = a.prior + attended.flatten(2) @ a.out.to(inner).T
    inside = F.gelu(F.layer_norm(h, h.shape[-1:], eps=EPSILON) @ a.up.to(inner).T + a.up_bias)
    both = torch.cat([inside, h], dim=-1)
    head = a.head.to(inner)
    if not shares:
        logits = both[:, 0] @ head.T + a.base
        return logits, logits.new_zeros(len(logits), MODALITIES, 0)
    present = _by_window(pooled.lse[:, 0, 0] > -torch.inf)
    # A modality that is absent has Shapley value 0 by definition: said outright, so that rounding cannot say otherwise.
    shapley = torch.einsum("mr,brk->bmk", shapley_weights(both), both) * present.unsqueeze(-1)
    shapley = shapley @ head.T
    return both[:, 0] @ head.T + a.base + shapley.sum(1), shapley


def mass(tokens: Tokens, pooled: Pooled, longest: int) -> Tensor:
    """Each token's part of its window's attention, `[N]`; 0 for tokens of nobody."""
    index, valid = _segments(tokens, longest)
    total = _by_window(pooled.lse).logsumexp(1).repeat_interleave(MODALITIES, dim=0)
    share = torch.exp(pooled.score[torch.where(valid, index, 0)] - _finite(total).unsqueeze(1)).mean((2, 3))
    flat = torch.zeros(len(tokens.slot) + 1, dtype=share.dtype, device=share.device)
    return flat.index_copy(0, torch.where(valid, index, len(flat) - 1).flatten(), share.flatten())[:-1]


class TailGradients(NamedTuple):
    """Of the pooled `value` and `lse`, and of the weights of the tail."""

    value: Tensor
    lse: Tensor
    out: Tensor
    prior: Tensor
    up: Tensor
    up_bias: Tensor
    head: Tensor
    base: Tensor


def tail_backward(grad: Tensor, pooled: Pooled, a: Absorbed) -> TailGradients:
    """Gradients for those of the logits, `[B, C]`: one row a window, as the logits are the full set's alone."""
    inner = a.prior.dtype
    out, up, head = a.out.to(inner), a.up.to(inner), a.head.to(inner)
    weight, value = (part.squeeze(1) for part in _parts(pooled, torch.arange(SUBSETS - 1, SUBSETS, device=grad.device)))
    attended = torch.einsum("bmlh,bmlhe->blhe", weight, value)
    h = a.prior + attended.flatten(1) @ out.T
    variance, mean = torch.var_mean(h, -1, keepdim=True, correction=0)
    rstd = torch.rsqrt(variance + EPSILON)
    normal = (h - mean) * rstd
    before = normal @ up.T + a.up_bias
    both = torch.cat([F.gelu(before), h], dim=-1)
    d_both = grad @ head
    d_before = d_both[:, : len(up)] * _gelu_slope(before)
    d_h = d_both[:, len(up) :] + _norm_backward(d_before @ up, normal, rstd)
    d_attended = (d_h @ out).view(attended.shape)
    d_weight = torch.einsum("blhe,bmlhe->bmlh", d_attended, value)
    return TailGradients(
        value=(weight.unsqueeze(-1) * d_attended.unsqueeze(1)).flatten(0, 1),
        lse=(weight * (d_weight - (weight * d_weight).sum(1, keepdim=True))).flatten(0, 1),
        out=d_h.T @ attended.flatten(1),
        prior=d_h.sum(0),
        up=d_before.T @ normal,
        up_bias=d_before.sum(0),
        head=grad.T @ both,
        base=grad.sum(0),
    )


class PoolGradients(NamedTuple):
    """Of the tokens `[N, D]` (zero for nobody's), the probes and the values' weights."""

    token: Tensor
    probes: Tensor
    value: Tensor
    value_bias: Tensor


def pool_backward(tokens: Tokens, a: Absorbed, pooled: Pooled, grads: TailGradients, longest: int) -> PoolGradients:
    """Gradients of attention within each segment."""
    x, rstd, index, valid = _normalised(tokens, a, longest)
    inner = x.dtype
    d_mean, shift = pooled_mean_gradient(pooled, a, grads)
    probes = a.probes.to(inner)
    score = torch.einsum("std,lhd->stlh", x, probes)
    attention = torch.exp(score - _finite(pooled.lse).unsqueeze(1)) * valid[..., None, None]
    d_score = attention * (torch.einsum("std,slhd->stlh", x, d_mean) + shift.unsqueeze(1))
    d_x = torch.einsum("stlh,slhd->std", attention, d_mean) + torch.einsum("stlh,lhd->std", d_score, probes)
    flat = torch.zeros(len(tokens.slot) + 1, x.shape[-1], dtype=inner, device=x.device)
    where = torch.where(valid, index, len(flat) - 1).flatten()
    mean = torch.einsum("stlh,std->slhd", attention, x)
    return PoolGradients(
        token=flat.index_copy(0, where, _norm_backward(d_x, x, rstd).flatten(0, 1))[:-1],
        probes=torch.einsum("stlh,std->lhd", d_score, x),
        value=torch.einsum("slhe,slhd->hed", grads.value, mean),
        value_bias=grads.value.sum((0, 1)),
    )


def pooled_mean_gradient(pooled: Pooled, a: Absorbed, grads: TailGradients) -> tuple[Tensor, Tensor]:
    """Gradient of each segment's mean token `[3B, L, H, D]`; what all gradients of scores share, `[3B, L, H]`."""
    inner = a.prior.dtype
    without_bias = _present(pooled) - a.value_bias
    shift = grads.lse - (grads.value * without_bias).sum(-1)
    return torch.einsum("slhe,hed->slhd", grads.value, a.value.to(inner)), shift


def scatter_tokens(tokens: Tokens, d_token: Tensor, table: Tensor, ring: bool) -> tuple[Tensor, Tensor]:
    """Gradients of the ring (empty unless asked for: frozen encoders need none) and of the embedding table."""
    segments = len(tokens.offset) - 1
    everyone = torch.arange(len(tokens.slot), device=d_token.device, dtype=tokens.offset.dtype)
    owner = torch.searchsorted(tokens.offset, everyone, right=True) - 1
    mine = owner < segments
    place = torch.where(mine, (owner % MODALITIES) * table.shape[1] + tokens.when, 0)
    d_table = torch.zeros(table.shape, dtype=d_token.dtype, device=d_token.device)
    d_table.view(-1, table.shape[2]).index_add_(0, place, d_token)
    d_ring = torch.zeros(tokens.ring.shape if ring else (0,), dtype=d_token.dtype, device=d_token.device)
    if ring:
        d_ring.index_add_(0, torch.where(mine, tokens.slot, 0), d_token)
    return d_ring, d_table


def _segments(tokens: Tokens, longest: int) -> tuple[Tensor, Tensor]:
    """Positions `[3B, longest]` of each segment's tokens, and which of them are real."""
    begin, end = tokens.offset[:-1].long(), tokens.offset[1:].long()
    index = begin.unsqueeze(1) + torch.arange(longest, device=begin.device)
    return index, index < end.unsqueeze(1)


def _normalised(tokens: Tokens, a: Absorbed, longest: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embedded, normalised tokens `[3B, longest, D]`, their 1 / deviation, and `_segments`; unreal ones are zero."""
    index, valid = _segments(tokens, longest)
    inner = a.prior.dtype
    known = torch.where(valid, index, 0)
    if len(tokens.slot) == 0:  # nothing can be gathered from nothing
        x = torch.zeros(*index.shape, tokens.ring.shape[1], dtype=inner, device=index.device)
        return x, torch.ones_like(x[..., :1]), index, valid
    slot, when = (torch.where(valid, part[known], 0) for part in (tokens.slot, tokens.when))
    modality = torch.arange(len(index), device=index.device).remainder(MODALITIES).unsqueeze(1)
    x = tokens.ring[slot].to(inner) + a.table[modality, when].to(inner)
    x = torch.where(valid.unsqueeze(-1), x, 0)
    variance, mean = torch.var_mean(x, -1, keepdim=True, correction=0)
    rstd = torch.rsqrt(variance + EPSILON)
    return (x - mean) * rstd, rstd, index, valid


def _parts(pooled: Pooled, subsets: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `[B, R, 3, L, H]` of the modalities in each of R subsets, and their values `[B, 3, L, H, E]`."""
    lse = _by_window(pooled.lse).unsqueeze(1)
    member = (subsets.unsqueeze(1) >> torch.arange(MODALITIES, device=subsets.device)) & 1
    lse = torch.where(member[:, :, None, None] == 1, lse, -torch.inf)
    weight = torch.exp(lse - _finite(lse.logsumexp(2, keepdim=True)))
    return weight, _by_window(_present(pooled))


def _by_window(x: Tensor) -> Tensor:
    """Segments `[3B, ...]` as `[B, 3, ...]`."""
    return x.reshape(len(x) // MODALITIES, MODALITIES, *x.shape[1:])


def _present(pooled: Pooled) -> Tensor:
    """Values with zero where there were no tokens and memory was never written."""
    return torch.where(pooled.lse.unsqueeze(-1) > -torch.inf, pooled.value, 0).to(pooled.lse.dtype)


def _finite(lse: Tensor) -> Tensor:
    """With 0 instead of -inf, so that exp(-inf - it) is 0 and not NaN."""
    return torch.where(lse == -torch.inf, 0, lse)


def _norm_backward(grad: Tensor, normal: Tensor, rstd: Tensor) -> Tensor:
    """Gradient through a layer norm without gain."""
    return rstd * (grad - grad.mean(-1, keepdim=True) - normal * (grad * normal).mean(-1, keepdim=True))


def _gelu_slope(x: Tensor) -> Tensor:
    """Derivative of x * Phi(x), Phi the normal distribution's."""
    phi = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * phi
