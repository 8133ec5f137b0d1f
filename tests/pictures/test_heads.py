"""Heads found by the points of bodies: made-up bodies, and real people who stand, fall and lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.pictures.blur import blurred
from streamer.pictures.faces import FaceDetector
from streamer.pictures.heads import HeadDetector
from streamer.pictures.heads import heads as heads_of
from tests.pictures.conftest import picture_at

# Heads of people who fall or lie, by eye: clip, second, left, top, right and bottom in pixels.
LYING = (
    ("S2_Fall_12", 8.0, 148, 205, 195, 250), ("S2_Fall_12", 9.5, 20, 325, 60, 360),
    ("S2_Fall_12", 11.5, 24, 325, 62, 358), ("S2_Fall_13", 4.0, 314, 200, 358, 246),
    ("S2_Fall_13", 6.0, 389, 292, 442, 347), ("S2_Fall_13", 8.0, 385, 302, 438, 351),
    ("S2_Fall_14", 5.0, 159, 157, 180, 172), ("S2_Fall_14", 7.0, 155, 160, 178, 173),
    ("S2_Fall_14", 10.0, 153, 160, 178, 173), ("S3_Fall_01", 1.5, 263, 220, 297, 250),
    ("S3_Fall_01", 2.5, 263, 223, 297, 253), ("S3_Fall_01", 3.5, 263, 223, 294, 253),
    ("S3_Fall_15", 3.0, 296, 232, 332, 262), ("S3_Fall_15", 4.0, 320, 240, 350, 269),
    ("S3_Fall_15", 5.3, 310, 240, 347, 269), ("S3_Fall_16", 3.0, 115, 200, 133, 223),
    ("S3_Fall_16", 4.5, 127, 197, 143, 220), ("S3_Fall_16", 5.8, 128, 197, 143, 220),
    ("S3_Fall_19", 3.0, 165, 205, 192, 232), ("S3_Fall_19", 4.0, 178, 317, 215, 347),
    ("S3_Fall_19", 5.5, 170, 324, 204, 354), ("S3_Fall_20", 3.2, 215, 252, 242, 280),
    ("S3_Fall_20", 4.5, 172, 250, 192, 270), ("S3_Fall_20", 6.0, 178, 254, 193, 268),
)  # fmt: skip
# Of people who stand or crouch.
UPRIGHT = (
    ("S2_Fall_12", 5.0, 227, 20, 262, 60), ("S2_Fall_13", 1.5, 151, 24, 189, 58),
    ("S2_Fall_14", 2.0, 223, 30, 255, 68), ("S3_Fall_15", 1.0, 303, 13, 330, 48),
    ("S3_Fall_16", 1.0, 157, 0, 189, 37), ("S3_Fall_19", 1.0, 198, 36, 231, 75),
    ("S3_Fall_20", 1.5, 302, 0, 344, 45), ("S3_Fall_01", 0.3, 177, 122, 200, 157),
)  # fmt: skip
# A head counts as blurred where so much of its box is.
MOST = 0.8

# Points of who stands upright in the middle, y and x in hundredths of the picture: the head is 13 high, the body 80.
STANDING = (
    (16, 50), (14, 51), (14, 49), (15, 53), (15, 47), (27, 60), (27, 40), (40, 62), (40, 38), (52, 62), (52, 38),
    (50, 56), (50, 44), (70, 56), (70, 44), (89, 56), (89, 44),
)  # fmt: skip


def row(score: float = 0.8, face: float = 0.9, body: float = 0.9) -> NDArray[np.float32]:
    """What is found of `STANDING`, as one row."""
    scores = [face] * 5 + [body] * 12
    points = [part for (y, x), point in zip(STANDING, scores, strict=True) for part in (y / 100, x / 100, point)]
    return np.array([[*points, 0.1, 0.35, 0.9, 0.65, score]], np.float32)


def is_inside(box: NDArray[np.float32], x: float, y: float) -> bool:
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def test_a_head_is_around_the_face() -> None:
    """What is blurred for it holds crown, chin and ears; its box is square, and not much larger than a head."""
    (box,) = heads_of(row())
    head = tuple(round(2.56 * part) for part in (46, 9, 54, 22))
    assert covered(np.zeros((256, 256, 3), np.uint8), box[None], head) == 1
    assert box[2] - box[0] == pytest.approx(box[3] - box[1], abs=1e-3)
    assert 10 <= (box[2] - box[0]) / 2.56 <= 20


def test_a_face_that_is_not_seen() -> None:
    """Of who looks away the head is where the trunk points to, and where the points of the face seem to be."""
    unsure = heads_of(row(face=0.2))
    assert len(unsure) == 2 and all(is_inside(box, 128, 2.56 * 16) for box in unsure)
    (away,) = heads_of(row(face=0.0))
    assert is_inside(away, 128, 2.56 * 15)


def test_who_is_nobody() -> None:
    """What is hardly a person has no head; nor has one of whom nothing above the hips is seen."""
    assert heads_of(row(score=0.1)).shape == (0, 4)
    assert heads_of(row(face=0.0, body=0.0)).shape == (0, 4)
    assert heads_of(np.zeros((6, 56), np.float32)).shape == (0, 4)


def test_nobody_is_there(heads: HeadDetector) -> None:
    """In pictures of one colour, of any size, there is no head."""
    for shape in ((2, 2, 3), (90, 1280, 3), (333, 77, 3)):
        assert heads.find(np.full(shape, 128, np.uint8), 1280).shape == (0, 4)


def covered(picture: NDArray[np.uint8], boxes: NDArray[np.float32], head: tuple[int, ...]) -> float:
    """How much of a head's box is blurred."""
    left, top, right, bottom = head
    # Noise is never what it was, wherever it is blurred.
    noise = np.random.default_rng(0).integers(0, 2, picture.shape, np.uint8) * 255
    changed = (blurred(noise, boxes) != noise).any(axis=2)
    return float(changed[top:bottom, left:right].mean())


def test_heads_of_people_who_lie(shared_data: Path, heads: HeadDetector, detector: FaceDetector) -> None:
    """Of 24 heads of people who fall or lie at least 21 are blurred, and all 8 of those who stand; little else is."""
    counts, parts = {}, []
    for name, cases in (("lying", LYING), ("upright", UPRIGHT)):
        found = 0
        for clip, at_s, *head in cases:
            picture = picture_at(shared_data / "falls" / f"{clip}.mp4", at_s)
            boxes = heads.find(picture, 1280)
            found += covered(picture, boxes, tuple(head)) >= MOST
            parts.append(covered(picture, boxes, (0, 0, picture.shape[1], picture.shape[0])))
        counts[name] = found
    print(f"heads blurred: {counts} of {len(LYING)} and {len(UPRIGHT)}; {np.mean(parts):.1%} of the pictures")
    assert counts["lying"] >= 21 and counts["upright"] == 8
    assert np.mean(parts) < 0.08


@pytest.mark.parametrize("turns", range(4))
def test_whichever_way_up(shared_data: Path, heads: HeadDetector, turns: int) -> None:
    """Turned by any quarter, the head is found where it is then."""
    upright = picture_at(shared_data / "falls" / "S2_Fall_14.mp4", 2.0)
    height, width = upright.shape[:2]
    x, y = 239, 49
    place = {0: (x, y), 1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[turns]
    boxes = heads.find(np.ascontiguousarray(np.rot90(upright, turns)), 1280)
    assert any(is_inside(box, *place) for box in boxes), (place, boxes)


def test_who_is_small_in_a_large_picture(shared_data: Path, heads: HeadDetector) -> None:
    """Somebody a seventh as high as a picture of 720 lines is found, in its corner as well."""
    small = picture_at(shared_data / "falls" / "S2_Fall_14.mp4", 2.0)[20:280:2, 160:340:2]
    for left, top in ((0, 0), (600, 300), (1180, 585)):
        picture = np.full((720, 1280, 3), 200, np.uint8)
        picture[top : top + small.shape[0], left : left + small.shape[1]] = small
        boxes = heads.find(picture, 1280)
        assert any(is_inside(box, left + 39, top + 15) for box in boxes), (left, top, boxes)
