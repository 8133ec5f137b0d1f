"""Pictures as people are looked for in them."""

from __future__ import annotations

import av
import numpy as np
import pytest

from streamer.media import LOOK_SIZE
from streamer.sources.look import LookMaker

BLANK = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "wide", "high"), [(1280, 720, 256, 144), (240, 320, 192, 256), (100, 100, 256, 256)]
)
def test_the_whole_picture_keeps_its_shape(width: int, height: int, wide: int, high: int) -> None:
    """It lies at the top left of a black square, enlarged or not, and the look says how much of that it takes."""
    image = np.full((height, width, 3), 200, np.uint8)
    image[:, -width // 8 :] = (250, 20, 20)
    look = LookMaker()(av.VideoFrame.from_ndarray(image, format="rgb24"), BLANK, 0)
    assert look is not None and look.rgb.shape == (LOOK_SIZE, LOOK_SIZE, 3)
    assert (look.width, look.height) == (wide / LOOK_SIZE, high / LOOK_SIZE)
    assert not look.rgb[high:].any() and not look.rgb[:, wide:].any()
    red = look.rgb[high // 2, wide - 6].astype(int)
    assert red[0] > 200 and red[1] < 80 and abs(int(look.rgb[high // 2, wide // 2, 1]) - 200) < 6


def test_where_nothing_changed_there_is_none() -> None:
    """A picture that was sampled as the one before is not made ready again."""
    maker, picture = LookMaker(), av.VideoFrame.from_ndarray(np.zeros((90, 160, 3), np.uint8), format="rgb24")
    assert [maker(picture, BLANK, number) is not None for number in range(4)] == [True, True, False, False]
