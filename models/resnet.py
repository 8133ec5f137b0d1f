"""ResNet-18, trained from nothing, for pictures that may be small.

Architecture: He et al., "Deep residual learning for image recognition" (2016), table 1. Its weights learned from
ImageNet aren't asked for: a recipe's own pictures are all it has.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.crop import Crop
from models.encoders import Encoder
from models.learning.recipe import VideoRecipe

ITEM_WIDTH = 512
_STAGES = (64, 128, 256, 512)
_BLOCKS = 2
_MEAN, _DEVIATION = 127.0, 64.0


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (figure 5, left): `[N, in, H, W]` -> `[N, out, H/stride, W/stride]`."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Pictures in colour, uint8 `[N, P, P, 3]` -> float32 `[N, 512]`, pooled before the classifier (which is the
    fusion's). Under 64 pixels the first layer is of 3 x 3, without pooling: there is nothing to spare."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        if pixels < 64:
            stem: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        else:
            stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inside = 64
        for stage, outside in enumerate(_STAGES):
            for block in range(_BLOCKS):
                stem.append(BasicBlock(inside, outside, 2 if stage and not block else 1))
                inside = outside
        self.body = nn.Sequential(*stem)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        x = (pictures.permute(0, 3, 1, 2).to(torch.float32) - _MEAN) / _DEVIATION
        return cast(Tensor, self.body(x).mean(dim=(2, 3)))


class ResNetEncoder(Encoder):
    """Stored items are crops in colour, uint8 `[N, P, P, 3]`; each picture is a token of its own `[B, N, width]`."""

    def __init__(self, recipe: VideoRecipe, width: int) -> None:
        super().__init__()
        self.prepare = Crop(recipe, grey=False)
        self.each = ResNet18(recipe.pixels)
        self.over = PictureTokens(width)
        self.item_width = ITEM_WIDTH
        self.width = width


class PictureTokens(nn.Module):
    """Encoded pictures `[B, N, 512]`, bool `[B, N]`, seconds `[B, N]` -> tokens `[B, N, D]`, each by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Linear(ITEM_WIDTH, width)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        there = torch.where(mask[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))
        return cast(Tensor, self.token(there))
