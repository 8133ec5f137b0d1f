"""The definition of the fusion, in plain torch: slow, obvious, differentiable, and what everything else is held to."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.fusion.tensors import EPSILON, MODALITIES, SUBSETS, Fused, Tokens, Weights


def fuse(tokens: Tokens, w: Weights, k: int) -> Fused:
    """Labels of every window, and what the k strongest rest on (Shapley, "A value for n-person games", 1953)."""
    segments = len(tokens.offset) - 1
    owner = torch.searchsorted(tokens.offset, torch.arange(len(tokens.slot)).to(tokens.slot), right=True) - 1
    slot, when = (torch.where(owner < segments, index, 0) for index in (tokens.slot, tokens.when))
    x = tokens.ring[slot] + w.modality[owner % MODALITIES] + w.time[when]
    x = F.layer_norm(x, x.shape[-1:], w.gain, w.shift, EPSILON)
    value = torch.einsum("nd,hed->nhe", x, w.value) + w.value_bias
    score = torch.einsum("lhe,hed,nd->nlh", w.query, w.key, x) / math.sqrt(w.query.shape[-1])
    # Softmax statistics of each segment: maximum, sum, weighted value. The last row is nobody's.
    lowest = score.new_full((segments + 1, *score.shape[1:]), -torch.inf)
    maximum = lowest.scatter_reduce(0, owner[:, None, None].expand_as(score), score.detach(), "amax")
    each = torch.exp(score - maximum[owner])
    total = torch.zeros_like(maximum).index_add(0, owner, each)
    weighted = total.new_zeros(*total.shape, value.shape[-1]).index_add(
        0, owner, each.unsqueeze(-1) * value.unsqueeze(1)
    )
    parts = [part[:segments].view(-1, MODALITIES, *part.shape[1:]) for part in (maximum, total, weighted)]
    subsets = [[m for m in range(MODALITIES) if subset >> m & 1] for subset in range(SUBSETS)]
    worth = torch.stack([_logits(_merge(parts, subset)[0], w) for subset in subsets])  # [8, B, C], by bit mask
    shapley = worth.new_zeros(MODALITIES, *worth.shape[1:])
    for m in range(MODALITIES):
        for subset in range(SUBSETS):
            if not subset >> m & 1:
                order = len(subsets[subset])  # of 3! orders, order! (2 - order)! have m come right after this subset
                chance = math.factorial(order) * math.factorial(2 - order) / 6
                shapley[m] = shapley[m] + chance * (worth[subset | 1 << m] - worth[subset])
    top = worth[-1].topk(k).indices
    shares = shapley.permute(1, 2, 0).gather(1, top.unsqueeze(-1).expand(-1, -1, MODALITIES))
    _, reference, normaliser = _merge(parts, subsets[-1])
    window = owner.clamp(max=segments - 1) // MODALITIES
    mass = (torch.exp(score - reference[window]) / normaliser[window]).mean((1, 2))
    return Fused(worth[-1], top, shares, torch.where(owner < segments, mass, 0))


def _merge(parts: list[Tensor], subset: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Attention over a subset of the modalities: its value `[B, L, H, E]` (zero if there is no token), maximum, sum."""
    maximum, total, weighted = (part[:, subset] for part in parts)
    highest = maximum.amax(1) if subset else torch.full_like(parts[0][:, 0], -torch.inf)
    highest = torch.where(highest == -torch.inf, 0, highest)
    scale = torch.exp(maximum - highest.unsqueeze(1))
    normaliser = (scale * total).sum(1)
    normaliser = torch.where(normaliser > 0, normaliser, 1)
    return (scale.unsqueeze(-1) * weighted).sum(1) / normaliser.unsqueeze(-1), highest, normaliser


def _logits(attended: Tensor, w: Weights) -> Tensor:
    """The tail: output projection on the prior, FFN, label head."""
    h = w.prior + attended.flatten(1) @ w.out.T
    inner = F.gelu(F.layer_norm(h, h.shape[-1:], w.up_gain, w.up_shift, EPSILON) @ w.up.T + w.up_bias)
    return (h + inner @ w.down.T + w.down_bias) @ w.head.T + w.head_bias
