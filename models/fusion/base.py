"""What every fusion is: tokens of any subset of the modalities in, one vector of logits out, and exact shares of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.learning.batch import MODALITIES, Part

Built = TypeVar("Built", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class FusionSize:
    """Sizes of a fusion: token width D, number of logits, of attention heads and of layers, dropout, the longest clip
    in seconds, which is what relative times are measured by, and whether it has the parameters that `memory` needs."""

    width: int
    outputs: int
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    longest_s: float = 4.0
    memory: bool = True


class Fusion(nn.Module):
    """Base of the three fusions.

    A modality is absent from a clip where its mask is all False, or it is not in `parts`: both are the same code path,
    and give exactly what the module would say had the modality never been there. With none left it says a learned
    prior (one row of it where `parts` is empty, as nothing says how many clips there are). Tokens of a modality that
    the fusion wasn't made for are ignored. What stands in a part where its mask is False, x and when alike, may be
    anything, not-a-number included.
    """

    modalities: Sequence[str]
    size: FusionSize

    def forward(self, parts: Mapping[str, Part]) -> Tensor:
        """Tokens `[B, N_m, D]` by modality -> logits float32 `[B, outputs]` (numbers, for a regression)."""
        raise NotImplementedError

    def memory(self, parts: Mapping[str, Part]) -> Part:
        """What a decoder reads, for sequences: tokens of all modalities joined in time, `[B, T, D]`, with its mask.

        One each step of 40 ms, up to the last item of a clip (models.fusion.timeline). ValueError if `size.memory` is
        False."""
        raise NotImplementedError

    def coalitions(self, parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
        """Logits with only the modalities of each of S sets: float32 `[S, B, outputs]`, differentiable.

        Here all sets are computed as one batch of S B clips; a fusion that can share work among them does.
        """
        mine = self.of_mine(parts)
        count = clips(mine)
        repeated = {
            name: Part(
                part.x.repeat(len(chosen), *[1] * (part.x.ndim - 1)),
                torch.cat([part.mask if name in one else torch.zeros_like(part.mask) for one in chosen]),
                part.when.repeat(len(chosen), 1),
            )
            for name, part in mine.items()
        }
        logits: Tensor = self(repeated)
        if not mine:  # the prior, whatever is chosen
            logits = logits.repeat(len(chosen), 1)
        return logits.view(len(chosen), count, self.size.outputs)

    def contribution(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Logits with each modality of `parts` alone, float32 `[B, outputs]`: what balance between modalities is judged
        by (OGM-GE; Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation", 2022).

        Where a clip lacks the modality they are the prior's. Differentiable; detach them where they only judge.
        """
        names = list(self.of_mine(parts))
        if not names:
            return {}
        return dict(zip(names, self.coalitions(parts, [[name] for name in names]).unbind(0), strict=True))

    def strongest(self, parts: Mapping[str, Part], k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, outputs]`, the k strongest of them int64 `[B, k]`, and their Shapley values `[B, k, 3]`."""
        values, logits = explained(self, parts)
        top = logits.topk(k, dim=1).indices
        return logits, top, values.gather(1, top.unsqueeze(-1).expand(-1, -1, len(MODALITIES)))

    def built(self, module: Built | None) -> Built:
        """A part of the memory, which a fusion made without one hasn't: ValueError."""
        if module is None:
            raise ValueError("this fusion was made for one answer a clip, not for sequences (FusionSize.memory)")
        return module

    def of_mine(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """The parts of modalities that this fusion was made for, in the usual order."""
        return {name: parts[name] for name in MODALITIES if name in parts and name in self.modalities}


def there(parts: Mapping[str, Part], name: str, chosen: Sequence[Collection[str]]) -> Tensor:
    """bool `[S, B]`: whether a modality of `parts` is in each of S sets, and in the clip.

    Put together of what is on the device already: a GPU can record no copy from the host into a graph.
    """
    present = parts[name].present()
    return torch.stack([present if name in one else torch.zeros_like(present) for one in chosen])


def clips(parts: Mapping[str, Part]) -> int:
    """B; 1 where there is no part at all."""
    return next((part.mask.shape[0] for part in parts.values()), 1)


def shapley(fusion: Fusion, parts: Mapping[str, Part]) -> Tensor:
    """Exact Shapley values of each modality for every logit: float32 `[B, outputs, 3]` (video, audio, text).

    The value of a set of modalities is the logit with only that set (Shapley, "A value for n-person games", 1953): at
    most eight sets, over tokens that are there already. An absent modality gets 0, and the values sum to logit -
    prior's logit.
    """
    return explained(fusion, parts)[0]


def explained(fusion: Fusion, parts: Mapping[str, Part]) -> tuple[Tensor, Tensor]:
    """Shapley values (see `shapley`), and the logits themselves, which are the worth of all. Nothing is written in
    place, so that it can be exported."""
    players = fusion.of_mine(parts)
    sets = [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]
    worth = dict(zip(sets, fusion.coalitions(parts, sets).unbind(0), strict=True))
    nothing = worth[frozenset()]
    values = []
    for name in MODALITIES:
        value = torch.zeros_like(nothing)
        for before in sets if name in players else []:
            if name not in before:
                # The chance that exactly these come before `name` in a random order.
                after = len(players) - len(before) - 1
                chance = math.factorial(len(before)) * math.factorial(after) / math.factorial(len(players))
                value = value + chance * (worth[before | {name}] - worth[before])
        if name in players:
            # 0 by definition where it is absent: said outright, so that rounding can't say otherwise.
            value = torch.where(players[name].present().unsqueeze(1), value, torch.zeros_like(value))
        values.append(value)
    return torch.stack(values, dim=-1), worth[frozenset(players)]


def shares(values: Tensor, present: Tensor) -> Tensor:
    """Positive parts of Shapley values `[B, L, 3]`, normalised to sum to 1; equal among what is `present` (bool
    `[B, 3]`) where none is positive, and among all three where nothing is present."""
    positive = values.clamp(min=0.0)
    total = positive.sum(dim=-1, keepdim=True)
    # Numbers before the choice: ONNX Runtime has none between truths.
    there = present.to(values.dtype)
    there = torch.where(present.any(dim=1, keepdim=True), there, torch.ones_like(there))
    equal = (there / there.sum(dim=1, keepdim=True)).unsqueeze(1)
    return torch.where(total > 0, positive / total.clamp(min=torch.finfo(values.dtype).tiny), equal)
