"""What is left of a face: a coarse mosaic that is the same for all faces of the same rough colours."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.pictures.blur import blurred, spread

NONE = np.zeros((0, 4), np.float32)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8)


def test_nothing_else_is_touched() -> None:
    """Outside of the enlarged box every pixel is as it was; the picture that was given is not changed."""
    rgb = noise()
    before = rgb.copy()
    result = blurred(rgb, boxes((60, 40, 100, 80)))
    outside = np.ones((120, 160), bool)
    outside[26:94, 46:114] = False
    assert (result[outside] == rgb[outside]).all() and (rgb == before).all()
    assert (blurred(rgb, NONE) == rgb).all()


def test_what_was_there_can_not_be_told() -> None:
    """Two faces that differ in every detail, and not in their rough shades, come out as one and the same picture."""
    rough = np.random.default_rng(1).integers(3, 12, (15, 20, 3)).repeat(8, axis=0).repeat(8, axis=1) * 16 + 8
    fine = np.tile(np.array([[7, -7], [-7, 7]]), (60, 80))[..., None]
    one, other = (rough + fine).astype(np.uint8), (rough - fine).astype(np.uint8)
    box = boxes((32, 32, 96, 80))
    assert (blurred(one, box)[30:82, 30:98] == blurred(other, box)[30:82, 30:98]).all()


@pytest.mark.parametrize("side", [5, 17, 40, 100])
def test_few_cells_are_left(side: int) -> None:
    """Of noise in a box of any size nothing stays: neighbouring pixels in it hardly differ any more."""
    result = blurred(noise(), boxes((20, 10, 20 + side, 10 + side))).astype(int)
    inside = result[10 : 10 + side, 20 : 20 + side]
    assert np.abs(np.diff(inside, axis=1)).mean() < 12 < 60 < np.abs(np.diff(noise().astype(int), axis=1)).mean()


def test_boxes_beyond_the_picture() -> None:
    """A face at the edge, one larger than the picture, and boxes that are nowhere in it are all the same to it."""
    rgb = noise()
    for box in ((-30, -30, 10, 10), (-500, -500, 900, 900), (150, 110, 400, 300), (500, 500, 600, 600)):
        assert blurred(rgb, boxes(box)).shape == rgb.shape
    assert (blurred(rgb, boxes((500, 500, 600, 600))) == rgb).all()


def test_a_face_that_is_lost_for_a_moment_stays_blurred() -> None:
    """A face found in pictures 2 and 6 is blurred on its way in 3 to 5 and in two pictures before and after; another
    one far away is no part of that way."""
    found = [NONE] * 10
    found[2], found[6] = boxes((10, 10, 30, 30), (500, 10, 520, 30)), boxes((50, 10, 70, 30))
    result = spread(found)

    def covers(place: int, x: float, y: float) -> bool:
        return bool(((result[place][:, :2] <= (x, y)) & ((x, y) <= result[place][:, 2:])).all(axis=1).any())

    assert [covers(place, 20 + 10 * (place - 2), 20) for place in range(2, 7)] == [True] * 5
    assert covers(0, 20, 20) and covers(8, 60, 20) and not covers(9, 60, 20)
    assert covers(4, 510, 20) and not covers(5, 510, 20)
    assert not any(covers(place, 250, 20) for place in range(10))


def test_a_crowd_is_quickly_told_apart() -> None:
    """Hundreds of faces a picture stay some thousands of boxes and not millions."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (300, 2)).astype(np.float32)
    crowd = np.concatenate([corners, corners + 20], axis=1)
    assert max(map(len, spread([crowd] * 20))) <= 300 * 20
