"""What the fusions have in common before modalities meet: moments in time, and many tokens made one vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learning.batch import Part

LOWEST = -1e30  # a score that loses to every other: finite, so that no gradient and no exported graph meets inf - inf
_WAVES = 16
_SHORTEST_S = 0.08  # two steps of 40 ms: what any closer is told apart by needs no longer wave


def clean(part: Part) -> Part:
    """The part with zeros where there is no item: zero times not-a-number is not a number, in gradients too."""
    there = part.mask.unsqueeze(-1)
    return Part(
        torch.where(there, part.x, torch.zeros_like(part.x)),
        part.mask,
        torch.where(part.mask, part.when, torch.zeros_like(part.when)),
    )


class Moment(nn.Module):
    """Seconds -> vectors: `[...]` -> `[..., D]`, a learned map of sines and cosines of 16 wave lengths from 80 ms to
    twice the longest clip, evenly spaced in their logarithm (after Vaswani et al., "Attention is all you need", 2017,
    section 3.5). Any frame rate fits, and what is close in time is close in value from the start."""

    rates: Tensor

    def __init__(self, width: int, longest_s: float) -> None:
        super().__init__()
        longest = max(2 * longest_s, 2 * _SHORTEST_S)
        lengths = torch.logspace(math.log10(_SHORTEST_S), math.log10(longest), _WAVES)
        self.register_buffer("rates", 2 * math.pi / lengths, persistent=False)
        self.linear = nn.Linear(2 * _WAVES, width, bias=False)
        nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, when: Tensor) -> Tensor:
        """See the class."""
        angle = when.unsqueeze(-1) * self.rates
        vectors: Tensor = self.linear(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return vectors


class AttentionPool(nn.Module):
    """Tokens of one modality `[B, N, D]` -> one vector `[B, D]`: each head takes its D / H channels' mean, weighted by
    a softmax over the window's tokens of a learned score (after Lin et al., "A structured self-attentive sentence
    embedding", 2017). All zero where a clip has none.

    Scores are zero at the start, and so it starts as the mean.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(width, heads)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See the class; `x` must be finite throughout, also under False of the mask."""
        weight = self.weights(x, mask)
        pooled = torch.einsum(
            "bnh,bnhe->bhe", weight.to(x.dtype), x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads)
        )
        return pooled.flatten(1)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of each token in each head: float32 `[B, N, H]`, summing to 1 over tokens, or to 0 where there are none."""
        # One place more, which never counts: a softmax over nothing is not defined.
        score = F.pad(self.score(x).float(), (0, 0, 0, 1))
        there = F.pad(mask, (0, 1)).unsqueeze(-1)
        return (score.masked_fill(~there, LOWEST).softmax(dim=1) * there)[:, :-1]


def mass_of(pool: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The weights that an AttentionPool gives tokens, mean over its heads: float32 `[B, N]`."""
    assert isinstance(pool, AttentionPool)
    return pool.weights(x, mask).mean(dim=2)
