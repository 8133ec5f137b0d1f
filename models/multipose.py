"""MoveNet MultiPose: up to six people a picture, with seventeen points of each.

Google's network (Votel and Li, "Next-Generation Pose Detection with MoveNet and TensorFlow.js", 2021, and the model
card of MultiPose Lightning): MobileNet v2 (Sandler et al., 2018) of width 1.5, a feature pyramid down to a quarter of
the picture's size, and six heads on it. A person is found by the middle of the box, as in CenterNet (Zhou et al.,
"Objects as Points", 2019); the points, by the hottest place near where the middle says that they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tflite import Convolution

SIZE = 256
PEOPLE = 6
POINTS = 17
_STEP = 4  # pixels from one place of the heads to the next
_SIDE = SIZE // _STEP
_PYRAMID = 24
_HEAD = 96
# expansion, output channels, repeats, stride, and the width in which the pyramid takes it up
_STAGES = (
    (1, 24, 1, 1, None),
    (6, 40, 2, 2, 24),
    (6, 48, 3, 2, 32),
    (6, 96, 4, 2, 64),
    (6, 144, 3, 1, None),
    (6, 240, 3, 2, None),
    (6, 480, 1, 1, None),
)
_STEM = 48
_TOP = (1280, 64)


def _half(value: float) -> float:
    """A constant as the published graph has it: rounded to 16 bits."""
    return float(np.float16(value))


_PIXEL_SCALE = _half(1 / 127.5)
_SAME_HEAT = _half(1e-6)
_SPREAD = _half(0.3) * _SIDE  # twice the variance of where a point is expected, in places squared
_LEAST_POINT = _half(0.127)


class Layer(nn.Module):
    """Convolution with bias, then what is named; pads as TensorFlow's SAME does on even sizes."""

    def __init__(self, inside: int, outside: int, kernel: int, *, stride: int = 1, groups: int = 1, then: str) -> None:
        super().__init__()
        self.uneven = (0, 1, 0, 1) if stride == 2 else None
        self.conv = nn.Conv2d(inside, outside, kernel, stride, 0 if self.uneven else kernel // 2, groups=groups)
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        """Float32 `[B, in, H, W]` -> `[B, out, H/stride, W/stride]`."""
        if self.uneven is not None:
            x = F.pad(x, self.uneven)
        x = self.conv(x)
        if self.then == "relu6":
            return F.relu6(x)
        return F.relu(x) if self.then == "relu" else x


class Block(nn.Module):
    """Inverted residual: widen by 1 x 1, filter each channel by itself, narrow by 1 x 1; input added if it fits."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = Layer(inside, wide, 1, then="relu6") if expansion > 1 else nn.Identity()
        self.depthwise = Layer(wide, wide, 3, stride=stride, groups=wide, then="relu6")
        self.project = Layer(wide, outside, 1, then="")
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Float32 `[B, in, H, W]` -> `[B, out, H/stride, W/stride]`."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Stage(nn.Module):
    """Blocks of one width, and how the pyramid takes up what they give."""

    def __init__(self, inside: int, outside: int, repeats: int, stride: int, expansion: int, aside: int | None) -> None:
        super().__init__()
        firsts = [(inside, stride)] + [(outside, 1)] * (repeats - 1)
        self.blocks = nn.Sequential(*(Block(width, outside, step, expansion) for width, step in firsts))
        self.aside = None if aside is None else Layer(outside, aside, 1, then="")


def _separable(inside: int, outside: int) -> nn.Sequential:
    """Filters each channel by itself, then mixes them."""
    return nn.Sequential(Layer(inside, inside, 3, groups=inside, then=""), Layer(inside, outside, 1, then="relu"))


class Head(nn.Module):
    """What the features say of every place, or of some without asking it of all."""

    def __init__(self, outside: int) -> None:
        super().__init__()
        self.filter = Layer(_PYRAMID, _PYRAMID, 3, groups=_PYRAMID, then="")
        self.mix = nn.Sequential(Layer(_PYRAMID, _HEAD, 1, then="relu"), Layer(_HEAD, outside, 1, then=""))

    def forward(self, features: Tensor) -> Tensor:
        """Float32 `[B, 24, 64, 64]` -> `[B, out, 64, 64]`."""
        return cast(Tensor, self.mix(self.filter(features)))

    def at(self, features: Tensor, place: Tensor) -> Tensor:
        """The same at some places (row * 64 + column): float32 `[B, 24, 64, 64]`, int64 `[B, N]` -> `[B, out, N]`."""
        wide = _SIDE + 2
        near = torch.arange(3, device=place.device)
        around = (near[:, None] * wide + near).flatten()
        corner = place // _SIDE * wide + place % _SIDE
        index = (corner[..., None] + around).flatten(1)[:, None].expand(-1, _PYRAMID, -1)
        # The places and their neighbours one below the other: a picture of 3N by 3, in which the filter steps by 3.
        patches = F.pad(features, (1, 1, 1, 1)).flatten(2).gather(2, index).reshape(-1, _PYRAMID, 3 * place.shape[1], 3)
        conv = self.filter.conv
        x = F.conv2d(patches, conv.weight, conv.bias, stride=3, groups=_PYRAMID)
        return cast(Tensor, self.mix(x)[..., 0])


class MultiPose(nn.Module):
    """uint8 RGB `[B, 256, 256, 3]` -> float32 `[B, 6, 56]`, for any B, as the published graph gives it for one picture.

    A row is a person: y, x and score of 17 points (nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles,
    each left before right), then top, left, bottom, right of the box, then the score; all places in fractions of the
    square. Rows stand by how sure the middle is; those of nobody have low scores. Nothing depends on the values but
    values: no shape, no branch.
    """

    def __init__(self) -> None:
        super().__init__()
        # In the order of the published graph, which is how the weights find their layers.
        self.stem = Layer(3, _STEM, 3, stride=2, then="relu6")
        stages = []
        inside = _STEM
        for expansion, outside, repeats, stride, aside in _STAGES:
            stages.append(Stage(inside, outside, repeats, stride, expansion, aside))
            inside = outside
        self.stages = nn.ModuleList(stages)
        self.top = nn.Sequential(Layer(inside, _TOP[0], 1, then="relu6"), Layer(*_TOP, 1, then=""))
        self.down = nn.ModuleList([_separable(64, 32), _separable(32, 24), _separable(24, _PYRAMID)])
        self.middle_shift = Head(2)
        self.box_size = Head(2)
        self.middle = Head(1)
        self.point = Head(POINTS)
        self.point_shift = Head(2 * POINTS)
        self.from_middle = Head(2 * POINTS)
        self.grid: Tensor
        self.own: Tensor
        self.register_buffer("grid", torch.arange(_SIDE, dtype=torch.float32), persistent=False)
        self.register_buffer("own", torch.eye(POINTS), persistent=False)

    def load(self, weights: Iterable[Convolution]) -> None:
        """Takes the weights of the published graph, in its order. Raises ValueError where they are another graph's."""
        layers = [module.conv for module in self.modules() if isinstance(module, Layer)]
        with torch.no_grad():
            for conv, given in zip(layers, weights, strict=True):
                if tuple(conv.weight.shape) != given.weight.shape or conv.bias is None:
                    raise ValueError(f"a layer of shape {given.weight.shape} where {tuple(conv.weight.shape)} belongs")
                conv.weight.copy_(torch.from_numpy(given.weight))
                conv.bias.copy_(torch.from_numpy(given.bias))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        features = self.features(pixels)
        score, place = self._middles(features)
        here = torch.stack([place // _SIDE, place % _SIDE], dim=1).float()
        middle = here + self.middle_shift.at(features, place)
        half = 0.5 * F.relu(self.box_size.at(features, place))
        low, high = (middle - half).clamp(0, _SIDE), (middle + half).clamp(0, _SIDE)
        expected = here[:, None] + self.from_middle.at(features, place).reshape(-1, POINTS, 2, PEOPLE)
        points = self._points(features, self._near(expected, low, high))
        sure = (points[..., 2] > _LEAST_POINT).float()
        score = score * (points[..., 2] * sure).sum(-1) / sure.sum(-1).clamp(min=1.0)
        box = (torch.cat([low, high], dim=1).transpose(1, 2) / _SIDE).clamp(0.0, 1.0)
        return torch.cat([points.flatten(2), box, score[..., None]], dim=2)

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 `[B, 256, 256, 3]` -> float32 `[B, 24, 64, 64]`: what the heads look at."""
        x: Tensor = self.stem(pixels.permute(0, 3, 1, 2).float() * _PIXEL_SCALE - 1.0)
        aside = []
        for stage in cast("Iterable[Stage]", self.stages):
            x = stage.blocks(x)
            if stage.aside is not None:
                aside.append(stage.aside(x))
        x = self.top(x)
        for down, beside in zip(self.down, reversed(aside), strict=True):
            x = down(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) + beside)
        return x

    def _middles(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """How sure each of the six likeliest middles is, and its place (row * 64 + column): float32, int64 `[B, 6]`."""
        heat = _logistic(self.middle(features))
        highest = F.max_pool2d(heat, 5, stride=1, padding=2)
        heat = torch.where((heat - highest).abs() < _SAME_HEAT, heat, torch.zeros_like(heat))
        score, place = heat.flatten(1).topk(PEOPLE, dim=1)
        return score, place

    def _near(self, expected: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What the heat of each row (0) and column (1) counts for each person's points: float32 `[B, 17, 2, 6, 64]`.

        Args:
            expected: where the middle says that each point is, y and x in places: float32 `[B, 17, 2, 6]`.
            low: top and left of the box, in places: float32 `[B, 2, 6]`.
            high: bottom and right of it.
        """
        inside = (self.grid >= low[..., None]) & (self.grid < high[..., None])
        # Near in a plane is near along both axes: e to the power of a sum is a product.
        near: Tensor = torch.exp((self.grid - expected[..., None]).square() / -_SPREAD) * inside[:, None]
        return near

    def _points(self, features: Tensor, near: Tensor) -> Tensor:
        """Each person's points: y, x (fractions) and score, float32 `[B, 6, 17, 3]`; `near` as `_near` gives it."""
        heat = _logistic(self.point(features))
        along_y, along_x = near[:, :, 0], near[:, :, 1]  # [B, 17, 6, 64]
        # The hottest place of all: the row whose hottest place is hottest, then where in that row.
        hottest, row = ((heat[:, :, None] * along_x[:, :, :, None]).amax(dim=4) * along_y).max(dim=3)
        in_row = heat.gather(2, row[..., None].expand(-1, -1, -1, _SIDE))  # [B, 17, 6, 64]
        # Where nothing is warm at all, the first place is as good as any, and is what the published graph takes.
        column = (in_row * along_x).argmax(dim=3) * (hottest > 0)
        # Of all people's, as it is published: where two share a point, both are as sure of it as the surer one.
        others = _each(along_y, row) * _each(along_x, column)
        score = others.amax(dim=2) * in_row.gather(3, column[..., None])[..., 0]
        # Every point's shift at every point's place; of those, its own.
        shifts = self.point_shift.at(features, (row * _SIDE + column).flatten(1))
        shift = (shifts.reshape(-1, POINTS, 2, POINTS, PEOPLE) * self.own[:, None, :, None]).sum(3)  # [B, 17, 2, 6]
        found = torch.stack([row, column], dim=2).float() + shift
        return torch.cat([found / _SIDE, score[:, :, None]], dim=2).permute(0, 3, 1, 2)


def _each(near: Tensor, place: Tensor) -> Tensor:
    """For each point, what each person's (first 6) `near` is at each person's (last 6) place along one axis: float32
    `[B, 17, 6, 64]`, int64 `[B, 17, 6]` -> float32 `[B, 17, 6, 6]`."""
    return near.gather(3, place[:, :, None].expand(-1, -1, PEOPLE, -1))


def _logistic(x: Tensor) -> Tensor:
    """Written out: ONNX Runtime's own goes no lower than 1.5e-8, and the hottest place may be colder than that."""
    return 1.0 / (1.0 + torch.exp(-x))
