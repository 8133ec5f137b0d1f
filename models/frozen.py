"""Encoders that aren't trained: the tokens of the live encoders, kept once a clip, and a projection that is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config import Geometry
from models.encoders import Encoder
from models.motion import Smoothness

_FEWEST = 2  # changes in a batch: of fewer there is no deviation


class FrozenEncoder(Encoder):
    """Tokens of the live encoders (frames: EfficientNet-Lite0's; patches of sound: YAMNet's or Whisper's), projected.

    Items are encoded before they are stored, so `prepare` and `each` are identities over float32 `[N, W]`, W of
    models.config.Geometry. Only `over` learns. Usually it looks at one token at a time: a layer norm, for the two
    networks' tokens differ a lot in scale, and a linear map.
    """

    def __init__(
        self, modality: str, width: int, change: bool = False, smoothness: bool = False, item_width: int = 0
    ) -> None:
        """`modality`: video or audio, ValueError for others. `width`: D. `change`: each token tells how its item
        differs from the one before. `smoothness`: how smoothly they go on in the window (models.motion); of the
        two at most one, else ValueError. `item_width`: W, where it isn't the geometry's."""
        super().__init__()
        widths = {"video": Geometry().video_width, "audio": Geometry().audio_width}
        if modality not in widths:
            raise ValueError(f"no frozen encoder for {modality!r}; there is one for video and one for audio")
        if change and smoothness:
            raise ValueError("a token tells either change or smoothness, not both")
        self.item_width = item_width or widths[modality]
        self.width = width
        self.prepare = nn.Identity()
        self.each = nn.Identity()
        over = _Change if change else Smoothness if smoothness else _Projection
        self.over = over(self.item_width, width)


class _Projection(nn.Module):
    """Encoded items `[B, N, W]`, mask and when `[B, N]` -> tokens `[B, N, D]`, each of its own item alone."""

    def __init__(self, item_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(item_width)
        self.linear = nn.Linear(item_width, width)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        # Zeros for what is not there: its gradient is zero, but zero times not-a-number would poison the weights'.
        x = torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x))
        tokens: Tensor = self.linear(self.norm(x))
        return tokens


class _Change(nn.Module):
    """Encoded items `[B, N, W]`, mask and when `[B, N]` -> tokens `[B, N, D]`:

        linear(standard(|norm(x_n) - norm(x_n-1)|))

    of neighbours that are both there; else of the usual change. Norms come first, so that how much changes is not lost.
    The sign is left out: movement to and fro would cancel in a mean over time. What is left is all positive and mostly
    common to everything that moves, so each of the W is taken as it differs from its mean over the training
    (Ioffe and Szegedy, "Batch normalization", 2015, without scale and bias).
    """

    def __init__(self, item_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(item_width, elementwise_affine=False)
        self.standard = nn.BatchNorm1d(item_width, affine=False)
        self.linear = nn.Linear(item_width, width)

    def forward(self, x: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        """See the class."""
        x = self.norm(torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x)))
        before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        both = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:] & mask[:, :-1]], dim=1).unsqueeze(-1)
        change = (x - before).abs()
        standard = self._standardised(change, both)
        tokens: Tensor = self.linear(torch.where(both, standard, torch.zeros_like(standard)))
        return tokens

    def _standardised(self, change: Tensor, both: Tensor) -> Tensor:
        """In training by what is there of the batch, and remembered; else by what was remembered."""
        mean, variance = self.standard.running_mean, self.standard.running_var
        assert mean is not None and variance is not None
        if not self.training:
            return (change - mean) * torch.rsqrt(variance + self.standard.eps)
        there = change[both.squeeze(-1)]
        if len(there) < _FEWEST:
            return (change - mean) * torch.rsqrt(variance + self.standard.eps)
        made = torch.zeros_like(change)
        made[both.squeeze(-1)] = self.standard(there)
        return made
