"""Pictures made smaller for who looks at them, and what was found in turned ones turned back."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""float32 `[N, 4]`: left, top, right, bottom in pixels; they may reach beyond the picture."""


def scaled(rgb: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """uint8 `[H, W, 3]` -> the same `scale` times as large."""
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    if (height, width) == rgb.shape[:2]:
        return rgb
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    interpolation = "AREA" if scale < 1 else "BILINEAR"
    return np.asarray(frame.reformat(width=width, height=height, interpolation=interpolation).to_ndarray(), np.uint8)


def turned_back(boxes: Boxes, turns: int, picture: NDArray[np.uint8]) -> Boxes:
    """Boxes found in `picture` turned to the left so often, as they lie in it unturned."""
    height, width = picture.shape[:2]
    left, top, right, bottom = boxes.T
    if turns == 1:
        left, top, right, bottom = width - bottom, left, width - top, right
    elif turns == 2:
        left, top, right, bottom = width - right, height - bottom, width - left, height - top
    elif turns == 3:
        left, top, right, bottom = top, height - right, bottom, height - left
    return np.stack([left, top, right, bottom], axis=1)
