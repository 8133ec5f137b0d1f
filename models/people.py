"""People of a picture as numbers that a network reads: places, scores and points of the strongest few.

numpy alone: the live service makes the same numbers of its sightings, without torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS = 17
MOST = 4
"""People of a picture that are read; MoveNet finds up to six."""
PERSON = 5 + 3 * POINTS
"""Numbers a person: score; the box's middle, right and down from the picture's top left corner in fractions, its width
and height in heights of the picture; and of each point how far right and down of the box's middle it is, in widths and
heights of the box, and its score."""
WIDTH = 2 + MOST * PERSON
"""Numbers a picture: 1 where people were looked for, else 0 and all others too; how long ago, in parts of `STALE_S`;
and the people, strongest first, zeros where there are no more."""
STALE_S = 10.0
"""While nothing changes nobody is looked for, and after so long they are all the same: what was seen longer ago says
nothing."""
LEAST_SCORE = 0.1
"""What is less likely than this is nobody: who follows people over time has higher thresholds."""

_SAME = 0.6  # boxes that share more than this part of what they cover are of the same person
_FARTHEST = 3.0  # of a point from the box's middle, for a box may be next to nothing
_SMALLEST = 1e-3

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """The people of one picture, strongest first; places in fractions of its width and height from its top left corner.

    aspect: the picture's width over its height. scores: float32 `[N]`; boxes: float32 `[N, 4]`: left, top, right,
    bottom; points: float32 `[N, 17, 3]`: x, y and score in the order of COCO.
    """

    aspect: float
    scores: Float
    boxes: Float
    points: Float


def found(rows: Float, width: float, height: float) -> Found:
    """What MoveNet's rows (float32 `[6, 56]`: y, x and score of 17 points; top, left, bottom, right, score) say of a
    picture that takes `width` and `height` of the square, in fractions of the picture instead of the square."""
    rows = rows[np.argsort(-rows[:, 55], kind="stable")]
    rows = rows[rows[:, 55] >= LEAST_SCORE]
    across, down = np.float32(1 / width), np.float32(1 / height)
    boxes = np.clip(rows[:, [52, 51, 54, 53]] * np.array([across, down, across, down]), 0.0, 1.0).astype(np.float32)
    points = rows[:, : 3 * POINTS].reshape(-1, POINTS, 3)[:, :, [1, 0, 2]] * np.array([across, down, 1], np.float32)
    kept = apart(boxes)
    return Found(width / height, rows[kept, 55], boxes[kept], points[kept])


def apart(boxes: Float) -> list[int]:
    """The boxes that are left when each takes away those after it that are of the same person: float32 `[N, 4]`."""
    kept: list[int] = []
    for place, box in enumerate(boxes):
        if all(_overlap(box, boxes[before]) <= _SAME for before in kept):
            kept.append(place)
    return kept


def numbers(aspect: float, scores: Float, boxes: Float, points: Float, age_s: float) -> Float:
    """float32 `[WIDTH]` of people (see `Found`) who were seen `age_s` before the picture.

    Who has no points (a face alone) is left out, and so is what is not finite. All zeros where it was too long ago.
    """
    told = np.zeros(WIDTH, np.float32)
    if not 0.0 <= age_s <= STALE_S:
        return told
    told[:2] = 1.0, age_s / STALE_S
    if not len(scores):
        return told
    sure = (points[..., 2].max(axis=1) > 0) & np.isfinite(boxes).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
    strongest = [place for place in np.argsort(-scores, kind="stable") if sure[place]][:MOST]
    for place, row in zip(strongest, told[2:].reshape(MOST, PERSON), strict=False):
        row[:] = _person(aspect, float(scores[place]), boxes[place], points[place])
    return told


def newest(seen: Iterable[tuple[float, Found]], at_s: float) -> Float:
    """`numbers` of the newest sighting (its moment in seconds, and who was found) that is no later than `at_s`; zeros
    where there is none."""
    past = [(moment_s, who) for moment_s, who in seen if moment_s <= at_s]
    if not past:
        return np.zeros(WIDTH, np.float32)
    moment_s, who = max(past, key=lambda one: one[0])
    return numbers(who.aspect, who.scores, who.boxes, who.points, at_s - moment_s)


def _person(aspect: float, score: float, box: Float, points: Float) -> Float:
    left, top, right, bottom = (float(side) for side in box)
    wide, tall = max(right - left, _SMALLEST), max(bottom - top, _SMALLEST)
    middle = (left + right) / 2, (top + bottom) / 2
    body = points.astype(np.float32)
    body[:, :2] = np.clip((body[:, :2] - middle) / (wide, tall), -_FARTHEST, _FARTHEST)
    return np.concatenate([[score, *middle, wide * aspect, tall], body.ravel()]).astype(np.float32)


def _overlap(a: Float, b: Float) -> float:
    """Intersection over union."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, float(wide)) * max(0.0, float(tall))
    area = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b))
    return shared / max(1e-9, area - shared)
