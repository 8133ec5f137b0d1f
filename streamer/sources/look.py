"""Decoded pictures to what people are looked for in, where there is anything new to see."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.changes import Changes
from streamer.media import LOOK_SIZE, Look
from streamer.sources.picture import scaled, turned


class LookMaker:
    """The pictures of one stream, in their order."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._scaler = VideoReformatter()

    def __call__(self, picture: av.VideoFrame, rgb: NDArray[np.uint8], media_ns: int) -> Look | None:
        """`picture`, sampled as `rgb` (uint8 `[S, S, 3]`), for looking for people in; None: nothing has changed."""
        if not self._changes.wants(rgb, media_ns):
            return None
        longer = max(picture.width, picture.height)
        width = max(1, round(picture.width * LOOK_SIZE / longer))
        height = max(1, round(picture.height * LOOK_SIZE / longer))
        whole = turned(scaled(self._scaler, picture, width, height), picture)
        height, width = whole.shape[:2]
        square = np.zeros((LOOK_SIZE, LOOK_SIZE, 3), np.uint8)
        square[:height, :width] = whole
        return Look(square, width / LOOK_SIZE, height / LOOK_SIZE)
