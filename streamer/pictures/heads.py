"""Where heads are in a picture, from the points of bodies that MoveNet MultiPose finds. Numpy in, numpy out.

A detector of faces misses who lies, looks away or is smeared by a fall; a body is seen nevertheless. As there, who
blurs wants none left out: thresholds are low, heads are taken to be large, and a picture is looked at in all four
directions, because who has fallen is not upright; a large one also in overlapping parts, for who is small in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.pictures.turning import Boxes, scaled, turned_back

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

_SIZE = 256
_POINTS = 17
_FACE, _SHOULDERS, _HIPS = slice(0, 5), slice(5, 7), slice(11, 13)
# The least score of what counts as a person, and of a point of one.
_PERSON = 0.15
_POINT = 0.1
# Points of the face that are surer than this tell alone where the head is.
_SURE = 0.4
# A head's height against other lengths of a body (Drillis and Contini 1966: 0.130 of a person's height, shoulders
# 0.259, shoulder to hip 0.288 of it), and against how far the points of its face are apart, seen from any side.
_OF_SHOULDERS, _OF_TRUNK, _OF_FACE = 0.55, 0.45, 1.7
_OF_BODY = 0.1
# The middle of a head is so many of its heights from the middle of the shoulders, on from the hips.
_ABOVE = 0.75
# Of a picture with a side longer than this, parts are looked at beside the whole: so large, so many each way.
_LARGE = 800
_PART, _PARTS = 0.45, 3


class HeadDetector:
    """Finds heads; not for several threads at once.

    Args:
        graph: of `models.movenet`: "pixels" uint8 `[B, 256, 256, 3]` to "people" float32 `[B, 6, 56]`.
    """

    def __init__(self, graph: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def find(self, rgb: NDArray[np.uint8], side: int) -> Boxes:
        """The heads in uint8 `[H, W, 3]` RGB. The same head may be found in several boxes.

        Args:
            side: of no matter: bodies are looked at in one size.
        """
        height, width = rgb.shape[:2]
        found = [self._part(rgb)]
        if max(height, width) <= _LARGE:
            return found[0]
        tall, wide = (max(1, round(length * _PART)) for length in (height, width))
        for top in np.linspace(0, height - tall, _PARTS).astype(int):
            for left in np.linspace(0, width - wide, _PARTS).astype(int):
                boxes = self._part(rgb[top : top + tall, left : left + wide])
                found.append(boxes + np.array([left, top, left, top], np.float32))
        return np.concatenate(found)

    def _part(self, rgb: NDArray[np.uint8]) -> Boxes:
        """As `find`, looked at as a whole."""
        scale = _SIZE / max(rgb.shape[:2])
        small = scaled(np.ascontiguousarray(rgb), scale)
        pixels = np.zeros((4, _SIZE, _SIZE, 3), np.uint8)
        for turns in range(4):
            turned = np.rot90(small, turns)
            pixels[turns, : turned.shape[0], : turned.shape[1]] = turned
        people = self._session.run(["people"], {"pixels": pixels})[0]
        found = [turned_back(heads(people[turns]), turns, small) / np.float32(scale) for turns in range(4)]
        return np.concatenate(found).astype(np.float32)


def heads(people: NDArray[np.float32]) -> Boxes:
    """Where the heads of `people` are, in pixels of what MoveNet looked at: two boxes of one whose face is unsure.

    Args:
        people: float32 `[N, 56]`: y, x and score of 17 points; top, left, bottom, right, score; fractions.
    """
    found: list[NDArray[np.float64]] = []
    for row in people[people[:, 55] >= _PERSON].astype(np.float64):
        points = row[: 3 * _POINTS].reshape(_POINTS, 3)[:, [1, 0, 2]] * (_SIZE, _SIZE, 1)
        box = row[[52, 51, 54, 53]] * _SIZE
        height = _height(points, box)
        face = points[_FACE]
        known = face[face[:, 2] >= _POINT]
        if len(known):
            found.append(_box(np.average(known[:, :2], axis=0, weights=known[:, 2]), height))
        shoulders, hips = points[_SHOULDERS], points[_HIPS]
        if face[:, 2].max() < _SURE and shoulders[:, 2].max() >= _POINT:
            trunk = shoulders[:, :2].mean(axis=0) - hips[:, :2].mean(axis=0)
            ahead = trunk / max(1e-6, float(np.hypot(*trunk)))
            found.append(_box(shoulders[:, :2].mean(axis=0) + ahead * height * _ABOVE, height))
    return np.array(found, np.float32).reshape(-1, 4)


def _height(points: NDArray[np.float64], box: NDArray[np.float64]) -> float:
    """Of a head, pixels: the largest that any part of the body speaks for, because the others may be foreshortened."""
    face = points[_FACE][points[_FACE][:, 2] >= _POINT][:, :2]
    apart = float(np.linalg.norm(face[:, None] - face[None], axis=2).max()) if len(face) else 0.0
    shoulders, hips = points[_SHOULDERS], points[_HIPS]
    across = float(np.hypot(*(shoulders[0, :2] - shoulders[1, :2])))
    trunk = float(np.hypot(*(shoulders[:, :2].mean(axis=0) - hips[:, :2].mean(axis=0))))
    is_known = bool(shoulders[:, 2].min() >= _POINT)
    is_trunk_known = is_known and bool(hips[:, 2].min() >= _POINT)
    body = float(max(box[2] - box[0], box[3] - box[1]))
    return max(_OF_FACE * apart, _OF_SHOULDERS * across * is_known, _OF_TRUNK * trunk * is_trunk_known, _OF_BODY * body)


def _box(middle: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    return np.concatenate([middle - height / 2, middle + height / 2])
