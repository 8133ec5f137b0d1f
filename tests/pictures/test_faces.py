"""The detector on real people: it finds them whichever way up they are, and says where they are in the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.pictures.faces import FaceDetector
from tests.pictures.conftest import picture_at

# Where the two faces of that picture are, by eye: the middle of each, and how far from it a box's middle may lie.
FACES = ((160, 100), (415, 120))
REACH = 45


def found_near(boxes: np.ndarray, x: float, y: float) -> bool:
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool((np.hypot(middles[:, 0] - x, middles[:, 1] - y) < REACH).any())


@pytest.mark.parametrize("turns", range(4))
def test_faces_are_found_whichever_way_up(talkers: Path, detector: FaceDetector, turns: int) -> None:
    """Turned by any quarter, both faces of the picture are found where they are then."""
    upright = picture_at(talkers, 5.0)
    height, width = upright.shape[:2]
    boxes = detector.find(np.ascontiguousarray(np.rot90(upright, turns)), 640)
    for x, y in FACES:
        place = {0: (x, y), 1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[turns]
        assert found_near(boxes, *place), (turns, place, boxes)


def test_nobody_is_there(detector: FaceDetector) -> None:
    """In pictures of one colour, of any size, there is no face."""
    for shape in ((2, 2, 3), (90, 1280, 3), (333, 77, 3)):
        assert detector.find(np.full(shape, 128, np.uint8), 1280).shape == (0, 4)
