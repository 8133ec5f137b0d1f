"""What is said at each moment, asked of an encoder's features before anything has joined them over time.

Recurrences over a whole clip learn the few hundred clips that there are by heart long before the layers below have
learned what a mouth looks like; and of two modalities the easier one answers for both. Where data say when each symbol
is said, this loss asks each modality by itself, of features that reach a few tokens far and no further: what the
alignments of hidden Markov models did for hybrid recognisers (Bourlard and Morgan, "Connectionist speech recognition",
1994).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learning.batch import Part

_SMOOTHING = 0.1
_THIRDS = 3


class Aligned(nn.Module):
    """A head a modality: local features `[B, N, W]` -> which third of which symbol is said, or nothing."""

    def __init__(self, widths: Mapping[str, int], symbols: int) -> None:
        """widths: W by modality."""
        super().__init__()
        self.symbols = symbols
        # The last: nothing is said.
        self.heads = nn.ModuleDict({name: nn.Linear(width, _THIRDS * symbols + 1) for name, width in widths.items()})

    def loss(self, parts: Mapping[str, Part], target: Tensor, times: Tensor) -> Tensor:
        """float32 `[B]`: cross-entropy, the mean over each modality's items, summed over modalities; none for clips
        without times. target: int64 `[B, S]`, padded with -1. times: float32 `[B, S, 2]`, seconds, or NaN."""
        losses = [self._of(name, part, target, times) for name, part in parts.items() if name in self.heads]
        return torch.stack(losses).sum(dim=0) if losses else times.new_zeros(len(times))

    def _of(self, name: str, part: Part, target: Tensor, times: Tensor) -> Tensor:
        start, end = times[:, None, :, 0], times[:, None, :, 1]
        when = part.when[..., None]
        inside = (when >= start) & (when < end)
        which = inside.int().argmax(dim=2)
        third = ((when - start) / (end - start) * _THIRDS).floor().clamp(0, _THIRDS - 1)
        third = third.nan_to_num().long().gather(2, which[..., None])[..., 0]
        label = target.clamp(min=0).gather(1, which) * _THIRDS + third
        label = torch.where(inside.any(dim=2), label, _THIRDS * self.symbols)
        # Where nothing is may stand anything.
        said = self.heads[name](torch.where(part.mask[..., None], part.x, torch.zeros_like(part.x))).float()
        losses = F.cross_entropy(said.transpose(1, 2), label, reduction="none", label_smoothing=_SMOOTHING)
        counted = part.mask & ~times[:, :1, 0].isnan()
        losses = torch.where(counted, losses, torch.zeros_like(losses))
        return losses.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
