"""A trained encoder of moving lips: grey crops of the mouth, 25 a second, to tokens of the same rate.

A small convolutional network sees each picture once (as live pictures come); what moves is told after it, by a
convolution over neighbouring pictures and a recurrence both ways, as in Assael et al., "LipNet: end-to-end
sentence-level lipreading" (2016), whose convolutions over space and time at once would have to see every picture again
with each window that holds it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.crop import Crop
from models.encoders import Encoder
from models.learning.batch import Part
from models.learning.recipe import VideoRecipe
from models.recurrent import MaskedRecurrent

ITEM_WIDTH = 256
_REACH = 5  # tokens that each convolution in time sees
_NEAR = 2  # convolutions: nine tokens, 360 ms, about a word
_ALONE = 0.3  # of clips in training do without the recurrence
_CHANNELS = (32, 64, 128)
_FOLD = 2  # pixels of 2 x 2 become channels: a quarter of the places for the costly first layer


class Mouth(nn.Module):
    """Grey crops uint8 `[N, P, P]` -> float32 `[N, 256]`. Each picture is standardised by its own mean and deviation:
    light and exposure are no speech."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(_FOLD)]
        inside = _FOLD * _FOLD
        for outside in _CHANNELS:
            conv = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outside), nn.ReLU()]
            inside = outside
        side = -(-pixels // 16)
        self.body = nn.Sequential(*layers)
        # Not pooled: where an edge is tells a lip from a chin.
        self.item = nn.Sequential(nn.Linear(inside * side * side, ITEM_WIDTH, bias=False), nn.BatchNorm1d(ITEM_WIDTH))

    def forward(self, crops: Tensor) -> Tensor:
        """See the class."""
        x = crops.to(torch.float32).flatten(1)
        x = (x - x.mean(dim=1, keepdim=True)) / (x.std(dim=1, keepdim=True) + 1.0)
        x = self.body(x.view(-1, 1, *crops.shape[1:]))
        return F.relu(self.item(x.flatten(1)))


class TimeEncoder(nn.Module):
    """Encoded items in time `[B, N, W]`, bool `[B, N]`, seconds `[B, N]` -> tokens `[B, N, D]`: convolutions over
    neighbours, recurrence both ways beside them, a projection. The seconds aren't used: order says enough."""

    def __init__(
        self, item_width: int, width: int, hidden: int, dropout: float = 0.3, item_dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.near = nn.ModuleList(nn.Conv1d(item_width, item_width, _REACH, padding=_REACH // 2) for _ in range(_NEAR))
        self.item_dropout = nn.Dropout(item_dropout)
        self.norm = nn.ModuleList(nn.LayerNorm(item_width) for _ in range(_NEAR))
        self.dropout = nn.Dropout(dropout)
        self.recurrent = MaskedRecurrent(item_width, hidden, layers=2, dropout=dropout)
        # What is seen near counts by itself, too: it teaches the layers below in a fraction of the epochs.
        self.token = nn.Linear(2 * hidden + item_width, width)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        return self.joined(self.local(x, mask), mask)

    def joined(self, local: Tensor, mask: Tensor) -> Tensor:
        """Those features -> tokens `[B, N, D]`.

        In training some clips do without the recurrence (Huang et al., "Deep networks with stochastic depth", 2016): it
        knows the clips by heart before long, and what reads the tokens would trust it alone.
        """
        far = self.recurrent(local, mask)
        if self.training:
            far = far * (torch.rand(len(far), 1, 1, device=far.device) >= _ALONE) / (1 - _ALONE)
        tokens: Tensor = self.token(self.dropout(torch.cat([far, local], dim=2)))
        return tokens

    def local(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features of items and their neighbours, `[B, N, W]`."""
        there = mask[..., None]
        nothing = torch.zeros((), dtype=x.dtype, device=x.device)
        x = self.item_dropout(torch.where(there, x, nothing))
        for near, norm in zip(self.near, self.norm, strict=True):
            x = self.dropout(F.relu(norm(x + near(x.transpose(1, 2)).transpose(1, 2))))
            x = torch.where(there, x, nothing)
        return x


class LipEncoder(Encoder):
    """See the module. Stored items are grey crops, uint8 `[N, P, P]`; tokens `[B, N, width]`."""

    def __init__(self, recipe: VideoRecipe, width: int) -> None:
        super().__init__()
        self.prepare = Crop(recipe, grey=True)
        self.each = Mouth(recipe.pixels)
        self.over = TimeEncoder(ITEM_WIDTH, width, hidden=128)
        self.item_width = self.local_width = ITEM_WIDTH
        self.width = width

    def local(self, encoded: Part) -> Part:
        """See the base."""
        assert isinstance(self.over, TimeEncoder)
        return encoded.of(self.over.local(encoded.x, encoded.mask))

    def tokens_of_local(self, local: Part) -> Part:
        """See the base."""
        assert isinstance(self.over, TimeEncoder)
        return local.of(self.over.joined(local.x, local.mask))
