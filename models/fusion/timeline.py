"""Modalities side by side in time, for sequences: each resampled onto one grid of 40 ms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.base import clips
from models.fusion.pool import LOWEST
from models.learning.batch import MODALITIES, Part

STEP_S = 0.04  # of the grid: pictures at 25 a second, and the tokens of speech
REACH_S = 0.5  # an item further from a step than this isn't there for it: slower encoders give two items a second
_CENTRE = 0.25  # of a step. Pictures stand at its start and sound's tokens in its middle: both are nearest to this step
_FAR = 1e9


def moments(parts: Mapping[str, Part], longest_s: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The grid: when float32 `[B, T]`, each step's own moment, and its mask, True up to a clip's last item.

    T is what the longest clip of the batch needs; a clip without any item has one step, which says what is said without
    any. In a graph that is being exported T is what `longest_s` needs, for there it must be known.
    """
    ends = [torch.where(part.mask, part.when, torch.zeros_like(part.when)) for part in parts.values()]
    end = torch.cat([*ends, torch.zeros(clips(parts), 1, device=device)], dim=1).amax(dim=1)
    # Rounded to a thousandth of a step, so that a moment on the border of two falls where it is meant to.
    steps = torch.floor(torch.round(end / STEP_S * 1000) / 1000).long() + 1
    longest = int(longest_s / STEP_S) + 1 if torch.compiler.is_exporting() else int(steps.max())
    number = torch.arange(longest, device=device)
    mask = number < steps.unsqueeze(1)
    return ((number + _CENTRE) * STEP_S).expand_as(mask), mask


def resample(part: Part, when: Tensor) -> tuple[Tensor, Tensor]:
    """The item nearest in time to each step: `[B, N, D]` onto `[B, T]` -> `[B, T, D]`, and whether it is within reach.

    Nothing is interpolated: tokens say what they say, and at 25 a second each lands on a step of its own.
    """
    # One place more, which is nobody's, so that there is something to be nearest to.
    x, mask, at = F.pad(part.x, (0, 0, 0, 1)), F.pad(part.mask, (0, 1)), F.pad(part.when, (0, 1))
    distance = torch.where(mask.unsqueeze(1), (when.unsqueeze(2) - at.unsqueeze(1)).abs(), _FAR)
    near, index = distance.min(dim=2)
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1])), near <= REACH_S


class Join(nn.Module):
    """Modalities on the grid, concatenated and mapped to one token a step; a learned vector stands for one that has no
    item within reach of a step."""

    def __init__(self, modalities: Sequence[str], width: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in self.modalities})
        self.linear = nn.Linear(len(self.modalities) * width, width)

    def forward(self, parts: Mapping[str, Part], when: Tensor) -> Tensor:
        """Clean parts `[B, N_m, D]` onto `[B, T]` -> `[B, T, D]`."""
        columns = []
        for name in self.modalities:
            absent = self.absent[name].expand(*when.shape, -1)
            if name in parts:
                x, near = resample(parts[name], when)
                absent = torch.where(near.unsqueeze(-1), x, absent.to(x.dtype))
            columns.append(absent)
        joined: Tensor = self.linear(torch.cat(columns, dim=-1))
        return joined


class Near(nn.Module):
    """One layer: each step attends over the tokens of all modalities, the nearer in time the more, then an FFN.

    Pre-norm (Xiong et al., "On layer normalization in the transformer architecture", 2020), with a linear bias by
    distance in time (Press et al., "Train short, test long", 2022) whose slope, and the lag it is measured from, are
    learned a head and modality. Softmax runs over the tokens of all modalities: as in the fusion itself, that is the
    merge of each one's own, so one that is absent changes nothing; with no token at all, nothing is added.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.modality = nn.Parameter(torch.randn(len(MODALITIES), width) * 0.1)
        # Heads reach 1, 4, 16, ... steps at the start.
        self.reach = nn.Parameter((torch.arange(heads) * math.log(4.0)).expand(len(MODALITIES), -1).clone())
        self.lag = nn.Parameter(torch.zeros(len(MODALITIES), heads))
        self.norm_step, self.norm_token, self.norm_inner = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, when: Tensor, parts: Mapping[str, Part]) -> Tensor:
        """Steps `[B, T, D]` at `[B, T]`, clean parts `[B, N_m, D]` -> steps `[B, T, D]`."""
        attended = self._attended(self.norm_step(steps), when, parts) if parts else torch.zeros_like(steps)
        steps = steps + self.dropout(self.out(attended))
        inner: Tensor = self.inner(self.norm_inner(steps))
        changed: Tensor = steps + self.dropout(inner)
        return changed

    def _attended(self, steps: Tensor, when: Tensor, parts: Mapping[str, Part]) -> Tensor:
        tokens, biases, masks = [], [], []
        for name, part in parts.items():
            number = MODALITIES.index(name)
            tokens.append(self.norm_token(part.x) + self.modality[number])
            late = (part.when.unsqueeze(1) - when.unsqueeze(2)).unsqueeze(1) / STEP_S  # [B, 1, T, N]
            slope, lag = (each[number].view(-1, 1, 1) for each in (torch.exp(-self.reach), self.lag))
            biases.append(-slope * (late - lag).abs())
            masks.append(part.mask)
        # One place more, which never counts: a softmax over nothing is not defined.
        bias = F.pad(torch.cat(biases, dim=3), (0, 1))
        there = F.pad(torch.cat(masks, dim=1), (0, 1))[:, None, None]
        key, value = self.key_value(F.pad(torch.cat(tokens, dim=1), (0, 0, 0, 1))).chunk(2, dim=-1)
        query, key, value = (self._split(each) for each in (self.query(steps), key, value))
        score = (query @ key.transpose(2, 3)).float() / math.sqrt(query.shape[-1]) + bias
        weight = score.masked_fill(~there, LOWEST).softmax(dim=3) * there
        attended: Tensor = weight.to(value.dtype) @ value
        return attended.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """`[B, N, D]` -> `[B, H, N, E]`."""
        return x.view(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)
