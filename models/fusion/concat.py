"""Fusion of features: each modality pooled over time to one vector, the vectors concatenated, a small head on them.

The oldest way, and the one that learns from the fewest clips: nothing but the head ties the modalities together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from models.fusion.base import Fusion, FusionSize, clips, there
from models.fusion.pool import AttentionPool, Moment, clean, mass_of
from models.fusion.timeline import Join, moments
from models.learning.batch import Part


class ConcatFusion(Fusion):
    """With f_m = pool(norm(x_m) + moment(when)), or a learned vector where m is absent:

        logits = W_2 gelu(W_1 [f_video, f_audio, f_text] + b_1) + b_2

    `size.layers` is not used. The learned vectors learn from clips that lack a modality, so from modality dropout where
    the data has none.
    """

    def __init__(self, modalities: Sequence[str], size: FusionSize) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.size = size
        self.norm = nn.ModuleDict({name: nn.LayerNorm(size.width) for name in self.modalities})
        self.moment = Moment(size.width, size.longest_s)
        self.pool = nn.ModuleDict({name: AttentionPool(size.width, size.heads) for name in self.modalities})
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(size.width)) for name in self.modalities})
        self.head = nn.Sequential(
            nn.Dropout(size.dropout),
            nn.Linear(len(self.modalities) * size.width, size.width),
            nn.GELU(),
            nn.Dropout(size.dropout),
            nn.Linear(size.width, size.outputs),
        )
        self.join = Join(self.modalities, size.width) if size.memory else None

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """See the base."""
        return self.coalitions(parts, [self.modalities])[0]

    def coalitions(self, parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
        """See the base. Tokens are pooled once; only the head runs once a set."""
        mine = self.of_mine(parts)
        count = clips(mine)
        columns = []
        for name in self.modalities:
            absent = self.absent[name].expand(len(chosen), count, -1)
            if name in mine:
                part = clean(mine[name])
                pooled = self.pool[name](self._placed(name, part), part.mask)
                absent = torch.where(there(mine, name, chosen).unsqueeze(-1), pooled, absent.to(pooled.dtype))
            columns.append(absent)
        logits: Tensor = self.head(torch.cat(columns, dim=-1))
        return logits.float()

    def memory(self, parts: Mapping[str, Part]) -> Part:
        """See the base: features of each modality at each step of 40 ms, concatenated (models.fusion.timeline)."""
        join = self.built(self.join)
        mine = {name: clean(part) for name, part in self.of_mine(parts).items()}
        when, mask = moments(mine, self.size.longest_s, join.linear.weight.device)
        placed = {name: part.of(self._placed(name, part)) for name, part in mine.items()}
        return Part(join(placed, when), mask, when)

    def mass(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Each token's weight within its own modality, float32 `[B, N_m]`, mean over heads: sums to 1 a modality."""
        cleaned = {name: clean(part) for name, part in self.of_mine(parts).items()}
        return {name: mass_of(self.pool[name], self._placed(name, part), part.mask) for name, part in cleaned.items()}

    def _placed(self, name: str, part: Part) -> Tensor:
        """Normalised tokens, with their moments."""
        placed: Tensor = self.norm[name](part.x) + self.moment(part.when)
        return placed
