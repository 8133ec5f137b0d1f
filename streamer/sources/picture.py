"""Decoded pictures to what the encoder takes: from the camera's format and size to square RGB, upright, in one go."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Fit = Literal["squash", "crop"]


class PictureConverter:
    """Decoded pictures of any size and format to uint8 `[S, S, 3]` RGB."""

    def __init__(self, size: int, fit: Fit) -> None:
        self._size = size
        self._fit = fit
        self._scaler = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """Convert `picture`, turned upright where its track says how the camera was held."""
        size = self._size
        width = height = size
        if self._fit == "crop":
            shorter = min(picture.width, picture.height)
            width = max(size, round(picture.width * size / shorter))
            height = max(size, round(picture.height * size / shorter))
        rgb = scaled(self._scaler, picture, width, height)
        if self._fit == "crop":
            left, top = (width - size) // 2, (height - size) // 2
            rgb = rgb[top : top + size, left : left + size]
        return np.ascontiguousarray(turned(rgb, picture))


def scaled(scaler: VideoReformatter, picture: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """`picture` as uint8 `[height, width, 3]` RGB, not turned yet."""
    made = scaler.reformat(
        picture,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=_colorspace(picture),
        interpolation=Interpolation.BILINEAR,
        threads=1,
    )
    return np.asarray(made.to_ndarray(), np.uint8)


def turned(rgb: NDArray[np.uint8], picture: av.VideoFrame) -> NDArray[np.uint8]:
    """`rgb`, made of `picture`, as it stands upright."""
    turns = turns_of(picture)
    return np.rot90(rgb, turns) if turns else rgb


def turns_of(picture: av.VideoFrame) -> int:
    """How often `picture` is turned to the left by 90 degrees to stand upright."""
    return round(picture.rotation / 90) % 4


def upright_size(picture: av.VideoFrame) -> tuple[int, int]:
    """Width and height of `picture` once it is turned upright."""
    return (picture.height, picture.width) if turns_of(picture) % 2 else (picture.width, picture.height)


def _colorspace(picture: av.VideoFrame) -> int | None:
    # Unsaid, it is BT.601 for standard definition and BT.709 above, as every player takes it (ITU-R BT.709).
    unsaid = picture.colorspace == 2
    return int(Colorspace.ITU709) if unsaid and picture.height >= 720 else None
