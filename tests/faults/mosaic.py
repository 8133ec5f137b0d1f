"""A clip of which every picture takes several packets and looks like no other, so that a wrong one can be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from streamer.media import Frame
from streamer.sources.picture import PictureConverter
from tests.media_factory import Spec, make

Pictures: TypeAlias = NDArray[np.float32]
_TILE = 20


def _paint(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    chance = np.random.default_rng(round(time_s * 1000) + size[0])
    tiles = chance.integers(0, 256, (size[1] // _TILE, size[0] // _TILE, 3), np.uint8)
    return np.kron(tiles, np.ones((_TILE, _TILE, 1), np.uint8))


def mosaic(path: Path, seconds: float, size: tuple[int, int] = (320, 240)) -> Path:
    """Make the clip: random tiles at 25 pictures a second with a key frame each second, and a tone."""
    return make(path, Spec(seconds=seconds, size=size, paint=_paint))


def pictures_of(clip: Path) -> Pictures:
    """A clip's pictures as a source hands them out, `[n, 64, 64, 3]`."""
    convert = PictureConverter(64, "squash")
    with av.open(str(clip)) as container:
        container.streams.video[0].codec_context.options = {"skip_loop_filter": "all"}
        return np.stack([convert(picture) for picture in container.decode(video=0)]).astype(np.float32)


def how_wrong(frames: Sequence[Frame], pictures: Pictures) -> list[float]:
    """How far each frame is from the picture that it is closest to, in levels of 255."""
    return [float(np.abs(pictures - frame.rgb).mean(axis=(1, 2, 3)).min()) for frame in frames]
