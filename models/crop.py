"""What an encoder looks at of a picture: a part of it, scaled, by the same products in training, serving and export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.learning.recipe import VideoRecipe

_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


class Crop(nn.Module):
    """Whole pictures squashed to a square, uint8 RGB `[N, S, S, 3]` -> the recipe's crop of them, uint8
    `[N, P, P, 3]`, or `[N, P, P]` in `grey`; S and P are `size` and `pixels` of the recipe. Without parameters: the one
    function behind the feature cache and live streams.

    Scaling (where the crop is not P pixels wide already) averages areas: two products with fixed matrices, so that
    PyTorch and an exported graph agree to rounding. ValueError where the crop holds no pixel.
    """

    luma: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, recipe: VideoRecipe, grey: bool) -> None:
        super().__init__()
        left, top, right, bottom = (round(edge * recipe.size) for edge in recipe.crop)
        if not (0 <= left < right <= recipe.size and 0 <= top < bottom <= recipe.size):
            raise ValueError(f"crop {recipe.crop} holds no pixel of a picture of side {recipe.size}")
        self.box = (left, top, right, bottom)
        self.grey = grey
        self.register_buffer("luma", torch.tensor(_GREY), persistent=False)
        self.register_buffer("rows", _area_weights(bottom - top, recipe.pixels), persistent=False)
        self.register_buffer("columns", _area_weights(right - left, recipe.pixels), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        left, top, right, bottom = self.box
        part = pictures[:, top:bottom, left:right].to(torch.float32)
        if self.grey:
            return _to_bytes(self.rows @ (part @ self.luma) @ self.columns.T)
        return _to_bytes((self.rows @ part.permute(0, 3, 1, 2) @ self.columns.T).permute(0, 2, 3, 1))


def _to_bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _area_weights(inside: int, outside: int) -> Tensor:
    """`[outside, inside]`: how much of each old pixel lies under each new one; rows sum to 1."""
    edges = torch.linspace(0, inside, outside + 1, dtype=torch.float64)
    pixels = torch.arange(inside, dtype=torch.float64)
    under = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    under = under.clamp(min=0)
    return (under / under.sum(dim=1, keepdim=True)).to(torch.float32)
