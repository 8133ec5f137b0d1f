"""How smoothly things move, told from the tokens of pictures: what a camera sees of a fight is neither where it is nor
how much there is, but that nothing goes on as it began."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LITTLE = 0.05  # of a token's deviation: a change as small as the noise of still pictures, by which none is told
_FURTHEST = 3.0  # deviations: live pictures of which nothing moves are further out than any clip that was learned from
_FEWEST = 2  # clips in a batch: of fewer there is no deviation


class Smoothness(nn.Module):
    """Encoded items `[B, N, W]`, mask and when `[B, N]` -> tokens `[B, N, D]`, the same at each item of a window:

        linear(standard(log((mean |x_n+1 - 2 x_n + x_n-1| + e) / (mean |x_n - x_n-1| + e))))

    where x are layer-normed and means are over neighbours that are all there. Of each of the W numbers that is how its
    changes follow on each other: below 0 where it goes on as it began, log 2 where it goes to and fro, 0 where nothing
    changes. How much changes cancels: a camera's distance, its picture's contrast and the place make more of that than
    what people do. (Measures of smoothness that don't depend on size: Hogan and Sternad, "Sensitivity of smoothness
    measures to movement duration, amplitude, and arrests", 2009.) Each is standardised by the windows of the training
    (Ioffe and Szegedy, "Batch normalization", 2015, without scale and bias) and held to 3 deviations. A window without
    three items on end tells nothing: it is taken for the usual one.

    Items are taken to be evenly spaced: `when` is not used.
    """

    def __init__(self, item_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(item_width, elementwise_affine=False)
        self.standard = nn.BatchNorm1d(item_width, affine=False)
        self.linear = nn.Linear(item_width, width)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        told: Tensor = self.linear(self.standardised(*self.roughness(x, mask)))
        return told.unsqueeze(1).expand(-1, x.shape[1], -1)

    def roughness(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded items `[B, N, W]`, mask `[B, N]` -> the logarithms `[B, W]`, and bool `[B]`, where there are three
        neighbours to tell them of."""
        x = self.norm(torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x)))
        change, two = _differences(x, mask)
        turn, three = _differences(change, two)
        rough = (_mean(turn.abs(), three) + _LITTLE).log() - (_mean(change.abs(), two) + _LITTLE).log()
        known = three.any(dim=1)
        return torch.where(known.unsqueeze(1), rough, torch.zeros_like(rough)), known

    def standardised(self, rough: Tensor, known: Tensor) -> Tensor:
        """`[B, W]`, bool `[B]` -> `[B, W]` in -3..3, 0 where not known. In training by the batch, and remembered; else
        by what was remembered."""
        mean, variance = self.standard.running_mean, self.standard.running_var
        assert mean is not None and variance is not None
        standard = (rough - mean) * torch.rsqrt(variance + self.standard.eps)
        if self.training and int(known.sum()) >= _FEWEST:
            standard = torch.zeros_like(rough)
            standard[known] = self.standard(rough[known])
        return torch.where(known.unsqueeze(1), standard, torch.zeros_like(standard)).clamp(-_FURTHEST, _FURTHEST)


def _differences(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`[B, N, W]`, bool `[B, N]` -> each less the one before, of the same shape, and where both are there."""
    before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
    both = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:] & mask[:, :-1]], dim=1)
    return x - before, both


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """`[B, N, W]`, bool `[B, N]` -> mean over N of what is there `[B, W]`; 0 of nothing."""
    there = mask.unsqueeze(-1).to(x.dtype)
    return (x * there).sum(dim=1) / there.sum(dim=1).clamp(min=1.0)
