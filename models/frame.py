"""EfficientNet-Lite0: one picture in, one token out.

Architecture: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), section 4,
in the Lite form of the TensorFlow authors: no squeeze-and-excitation, ReLU6 for swish, stem and head of fixed width.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.features import normalise_pixels

WIDTH = 1280
CLASSES = 1000
_STEM = 32
# kernel, stride, expansion, output channels, repeats: table 1 of the paper, width and depth multipliers of 1.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class ConvNorm(nn.Module):
    """Convolution, batch norm and (where `active`) ReLU6: float32 `[B, in, H, W]` -> `[B, out, H/stride, W/stride]`.

    Pads as TensorFlow's SAME does on even sizes: with stride 2 the odd row and column go to the end.
    """

    def __init__(
        self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        total = kernel - stride
        self.uneven = (total // 2, total - total // 2) if stride == 2 else None
        padding = 0 if self.uneven else kernel // 2
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outside, eps=1e-3, momentum=0.01)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.uneven is not None:
            x = F.pad(x, self.uneven * 2)
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.active else x

    def fold(self) -> None:
        """Multiply the batch norm into the convolution: the same result up to rounding, no longer to be trained."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Block(nn.Module):
    """Inverted residual: widen by 1 x 1, filter each channel by itself, narrow by 1 x 1; input added if it fits."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = ConvNorm(inside, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, outside, 1, active=False)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Float32 `[B, in, H, W]` -> `[B, out, H/stride, W/stride]`."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class FrameEncoder(nn.Module):
    """uint8 RGB `[B, 224, 224, 3]` -> float32 `[B, 1280]`: the pooled features before the classifier.

    `classifier` is ImageNet-1k's linear layer on them (`weight` `[1000, 1280]`); forward leaves it out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM, 3, stride=2)
        blocks: list[Block] = []
        inside = _STEM
        for kernel, stride, expansion, outside, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inside, outside, kernel, stride if repeat == 0 else 1, expansion))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(inside, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        x = self.head(self.blocks(self.stem(normalise_pixels(pixels))))
        return cast(Tensor, x.mean(dim=(2, 3)))

    def folded(self) -> FrameEncoder:
        """A copy for serving, in evaluation mode, with every batch norm multiplied into its convolution."""
        twin = copy.deepcopy(self).eval()
        for module in twin.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return twin


def load(path: Path) -> FrameEncoder:
    """The encoder with the published weights of `efficientnet-lite0-57934424.pth`, in evaluation mode.

    Raises ValueError, naming the file, where it holds other tensors than these.
    """
    published = torch.load(path, map_location="cpu", weights_only=True)
    encoder = FrameEncoder()
    try:
        encoder.load_state_dict({_own_name(name): tensor for name, tensor in published.items()})
    except (RuntimeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not the published weights of EfficientNet-Lite0 ({error})") from error
    return encoder.eval()


_LAYERS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
_BLOCK_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def _own_name(published: str) -> str:
    """The name here of a tensor there: `_blocks.3._bn1.bias` is `blocks.3.depthwise.norm.bias`."""
    parts = published.split(".")
    if parts[0] == "_blocks":
        return ".".join(["blocks", parts[1], _BLOCK_LAYERS[parts[2]], *parts[3:]])
    return ".".join([_LAYERS[parts[0]], *parts[1:]])
