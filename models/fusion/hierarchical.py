"""Hierarchical fusion: each modality has transformer layers of its own, and all meet in a few bottleneck tokens.

Nagrani et al., "Attention bottlenecks for multimodal fusion", 2021 (section 3.3): in layer l

    [x_m', z_m] = transformer_m,l([x_m, z])        z' = mean of z_m over the modalities m that are present

so that a modality hears of the others only what goes through z. Here bottlenecks are exchanged in every layer, there
being few, and what is said at the end is read from z and from each modality's pooled tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.base import Fusion, FusionSize, clips
from models.fusion.pool import AttentionPool, Moment, clean, mass_of
from models.fusion.timeline import Join, moments
from models.learning.batch import Part

BOTTLENECKS = 4


class HierarchicalFusion(Fusion):
    """See the module. Logits come of mean(z) + mean over those present of pool(x_m), through a small head.

    A modality that is absent is in no mean, so it changes nothing but its own contribution; with none, z stays what it
    was at first, which is learned.
    """

    def __init__(self, modalities: Sequence[str], size: FusionSize) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.size = size
        width = size.width
        self.norm = nn.ModuleDict({name: nn.LayerNorm(width) for name in self.modalities})
        self.moment = Moment(width, size.longest_s)
        self.bottleneck = nn.Parameter(torch.randn(BOTTLENECKS, width) * 0.5)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: _Layer(width, size.heads, size.dropout) for name in self.modalities})
            for _ in range(size.layers)
        )
        self.pool = nn.ModuleDict({name: AttentionPool(width, size.heads) for name in self.modalities})
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(size.dropout),
            nn.Linear(width, size.outputs),
        )
        self.join = Join(self.modalities, width) if size.memory else None

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """See the base."""
        exchanged, z = self._exchanged(parts)
        pooled = {name: self.pool[name](part.x, part.mask) for name, part in exchanged.items()}
        state = z.mean(dim=1) + _mean(pooled, exchanged, torch.zeros_like(z[:, 0]))
        logits: Tensor = self.head(state)
        return logits.float()

    def memory(self, parts: Mapping[str, Part]) -> Part:
        """See the base: tokens after the exchange, side by side at each step, with what the bottlenecks say."""
        join = self.built(self.join)
        exchanged, z = self._exchanged(parts)
        when, mask = moments(exchanged, self.size.longest_s, z.device)
        return Part(join(exchanged, when) + z.mean(dim=1, keepdim=True), mask, when)

    def mass(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """What each token is looked at by the bottlenecks of every layer and by the pooling, in equal parts, float32
        `[B, N_m]`, averaged over heads: sums to 1 a modality."""
        states = self._states(self.of_mine(parts))
        found = {name: [mass_of(self.pool[name], part.x, part.mask)] for name, part in states[-1][0].items()}
        for layer, (before, z) in zip(self.layers, states, strict=False):
            assert isinstance(layer, nn.ModuleDict)
            for name, part in before.items():
                one = layer[name]
                assert isinstance(one, _Layer)
                found[name].append(one.looked(part.x, z, part.mask))
        return {name: torch.stack(each).mean(dim=0) for name, each in found.items()}

    def _exchanged(self, parts: Mapping[str, Part]) -> tuple[dict[str, Part], Tensor]:
        """After all layers: clean parts with their tokens, and the bottlenecks `[B, Z, D]`."""
        return self._states(self.of_mine(parts))[-1]

    def _states(self, parts: Mapping[str, Part]) -> list[tuple[dict[str, Part], Tensor]]:
        """The same before the first layer and after each."""
        x = {name: clean(part) for name, part in parts.items()}
        x = {name: part.of(self.norm[name](part.x) + self.moment(part.when)) for name, part in x.items()}
        states = [(x, self.bottleneck.expand(clips(parts), -1, -1))]
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x, z = states[-1]
            after = {name: layer[name](part.x, z, part.mask) for name, part in x.items()}
            z = _mean({name: bottleneck for name, (_, bottleneck) in after.items()}, parts, z)
            states.append(({name: part.of(after[name][0]) for name, part in x.items()}, z))
        return states


class _Layer(nn.Module):
    """A transformer layer of one modality, pre-norm (Xiong et al., "On layer normalization in the transformer
    architecture", 2020), over its tokens and the bottlenecks."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens `[B, N, D]`, bottlenecks `[B, Z, D]`, mask `[B, N]` -> tokens, bottlenecks."""
        both = torch.cat([z.to(x.dtype), x], dim=1)
        attended = F.scaled_dot_product_attention(*self._split(both), attn_mask=_there(z, mask))
        both = both + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        both = both + self.dropout(self.inner(self.between(both)))
        return both[:, z.shape[1] :], both[:, : z.shape[1]]

    def looked(self, x: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """What the bottlenecks attend to among the tokens: float32 `[B, N]`, summing to 1 where there are any."""
        query, key, _ = self._split(torch.cat([z.to(x.dtype), x], dim=1))
        score = (query[:, :, : z.shape[1]] @ key.transpose(2, 3)).float() / math.sqrt(query.shape[-1])
        weight = score.masked_fill(~_there(z, mask), -torch.inf).softmax(dim=3)[..., z.shape[1] :].mean(dim=(1, 2))
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)

    def _split(self, both: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each head, `[B, H, Z + N, E]`."""
        shape = (*both.shape[:2], self.heads, both.shape[2] // self.heads)
        query, key, value = (
            each.view(shape).transpose(1, 2) for each in self.mixed(self.before(both)).chunk(3, dim=-1)
        )
        return query, key, value


def _there(z: Tensor, mask: Tensor) -> Tensor:
    """Which keys there are, bool `[B, 1, 1, Z + N]`: bottlenecks always, so that no softmax is ever over nothing."""
    return torch.cat([torch.ones_like(z[..., 0], dtype=torch.bool), mask], dim=1)[:, None, None]


def _mean(values: Mapping[str, Tensor], parts: Mapping[str, Part], nothing: Tensor) -> Tensor:
    """Mean of `[B, ...]` over the modalities present; `nothing` `[B, ...]` for clips without any."""
    if not values:
        return nothing
    there = torch.stack([part.present() for part in parts.values()])
    there = there.view(*there.shape, *[1] * (nothing.ndim - 1))
    stacked = torch.stack(list(values.values()))
    total = torch.where(there, stacked, torch.zeros_like(stacked)).sum(dim=0)
    count = there.sum(dim=0)
    return torch.where(count > 0, total / count.clamp(min=1), nothing.to(total.dtype))
